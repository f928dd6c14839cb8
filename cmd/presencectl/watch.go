package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/urfave/cli/v3"

	"presence/cmd/internal/layout"
	"presence/pkg/client"
	"presence/pkg/protocol"
)

func (a *app) watch() *cli.Command {
	return &cli.Command{
		Name:      "watch",
		Category:  watchers,
		Usage:     "show the statuses of users and every change until interrupted",
		ArgsUsage: "[USER…]",
		Description: `Shows the status of each user, then one line for each change. While it may
miss changes it says on stderr that it is blind. When it says that it is live
again, it has shown what changed meanwhile: the last change of each user.

Examples:
  presencectl watch alice bob
  presencectl watch --contacts-of alice
  presencectl watch alice bob --json | jq -r '"\(.userID) \(.statusType)"'`,
		ArgValidator: func(ctx context.Context, cmd *cli.Command) error {
			if cmd.String("contacts-of") != "" {
				return nil
			}
			return someUsers(ctx, cmd)
		},
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "contacts-of", Usage: "also the contacts of this `USER`, as they are at the beginning"},
		},
		Action: a.connected(runWatch),
	}
}

func runWatch(ctx context.Context, cmd *cli.Command, c *conn) error {
	users, err := c.toWatch(ctx, cmd)
	if err != nil {
		return err
	}
	ctx, end := context.WithCancelCause(ctx)
	defer end(nil)
	defer c.OnUserStatusUpdated(c.printer(users, end))()
	defer c.OnState(func(s client.State) {
		switch {
		case s.Live:
			c.say("live again")
		case s.Reason == client.Closed:
			end(s.Err)
		default:
			c.say("%v", s)
		}
	})()

	first, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	failures, err := c.SubscribeUserStatus(first, users)
	if err != nil {
		return err
	}
	told := c.sayFailures(failures)
	if len(failures) == len(users) {
		return told
	}
	c.settled.Store(true)
	c.say("watching (^C ends it)")
	<-ctx.Done()
	if cause := context.Cause(ctx); !errors.Is(cause, context.Canceled) {
		return cause
	}
	c.newLine()
	return told
}

// toWatch returns the users named and, with --contacts-of, that user's contacts.
func (c *conn) toWatch(ctx context.Context, cmd *cli.Command) ([]string, error) {
	users, owner := cmd.Args().Slice(), cmd.String("contacts-of")
	if owner == "" {
		return users, nil
	}
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	r, err := c.Contacts(ctx, owner)
	if err != nil {
		return nil, err
	}
	if users = append(users, r.Contacts...); len(users) == 0 {
		return nil, &failure{fmt.Errorf("%s has no contacts (presencectl contacts add)", printable(owner))}
	}
	return users, nil
}

// printer returns the callback that prints statuses. When they can no longer
// be printed, that ends the watching.
func (c *conn) printer(users []string, end context.CancelCauseFunc) func([]protocol.Status) {
	width := 0
	for _, u := range users {
		width = max(width, layout.Width(printable(u)))
	}
	return func(list []protocol.Status) {
		for _, s := range list {
			if err := c.printStatus(s, width); err != nil {
				end(err)
				return
			}
		}
	}
}

func (c *conn) printStatus(s protocol.Status, width int) error {
	if c.json {
		return writeJSON(c.stdout, s)
	}
	return writeLine(c.stdout, s, width, time.Now())
}
