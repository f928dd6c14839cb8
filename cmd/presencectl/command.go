package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v3"

	"presence/cmd/internal/choice"
	"presence/cmd/internal/layout"
	"presence/cmd/internal/span"
	"presence/cmd/internal/usage"
	"presence/pkg/protocol"
)

// Categories of commands in the help, which has them in this order.
const (
	devices   = "As a user's device"
	watchers  = "As a watcher"
	operators = "As an operator"
	admins    = "Setting up"
)

func init() { layout.WrapHelp() }

// root is the whole command line.
func (a *app) root() *cli.Command {
	root := &cli.Command{
		Name:    "presencectl",
		Usage:   "log in, set and watch the statuses of users",
		Version: versionText(),
		Description: `Speaks to the presence service over NATS.

Examples:
  presencectl login alice                               in one terminal
  presencectl set alice "in a meeting" --expires 1h     in another
  presencectl get alice bob
  presencectl watch alice bob
  presencectl explain alice                             why that status?

Without --server it uses the selected nats context; if none is selected it
uses nats://127.0.0.1:4222. With --server and without --context it uses the
credentials of no context.

Exit codes: 0 done, 1 refused or failed, 2 wrong usage.`,
		UsageText: "presencectl [options] COMMAND USER…",
		Flags:     globalFlags(),
		Commands: []*cli.Command{
			a.login(), a.logout(), a.set(), a.clear(), a.availability(), a.contacts(),
			a.get(), a.watch(), a.await(),
			a.list(), a.stats(), a.explain(), a.kick(), a.erase(), a.doctor(), a.verify(), a.backup(), a.bench(),
			a.natsConfig(), a.natsUser(), a.completion(),
		},
		Before: checkGlobalFlags,
		Action: func(_ context.Context, cmd *cli.Command) error {
			if !cmd.Args().Present() {
				cmd.Writer = a.stderr // nobody asked for it
				_ = cli.ShowRootCommandHelp(cmd)
				return fmt.Errorf("name a command")
			}
			return unknownCommand(cmd, cmd.Args().First())
		},
		// By default the library exits the process.
		ExitErrHandler: func(context.Context, *cli.Command, error) {},
		OnUsageError:   usageError,
	}
	adapt(root.Commands)
	return root
}

// adapt gives commands what they have in common.
func adapt(commands []*cli.Command) {
	for _, c := range commands {
		c.OnUsageError = usageError
		c.HideHelpCommand = true // a user may be called "help"
		adapt(c.Commands)
	}
}

func globalFlags() []cli.Flag {
	str := func(name, usage, env string, aliases ...string) *cli.StringFlag {
		// The default that the help shows would come from the environment, and
		// could be a password, or a URL with one.
		return &cli.StringFlag{Name: name, Aliases: aliases, Usage: usage, Sources: cli.EnvVars(env), HideDefault: true}
	}
	return []cli.Flag{
		str("server", "NATS server `URLS`, separated by commas", "NATS_URL", "s"),
		str("context", "nats context: its `NAME`, or a .json file", "NATS_CONTEXT"),
		str("creds", "credentials `FILE`", "NATS_CREDS"),
		str("nkey", "nkey seed `FILE`", "NATS_NKEY"),
		str("user", "user `NAME`; without a password it is a token", "NATS_USER"),
		str("password", "`PASSWORD` of the user; better in the environment", "NATS_PASSWORD"),
		str("tlscert", "TLS certificate `FILE`, with --tlskey", "NATS_CERT"),
		str("tlskey", "TLS key `FILE`, with --tlscert", "NATS_KEY"),
		str("tlsca", "TLS certificate authority `FILE`", "NATS_CA"),
		str("inbox-prefix", "`PREFIX` of the subjects for answers, for a user who may not subscribe to _INBOX.>", "NATS_INBOX_PREFIX"),
		&span.Flag{Name: "timeout", Usage: "wait at most this `DURATION` for an answer", Value: 5 * time.Second, Sources: cli.EnvVars("NATS_TIMEOUT"),
			Config: span.Bounds{Min: time.Millisecond, Max: span.Day}},
		&cli.StringFlag{Name: "prefix", Usage: "subject `PREFIX` of the service", Value: protocol.DefaultPrefix, Sources: cli.EnvVars("PRESENCE_PREFIX")},
		&cli.BoolFlag{Name: "json", Usage: "print the JSON of the protocol, one object a line"},
	}
}

// checkGlobalFlags finds mistakes that would otherwise show late or never.
func checkGlobalFlags(ctx context.Context, cmd *cli.Command) (context.Context, error) {
	if (cmd.String("tlscert") == "") != (cmd.String("tlskey") == "") {
		return ctx, fmt.Errorf("--tlscert and --tlskey go together")
	}
	return ctx, protocol.CheckPrefix(cmd.String("prefix"))
}

// unknownCommand is the error for a word in the place of a command.
func unknownCommand(cmd *cli.Command, name string) error {
	var names choice.Of
	for _, c := range cmd.VisibleCommands() {
		names = append(names, c.Name)
	}
	return fmt.Errorf("unknown command %q%s (see %s --help)", name, names.DidYouMean(name), cmd.FullName())
}

// usageError puts an error about the command line into plain words.
func usageError(_ context.Context, cmd *cli.Command, err error, _ bool) error {
	if name, unknown := strings.CutPrefix(err.Error(), "flag provided but not defined: -"); unknown {
		if first := cmd.Args().First(); cmd.Root() == cmd && first != "" && cmd.Command(first) == nil {
			return unknownCommand(cmd, first) // it may have such a flag
		}
		err = fmt.Errorf("there is no flag --%s%s", name, flagNames(cmd).DidYouMean("--"+name))
	}
	err = usage.Error(err, "option session cannot be set along with option all", "--all and --session contradict each other")
	return fmt.Errorf("%w (see %s --help)", err, cmd.FullName())
}

// flagNames are the flags that a command takes.
func flagNames(cmd *cli.Command) (names choice.Of) {
	l := line{root: cmd.Root(), cmd: cmd}
	for _, o := range l.flagOffers() {
		names = append(names, o.word)
	}
	return names
}

// notJSON returns an action that refuses --json: the output of the command is for a shell
// or a NATS server.
func notJSON(action cli.ActionFunc) cli.ActionFunc {
	return func(ctx context.Context, cmd *cli.Command) error {
		if cmd.Bool("json") {
			return usageError(ctx, cmd, fmt.Errorf("%s has no --json", cmd.Name), true)
		}
		return action(ctx, cmd)
	}
}

// The functions below check the arguments of a command before it connects.

// arguments checks how many arguments there are. wrong is the error for another number, in
// which %d stands for it.
func arguments(least, most int, wrong string) func(context.Context, *cli.Command) error {
	return func(ctx context.Context, cmd *cli.Command) error {
		if n := cmd.Args().Len(); n < least || n > most {
			return usageError(ctx, cmd, errors.New(strings.ReplaceAll(wrong, "%d", strconv.Itoa(n))), true)
		}
		return nil
	}
}

var (
	oneUser   = arguments(1, 1, "name one USER, not %d")
	someUsers = arguments(1, math.MaxInt, "name at least one USER")
)

func noArguments(ctx context.Context, cmd *cli.Command) error {
	if cmd.Args().Present() {
		return usageError(ctx, cmd, fmt.Errorf("unexpected argument %q", cmd.Args().First()), true)
	}
	return nil
}

func userAndText(ctx context.Context, cmd *cli.Command) error {
	switch args := cmd.Args().Slice(); {
	case len(args) < 2:
		return usageError(ctx, cmd, fmt.Errorf("name a USER and a TEXT"), true)
	case len(args) > 2 && strings.HasPrefix(args[1], "-"): // after a text like "-2" the library sees no flags
		return usageError(ctx, cmd, fmt.Errorf("put flags first and -- before a TEXT that begins with -"), true)
	case len(args) > 2:
		return usageError(ctx, cmd, fmt.Errorf("put the TEXT into quotes: %q", strings.Join(args[1:], " ")), true)
	}
	return nil
}
