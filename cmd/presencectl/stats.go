package main

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v3"

	"presence/pkg/protocol"
)

func (a *app) stats() *cli.Command {
	return &cli.Command{
		Name:     "stats",
		Category: operators,
		Usage:    "show how many users there are, the instances, limits and refusals",
		Description: `Counts users and sessions as everybody may see them: an invisible user counts
as what others see. PENDING are changes of an instance that are not yet known
to be announced. Limits and refusals are those of the instance that answered.

Examples:
  presencectl stats
  presencectl stats --json | jq .users.online`,
		ArgValidator: noArguments,
		Action: a.asking(func(ctx context.Context, _ *cli.Command, c *conn) error {
			r, err := c.Stats(ctx)
			if err != nil {
				return err
			}
			return c.show(r, r.Stale, r.AsOf, statsPage(r)...)
		}),
	}
}

func statsPage(r protocol.StatsReply) [][][]string {
	return [][][]string{
		facts([][]string{
			{"users", fmt.Sprintf("%d online, %d offline, %d unlogined", r.Users.Online, r.Users.Offline, r.Users.Unlogined)},
			{"sessions", sessionsText(r.Sessions)},
			{"leases", fmt.Sprintf("%d: sessions, lost ones included, and %s", r.Leases, count(r.Gateways, "gateway"))},
			{"journal", journalText(r)},
			{"answered", answeredBy(r.Instances)},
		}),
		headed(instanceRows(r.Instances), "INSTANCE", "VERSION", "SEEN", "PENDING", "FORMAT"),
		headed(numberRows(r.Limits), "LIMIT", "VALUE"),
		headed(numberRows(r.Refusals), "REFUSED", "TIMES"),
	}
}

// journalText says how far the instance that answered has read the journal.
func journalText(r protocol.StatsReply) string {
	text := fmt.Sprintf("revision %d of epoch %s", r.Revision, printable(r.Epoch))
	if r.AsOf != 0 {
		text += ", as of " + clock(r.AsOf.Time(), time.Now())
	}
	return text
}

// sessionsText names the platforms, those with most sessions first.
func sessionsText(sessions map[string]int) string {
	total, parts := 0, []string(nil)
	platforms := slices.SortedFunc(maps.Keys(sessions), func(a, b string) int {
		return cmp.Or(cmp.Compare(sessions[b], sessions[a]), strings.Compare(a, b))
	})
	for _, p := range platforms {
		total += sessions[p]
		parts = append(parts, fmt.Sprintf("%s %d", p, sessions[p]))
	}
	if total == 0 {
		return "none live"
	}
	return fmt.Sprintf("%d live: %s", total, strings.Join(parts, ", "))
}

// answeredBy names the instance that answered.
func answeredBy(list []protocol.InstanceStats) string {
	for _, i := range list {
		if i.Answering {
			return "by " + instanceName(i.Writer)
		}
	}
	return none
}

// instanceName is the name of an instance for people: its host and which start of it. The
// JSON has the whole ID.
func instanceName(writer string) string { return printable(protocol.ParseInstanceID(writer).Name()) }

func instanceRows(list []protocol.InstanceStats) (rows [][]string) {
	for _, i := range list {
		last := rounded(time.Duration(i.SilentMs)*time.Millisecond) + " ago"
		rows = append(rows, []string{instanceName(i.Writer), orNone(printable(i.Version)), last, strconv.Itoa(i.Owes), strconv.Itoa(i.Format)})
	}
	return rows
}

// numberRows are a table of names and numbers, in the order of the names.
func numberRows[N int64 | uint64](numbers map[string]N) (rows [][]string) {
	for _, name := range slices.Sorted(maps.Keys(numbers)) {
		rows = append(rows, []string{printable(name), fmt.Sprint(numbers[name])})
	}
	return rows
}

// count is a number with its noun.
func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
