package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/urfave/cli/v3"

	"presence/cmd/internal/backupfile"
	"presence/cmd/internal/natsurl"
	"presence/pkg/service/backup"
)

func (a *app) backup() *cli.Command {
	return &cli.Command{
		Name:      "backup",
		Category:  operators,
		Usage:     "write all that the running service keeps into one file",
		ArgsUsage: "FILE",
		Description: `The file has the state as of one position of the journal, and the
contacts. It is read back whole before it gets its name, and has mode 0600.
presenced restore makes a journal of it, on this or another machine. The
service goes on meanwhile. FILE - is stdout.

Like verify it has to read the journal, which no client can. If the NATS
server is inside presenced, run it on the same machine as the same user: the
key is in presenced's data directory (--data). For a NATS server of yours
give the journal's account as presenced has it: --journal-creds,
--journal-nkey or --journal-url. It needs no other credentials. If presenced
is stopped, use presenced backup.

Examples:
  presencectl backup presence.backup
  presencectl backup --data /var/lib/presenced - | ssh vault 'cat >p.backup'
  presencectl backup --check presence.backup`,
		ArgValidator: arguments(1, 1, "name one FILE, not %d"),
		Flags: append(journalFlags(),
			&cli.Uint64SliceFlag{Name: "skip", Usage: "leave out the journal entry at `POSITION`, as presenced --skip does"},
			&cli.BoolFlag{Name: "force", Usage: "replace FILE if it exists"},
			&cli.BoolFlag{Name: "check", Usage: "write nothing: read FILE, which is a backup, and say what is in it"},
		),
		Action: func(ctx context.Context, cmd *cli.Command) error {
			switch {
			case cmd.Bool("check"):
				return a.checkBackup(cmd)
			case cmd.Bool("single-account"):
				return a.connected(runBackup)(ctx, cmd)
			}
			return a.journalOnly(runBackup)(ctx, cmd)
		},
	}
}

// journalOnly is connected for an f that needs no connection of a client.
func (a *app) journalOnly(f func(context.Context, *cli.Command, *conn) error) cli.ActionFunc {
	return func(ctx context.Context, cmd *cli.Command) error {
		nctx, err := natsContext(ctx, cmd)
		if err != nil {
			return &failure{err}
		}
		list, err := natsurl.Parse(nctx.ServerURL())
		if err != nil {
			return &failure{err}
		}
		hosts := make([]string, len(list))
		for i, u := range list {
			hosts[i] = natsurl.Host(u)
		}
		c := &conn{app: a, json: cmd.Bool("json"), timeout: cmd.Root().Duration("timeout"), prefix: cmd.String("prefix"),
			urls: nctx.ServerURL(), server: strings.Join(hosts, ", ")}
		if err := f(ctx, cmd, c); err != nil {
			return c.explain(ctx, err)
		}
		return nil
	}
}

func runBackup(parent context.Context, cmd *cli.Command, c *conn) error {
	// After a refused request no answer comes. The refusal arrives by itself.
	ctx, refuse := context.WithCancelCause(parent)
	defer refuse(nil)
	journal, err := c.dialJournal(cmd, nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
		if errors.Is(err, nats.ErrPermissionViolation) {
			refuse(err)
		}
	}))
	if err != nil {
		return &failure{err}
	}
	if journal != c.nc {
		defer journal.Close()
	}
	begun := time.Now()
	info, size, err := backupfile.Take(ctx, cmd.Args().First(), cmd.Bool("force"), c.stdout, backup.Source{
		Journal: journal, By: "presencectl " + versionText(), Skip: cmd.Uint64Slice("skip"), Timeout: c.timeout,
		Progress: func(what string) {
			if time.Since(begun) > quietFor {
				c.say("%s", what)
			}
		},
	})
	if refused := context.Cause(ctx); errors.Is(refused, nats.ErrPermissionViolation) {
		return &failure{fmt.Errorf("the journal's credentials are not enough: %w: give those that presenced has (--journal-creds), or that may read every stream of the journal's account", c.reason(refused, err))}
	}
	if err != nil {
		return c.explain(ctx, err)
	}
	return c.showBackup(cmd.Args().First(), info, size, time.Since(begun))
}

// showBackup says what was written, on stderr where the backup is on stdout.
func (c *conn) showBackup(path string, info *backup.Info, size int64, took time.Duration) error {
	switch {
	case path == backupfile.Stream:
		c.say("wrote %d users as of journal position %d, %d bytes, in %v; not read back: presencectl backup --check does that",
			info.Users, info.Position, size, took.Round(10*time.Millisecond))
		return nil
	case c.json:
		return writeJSON(c.stdout, info)
	}
	_, err := fmt.Fprintf(c.stdout, "%swrote     %s, %d bytes, in %v, and read it back\n", backupfile.Describe(info), printable(path), size, took.Round(10*time.Millisecond))
	return err
}

func (a *app) checkBackup(cmd *cli.Command) error {
	info, err := backupfile.Check(cmd.Args().First(), a.stdin)
	switch {
	case err != nil:
		return &failure{err}
	case cmd.Bool("json"):
		return writeJSON(a.stdout, info)
	}
	_, err = fmt.Fprintf(a.stdout, "%sIt is whole.\n", backupfile.Describe(info))
	return err
}
