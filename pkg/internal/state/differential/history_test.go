package differential

import (
	"pgregory.net/rapid"

	"presence/pkg/internal/entry"
)

// moment is what happens at one time of a generated history.
type moment struct {
	after    int64 // since the moment before
	quiet    int   // entries without anything before it, almost 2 s each
	commands []entry.Command
	renewed  []uint32 // leases, whether they are there or not
	by       string   // who writes it
}

// genHistory draws commands over few users, sessions, devices and connections,
// so that they meet, and times around the bounds that matter.
func genHistory(t *rapid.T) []moment {
	pick := func(label string, of ...string) string { return rapid.SampledFrom(of).Draw(t, label) }
	genOp := rapid.Custom(func(t *rapid.T) entry.Command {
		return entry.Command{
			Idle: rapid.Bool().Draw(t, "idle"),
			Kind: rapid.SampledFrom([]entry.Kind{entry.Login, entry.Login, entry.Logout, entry.Lost, entry.Idle, entry.Set}).Draw(t, "kind"),
			User: pick("user", "u1", "u2", "u3"), Session: pick("session", "s1", "s2", "s3", "s4"), Device: pick("device", "", "d1"),
		}
	})
	genCommand := rapid.Custom(func(t *rapid.T) entry.Command {
		c := entry.Command{User: pick("user", "u1", "u2", "u3"), Session: pick("session", "s1", "s2", "s3", "s4")}
		switch rapid.IntRange(0, 18).Draw(t, "kind") {
		case 0, 1, 2:
			c.Kind, c.Platform = entry.Login, "web"
			c.Device = pick("device", "", "", "d1", "d2")
			c.TTL = rapid.SampledFrom([]uint32{5_000, 10_000, 30_000}).Draw(t, "ttl")
			if rapid.Bool().Draw(t, "bound") {
				c.Server, c.Client = "N1", uint64(rapid.IntRange(1, 4).Draw(t, "client"))
			}
		case 3, 4:
			c.Kind, c.SetIdle, c.Idle = entry.Renew, rapid.Bool().Draw(t, "setIdle"), rapid.Bool().Draw(t, "idle")
		case 5:
			which := rapid.IntRange(0, 3).Draw(t, "which")
			c.Kind, c.All, c.Final = entry.Logout, which == 0, which == 1 // which means nothing below format 6
		case 6, 7:
			c.Kind, c.Session, c.Text = entry.Set, "", pick("text", "", "a", "b")
			if c.Text != "" {
				c.Expires = rapid.SampledFrom([]int64{0, 1_000, 7_000}).Draw(t, "expires")
			}
		case 15, 16:
			c.Kind, c.Session, c.KeepText = entry.Set, "", rapid.Bool().Draw(t, "keepText")
			c.Availability = rapid.SampledFrom([]entry.Availability{entry.Available, entry.Busy, entry.Invisible, entry.Invisible}).Draw(t, "availability")
			c.Override = rapid.SampledFrom([]int64{0, 1_000, 7_000}).Draw(t, "override")
		case 17:
			c.Kind, c.All = rapid.SampledFrom([]entry.Kind{entry.Kick, entry.Kick, entry.Erase}).Draw(t, "ending"), rapid.Bool().Draw(t, "all")
		case 8:
			c = entry.Command{Kind: rapid.SampledFrom([]entry.Kind{entry.Closed, entry.Closed, entry.Unbind, entry.LameDuck}).Draw(t, "what"),
				Server: "N1", Client: uint64(rapid.IntRange(1, 4).Draw(t, "client"))}
		case 10:
			c = entry.Command{Kind: entry.Open, Gateway: "g1", Process: pick("process", "p1", "p2"), TTL: 10_000}
			if rapid.Bool().Draw(t, "bound") {
				c.Server, c.Client = "N1", uint64(rapid.IntRange(1, 4).Draw(t, "client"))
			}
		case 11, 13, 14:
			c = entry.Command{Kind: entry.Apply, Gateway: "g1", Process: pick("process", "p1", "p2"), Seq: uint64(rapid.IntRange(1, 4).Draw(t, "seq"))}
			c.Ops = rapid.SliceOfN(genOp, 1, 5).Draw(t, "ops")
		case 12:
			c = entry.Command{Kind: rapid.SampledFrom([]entry.Kind{entry.RenewGateway, entry.RenewGateway, entry.Close}).Draw(t, "kind"),
				Gateway: "g1", Process: pick("process", "p1", "p2"), All: rapid.Bool().Draw(t, "logout")}
		case 18:
			c = entry.Command{Kind: entry.SetFormat, Seq: rapid.Uint64Range(2, 3).Draw(t, "format")}
		case 9:
			if rapid.IntRange(0, 9).Draw(t, "rare") == 0 {
				return entry.Command{Kind: entry.RequestsLost}
			}
			if rapid.IntRange(0, 2).Draw(t, "newer") == 0 {
				return entry.Command{Kind: entry.SetFormat, Seq: format}
			}
			c = entry.Command{Kind: entry.Configure, Params: &entry.Params{
				Grace:      rapid.SampledFrom([]int64{0, 1_000, 5_000}).Draw(t, "grace"),
				Retention:  rapid.SampledFrom([]int64{60_000, 600_000}).Draw(t, "retention"),
				Persistent: rapid.Bool().Draw(t, "persistent"),
				Sessions:   rapid.SampledFrom([]int{0, 1, 2, 3, 32}).Draw(t, "sessions"),
			}}
		}
		return c
	})
	genMoment := rapid.Custom(func(t *rapid.T) moment {
		return moment{
			after: rapid.SampledFrom([]int64{0, 1, 99, 100, 500, 1_000, 1_000, 1_000, 1_999, 2_000, 2_001, 60_000, -3_600_000}).
				Draw(t, "after"),
			quiet:    rapid.SampledFrom([]int{0, 0, 0, 0, 0, 0, 0, 0, 0, 70}).Draw(t, "quiet"),
			commands: rapid.SliceOfN(genCommand, 0, 6).Draw(t, "commands"),
			renewed:  rapid.SliceOfN(rapid.Uint32Range(0, 5), 0, 2).Draw(t, "renewed"),
			by:       rapid.SampledFrom([]string{"A", "A", "B"}).Draw(t, "by"),
		}
	})
	return rapid.SliceOfN(genMoment, 1, 120).Draw(t, "history")
}
