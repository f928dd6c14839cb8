package main

import (
	"context"
	"fmt"
	"time"

	"github.com/urfave/cli/v3"

	"presence/pkg/client"
	"presence/pkg/protocol"
)

func (a *app) availability() *cli.Command {
	return &cli.Command{
		Name:      "availability",
		Category:  devices,
		Usage:     "show or set how a user may be reached",
		ArgsUsage: "USER [available|away|busy|dnd|invisible]",
		Description: `Shows what a user has set and, with a value, sets that first. A value
lasts until another is set; with --expires it is an override for that time.
Others see it while the user is ONLINE. An invisible user looks OFFLINE to
everybody else.

Examples:
  presencectl availability alice
  presencectl availability alice invisible
  presencectl availability alice busy --expires 1h`,
		ArgValidator: userAndAvailability,
		Flags: []cli.Flag{
			expiresFlag("override the lasting value for this `DURATION`, such as 90s, 1h30m or 7d"),
			ifRevisionFlag(),
		},
		Action: a.asking(runAvailability),
	}
}

func runAvailability(ctx context.Context, cmd *cli.Command, c *conn) error {
	user, want := cmd.Args().First(), protocol.Availability(cmd.Args().Get(1))
	if want != "" {
		if _, err := c.SetAvailability(ctx, user, want, setOptions(cmd)...); err != nil {
			return err
		}
	}
	own, err := c.ownStatus(ctx, user, func(own protocol.OwnStatusReply) bool {
		set := own.Availability
		return want == "" || want == set.Override || want == set.Lasting && set.Override == ""
	})
	if err != nil {
		return err
	}
	return c.show(own, own.Stale, own.AsOf, availabilityTable(own, nowOf(own.AsOf)))
}

// availabilities are what a user may set.
var availabilities = words([]protocol.Availability{protocol.Available, protocol.Away, protocol.Busy, protocol.DND, protocol.Invisible})

func availabilityTable(own protocol.OwnStatusReply, now time.Time) [][]string {
	set := own.Availability
	return [][]string{
		{"USER", "STATUS", "LASTING", "OVERRIDE", "UNTIL"},
		{printable(own.Status.UserID), shown(own.Status), printable(string(set.Lasting)), orNone(printable(string(set.Override))), relative(set.OverrideExpiresAt, now)},
	}
}

func userAndAvailability(ctx context.Context, cmd *cli.Command) error {
	args := cmd.Args().Slice()
	switch {
	case len(args) == 0 || len(args) > 2:
		return usageError(ctx, cmd, fmt.Errorf("name a USER and, to set it, an availability"), true)
	case len(args) == 2:
		if err := availabilities.Check(args[1]); err != nil {
			return usageError(ctx, cmd, fmt.Errorf("the availability %q %w", args[1], err), true)
		}
	case cmd.IsSet("expires") || cmd.IsSet("if-revision"):
		return usageError(ctx, cmd, fmt.Errorf("there is nothing to set: name an availability after the USER"), true)
	}
	return nil
}

// setOptions are the options of the flags --expires and --if-revision.
func setOptions(cmd *cli.Command) (opts []client.SetOption) {
	if cmd.IsSet("expires") {
		opts = append(opts, client.ExpiresIn(cmd.Duration("expires")))
	}
	if cmd.IsSet("if-revision") {
		opts = append(opts, client.IfRevision(cmd.Uint64("if-revision")))
	}
	return opts
}
