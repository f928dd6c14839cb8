package main

import (
	"context"
	"time"

	"github.com/urfave/cli/v3"

	"presence/pkg/client"
	"presence/pkg/protocol"
)

func (a *app) get() *cli.Command {
	return &cli.Command{
		Name:      "get",
		Category:  watchers,
		Usage:     "show the statuses of users",
		ArgsUsage: "USER…",
		Description: `Shows what everybody may see of users. A user whom the service does not know
is UNLOGINED. If some users cannot be shown, the others are, and the exit
code is 1.

Examples:
  presencectl get alice bob
  presencectl get alice --detail
  presencectl get alice --json | jq '.successUserList[0].statusType'`,
		ArgValidator: someUsers,
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "detail", Usage: "also show platforms and revisions"},
			&cli.BoolFlag{Name: "fresh", Usage: "show every change acknowledged before, at the price of a journal entry"},
		},
		Action: a.asking(runGet),
	}
}

func runGet(ctx context.Context, cmd *cli.Command, c *conn) error {
	var opts []client.GetOption
	if cmd.Bool("detail") {
		opts = append(opts, client.Detail())
	}
	if cmd.Bool("fresh") {
		opts = append(opts, client.Fresh())
	}
	r, err := c.GetUserStatus(ctx, cmd.Args().Slice(), opts...)
	if err != nil {
		return err
	}
	with := columns{platforms: cmd.Bool("detail"), revision: cmd.Bool("detail")}
	if err := c.show(getReply(r), r.Stale, r.AsOf, with.table(r.SuccessUserList, nowOf(r.AsOf))); err != nil {
		return err
	}
	return c.sayFailures(r.FailureUserList)
}

// show writes a reply as JSON, or as tables for people, and warns if it may be old.
func (c *conn) show(reply any, stale bool, asOf protocol.Time, tables ...[][]string) (err error) {
	if c.json {
		err = writeJSON(c.stdout, reply)
	} else {
		err = writePage(c.stdout, tables...)
	}
	if err == nil {
		c.sayStale(stale, asOf)
	}
	return err
}

// sayStale warns of an answer that may be out of date (G12).
func (c *conn) sayStale(stale bool, asOf protocol.Time) {
	if stale {
		c.say("this may be out of date: the instance that answered is cut off from the journal, which it has read up to %s", clock(nowOf(asOf), time.Now()))
	}
}

// getReply is the result as it is on the wire, where no list is null.
func getReply(r client.GetResult) protocol.GetReply {
	reply := protocol.GetReply{
		SuccessUserList: r.SuccessUserList, FailureUserList: r.FailureUserList,
		Revision: r.Revision, Epoch: r.Epoch, AsOf: r.AsOf, Stale: r.Stale,
	}
	if reply.SuccessUserList == nil {
		reply.SuccessUserList = []protocol.Status{}
	}
	if reply.FailureUserList == nil {
		reply.FailureUserList = []protocol.UserFailure{}
	}
	return reply
}
