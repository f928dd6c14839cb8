package main

import (
	"context"
	"fmt"
	"time"

	"github.com/urfave/cli/v3"

	"presence/cmd/internal/choice"
	"presence/pkg/protocol"
)

func (a *app) list() *cli.Command {
	return &cli.Command{
		Name:     "list",
		Category: operators,
		Usage:    "show the statuses of all users",
		Description: `Shows what everybody may see of all users that the service remembers, or of
those with one status. They are sorted by ID, as it is spelled in subjects.
Users who come or go meanwhile may be missing.

Examples:
  presencectl list
  presencectl list --status online --limit 20
  presencectl list --json | jq -r .userID`,
		ArgValidator: noArguments,
		Flags: []cli.Flag{
			&choice.Flag{Name: "status", Usage: "only users of this `STATUS`: online, offline or unlogined", Config: statuses},
			&cli.IntFlag{Name: "limit", Usage: "at most this `NUMBER` of users", HideDefault: true, Validator: func(n int) error {
				if n < 1 {
					return fmt.Errorf("must be 1 or more")
				}
				return nil
			}},
		},
		Action: a.connected(runList),
	}
}

func runList(ctx context.Context, cmd *cli.Command, c *conn) error {
	left := cmd.Int("limit") // 0 for all
	limited := left > 0
	write := c.statusWriter()
	req := protocol.ListRequest{StatusType: statusType(cmd), Limit: min(left, protocol.MaxUsersPerList)}
	warned := false
	for page, err := range c.List(ctx, req) {
		if err != nil {
			return err
		}
		users := page.Users
		if limited {
			users = users[:min(left, len(users))]
			left -= len(users)
		}
		if err := write(users, nowOf(page.AsOf)); err != nil {
			return err
		}
		c.sayStale(page.Stale && !warned, page.AsOf)
		warned = warned || page.Stale
		if limited && left == 0 {
			break
		}
	}
	return nil
}

// statusWriter returns a function that writes statuses part by part: as a table with one
// heading, or as JSON, one a line.
func (c *conn) statusWriter() func([]protocol.Status, time.Time) error {
	if c.json {
		return func(list []protocol.Status, _ time.Time) error {
			for _, s := range list {
				if err := writeJSON(c.stdout, s); err != nil {
					return err
				}
			}
			return nil
		}
	}
	out, with, begun := table{w: c.stdout}, columns{}, false
	return func(list []protocol.Status, now time.Time) error {
		if len(list) == 0 {
			return nil
		}
		rows := with.rows(list, now)
		if !begun {
			rows = append([][]string{with.heading()}, rows...)
		}
		begun = true
		return out.write(rows...)
	}
}

// statuses are what --status may be, in any case.
var statuses = choice.Of{"online", "offline", "unlogined"}

// statusType is the value of --status; 0 if it is not given.
func statusType(cmd *cli.Command) protocol.StatusType {
	switch cmd.String("status") {
	case "online":
		return protocol.Online
	case "offline":
		return protocol.Offline
	case "unlogined":
		return protocol.Unlogined
	}
	return protocol.Unknown
}
