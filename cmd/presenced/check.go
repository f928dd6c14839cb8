package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"presence/pkg/broker"
	"presence/pkg/service"

	"github.com/dustin/go-humanize"
)

// errCheckFailed says that --check found something wrong, which its lines have said.
var errCheckFailed = errors.New("a check failed")

const (
	// checkWithin bounds all questions of --check to a server.
	checkWithin = 30 * time.Second
	// mostSkew is how far clocks may differ without a word.
	mostSkew = 5 * time.Second
	// fewBytesFree is when --check warns, long before changes are refused.
	fewBytesFree = 1 << 30
)

// checkStart checks what a start needs, and writes a line for each: ok, warn or FAIL, what it is
// about, and what is so or what to do. It starts nothing and leaves nothing behind. It may be used
// while a presenced runs on the same data.
func checkStart(ctx context.Context, cfg config, stdout io.Writer) error {
	c := &checks{cfg: cfg, out: stdout}
	c.log = slog.New(&warnings{c})
	c.say(nil, "options", "presenced "+versionText()+", named "+cfg.settings.Host)
	for _, x := range cfg.unheeded {
		c.warn("options", x)
	}
	if cfg.external() {
		c.external(ctx)
	} else {
		c.inside()
	}
	c.http()
	if c.failed {
		return errCheckFailed
	}
	return nil
}

// checks writes the lines of --check.
type checks struct {
	cfg    config
	out    io.Writer
	log    *slog.Logger // a warning there is a line
	failed bool
	runs   bool // a presenced runs on the same data
}

func (c *checks) line(result, what, text string) {
	fmt.Fprintf(c.out, "%-4s  %-10s  %s\n", result, what, text)
}

// say writes a line: FAIL with err, ok with text where err is nil.
func (c *checks) say(err error, what, text string) {
	if err != nil {
		c.failed = true
		c.line("FAIL", what, err.Error())
		return
	}
	c.line("ok", what, text)
}

func (c *checks) warn(what, text string) { c.line("warn", what, text) }

// inside is about the NATS server inside.
func (c *checks) inside() {
	setup, err := checkBroker(c.cfg, c.log)
	if c.say(err, "config", "NATS on "+strings.Join(setup.Listeners, ", ")+", sync "+syncName(setup.SyncAlways)); err != nil {
		return
	}
	dir, err := broker.Inspect(setup.DataDir)
	switch {
	case errors.Is(err, broker.ErrInUse):
		c.runs = true
		c.warn("data", err.Error()+": it runs, and a second one cannot start")
	case err != nil:
		c.say(err, "data", "")
	case dir.Missing:
		c.say(nil, "data", setup.DataDir+" will be made")
	case dir.Mode&0o077 != 0:
		c.warn("data", fmt.Sprintf("%s has mode %04o, so others on this machine may read it: chmod 700", setup.DataDir, dir.Mode))
	default:
		c.say(nil, "data", setup.DataDir)
	}
	free := humanize.IBytes(dir.Free) + " free of " + humanize.IBytes(dir.Size)
	switch {
	case dir.Size == 0: // it is not known
	case dir.Free < dir.Reserve:
		c.say(fmt.Errorf("%s: changes are refused below %s; make space", free, humanize.IBytes(dir.Reserve)), "disk", "")
	case dir.Free < fewBytesFree:
		c.warn("disk", free+": make space before less than "+humanize.IBytes(dir.Reserve)+" is left")
	default:
		c.say(nil, "disk", free)
	}
	c.port(setup.Free(), "listen", "all addresses are free")
	c.clockBehind(filepath.Join(setup.DataDir, headName))
}

// checkBroker checks what startBroker would start with.
func checkBroker(cfg config, log *slog.Logger) (broker.Setup, error) {
	if cfg.natsConfig != "" {
		return broker.CheckFile(fileConfig(cfg, log))
	}
	return broker.Check(brokerConfig(cfg, log))
}

// port is about addresses. While a presenced runs they are in use by it, probably.
func (c *checks) port(err error, what, text string) {
	if c.runs && errors.Is(err, broker.ErrInUse) {
		c.warn(what, err.Error())
		return
	}
	c.say(err, what, text)
}

// clockBehind warns if the journal was written at a time that has not come yet by this clock.
func (c *checks) clockBehind(head string) {
	info, err := os.Stat(head)
	if err != nil {
		return // no journal yet
	}
	if ahead := time.Until(info.ModTime()); ahead > mostSkew {
		c.warn("clock", fmt.Sprintf("it is %v behind the last change of the journal: set it, or wait", ahead.Round(time.Second)))
		return
	}
	c.say(nil, "clock", "not behind the journal")
}

func (c *checks) http() {
	if c.cfg.http == "" {
		return
	}
	l, err := net.Listen("tcp", c.cfg.http)
	if err == nil {
		l.Close()
		c.say(nil, "http", c.cfg.http+" is free")
		return
	}
	if c.runs {
		c.warn("http", err.Error())
		return
	}
	c.say(fmt.Errorf("--http: %w", err), "http", "")
}

// external is about a NATS server elsewhere.
func (c *checks) external(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, checkWithin)
	defer cancel()
	nats := &connections{}
	err := nats.open(c.cfg, c.log)
	defer nats.close()
	if c.say(err, "connect", "the accounts of clients and journal of "+nats.url); err != nil {
		return
	}
	if nats.system != nil {
		c.say(nil, "connect", "the system account")
	} else {
		c.warn("connect", "without the system account a killed client is noticed by its TTL only: give --system-creds")
	}
	journal, err := service.CheckJournal(ctx, nats.journal, c.cfg.service())
	err = nats.withoutJetStream(err)
	switch {
	case err != nil:
		c.say(err, "journal", "")
		return
	case !journal.Exists:
		c.say(nil, "journal", "it will be made, with "+fmt.Sprint(c.cfg.settings.Replicas)+" replicas")
	default:
		c.say(nil, "journal", fmt.Sprintf("the stream %s has the right settings, %d entries in %s, %d replicas",
			journalStream, journal.Entries, humanize.IBytes(journal.Bytes), journal.Replicas))
	}
	switch skew := journal.Skew; {
	case skew == 0:
	case skew.Abs() > mostSkew:
		c.warn("clock", fmt.Sprintf("it differs by %v from the NATS server's: set both by NTP", skew.Round(time.Millisecond)))
	default:
		c.say(nil, "clock", "as the NATS server's")
	}
}

// warnings makes lines of warnings that are logged.
type warnings struct{ checks *checks }

func (w *warnings) Enabled(_ context.Context, l slog.Level) bool { return l >= slog.LevelWarn }
func (w *warnings) WithGroup(string) slog.Handler                { return w }
func (w *warnings) WithAttrs([]slog.Attr) slog.Handler           { return w }

func (w *warnings) Handle(_ context.Context, r slog.Record) error {
	text := r.Message
	r.Attrs(func(a slog.Attr) bool { text += " " + a.String(); return true })
	w.checks.warn("config", text)
	return nil
}
