package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/user"
	"runtime"
	"strings"
	"time"

	"github.com/urfave/cli/v3"

	"presence/cmd/internal/span"
	"presence/pkg/client"
	"presence/pkg/protocol"
)

func (a *app) login() *cli.Command {
	return &cli.Command{
		Name:      "login",
		Category:  devices,
		Usage:     "hold a session of a user until interrupted",
		ArgsUsage: "USER",
		Description: `Opens a session, which makes the user ONLINE, and keeps it alive. ^C or
SIGTERM logs out. When a later login of the same device replaces the session,
this one ends with exit code 1.

By default the device is named after your account and this host, so that a
second login here replaces the first one.

Examples:
  presencectl login alice
  presencectl login alice --platform iphone --device "alice's phone"
  presencectl login alice --session s1 --ttl 30s
  presencectl login alice --grace 1m`,
		ArgValidator: oneUser,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "platform", Usage: "`PLATFORM` of the device, such as web, linux or iphone", Value: defaultPlatform()},
			&cli.StringFlag{Name: "device", Usage: "`NAME` of the device; its earlier session is replaced", Value: defaultDevice()},
			&span.Flag{Name: "ttl", Usage: "`DURATION` that the session lives on when this process falls silent: 5s to 1h", DefaultText: "2m",
				Config: span.Bounds{Min: protocol.MinTTL, Max: protocol.MaxTTL, Unit: time.Second}},
			&span.Flag{Name: "grace", Usage: "`DURATION` that the session outlives its broken connection: 1s to 5m, or less if the operator says so", DefaultText: "the service's, 5s unless configured",
				Config: span.Bounds{Min: protocol.MinGrace, Max: protocol.MaxGrace, Unit: time.Second}},
			&cli.StringFlag{Name: "session", Usage: "`ID` of the session, to resume it; default a new one"},
		},
		Action: a.connected(runLogin),
	}
}

func runLogin(ctx context.Context, cmd *cli.Command, c *conn) error {
	first, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	session, err := c.Login(first, cmd.Args().First(), client.LoginOptions{
		SessionID: cmd.String("session"),
		Device:    cmd.String("device"),
		Platform:  cmd.String("platform"),
		TTL:       cmd.Duration("ttl"),
		Grace:     cmd.Duration("grace"),
	})
	if err != nil {
		return err
	}
	h := &holder{conn: c, s: session, device: cmd.String("device")}
	if err = h.begin(first); err == nil {
		c.settled.Store(true)
		err = h.hold(ctx)
	}
	if errors.Is(err, errEnded) {
		return err
	}
	if left := c.leave(ctx, session); left != nil || ctx.Err() != nil {
		return left
	}
	return err
}

// leave logs out, mostly because ctx has ended.
func (c *conn) leave(ctx context.Context, s *client.Session) error {
	cause := context.Cause(ctx)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), c.timeout)
	defer cancel()
	if err := s.Close(ctx); err != nil {
		why := c.explain(ctx, err)
		return &failure{fmt.Errorf("%s is not logged out, the session will be lost: %w", s.UserID(), why)}
	}
	c.newLine()
	c.say("%s is logged out", s.UserID())
	if errors.Is(cause, context.Canceled) {
		return nil
	}
	return cause // it was not the user: the NATS server refused something
}

// newLine ends the line on which a terminal has shown ^C.
func (c *conn) newLine() {
	if l, ok := c.stderr.(*lockedWriter); ok && isTerminal(l.w) {
		fmt.Fprintln(l)
	}
}

// defaultDevice is the same for the same account on the same host.
func defaultDevice() string {
	name, host := "unknown", "unknown"
	if u, err := user.Current(); err == nil {
		name = u.Username
	}
	if h, err := os.Hostname(); err == nil {
		host = h
	}
	d := "presencectl " + name + "@" + host
	return strings.ToValidUTF8(d[:min(len(d), protocol.MaxDeviceBytes)], "")
}

// usualPlatforms are the names that PROTOCOL 4.1 suggests.
var usualPlatforms = []string{"web", "windows", "mac", "linux", "android", "iphone", "ipad", "miniprogram"}

// defaultPlatform is this one, by its usual name (PROTOCOL 4.1).
func defaultPlatform() string {
	if runtime.GOOS == "darwin" {
		return "mac"
	}
	return runtime.GOOS
}
