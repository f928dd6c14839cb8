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
		Description: `Ends one session or all, and shows the user as the user sees it. Without a
flag it ends the session that "presencectl login" opened, or lost, on this
host; that login then ends, too. Other programs may log in again.

Examples:
  presencectl logout alice
  presencectl logout alice --all
  presencectl logout alice --session 2f1b6c1e-7a0f-4b53-9d39-0c7f0a6b1f11`,
		ArgValidator: oneUser,
		MutuallyExclusiveFlags: []cli.MutuallyExclusiveFlags{{Flags: [][]cli.Flag{
			{&cli.StringFlag{Name: "session", Usage: "`ID` of the session"}},
			{&cli.BoolFlag{Name: "all", Usage: "every session"}},
		}}},
		Action: a.connected(runLogout),
	}
}

func runLogout(ctx context.Context, cmd *cli.Command, c *conn) error {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	user, session, all := cmd.Args().First(), cmd.String("session"), cmd.Bool("all")
	var err error
	if session == "" && !all {
		session, err = c.sessionHere(ctx, user)
	}
	switch {
	case err != nil:
	case all:
		err = c.LogoutAll(ctx, user)
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

// ownStatus asks until the answer includes what was just done: another instance
// may answer, a moment behind. Somebody may also have undone it: it does not ask
// for longer than a second.
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

// sessionHere finds the session of the device that login takes by default.
// There is none, and no error, where the user has no session at all.
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
