package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/urfave/cli/v3"

	"presence/pkg/protocol"
)

func (a *app) logout() *cli.Command {
	return &cli.Command{
		Name:      "logout",
		Category:  devices,
		Usage:     "end sessions of a user",
		ArgsUsage: "USER",
		Description: `Ends one session or all, and shows the status as the user sees it. Without a
flag it ends the session that "presencectl login" opened on this host, live
or lost; a login that still runs then ends. Other programs may log in again,
unless --final or --all says that they must not, for 24 hours.

Examples:
  presencectl logout alice
  presencectl logout alice --all
  presencectl logout alice --final --session s2
  presencectl logout alice --session 2f1b6c1e-7a0f-4b53-9d39-0c7f0a6b1f11`,
		ArgValidator: oneUser,
		MutuallyExclusiveFlags: []cli.MutuallyExclusiveFlags{{Flags: [][]cli.Flag{
			{&cli.StringFlag{Name: "session", Usage: "`ID` of the session"}, &cli.BoolFlag{Name: "final", Usage: "for good: its program must not log in again by itself"}},
			{&cli.BoolFlag{Name: "all", Usage: "every session"}},
		}}},
		Action: a.asking(runLogout),
	}
}

func runLogout(ctx context.Context, cmd *cli.Command, c *conn) error {
	user, session := cmd.Args().First(), cmd.String("session")
	all, final := cmd.Bool("all"), cmd.Bool("final")
	var err error
	if session == "" && !all {
		session, err = c.sessionHere(ctx, user)
	}
	switch {
	case err != nil:
	case all:
		err = c.LogoutAll(ctx, user)
	case final && session == "":
		err = fmt.Errorf("%s has no session: nothing was ended for good", user)
	case final:
		err = c.LogoutFinal(ctx, user, session)
	case session != "":
		err = c.Logout(ctx, user, session)
	}
	if err != nil {
		return err
	}
	own, err := c.ownStatus(ctx, user, func(own protocol.OwnStatusReply) bool {
		return find(own, session) == nil && (!all || len(own.Sessions) == 0)
	})
	if err != nil {
		return fmt.Errorf("logged out; asking for the status: %w", err)
	}
	return c.showOwn(own.Status, func() time.Time { return nowOf(own.AsOf) })
}

// ownStatus asks until the answer includes a change that was just made: the instance that
// answers may be a moment behind. It asks for a second at most, because somebody may have
// undone the change.
func (c *conn) ownStatus(ctx context.Context, user string, includes func(protocol.OwnStatusReply) bool) (protocol.OwnStatusReply, error) {
	for deadline := time.Now().Add(time.Second); ; {
		own, err := c.OwnStatus(ctx, user)
		if err != nil || includes(own) || time.Now().After(deadline) {
			return own, err
		}
		select {
		case <-ctx.Done():
			return own, nil
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// sessionHere finds the session of the device that login has by default. If the user has
// no session at all, it returns none and no error.
func (c *conn) sessionHere(ctx context.Context, user string) (string, error) {
	own, err := c.OwnStatus(ctx, user)
	if err != nil {
		return "", err
	}
	for _, s := range own.Sessions {
		if s.Device == defaultDevice() {
			return s.SessionID, nil
		}
	}
	if len(own.Sessions) == 0 {
		return "", nil
	}
	for _, s := range own.Sessions {
		c.say("%s", describe(s))
	}
	return "", errors.New("none of these sessions is of this host: name one with --session, or --all")
}
