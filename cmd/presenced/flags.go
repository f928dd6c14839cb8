package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"presence/cmd/internal/layout"
	"presence/cmd/internal/span"
	"presence/cmd/internal/usage"
	"presence/pkg/broker"
	"presence/pkg/protocol"
	"presence/pkg/service"

	"github.com/urfave/cli/v3"
)

func init() { layout.WrapHelp() }

// parse returns the configuration of a command line and the environment. It returns nil if
// the command line asked for help or the version, which parse then has printed.
func parse(ctx context.Context, args []string, stdout, stderr io.Writer) (*config, error) {
	var cfg config
	from := newSources()
	asked := true
	complete := func(cmd *cli.Command) error {
		asked = false
		if from.err != nil {
			return from.err
		}
		cfg.envFile = from.path
		if err := cfg.complete(cmd.IsSet); err != nil {
			return err
		}
		cfg.options, cfg.unheeded = optionsOf(cmd, from), from.unheeded(cmd)
		return nil
	}
	withoutArguments := func(cmd *cli.Command) error {
		if cmd.Args().Present() {
			asked = false
			return fmt.Errorf("unexpected argument %q: the commands are backup, restore and config; without one presenced serves", cmd.Args().First())
		}
		return complete(cmd)
	}
	cmd := &cli.Command{
		Name:            "presenced",
		Usage:           "the presence service: who is online, and how they can be reached",
		UsageText:       "presenced [options]\npresenced [options] backup|restore FILE\npresenced [options] config [--json]",
		Version:         versionText(),
		Description:     description,
		Flags:           flags(&cfg, from),
		HideHelpCommand: true,
		Writer:          stdout,
		ErrWriter:       stderr,
		Commands:        append(subcommands(&cfg, complete), configCommand(&cfg, withoutArguments)),
		Action:          func(_ context.Context, cmd *cli.Command) error { return withoutArguments(cmd) },
		// By default the library prints the whole help, and exits the process.
		OnUsageError:   func(_ context.Context, _ *cli.Command, err error, _ bool) error { return err },
		ExitErrHandler: func(context.Context, *cli.Command, error) {},
	}
	if err := cmd.Run(ctx, args); err != nil {
		if from.err != nil { // it may be why something else is wrong
			err = from.err
		}
		return nil, usage.Error(err)
	}
	if asked {
		return nil, nil
	}
	return &cfg, nil
}

const description = `By default presenced starts a NATS server in its own process, with its data
in --data. It listens on loopback only, because clients are not
authenticated; --insecure lets it listen elsewhere nevertheless.

With --nats-config it starts that server from a configuration file of
nats-server instead: with TLS, WebSocket, MQTT, leaf nodes, or a cluster in
which several presenced share one journal (--replicas 3). The file needs an
account APP with users for the clients, an account PRESENCE with JetStream for
the journal, and a store_dir; presenced enters both by keys of its own.
presencectl nats-config writes a complete file. If it has an operator, so that
users have JWTs, presenced needs --creds, --journal-creds and --system-creds.

With --nats-url it uses a NATS server or cluster of yours. That needs an
account for the clients (--creds), another with JetStream for the journal that
no client can enter (--journal-creds), and the system account, so that
sessions end with their connection and not by their TTL (--system-creds).
These files hold credentials or the seed of an nkey. A URL with a user and a
password can stand for each (--nats-url, --journal-url, --system-url). Put it
into the environment: everybody on the machine can read a command line.
--tlsca, --tlscert and --tlskey are for all connections, and are read again
for each new one.

With --env-file it takes options from a file of lines like PRESENCED_GRACE=10s.
The command line goes before the environment, and that before the file.

SIGTERM and SIGINT end it gracefully, a second one at once. SIGHUP makes it read
--env-file and --nats-config again. Users, permissions, certificates, the log
level, limits and rules change at once. The log names what needs a restart.
Exit codes: 0 ended by a signal, 1 could not start or had to stop, 2 wrong usage.`

// Categories of flags in the help.
const (
	embedded = "NATS server inside"
	external = "NATS server of yours"
	either   = "NATS server of yours, or inside with --nats-config"
	keeping  = "Journal and snapshots"
	rules    = "Rules"
	limits   = "Limits of each instance; 0: the default"
	watching = "Health and logging"
)

// longest bounds durations that have no bound of their own: ten years.
const longest = 3660 * span.Day

func flags(c *config, from *sources) []cli.Flag {
	env := from.of
	str := func(category, name, usage, value string, to *string) cli.Flag {
		return &cli.StringFlag{Name: name, Usage: usage, Value: value, Category: category, Destination: to, Sources: env(name)}
	}
	// The help does not show the environment's value as the default if that may hold a
	// password.
	secret := func(name, usage string, to *string) cli.Flag {
		return &cli.StringFlag{Name: name, Usage: usage, Category: external, Destination: to, Sources: env(name), HideDefault: true}
	}
	// It comes first: the library looks up the others' values in this order.
	bounds := []cli.Flag{&cli.StringFlag{Name: "env-file", Usage: "`FILE` of lines like PRESENCED_GRACE=10s; SIGHUP reads it again", Category: watching,
		Destination: &from.path, Sources: from.environment("env-file")}}
	for _, l := range c.settings.Limits.List() {
		usage := "`NUMBER` of " + l.Usage
		if l.MayBeUnlimited {
			usage += "; -1: unlimited"
		}
		bounds = append(bounds, &cli.IntFlag{Name: l.Name, Usage: usage, Value: l.Default, Category: limits, Destination: l.Value, Sources: env(l.Name)})
	}
	return append(bounds,
		str(embedded, "listen", "`ADDRESS` for clients, host:port with a loopback host; port 0 picks one", broker.DefaultListen, &c.listen),
		&cli.StringFlag{Name: "data", Usage: "`DIRECTORY` of the journal, made where it is missing", Category: embedded,
			Destination: &c.data, Sources: env("data"), DefaultText: "$STATE_DIRECTORY, or presenced in $XDG_STATE_HOME or ~/.local/state"},
		str(embedded, "sync", "`WHEN` the journal is fsynced: always, before each acknowledgement, or interval, every 2 minutes", syncAlways, &c.sync),
		str(embedded, "websocket", "`ADDRESS` for clients over WebSocket, such as web pages, as --listen (default: none)", "", &c.webSocket),
		&cli.StringSliceFlag{Name: "origin", Usage: "let web pages of `ORIGIN` connect there, such as http://localhost:5173; pages of no other are let in",
			Category: embedded, Destination: &c.origins, Sources: env("origin")},
		&cli.BoolFlag{Name: "demo", Usage: "serve a web page for trying out, at /demo/ of --http (default then: " + demoHTTP + "; of --websocket: " + demoWebSocket + ")",
			Category: embedded, Destination: &c.demo, Sources: env("demo")},
		str(embedded, "nats-config", "configuration `FILE` of nats-server that says all this and more", "", &c.natsConfig),
		str(embedded, "journal-account", "`NAME` of the journal's account in that file (default: "+broker.JournalAccount+")", "", &c.journalAccount),
		&cli.BoolFlag{Name: "insecure", Usage: "admit clients without credentials from other machines; they can act as any user",
			Category: embedded, Destination: &c.insecure, Sources: env("insecure")},

		secret("nats-url", "use the NATS server at these `URLS`, separated by commas, instead of one inside", &c.natsURL),
		secret("journal-url", "`URLS` for the journal's account, with its user and password (default: --nats-url)", &c.journalURL),
		secret("system-url", "`URLS` for the system account, with its user and password (default: --nats-url)", &c.systemURL),
		secret("creds", "credentials or nkey `FILE` of the clients' account", &c.creds),
		secret("journal-creds", "credentials or nkey `FILE` of the journal's account", &c.journalCreds),
		secret("system-creds", "credentials or nkey `FILE` of the system account", &c.systemCreds),
		str(external, "tlsca", "certificate `FILE` of the server's certificate authority (default: the system's)", "", &c.tlsCA),
		str(external, "tlscert", "certificate `FILE` to show the server, with --tlskey", "", &c.tlsCert),
		str(external, "tlskey", "key `FILE` of that certificate", "", &c.tlsKey),
		&cli.BoolFlag{Name: "single-account", Usage: "keep the journal in the clients' account, where any client can read and destroy it; for trying out",
			Category: either, Destination: &c.singleAccount, Sources: env("single-account")},
		str(either, "clients-account", "`NAME` of the clients' account (default: with --nats-config "+broker.ClientsAccount+", otherwise as the server says)", "", &c.clientsAccount),
		&cli.IntFlag{Name: "replicas", Usage: "`NUMBER` of servers that hold the journal, where this instance creates it", Value: 1,
			Category: either, Destination: &c.settings.Replicas, Sources: env("replicas")},

		&cli.Uint64Flag{Name: "snapshot-entries", Usage: "`NUMBER` of journal entries after which the state is stored and the journal can be trimmed", Value: service.DefaultSnapshotEntries,
			Category: keeping, Destination: &c.settings.SnapshotEntries, Sources: env("snapshot-entries")},
		&span.Flag{Name: "journal-keep", Usage: "`DURATION` that a journal entry is kept at least", Value: service.DefaultJournalKeep,
			Category: keeping, Config: span.Bounds{Min: time.Second, Max: longest}, Destination: &c.settings.JournalKeep, Sources: env("journal-keep")},
		&cli.Uint64SliceFlag{Name: "skip", Usage: "leave out the journal entry at `POSITION`, which cannot be applied; give it to every instance",
			Category: keeping, Destination: &c.settings.Skip},
		&cli.BoolFlag{Name: "new-epoch", Usage: "go on with a journal that was restored from a backup, made anew or lost its beginning; give it to one instance, once, while no other runs",
			Category: keeping, Destination: &c.settings.NewEpoch},

		str(rules, "prefix", "`PREFIX` of all subjects", protocol.DefaultPrefix, &c.settings.Prefix),
		&span.Flag{Name: "grace", Usage: "`DURATION` that a session outlives its closed connection", Value: protocol.DefaultGrace,
			Category: rules, Config: span.Bounds{Min: time.Millisecond, Max: time.Hour, Unit: time.Millisecond}, Destination: &c.settings.Grace, Sources: env("grace")},
		&span.Flag{Name: "max-grace", Usage: "longest `DURATION` that a client gets for that, whatever it chose; a longer --grace may be chosen too", Value: protocol.DefaultMaxGrace,
			Category: rules, Config: span.Bounds{Min: protocol.MinGrace, Max: protocol.MaxGrace, Unit: time.Second}, Destination: &c.settings.MaxGrace, Sources: env("max-grace")},
		&span.Flag{Name: "retention", Usage: "`DURATION` that a lost session is remembered", Value: protocol.DefaultRetention,
			Category: rules, Config: span.Bounds{Min: time.Minute, Max: longest, Unit: time.Millisecond}, Destination: &c.settings.Retention, Sources: env("retention")},
		str(rules, "custom-status-policy", "`POLICY` session clears a custom status when its user stops being online, persistent keeps it", service.PolicySession, &c.settings.CustomStatusPolicy),
		&cli.BoolFlag{Name: "friend-notifications", Usage: "make clients watch their user's contacts by themselves",
			Category: rules, Destination: &c.settings.FriendNotifications, Sources: env("friend-notifications")},

		str(watching, "http", "`ADDRESS`, host:port, for /healthz, /readyz, /metrics and /dashboard/; anyone who reaches it may read them (default: none)", "", &c.http),
		&cli.BoolFlag{Name: "pprof", Usage: "serve profiles of the process at /debug/pprof/ of --http, which must be on loopback then", Category: watching,
			Destination: &c.pprof, Sources: env("pprof")},
		&cli.BoolFlag{Name: "check", Usage: "check what a start needs, print a line for each, and end; exit code 1 if something is wrong", Category: watching,
			Destination: &c.check},
		&cli.StringFlag{Name: "name", Usage: "`NAME` of this instance in logs, figures and presencectl stats", Value: service.DefaultHost(), DefaultText: "the name of this machine",
			Category: watching, Destination: &c.settings.Host, Sources: env("name")},
		str(watching, "log-level", "`LEVEL` debug, info, warn or error", "info", &c.logLevel),
		str(watching, "log-format", "`FORMAT` text or json", formatText, &c.logFormat),
	)
}
