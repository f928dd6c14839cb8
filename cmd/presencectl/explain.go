package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/urfave/cli/v3"

	"presence/cmd/internal/span"
	"presence/pkg/protocol"
)

func (a *app) explain() *cli.Command {
	return &cli.Command{
		Name:      "explain",
		Category:  operators,
		Usage:     "say why a user's status is what it is",
		ArgsUsage: "USER",
		Description: `Tells everything that the service knows of a user, invisible or not: what
everybody sees, what the user sees, the rules that decided, and each session
with what keeps it live.

Examples:
  presencectl explain alice
  presencectl explain alice --json | jq -r '.why[]'`,
		ArgValidator: oneUser,
		Action: a.asking(func(ctx context.Context, cmd *cli.Command, c *conn) error {
			r, err := c.Explain(ctx, cmd.Args().First())
			if err != nil {
				return err
			}
			return c.show(r, r.Stale, r.AsOf, explainPage(r, nowOf(r.AsOf))...)
		}),
	}
}

// explainPage reads like an answer: what is shown, why, and what it comes from.
func explainPage(r protocol.ExplainReply, now time.Time) [][][]string {
	return [][][]string{
		answer(r),
		facts(knownRows(r, now)),
		sessionLines(r.Sessions, now),
		headed(endedRows(r.Ended), "ENDED SESSION", "BECAUSE", "REFUSED FOR"),
	}
}

func answer(r protocol.ExplainReply) (rows [][]string) {
	user := printable(r.Owner.UserID)
	if shown(r.Public) == shown(r.Owner) && r.Public.CustomStatus == r.Owner.CustomStatus {
		rows = append(rows, wrapped(fmt.Sprintf("%s is %s, because", user, withText(r.Public)), "", "  "))
	} else {
		rows = append(rows, wrapped(fmt.Sprintf("%s is %s to everybody else", user, withText(r.Public)), "", "  "),
			wrapped(fmt.Sprintf("and %s to %s, because", withText(r.Owner), user), "", "  "))
	}
	for _, sentence := range r.Why {
		rows = append(rows, wrapped(printable(sentence), "  ", "    "))
	}
	return rows
}

func withText(s protocol.Status) string {
	if s.CustomStatus == "" {
		return shown(s)
	}
	return shown(s) + " " + quoted(s.CustomStatus)
}

// quoted puts a text into quotes. %q would write the joiners in emoji as numbers.
func quoted(s string) string { return `"` + printable(s) + `"` }

// knownRows are the facts that are known of the user.
func knownRows(r protocol.ExplainReply, now time.Time) [][]string {
	availability := printable(string(r.Availability.Lasting))
	if r.Availability.Override != "" {
		availability = fmt.Sprintf("%s, which ends %s; then %s", printable(string(r.Availability.Override)), relative(r.Availability.OverrideExpiresAt, now), availability)
	}
	rows := [][]string{{"availability", availability}}
	if s := r.Owner; s.CustomStatus != "" {
		text := quoted(s.CustomStatus)
		if s.CustomStatusExpiresAt != 0 {
			text += ", which is cleared " + relative(s.CustomStatusExpiresAt, now)
		}
		rows = append(rows, []string{"text", text})
	}
	if t := r.Public.LastSeenAt; t != 0 {
		rows = append(rows, []string{"last seen", relative(t, now)})
	}
	if s := r.Public; s.Revision != 0 {
		rows = append(rows, []string{"changed", fmt.Sprintf("%s, revision %d", relative(s.UpdatedAt, now), s.Revision)})
	}
	if r.OwedBy != "" {
		rows = append(rows, []string{"announcing", "not known to be done; it is with instance " + instanceName(r.OwedBy)})
	}
	if r.ForgottenInSeconds > 0 {
		rows = append(rows, []string{"forgotten", "in " + seconds(r.ForgottenInSeconds) + " if nothing happens"})
	}
	return rows
}

// sessionLines are some lines for each session. Columns would be too wide.
func sessionLines(list []protocol.SessionDetail, now time.Time) (rows [][]string) {
	for _, s := range list {
		state, then := "live", "lost in "+seconds(s.EndsInSeconds)
		device := ""
		if s.Device != "" {
			device = ", device " + quoted(s.Device)
		}
		if s.Idle {
			state = "live, idle"
		}
		switch {
		case !s.Live:
			state, then = "lost "+relative(s.LostAt, now), "forgotten in "+seconds(s.EndsInSeconds)
		case s.ClosedSeconds == 0:
			then += " unless it is renewed"
		}
		rows = append(rows, []string{"session " + printable(s.SessionID)},
			wrapped(fmt.Sprintf("%s; logged in %s, %s", state, relative(s.LoginAt, now), then), "  ", "    "),
			wrapped("platform "+printable(s.Platform)+device, "  ", "    "))
		if by := heldBy(s); by != "" {
			rows = append(rows, wrapped("held by "+printable(by), "  ", "    "))
		}
	}
	return rows
}

// heldBy says what keeps a session live.
func heldBy(s protocol.SessionDetail) string {
	var parts []string
	if s.Gateway != "" {
		parts = append(parts, fmt.Sprintf("gateway %s, process %s", s.Gateway, s.Process))
	} else if s.Live {
		parts = append(parts, fmt.Sprintf("renewals, ttl %ds", s.TTLSeconds))
	}
	if s.Connection != nil {
		text := fmt.Sprintf("connection %d of server %s", s.Connection.ClientID, s.Connection.ServerID)
		if s.GraceSeconds > 0 { // a service of an earlier version does not tell
			text += ", grace " + exactly(s.GraceSeconds)
		}
		if s.ClosedSeconds > 0 {
			text += ", closed " + seconds(s.ClosedSeconds) + " ago"
		}
		parts = append(parts, text)
	}
	return strings.Join(parts, "; ")
}

func endedRows(list []protocol.EndedSession) (rows [][]string) {
	for _, e := range list {
		rows = append(rows, []string{printable(e.SessionID), printable(string(e.Reason)), seconds(e.RememberedForSeconds)})
	}
	return rows
}

// seconds writes a number of seconds for people; a negative one as 0s.
func seconds(s float64) string {
	return rounded(max(0, time.Duration(s*float64(time.Second))))
}

// exactly is for durations that somebody chose, seconds for those that pass.
func exactly(s float64) string { return span.Format(time.Duration(s * float64(time.Second))) }
