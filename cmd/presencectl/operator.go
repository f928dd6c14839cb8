package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/urfave/cli/v3"

	"presence/pkg/protocol"
)

func (a *app) kick() *cli.Command {
	return &cli.Command{
		Name:      "kick",
		Category:  operators,
		Usage:     "end sessions of a user, as an operator",
		ArgsUsage: "USER",
		Description: `Ends all sessions of a user, or one, and prints their IDs. Their devices are
told, and must not log in again by themselves. People can log in again.

Examples:
  presencectl kick alice
  presencectl kick alice --session 2f1b6c1e-7a0f-4b53-9d39-0c7f0a6b1f11`,
		ArgValidator: oneUser,
		Flags:        []cli.Flag{&cli.StringFlag{Name: "session", Usage: "only the session of this `ID`"}},
		Action: a.asking(func(ctx context.Context, cmd *cli.Command, c *conn) error {
			user := cmd.Args().First()
			var r protocol.KickReply
			var err error
			if cmd.IsSet("session") {
				r, err = c.Kick(ctx, user, cmd.String("session"))
			} else {
				r, err = c.KickAll(ctx, user)
			}
			if err != nil {
				return err
			}
			return c.showEnded(r, "")
		}),
	}
}

func (a *app) erase() *cli.Command {
	return &cli.Command{
		Name:      "erase",
		Category:  operators,
		Usage:     "end a user's sessions and forget everything about the user",
		ArgsUsage: "USER",
		Description: `Ends all sessions of a user, prints their IDs, and makes the service forget
text, availability, contacts and last seen. Those who watch the user are
told. It cannot be undone, so it asks first; --yes answers. The data remain
in the journal and the last two snapshots until those are trimmed: by default
for a day and a half at most, with --now for about ten minutes.

Examples:
  presencectl erase alice
  presencectl erase alice --yes --now`,
		ArgValidator: oneUser,
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "yes", Aliases: []string{"y"}, Usage: "do not ask"},
			&cli.BoolFlag{Name: "now", Usage: "trim journal and snapshots in ten minutes"},
		},
		Action: func(ctx context.Context, cmd *cli.Command) error {
			if !cmd.Bool("yes") && !isTerminal(a.stdin) { // before anything is connected
				return usageError(ctx, cmd, errors.New("there is no terminal to ask on: --yes says that you are sure"), true)
			}
			return a.connected(runErase)(ctx, cmd)
		},
	}
}

func runErase(ctx context.Context, cmd *cli.Command, c *conn) error {
	user := cmd.Args().First()
	if err := protocol.CheckUserID(user); err != nil {
		return err
	}
	if !cmd.Bool("yes") {
		if err := c.confirm(ctx, fmt.Sprintf("Erase everything about %q?", user)); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	erase := c.Erase
	if cmd.Bool("now") {
		erase = c.EraseAndTrim
	}
	r, err := erase(ctx, user)
	if err != nil {
		return err
	}
	return c.showEnded(r, printable(user)+" is erased, ")
}

// showEnded shows which sessions were ended: their IDs, one a line.
func (c *conn) showEnded(r protocol.KickReply, what string) error {
	if c.json {
		return writeJSON(c.stdout, r)
	}
	if err := c.writeLines(r.Ended); err != nil {
		return err
	}
	c.say("%s%s ended", what, count(len(r.Ended), "session"))
	return nil
}

// writeLines prints IDs, one a line, to be the arguments of other commands.
func (c *conn) writeLines(ids []string) error {
	for _, id := range ids {
		if _, err := fmt.Fprintln(c.stdout, printable(id)); err != nil {
			return err
		}
	}
	return nil
}

// confirm asks a question. It returns an error unless the answer is yes.
func (c *conn) confirm(ctx context.Context, question string) error {
	fmt.Fprintf(c.stderr, "%s [y/N] ", question)
	answer := make(chan string, 1)
	go func() { // a read cannot be interrupted: it ends with the process
		line, _ := bufio.NewReader(c.stdin).ReadString('\n') // after an error the line is empty
		answer <- line
	}()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case line := <-answer:
		if !strings.HasSuffix(line, "\n") { // ^D
			fmt.Fprintln(c.stderr)
		}
		switch strings.ToLower(strings.TrimSpace(line)) {
		case "y", "yes":
			return nil
		}
		return &failure{errors.New("nothing was done")}
	}
}

// isTerminal reports whether a reader or writer is a terminal.
func isTerminal(f any) bool {
	file, ok := f.(*os.File)
	if !ok {
		return false
	}
	info, err := file.Stat()
	if err != nil || info.Mode()&os.ModeCharDevice == 0 {
		return false
	}
	null, err := os.Stat(os.DevNull) // a character device as well
	return err != nil || !os.SameFile(info, null)
}
