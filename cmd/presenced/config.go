package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"slices"
	"strings"

	"presence/cmd/internal/datadir"
	"presence/cmd/internal/semver"
	"presence/pkg/broker"
	"presence/pkg/service"
)

// config is what the flags say, in their order.
type config struct {
	command string // empty: serve
	file    string // the argument of command
	force   bool

	listen, data, sync string
	webSocket          string
	origins            []string
	demo               bool
	natsConfig         string
	insecure           bool

	natsURL, journalURL, systemURL   string
	creds, journalCreds, systemCreds string
	tlsCA, tlsCert, tlsKey           string
	singleAccount                    bool
	clientsAccount, journalAccount   string

	// settings are what the service is given as it is.
	settings service.Config

	envFile             string
	http                string
	logLevel, logFormat string
	level               slog.Level // logLevel

	check bool // it only checks
	json  bool // of commandConfig
	pprof bool

	options  []option // all of it, for people
	unheeded []string // lines of envFile that change nothing, because another source goes before
}

const (
	syncAlways   = "always"
	syncInterval = "interval"
	formatText   = "text"
	formatJSON   = "json"
)

// external says that the NATS server is not inside presenced.
func (c *config) external() bool { return c.natsURL != "" }

// complete reports what is wrong with the configuration, and sets the defaults that depend
// on other flags. given says whether a flag was given, on the command line or by the
// environment.
func (c *config) complete(given func(flag string) bool) error {
	if err := c.level.UnmarshalText([]byte(c.logLevel)); err != nil {
		return fmt.Errorf("--log-level must be debug, info, warn or error, not %q", c.logLevel)
	}
	if err := oneOf("log-format", c.logFormat, formatText, formatJSON); err != nil {
		return err
	}
	if c.http != "" {
		if _, _, err := net.SplitHostPort(c.http); err != nil {
			return fmt.Errorf("--http must be host:port, such as 127.0.0.1:8222, not %q", c.http)
		}
	}
	if c.pprof {
		host, _, err := net.SplitHostPort(c.http)
		if err != nil || !broker.IsLoopback(host) {
			return errors.New("--pprof shows the inside of the process, so it is for this machine only: give --http a loopback address, such as 127.0.0.1:8222")
		}
	}
	if given("name") && c.settings.Host == "" {
		return errors.New("--name must not be empty")
	}
	if err := c.checkService(given); err != nil {
		return err
	}
	if f := firstGiven(given, "tlsca", "tlscert", "tlskey"); f != "" && !c.external() {
		return fmt.Errorf("--%s goes with --nats-url: the NATS server inside presenced has its own in the file of --nats-config", f)
	}
	switch {
	case c.external():
		return c.completeExternal(given)
	case c.natsConfig != "":
		return c.completeFile(given)
	}
	if given("journal-account") {
		return errors.New("--journal-account goes with --nats-config")
	}
	if f := firstGiven(given, "single-account", "clients-account", "replicas"); f != "" {
		return fmt.Errorf("--%s goes with --nats-url or --nats-config", f)
	}
	if f := firstGiven(given, "journal-url", "system-url", "creds", "journal-creds", "system-creds"); f != "" {
		return fmt.Errorf("--%s goes with --nats-url: presenced needs none for the NATS server inside", f)
	}
	if err := oneOf("sync", c.sync, syncAlways, syncInterval); err != nil {
		return err
	}
	if err := c.completePages(); err != nil {
		return err
	}
	if c.data == "" {
		return c.defaultData()
	}
	return nil
}

// checkService finds before anything is started what the service would refuse. It also
// refuses a 0, which the service would take for the default.
func (c *config) checkService(given func(flag string) bool) error {
	for _, f := range []struct {
		flag string
		zero bool
	}{
		{"snapshot-entries", c.settings.SnapshotEntries == 0},
		{"replicas", c.settings.Replicas == 0},
	} {
		if f.zero && given(f.flag) {
			return fmt.Errorf("--%s must be more than 0", f.flag)
		}
	}
	return c.service().Check()
}

// service is what the flags say of the service: all but its connections.
func (c *config) service() service.Config {
	s := c.settings
	s.Stream, s.Version = journalStream, semver.Of(versionText())
	return s
}

func (c *config) completeExternal(given func(flag string) bool) error {
	if f := firstGiven(given, "listen", "data", "sync", "websocket", "origin", "demo", "nats-config", "insecure"); f != "" {
		return fmt.Errorf("--%s is about the NATS server inside, and with --nats-url there is none", f)
	}
	if given("journal-account") {
		return errors.New("--journal-account goes with --nats-config: with --nats-url the account follows from --journal-creds or --journal-url")
	}
	if (c.tlsCert == "") != (c.tlsKey == "") {
		return errors.New("--tlscert and --tlskey go together")
	}
	if c.journalURL == "" && c.journalCreds == "" && !c.singleAccount {
		return errors.New("the journal needs an account that no client can enter: give --journal-creds or --journal-url, or --single-account to let clients reach it")
	}
	return nil
}

// inFile says what stands in a configuration file instead of a flag.
var inFile = map[string]string{
	"listen":    "listen",
	"data":      "jetstream { store_dir: … }",
	"sync":      "jetstream { sync_interval: always }",
	"websocket": "websocket { listen: … }",
	"origin":    "websocket { allowed_origins: … }",
}

func (c *config) completeFile(given func(flag string) bool) error {
	if given("demo") {
		return errors.New("--demo does not go with --nats-config: the page has no credentials")
	}
	if f := firstGiven(given, "listen", "data", "sync", "websocket", "origin"); f != "" {
		return fmt.Errorf("--%s does not go with --nats-config, where the file says it: %s", f, inFile[f])
	}
	if c.singleAccount && c.journalAccount != "" {
		return errors.New("--single-account and --journal-account contradict each other")
	}
	if f := firstGiven(given, "journal-url", "system-url"); f != "" {
		return fmt.Errorf("--%s goes with --nats-url", f)
	}
	if c.creds == "" && (c.journalCreds != "" || c.systemCreds != "") || c.creds != "" && c.journalCreds == "" && !c.singleAccount {
		return errors.New("--creds and --journal-creds go together")
	}
	return nil
}

// Where --demo serves, unless other flags say it.
const (
	demoHTTP      = "127.0.0.1:8222"
	demoWebSocket = "127.0.0.1:9222"
)

// completePages is about what web pages go through.
func (c *config) completePages() error {
	if c.demo {
		c.http, c.webSocket = cmp.Or(c.http, demoHTTP), cmp.Or(c.webSocket, demoWebSocket)
		for _, f := range []struct{ flag, address string }{{"http", c.http}, {"websocket", c.webSocket}} {
			if host, _, err := net.SplitHostPort(f.address); err == nil && !broker.IsLoopback(host) {
				return fmt.Errorf("--demo is for this machine only, because its users prove nothing: give --%s a loopback address, not %s", f.flag, f.address)
			}
		}
	}
	if len(c.origins) > 0 && c.webSocket == "" {
		return errors.New("--origin goes with --websocket")
	}
	for _, o := range c.origins {
		if err := broker.CheckOrigin(o); err != nil {
			return fmt.Errorf("--origin: %w", err)
		}
	}
	return nil
}

// firstGiven returns the first of some flags that was given.
func firstGiven(given func(flag string) bool, flags ...string) string {
	for _, f := range flags {
		if given(f) {
			return f
		}
	}
	return ""
}

// defaultData finds a directory for data: the one that systemd made for the unit
// (StateDirectory=), or a user's own.
func (c *config) defaultData() (err error) {
	if dirs := os.Getenv("STATE_DIRECTORY"); dirs != "" {
		c.data, _, _ = strings.Cut(dirs, ":")
		return nil
	}
	c.data, err = datadir.Default()
	return err
}

func oneOf(flag, value string, allowed ...string) error {
	if slices.Contains(allowed, value) {
		return nil
	}
	return fmt.Errorf("--%s must be %s, not %q", flag, strings.Join(allowed, " or "), value)
}

// logger writes the log from a level on. In both formats a duration is written like 1.5s.
func (c *config) logger(stderr io.Writer, level slog.Leveler) *slog.Logger {
	opts := &slog.HandlerOptions{Level: level, ReplaceAttr: readable}
	if c.logFormat == formatJSON {
		return slog.New(slog.NewJSONHandler(stderr, opts))
	}
	return slog.New(slog.NewTextHandler(stderr, opts))
}

// readable writes a duration with its unit. By default it is a number of nanoseconds in
// JSON.
func readable(_ []string, a slog.Attr) slog.Attr {
	if a.Value.Kind() == slog.KindDuration {
		return slog.String(a.Key, a.Value.Duration().String())
	}
	return a
}
