package main

import (
	"context"
	"time"

	"github.com/urfave/cli/v3"

	"presence/cmd/internal/span"
	"presence/pkg/protocol"
)

func (a *app) set() *cli.Command {
	return &cli.Command{
		Name:      "set",
		Category:  devices,
		Usage:     "set a user's custom status",
		ArgsUsage: "USER TEXT",
		Description: `Sets the text that is shown beside the status, in place of the one before and
its expiry, and shows the user as the user sees it. How long a text outlives
the user's last session is the service's policy: by default it does not.

Examples:
  presencectl set alice "in a meeting"
  presencectl set alice "on holiday" --expires 14d
  presencectl set alice "back" --if-revision 339521537
  presencectl set alice -- "-20 % today"                 a text that begins with -`,
		ArgValidator: userAndText,
		Flags: []cli.Flag{
			expiresFlag("clear the text after this `DURATION`, such as 90s, 1h30m or 7d"),
			ifRevisionFlag(),
		},
		Action: a.connected(func(ctx context.Context, cmd *cli.Command, c *conn) error {
			return c.setText(ctx, cmd, cmd.Args().Get(1))
		}),
	}
}

func (a *app) clear() *cli.Command {
	return &cli.Command{
		Name:      "clear",
		Category:  devices,
		Usage:     "clear a user's custom status",
		ArgsUsage: "USER",
		Description: `Clears the text, and shows the user as the user sees it.

Examples:
  presencectl clear alice`,
		ArgValidator: oneUser,
		Flags:        []cli.Flag{ifRevisionFlag()},
		Action: a.connected(func(ctx context.Context, cmd *cli.Command, c *conn) error {
			return c.setText(ctx, cmd, "")
		}),
	}
}

func ifRevisionFlag() cli.Flag {
	return &cli.Uint64Flag{Name: "if-revision", Usage: "refuse unless the user's status has this `REVISION`", HideDefault: true}
}

func (c *conn) setText(ctx context.Context, cmd *cli.Command, text string) error {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	s, err := c.SetSelfStatus(ctx, cmd.Args().First(), text, setOptions(cmd)...)
	if err != nil {
		return err
	}
	return c.showOwn(s, func() time.Time { return c.serviceNow(ctx, s.UserID) })
}

// serviceNow is the time by the service's clock, for an answer that does not say it.
func (c *conn) serviceNow(ctx context.Context, user string) time.Time {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	r, _ := c.GetUserStatus(ctx, []string{user}) // where it fails, this machine's clock is good enough
	return nowOf(r.AsOf)
}

// showOwn shows what a change led to.
func (c *conn) showOwn(s protocol.Status, now func() time.Time) error {
	if c.json {
		return writeJSON(c.stdout, s)
	}
	return writeTable(c.stdout, []protocol.Status{s}, columns{revision: true}, now())
}

// expiresFlag is of what may expire: a text or an availability.
func expiresFlag(usage string) cli.Flag {
	return &span.Flag{Name: "expires", Usage: usage, Config: span.Bounds{Min: time.Second, Max: protocol.MaxExpiry, Unit: time.Second}}
}
