package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/urfave/cli/v3"

	"presence/cmd/internal/layout"
	"presence/cmd/internal/natsurl"
	"presence/pkg/service/doctor"
)

func (a *app) doctor() *cli.Command {
	return &cli.Command{
		Name:     "doctor",
		Category: operators,
		Usage:    "look for what is wrong with the service, and say what to do",
		Description: `Connects, tries a harmless request of each kind, and asks every instance how
it is doing. It looks at permissions, versions, latency, clocks, lag, disks,
snapshots and settings, and says of each problem what it means and what to
do. It changes nothing, and takes ten seconds at most, whatever is down.

With access to the journal's account, as for verify, it looks at the streams.
With credentials of the system account it looks at the NATS servers. What it
could not check it names, with what that needs.

Exit codes: 0 nothing is wrong (there may be warnings; with --strict there
are none), 1 something is, 2 wrong usage.

Examples:
  presencectl doctor
  presencectl doctor --data /var/lib/presenced --strict
  presencectl doctor --context operator --journal-creds journal.creds
  presencectl doctor --json | jq '.checks[] | select(.result == "fail")'`,
		ArgValidator: noArguments,
		Flags: append(journalFlags(),
			&cli.StringFlag{Name: "system-creds", Usage: "credentials `FILE` of the system account"},
			&cli.StringFlag{Name: "system-url", Usage: "`URLS` for the system account, with its user and password", HideDefault: true},
			&cli.BoolFlag{Name: "strict", Usage: "exit with 1 for a warning, too"},
		),
		Action: a.runDoctor,
	}
}

// dialWithin is how long the doctor waits for one server. It has ten seconds for everything.
const dialWithin = 2 * time.Second

func (a *app) runDoctor(ctx context.Context, cmd *cli.Command) error {
	c := &conn{app: a, json: cmd.Bool("json"), timeout: min(cmd.Root().Duration("timeout"), dialWithin), prefix: cmd.String("prefix")}
	nctx, err := natsContext(ctx, cmd)
	if err != nil {
		return &failure{err}
	}
	if _, err := c.place(nctx); err != nil {
		return &failure{err}
	}
	clients := func() (*nats.Conn, error) {
		nc, err := c.dial(ctx, cmd, nats.NoReconnect())
		return nc, c.dialProblem(err)
	}
	cfg := doctor.Config{Clients: clients, Prefix: c.prefix}
	switch {
	case cmd.Bool("single-account"):
		cfg.Journal = clients
	case c.findsJournal(cmd):
		cfg.Journal = func() (*nats.Conn, error) { return c.dialJournal(cmd) }
	}
	if cmd.String("system-creds") != "" || cmd.String("system-url") != "" {
		cfg.System = func() (*nats.Conn, error) { return c.dialSystem(cmd) }
	}
	report := doctor.Run(ctx, cfg)
	if ctx.Err() != nil {
		return c.explain(ctx, ctx.Err())
	}
	if c.json {
		err = writeJSON(c.stdout, report)
	} else {
		err = writeExamination(c.stdout, report, paint(a.stdout))
	}
	if err == nil && (report.Count(doctor.Fail) > 0 || cmd.Bool("strict") && report.Count(doctor.Warn) > 0) {
		err = errTold
	}
	return err
}

// findsJournal reports whether there is a way into the journal's account: one that was given, or
// the key that presenced leaves in its data directory.
func (c *conn) findsJournal(cmd *cli.Command) bool {
	for _, flag := range []string{"data", "journal-creds", "journal-nkey", "journal-url"} {
		if cmd.IsSet(flag) {
			return true
		}
	}
	_, err := keyFile(cmd)
	return err == nil
}

// dialProblem says what to do about a connection that could not be made. nil stays nil.
func (c *conn) dialProblem(err error) error {
	if err == nil {
		return nil
	}
	p := &doctor.Problem{Found: err.Error(), Means: "nothing else can be checked", Do: "check --server, --context and the environment (NATS_URL), and that a NATS server runs there"}
	switch {
	case errors.Is(err, nats.ErrAuthorization), errors.Is(err, nats.ErrAuthExpired), errors.Is(err, nats.ErrAuthRevoked):
		p.Means = "a NATS server is there, and does not let this user in; nothing else can be checked"
		p.Do = "give other credentials: --creds, --user and --password, or a nats context by --context"
	case errors.Is(err, nats.ErrTimeout):
		p.Means = "that server hangs, or something between swallows the connection; nothing else can be checked"
		p.Do = "look at that server and at firewalls, and check --server"
	case errors.Is(err, os.ErrNotExist), errors.Is(err, os.ErrPermission):
		p.Do = "name a file that you may read"
	}
	return p
}

// dialSystem connects to the system account.
func (c *conn) dialSystem(cmd *cli.Command) (*nats.Conn, error) {
	urls := cmd.String("system-url")
	opts := c.optionsOf(cmd, "presencectl doctor")
	if urls == "" {
		list, err := natsurl.Parse(c.urls)
		if err != nil {
			return nil, err
		}
		urls = natsurl.WithoutUsers(list)
	} else if _, err := natsurl.Parse(urls); err != nil {
		return nil, err
	}
	if creds := cmd.String("system-creds"); creds != "" {
		opts = append(opts, nats.UserCredentials(creds))
	}
	nc, err := nats.Connect(urls, opts...)
	if err != nil {
		return nil, &doctor.Problem{Found: "connecting to the system account: " + plain(err), Do: "check --system-creds or --system-url"}
	}
	return nc, nil
}

// groups are the headings of an examination, by the first part of the names of checks.
var groups = map[string]string{"connection": "Connection", "permissions": "Permissions", "service": "Service", "instances": "Service", "instance": "Instance",
	"journal": "Journal", "servers": "NATS servers"}

// writeExamination writes what the doctor found, for people.
func writeExamination(w io.Writer, r *doctor.Report, paint func(doctor.Result, string) string) error {
	var b strings.Builder
	heading := ""
	for _, c := range shortened(r.Checks) {
		group, _, _ := strings.Cut(c.Name, ".")
		now := groups[group]
		if c.Instance != "" {
			now = "Instance " + instanceName(c.Instance)
		}
		if now != heading {
			if heading != "" {
				b.WriteString("\n")
			}
			heading = now
			b.WriteString(heading + "\n")
		}
		writeCheck(&b, &c, paint)
	}
	b.WriteString("\n" + layout.Wrap(verdict(r), "", "") + "\n")
	_, err := io.WriteString(w, b.String())
	return err
}

// shortened makes one line of all that the user may do.
func shortened(checks []doctor.Check) (list []doctor.Check) {
	var may []string
	for _, c := range checks {
		if what, ok := strings.CutPrefix(c.Name, "permissions."); ok && c.Result == doctor.OK {
			may = append(may, what)
			continue
		}
		if len(may) > 0 && !strings.HasPrefix(c.Name, "permissions.") {
			list = append(list, doctor.Check{Name: "permissions", Result: doctor.OK, Found: "allowed: " + strings.Join(may, ", ")})
			may = nil
		}
		list = append(list, c)
	}
	return list
}

// resultWords are as wide as the column that they stand in.
var resultWords = map[doctor.Result]string{doctor.OK: "ok  ", doctor.Warn: "warn", doctor.Fail: "FAIL", doctor.NotChecked: "-   "}

const under = "        " // below the text of a check

func writeCheck(b *strings.Builder, c *doctor.Check, paint func(doctor.Result, string) string) {
	text := printable(c.Found)
	if c.Result == doctor.NotChecked {
		text = c.Name + ": not checked, " + text
	}
	// Painted last: colours take no place on a terminal, and layout would count them.
	lines := layout.Wrap(text, "  "+resultWords[c.Result]+"  ", under)
	b.WriteString("  " + paint(c.Result, resultWords[c.Result]) + strings.TrimPrefix(lines, "  "+resultWords[c.Result]) + "\n")
	if c.Means != "" {
		b.WriteString(layout.Wrap("This means: "+printable(c.Means)+".", under, under) + "\n")
	}
	if c.Do != "" {
		b.WriteString(layout.Wrap("To do: "+printable(c.Do)+".", under, under) + "\n")
	}
}

// verdict is the last line.
func verdict(r *doctor.Report) string {
	fails, warns, unchecked := r.Count(doctor.Fail), r.Count(doctor.Warn), r.Count(doctor.NotChecked)
	var parts []string
	switch {
	case fails > 0:
		parts = append(parts, count(fails, "problem"))
	case warns == 0:
		parts = append(parts, "Nothing is wrong")
	default:
		parts = append(parts, "No problem")
	}
	if warns > 0 {
		parts = append(parts, count(warns, "warning"))
	}
	if unchecked > 0 {
		parts = append(parts, fmt.Sprintf("%d not checked", unchecked))
	}
	return strings.Join(parts, ", ") + "."
}

// paint returns how results are coloured: not at all unless the output is a terminal.
func paint(w io.Writer) func(doctor.Result, string) string {
	if l, ok := w.(*lockedWriter); ok {
		w = l.w
	}
	if !isTerminal(w) || os.Getenv("NO_COLOR") != "" || os.Getenv("TERM") == "dumb" {
		return func(_ doctor.Result, word string) string { return word }
	}
	colours := map[doctor.Result]string{doctor.OK: "32", doctor.Warn: "33", doctor.Fail: "1;31", doctor.NotChecked: "2"}
	return func(r doctor.Result, word string) string { return "\x1b[" + colours[r] + "m" + word + "\x1b[0m" }
}
