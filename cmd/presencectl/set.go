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
		Description: `Sets the text that is shown beside the status, and shows the status as the
user sees it. It replaces the text before, expiry included. By default a text
ends with the user's last session; the service may have another policy.

Examples:
  presencectl set alice "in a meeting"
  presencectl set alice "on holiday" --expires 14d
  presencectl set alice "back" --if-revision 339521537
  presencectl set alice -- "-20 % today"         a text that begins with -`,
		ArgValidator: userAndText,
		Flags: []cli.Flag{
			expiresFlag("clear the text after this `DURATION`, such as 90s, 1h30m or 7d"),
			ifRevisionFlag(),
		},
		Action: a.asking(func(ctx context.Context, cmd *cli.Command, c *conn) error {
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
		Description: `Clears the text, and shows the status as the user sees it.

Examples:
  presencectl clear alice`,
		ArgValidator: oneUser,
		Flags:        []cli.Flag{ifRevisionFlag()},
		Action: a.asking(func(ctx context.Context, cmd *cli.Command, c *conn) error {
			return c.setText(ctx, cmd, "")
		}),
	}
}

func ifRevisionFlag() cli.Flag {
	return &cli.Uint64Flag{Name: "if-revision", Usage: "refuse unless the user's status has this `REVISION`", HideDefault: true}
}

func (c *conn) setText(ctx context.Context, cmd *cli.Command, text string) error {
	s, err := c.SetSelfStatus(ctx, cmd.Args().First(), text, setOptions(cmd)...)
	if err != nil {
		return err
	}
	return c.showOwn(s, func() time.Time { return c.serviceNow(ctx, s.UserID) })
}

// serviceNow asks for the time by the service's clock, for an answer without it.
func (c *conn) serviceNow(ctx context.Context, user string) time.Time {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	r, _ := c.GetUserStatus(ctx, []string{user}) // if it fails, this machine's clock is good enough
	return nowOf(r.AsOf)
}

// showOwn shows the status after a change, as the user sees it.
func (c *conn) showOwn(s protocol.Status, now func() time.Time) error {
	if c.json {
		return writeJSON(c.stdout, s)
	}
	return writePage(c.stdout, columns{revision: true}.table([]protocol.Status{s}, now()))
}

// expiresFlag is the flag for a text or an availability that expires.
func expiresFlag(usage string) cli.Flag {
	return &span.Flag{Name: "expires", Usage: usage, Config: span.Bounds{Min: time.Second, Max: protocol.MaxExpiry, Unit: time.Second}}
}
