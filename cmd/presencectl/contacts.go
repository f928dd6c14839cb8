package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/urfave/cli/v3"

	"presence/pkg/protocol"
)

func (a *app) contacts() *cli.Command {
	return &cli.Command{
		Name:     "contacts",
		Category: devices,
		Usage:    "show or change whom a user knows",
		Description: `Each command prints all contacts after it, one a line. They are
one-directional: bob is not asked. Where the service runs with
--friend-notifications, the user's devices are told the statuses of contacts
without asking for them.

Examples:
  presencectl contacts list alice
  presencectl contacts add alice bob carol
  presencectl get $(presencectl contacts list alice)`,
		Commands: []*cli.Command{
			a.contactsCommand("list", "USER", "show a user's contacts", oneUser, "list alice",
				func(ctx context.Context, c *conn, user string, _ []string) (protocol.ContactsReply, error) {
					return c.Contacts(ctx, user)
				}),
			a.contactsCommand("add", "USER CONTACT…", "add contacts; those who are there already stay", userAndContacts, "add alice bob carol",
				func(ctx context.Context, c *conn, user string, contacts []string) (protocol.ContactsReply, error) {
					return c.AddContacts(ctx, user, contacts...)
				}),
			a.contactsCommand("remove", "USER CONTACT…", "remove contacts; those who are not there do no harm", userAndContacts, "remove alice bob",
				func(ctx context.Context, c *conn, user string, contacts []string) (protocol.ContactsReply, error) {
					return c.RemoveContacts(ctx, user, contacts...)
				}),
			a.contactsCommand("replace", "USER [CONTACT…]", "replace all contacts; by nobody where none is named", userAndMore, "replace alice carol dave",
				func(ctx context.Context, c *conn, user string, contacts []string) (protocol.ContactsReply, error) {
					return c.ReplaceContacts(ctx, user, contacts)
				}),
		},
		Action: func(ctx context.Context, cmd *cli.Command) error {
			if !cmd.Args().Present() {
				return usageError(ctx, cmd, errors.New("name a command: list, add, remove or replace"), true)
			}
			return usageError(ctx, cmd, fmt.Errorf("unknown command %q: it is list, add, remove or replace, then the USER", cmd.Args().First()), true)
		},
	}
}

// contactsCommand makes a command of a request that answers with all contacts.
func (a *app) contactsCommand(name, args, usage string, check func(context.Context, *cli.Command) error, example string,
	ask func(context.Context, *conn, string, []string) (protocol.ContactsReply, error),
) *cli.Command {
	return &cli.Command{
		Name: name, Usage: usage, ArgsUsage: args, ArgValidator: check,
		Description: "Examples:\n  presencectl contacts " + example,
		Action: a.connected(func(ctx context.Context, cmd *cli.Command, c *conn) error {
			ctx, cancel := context.WithTimeout(ctx, c.timeout)
			defer cancel()
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
	for _, id := range r.Contacts {
		if _, err := fmt.Fprintln(c.stdout, printable(id)); err != nil {
			return err
		}
	}
	watched := "the service's friend notifications are off"
	if r.FriendNotifications {
		watched = "the user's devices watch them"
	}
	c.say("%s; %s", count(len(r.Contacts), "contact"), watched)
	return nil
}

func userAndContacts(ctx context.Context, cmd *cli.Command) error {
	if cmd.Args().Len() < 2 {
		return usageError(ctx, cmd, errors.New("name a USER and at least one CONTACT"), true)
	}
	return nil
}

func userAndMore(ctx context.Context, cmd *cli.Command) error {
	if !cmd.Args().Present() {
		return usageError(ctx, cmd, errors.New("name a USER"), true)
	}
	return nil
}
