package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/urfave/cli/v3"

	"presence/cmd/internal/choice"
	"presence/cmd/internal/span"
	"presence/pkg/client"
)

func (a *app) await() *cli.Command {
	return &cli.Command{
		Name:      "await",
		Category:  watchers,
		Usage:     "wait until users have a status",
		ArgsUsage: "USER…",
		Description: `Waits until all users, or with --any one of them, have the status, and shows
the statuses of all of them at that moment. It does not wait if they have it
already. The exit code is 0 when they have it, and 1 if they do not within
--timeout.

Examples:
  presencectl await alice
  presencectl await alice bob --any --status online --timeout 1m
  presencectl await alice --status offline && echo "alice is gone"`,
		ArgValidator: someUsers,
		Flags: []cli.Flag{
			&choice.Flag{Name: "status", Usage: "the `STATUS` to wait for: online, offline or unlogined", Value: "online", Config: statuses},
			&cli.BoolFlag{Name: "any", Usage: "one of the users is enough"},
			&span.Flag{Name: "timeout", Usage: "give up after this `DURATION`; default never", Config: span.Bounds{Min: time.Millisecond, Max: 366 * span.Day}},
		},
		Action: a.connected(runAwait),
	}
}

func runAwait(ctx context.Context, cmd *cli.Command, c *conn) error {
	users, quorum, timeout := cmd.Args().Slice(), client.All, cmd.Duration("timeout")
	if cmd.Bool("any") {
		quorum = client.Any
	}
	within, cancel := ctx, func() {}
	if timeout > 0 {
		within, cancel = context.WithTimeout(ctx, timeout)
	}
	defer cancel()
	// By then the broker has refused what it does not allow.
	defer time.AfterFunc(c.timeout, func() { c.settled.Store(true) }).Stop()
	list, err := c.Await(within, users, quorum, statusType(cmd))
	switch {
	case err == nil:
		return c.statusWriter()(list, c.serviceNow(ctx, users[0]))
	case within.Err() == context.DeadlineExceeded:
		return &failure{fmt.Errorf("not within %s: %s", span.Format(timeout), c.whatIs(ctx, users))}
	}
	return err
}

// whatIs says which statuses users have after a wait in vain.
func (c *conn) whatIs(ctx context.Context, users []string) string {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	r, err := c.GetUserStatus(ctx, users)
	if err != nil {
		return c.explain(ctx, err).Error()
	}
	var are []string
	for _, s := range r.SuccessUserList {
		if len(are) == 5 {
			return fmt.Sprintf("%s and %d more", strings.Join(are, ", "), len(r.SuccessUserList)-len(are))
		}
		are = append(are, fmt.Sprintf("%s is %s", printable(s.UserID), shown(s)))
	}
	return strings.Join(are, ", ")
}
