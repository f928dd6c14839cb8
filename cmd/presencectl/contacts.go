package main

import (
	"context"
	"errors"
	"fmt"
	"math"

	"github.com/urfave/cli/v3"

	"presence/cmd/internal/choice"
	"presence/pkg/protocol"
)

func (a *app) contacts() *cli.Command {
	return &cli.Command{
		Name:     "contacts",
		Category: devices,
		Usage:    "show or change whom a user knows",
		Description: `Each command prints all contacts as they are after it, one a line. They
are one-directional: bob is not asked. If the service runs with
--friend-notifications, the user's devices watch the contacts by themselves.

Examples:
  presencectl contacts list alice
  presencectl contacts add alice bob carol
  presencectl get $(presencectl contacts list alice)`,
		Commands: []*cli.Command{
			a.contactsCommand("list", "USER", "show a user's contacts", oneUser, "list alice",
				func(ctx context.Context, c *conn, user string, _ []string) (protocol.ContactsReply, error) {
					return c.Contacts(ctx, user)
				}),
			a.contactsCommand("add", "USER CONTACT…", "add contacts; those who are there already stay", arguments(2, math.MaxInt, userAndContacts), "add alice bob carol",
				func(ctx context.Context, c *conn, user string, contacts []string) (protocol.ContactsReply, error) {
					return c.AddContacts(ctx, user, contacts...)
				}),
			a.contactsCommand("remove", "USER CONTACT…", "remove contacts; those who are not there are no error", arguments(2, math.MaxInt, userAndContacts), "remove alice bob",
				func(ctx context.Context, c *conn, user string, contacts []string) (protocol.ContactsReply, error) {
					return c.RemoveContacts(ctx, user, contacts...)
				}),
			a.contactsCommand("replace", "USER [CONTACT…]", "replace all contacts; without a CONTACT none is left", arguments(1, math.MaxInt, "name a USER"), "replace alice carol dave",
				func(ctx context.Context, c *conn, user string, contacts []string) (protocol.ContactsReply, error) {
					return c.ReplaceContacts(ctx, user, contacts)
				}),
		},
		Action: func(ctx context.Context, cmd *cli.Command) error {
			if !cmd.Args().Present() {
				return usageError(ctx, cmd, errors.New("name a command: list, add, remove or replace"), true)
			}
			err := choice.Of{"list", "add", "remove", "replace"}.Check(cmd.Args().First())
			return usageError(ctx, cmd, fmt.Errorf("unknown command %q before the USER: it %w", cmd.Args().First(), err), true)
		},
	}
}

const userAndContacts = "name a USER and at least one CONTACT"

// contactsCommand is a command that asks for something and shows all contacts.
func (a *app) contactsCommand(name, args, usage string, check func(context.Context, *cli.Command) error, example string,
	ask func(context.Context, *conn, string, []string) (protocol.ContactsReply, error),
) *cli.Command {
	return &cli.Command{
		Name: name, Usage: usage, ArgsUsage: args, ArgValidator: check,
		Description: "Examples:\n  presencectl contacts " + example,
		Action: a.asking(func(ctx context.Context, cmd *cli.Command, c *conn) error {
			r, err := ask(ctx, c, cmd.Args().First(), cmd.Args().Tail())
			if err != nil {
				return err
			}
			return c.showContacts(r)
		}),
	}
}

// showContacts prints them one a line, to be the arguments of other commands.
func (c *conn) showContacts(r protocol.ContactsReply) error {
	if c.json {
		return writeJSON(c.stdout, r)
	}
	if err := c.writeLines(r.Contacts); err != nil {
		return err
	}
	watched := "the service's friend notifications are off"
	if r.FriendNotifications {
		watched = "the user's devices watch them"
	}
	c.say("%s; %s", count(len(r.Contacts), "contact"), watched)
	return nil
}
