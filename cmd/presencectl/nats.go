package main

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v3"

	"presence/cmd/internal/span"
	"presence/cmd/presencectl/natsconfig"
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
its owner only; it overwrites nothing. Without DIRECTORY nats.conf goes to
stdout and the secrets to stderr, once. --auth says how clients prove who
they are:

  password  names and passwords; the configuration has bcrypt hashes
  nkey      Ed25519 keys; the configuration has their public halves
  jwt       an operator, and a signing key for each role: users are issued by
            nats-user without touching the server

Examples:
  presencectl nats-config /etc/presence
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
		},
		Action: notJSON(func(_ context.Context, cmd *cli.Command) error { return a.runNATSConfig(cmd) }),
	}
}

func authFlag() cli.Flag {
	return &cli.StringFlag{Name: "auth", Usage: "`HOW` clients prove who they are: password, nkey or jwt", Value: string(natsconfig.Password),
		Validator: func(s string) error {
			if !slices.Contains(natsconfig.Auths, natsconfig.Auth(s)) {
				return fmt.Errorf("must be password, nkey or jwt")
			}
			return nil
		}}
}

func (a *app) runNATSConfig(cmd *cli.Command) error {
	dir := cmd.Args().First()
	cfg := natsconfig.Config{
		Auth: natsconfig.Auth(cmd.String("auth")), Dir: dir, Prefix: cmd.String("prefix"),
		Listen: cmd.String("listen"), StoreDir: cmd.String("store-dir"), Clients: []natsconfig.Client{},
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
	if err := natsconfig.Write(dir, files...); err != nil {
		return &failure{err}
	}
	var names []string
	for _, f := range files {
		names = append(names, f.Name)
	}
	a.say("wrote %s: %s", dir, strings.Join(names, " "))
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
		ArgsUsage: "ROLE ID",
		Description: `Makes a NATS user in one of the roles user, gateway, reader and operator,
with the permissions of PROTOCOL section 9. With --auth jwt it writes
ROLE-ID.creds into the directory that nats-config wrote, signed with
keys/role-ROLE.nk there, and the server lets that user in at once. Otherwise
the entry for the users of account APP goes to stdout, and its password or
seed to stderr, once.

Examples:
  presencectl nats-user --auth jwt --dir /etc/presence user bob --expires 30d
  presencectl nats-user --auth nkey gateway gw2`,
		ArgValidator: func(ctx context.Context, cmd *cli.Command) error {
			args := cmd.Args().Slice()
			if len(args) != 2 || !slices.Contains(protocol.ClientRoles, protocol.Role(args[0])) {
				return usageError(ctx, cmd, fmt.Errorf("name a ROLE (user, gateway, reader or operator) and an ID"), true)
			}
			return nil
		},
		Flags: []cli.Flag{
			authFlag(),
			&cli.StringFlag{Name: "dir", Usage: "`DIRECTORY` of nats-config, for --auth jwt", Value: "."},
			&span.Flag{Name: "expires", Usage: "`DURATION` after which the credentials are refused, for --auth jwt", DefaultText: "never",
				Config: span.Bounds{Min: time.Second, Max: 36500 * span.Day, Unit: time.Second}},
		},
		Action: notJSON(func(_ context.Context, cmd *cli.Command) error { return a.runNATSUser(cmd) }),
	}
}

func (a *app) runNATSUser(cmd *cli.Command) error {
	auth, dir := natsconfig.Auth(cmd.String("auth")), cmd.String("dir")
	if cmd.IsSet("expires") && auth != natsconfig.JWT {
		return fmt.Errorf("--expires goes with --auth jwt")
	}
	c := natsconfig.Client{Role: protocol.Role(cmd.Args().Get(0)), ID: cmd.Args().Get(1)}
	issued, err := natsconfig.Issue(auth, c, cmd.String("prefix"), dir, cmd.Duration("expires"))
	if err != nil {
		return &failure{err}
	}
	if auth != natsconfig.JWT {
		if _, err := fmt.Fprintln(a.stdout, issued.Entry); err != nil {
			return &failure{err}
		}
		a.say("%s has the inbox prefix %s and the secret %s", issued.Name, issued.InboxPrefix, issued.Secret)
		return nil
	}
	if err := natsconfig.Write(dir, issued.File); err != nil {
		return &failure{err}
	}
	a.say("wrote %s, of %s, whose inbox prefix is %s", filepath.Join(dir, issued.File.Name), issued.Name, issued.InboxPrefix)
	return nil
}
