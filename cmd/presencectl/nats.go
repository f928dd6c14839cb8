package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/urfave/cli/v3"

	"presence/cmd/internal/choice"
	"presence/cmd/internal/span"
	"presence/cmd/presencectl/natsconfig"
	"presence/cmd/presencectl/natscontext"
	"presence/pkg/protocol"
)

func (a *app) natsConfig() *cli.Command {
	return &cli.Command{
		Name:      "nats-config",
		Category:  admins,
		Usage:     "write a configuration of the NATS server",
		ArgsUsage: "[DIRECTORY]",
		Description: `Writes a complete nats-server configuration: accounts, presenced's users, and
users, gateways, reading services and operators with the permissions of
PROTOCOL section 9. presenced runs it (--nats-config), or a nats-server
beside presenced.

Into DIRECTORY it writes nats.conf and the secrets, every file readable by
its owner only; it overwrites nothing. context/NAME.json there is a nats
context for each client: give it as --context to presencectl or nats. With
--contexts they are also found by their NAMEs, by this account. Without
DIRECTORY nats.conf goes to stdout and the secrets to stderr, once. --auth
says how clients prove who they are:

  password  names and passwords; the configuration has bcrypt hashes
  nkey      Ed25519 keys; the configuration has their public halves
  jwt       an operator, and a signing key for each role: users are issued by
            nats-user without touching the server

Examples:
  presencectl nats-config /etc/presence --contexts
  presencectl nats-config /etc/presence --auth jwt --listen 0.0.0.0:4222
  presencectl nats-config --auth nkey --users alice,bob --gateways gw1`,
		ArgValidator: arguments(0, 1, "name one DIRECTORY, not %d"),
		Flags: []cli.Flag{
			authFlag(),
			&cli.StringFlag{Name: "listen", Usage: "`ADDRESS` for clients, host:port", Value: "127.0.0.1:4222"},
			&cli.StringFlag{Name: "store-dir", Usage: "`DIRECTORY` of the journal", DefaultText: "data in DIRECTORY"},
			&cli.StringSliceFlag{Name: "users", Usage: "`IDS` of users, separated by commas; empty for none", Value: []string{"alice"}},
			&cli.StringSliceFlag{Name: "gateways", Usage: "`IDS` of gateways", Value: []string{"gw1"}},
			&cli.StringSliceFlag{Name: "readers", Usage: "`IDS` of reading services", Value: []string{"reader"}},
			&cli.StringSliceFlag{Name: "operators", Usage: "`IDS` of operators", Value: []string{"operator"}},
			contextsFlag(), forceFlag(),
		},
		Action: notJSON(func(_ context.Context, cmd *cli.Command) error { return a.runNATSConfig(cmd) }),
	}
}

func authFlag() cli.Flag {
	return &choice.Flag{Name: "auth", Usage: "`HOW` clients prove who they are: password, nkey or jwt", Value: string(natsconfig.Password),
		Config: words(natsconfig.Auths)}
}

func (a *app) runNATSConfig(cmd *cli.Command) error {
	dir := cmd.Args().First()
	cfg := natsconfig.Config{
		Auth: natsconfig.Auth(cmd.String("auth")), Dir: dir, Prefix: cmd.String("prefix"),
		Listen: cmd.String("listen"), StoreDir: cmd.String("store-dir"), URL: cmd.String("server"), Clients: []natsconfig.Client{},
	}
	if dir == "" && cmd.Bool("contexts") {
		return errors.New("--contexts goes with a DIRECTORY, where the secrets are")
	}
	for _, r := range protocol.ClientRoles {
		for _, id := range cmd.StringSlice(string(r) + "s") {
			if id != "" {
				cfg.Clients = append(cfg.Clients, natsconfig.Client{Role: r, ID: id})
			}
		}
	}
	files, err := natsconfig.Generate(cfg)
	if err != nil {
		return &failure{err}
	}
	if dir == "" {
		if _, err := a.stdout.Write(files[0].Data); err != nil { // without it the secrets are of no use
			return &failure{err}
		}
		for _, f := range files[1:] {
			fmt.Fprintf(a.stderr, "# %s\n%s", f.Name, f.Data)
		}
		return nil
	}
	if err := a.writeFiles(cmd, dir, files); err != nil {
		return err
	}
	var names []string
	for _, f := range files {
		if f.Context == nil {
			names = append(names, f.Name)
		}
	}
	a.say("wrote %s: %s, and a nats context for each client in %s", dir, strings.Join(names, " "), filepath.Join(dir, "context"))
	public := ""
	if cfg.Auth == natsconfig.JWT {
		public = " but keys/account-APP.jwt"
	}
	a.say("nats.conf says at its beginning how to start presenced; all other files%s are secret", public)
	return nil
}

func (a *app) natsUser() *cli.Command {
	return &cli.Command{
		Name:      "nats-user",
		Category:  admins,
		Usage:     "make one more NATS user for a configuration of nats-config",
		ArgsUsage: "user|gateway|reader|operator ID",
		Description: `Makes a NATS user in one of the roles user, gateway, reader and operator,
with the permissions of PROTOCOL section 9. With --auth jwt it writes
ROLE-ID.creds into the directory that nats-config wrote, signed with
keys/role-ROLE.nk there, and the server lets that user in at once. Otherwise
the entry for the users of account APP goes to stdout, and without --dir its
password or seed to stderr, once. In the directory there is also a nats
context of that user, see nats-config.

Examples:
  presencectl nats-user --auth jwt --dir /etc/presence user bob --contexts
  presencectl nats-user --auth nkey gateway gw2`,
		ArgValidator: func(ctx context.Context, cmd *cli.Command) error {
			args := cmd.Args().Slice()
			roles := words(protocol.ClientRoles)
			if len(args) != 2 {
				return usageError(ctx, cmd, errors.New("name a role (user, gateway, reader or operator) and an ID"), true)
			}
			if err := roles.Check(args[0]); err != nil {
				return usageError(ctx, cmd, fmt.Errorf("the role %q %w", args[0], err), true)
			}
			return nil
		},
		Flags: []cli.Flag{
			authFlag(),
			&cli.StringFlag{Name: "dir", Usage: "`DIRECTORY` of nats-config; for --auth jwt by default this one"},
			&span.Flag{Name: "expires", Usage: "`DURATION` after which the credentials are refused, for --auth jwt", DefaultText: "never",
				Config: span.Bounds{Min: time.Second, Max: 36500 * span.Day, Unit: time.Second}},
			contextsFlag(), forceFlag(),
		},
		Action: notJSON(func(_ context.Context, cmd *cli.Command) error { return a.runNATSUser(cmd) }),
	}
}

func (a *app) runNATSUser(cmd *cli.Command) error {
	auth, dir := natsconfig.Auth(cmd.String("auth")), cmd.String("dir")
	switch {
	case auth == natsconfig.JWT && dir == "":
		dir = "."
	case auth != natsconfig.JWT && cmd.IsSet("expires"):
		return errors.New("--expires goes with --auth jwt")
	case dir == "" && cmd.Bool("contexts"):
		return errors.New("--contexts goes with --dir, where the secret is then")
	}
	issued, err := natsconfig.Issue(natsconfig.Request{
		Auth: auth, Client: natsconfig.Client{Role: protocol.Role(cmd.Args().Get(0)), ID: cmd.Args().Get(1)},
		Prefix: cmd.String("prefix"), Dir: dir, URL: cmd.String("server"), Expires: cmd.Duration("expires"),
	})
	if err != nil {
		return &failure{err}
	}
	if err := a.writeFiles(cmd, dir, issued.Files); err != nil {
		return err
	}
	if issued.Entry != "" {
		if _, err := fmt.Fprintln(a.stdout, issued.Entry); err != nil {
			return &failure{err}
		}
	}
	switch {
	case dir == "":
		a.say("%s has the inbox prefix %s and the secret %s", issued.Name, issued.InboxPrefix, issued.Secret)
		return nil
	case issued.Entry != "":
		a.say("put what is on stdout among the users of account APP in %s, and have the server reload it", natsconfig.ConfigFile)
	}
	var names []string
	for _, f := range issued.Files {
		names = append(names, filepath.Join(dir, f.Name))
	}
	a.say("wrote %s, of %s, whose inbox prefix is %s", strings.Join(names, " and "), issued.Name, issued.InboxPrefix)
	return nil
}

// words are texts of any type as words.
func words[T ~string](list []T) (of choice.Of) {
	for _, t := range list {
		of = append(of, string(t))
	}
	return of
}

func contextsFlag() cli.Flag {
	return &cli.BoolFlag{Name: "contexts", Usage: "write the nats contexts to where nats and presencectl find them by name, too"}
}

func forceFlag() cli.Flag {
	return &cli.BoolFlag{Name: "force", Usage: "with --contexts: replace nats contexts of the same names that others wrote"}
}

// writeFiles writes files into a directory and, with --contexts, their contexts to where the
// nats command finds them. What is in the way of either is found before anything is written.
func (a *app) writeFiles(cmd *cli.Command, dir string, files []natsconfig.File) error {
	if cmd.Bool("force") && !cmd.Bool("contexts") {
		return errors.New("--force goes with --contexts")
	}
	if err := natsconfig.CheckNew(dir, files...); err != nil {
		return &failure{err}
	}
	contexts, force := natsconfig.Contexts(files), cmd.Bool("force")
	if cmd.Bool("contexts") {
		if err := natscontext.CheckNew(contexts, force); errors.Is(err, natscontext.ErrExists) {
			return &failure{fmt.Errorf("%w, and is another's (--force replaces it)", err)}
		} else if err != nil {
			return &failure{err}
		}
	}
	if err := natsconfig.Write(dir, files...); err != nil {
		return &failure{err}
	}
	if !cmd.Bool("contexts") {
		return nil
	}
	where, err := natscontext.Install(contexts, force)
	if err != nil {
		return &failure{fmt.Errorf("wrote %s, but no nats contexts: %w", dir, err)}
	}
	a.say("wrote nats contexts to %s: use them by presencectl --context NAME", where)
	return nil
}
