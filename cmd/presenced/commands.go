package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/urfave/cli/v3"
)

// The commands of presenced. Without one it serves. Each understands the flags that say where the
// journal is, in front of its name or behind it.
const (
	commandBackup  = "backup"
	commandRestore = "restore"
)

// commandHelp is the help of one command. That of presenced has all options; they are many.
const commandHelp = `NAME:
   {{template "helpNameTemplate" .}}

USAGE:
   {{template "usageTemplate" .}}

DESCRIPTION:
   {{template "descriptionTemplate" .}}

OPTIONS:{{template "visibleFlagTemplate" .}}

presenced --help shows the options that say where the journal is.
`

// subcommands are all of them. The one that was given notes that in c, and completes it.
func subcommands(c *config, complete func(*cli.Command) error) []*cli.Command {
	list := []*cli.Command{
		{
			Name:      commandBackup,
			Usage:     "write all that a stopped presenced keeps into one file",
			UsageText: "presenced [options] backup FILE [--force]",
			Description: `The file has the state as of the journal's end, and the contacts. It is
read back whole before it gets its name, and has mode 0600. FILE - is
stdout. Give the options that say where the journal is: --data,
--nats-config, or --nats-url with --journal-creds. Nothing listens meanwhile.
While presenced runs use presencectl backup.

Example:
  presenced backup presence.backup --data /var/lib/presenced`,
			Flags: []cli.Flag{&cli.BoolFlag{Name: "force", Usage: "replace FILE if it exists", Destination: &c.force}},
		},
		{
			Name:      commandRestore,
			Usage:     "make a journal of such a file, in an empty store",
			UsageText: "presenced [options] restore FILE",
			Description: `The store must be empty: stop every presenced, and move an old data
directory away first. The file is read whole before anything is written.
FILE - is stdin. Give the options that say where the journal is to be:
--data, --nats-config, or --nats-url with --journal-creds and --replicas.
Then start presenced as ever. It goes on in a new epoch, and clients fetch
everything anew.

Example:
  presenced restore presence.backup --data /var/lib/presenced`,
		},
	}
	for _, cmd := range list {
		cmd.HideHelpCommand, cmd.CustomHelpTemplate = true, commandHelp
		cmd.OnUsageError = func(_ context.Context, _ *cli.Command, err error, _ bool) error { return err }
		cmd.Action = func(_ context.Context, cmd *cli.Command) error {
			if n := cmd.Args().Len(); n != 1 {
				return fmt.Errorf("presenced %s needs one FILE, not %d", cmd.Name, n)
			}
			c.command, c.file = cmd.Name, cmd.Args().First()
			if c.file == "" {
				return errors.New("the name of the FILE is empty")
			}
			return complete(cmd)
		}
	}
	return list
}
