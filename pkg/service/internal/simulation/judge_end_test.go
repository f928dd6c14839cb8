package simulation

import (
	"fmt"
	"slices"
	"time"
)

// end checks what must be so once everything has been calm for long.
func (j *judge) end() {
	w := j.w
	for _, h := range w.hosts {
		p := h.p
		switch {
		case p == nil || !p.member:
			w.violated("calm", "%s does not serve", h.name)
		case p.state.Position()+8 < w.stream.last():
			w.violated("calm", "%s is at %d of %d", h.name, p.state.Position(), w.stream.last())
		case p.corrupt && !p.rebuilding && !j.agrees(p) && !j.agreed(p) && !w.poisoned: // see doc.go
			w.violated("G14", "nobody noticed that the state of %s is wrong", p.instance)
		}
		j.settled(p)
	}
	for _, user := range w.plan.users {
		if !w.plan.damages {
			j.endAnnounced(user)
		}
		// One that was wrong until a while ago may have renewed what nobody holds.
		wrong := j.wrongAt > 0 && w.now-j.wrongAt < 2*time.Minute
		if !wrong && !slices.ContainsFunc(w.hosts, func(h *host) bool { return h.p.corrupt }) {
			j.endOnline(user)
		}
	}
}

// endAnnounced: the last visible change was announced, and who watched as
// PROTOCOL 5 says ends in the true state (G4).
func (j *judge) endAnnounced(user string) {
	w, u := j.w, j.users[user]
	last := u.versions[len(u.versions)-1].status
	if last.Revision == 0 && len(u.versions) > 1 {
		last = u.versions[len(u.versions)-2].status
	}
	if u.heard < last.Revision {
		w.violated("G4", "revision %s of %s was not announced, the last that was is %s", showRevision(last.Revision), user, showRevision(u.heard))
	}
	i := slices.Index(w.plan.users, user)
	for _, x := range w.watchers {
		k := &x.known[i]
		if !x.connected || !k.fetched {
			w.violated("calm", "%s has nothing of %s", x.name, user)
		}
		if now := &u.versions[len(u.versions)-1].status; !same(&k.status, now) && now.Revision != 0 {
			w.violated("G4", "%s ends with %+v as of %s, the truth is %+v", x.name, k.status, showRevision(k.asOf), *now)
		}
	}
}

// endOnline: live are the sessions of those who are there, and no others (G6).
func (j *judge) endOnline(user string) {
	w := j.w
	live := map[string]bool{}
	for _, x := range j.users[user].sessions {
		live[x.SessionID] = x.Live
	}
	want := map[string]bool{}
	for _, c := range w.clients {
		if c.user == user && c.present && c.holds && !j.ended[user+" "+c.session] { // it may not have been told yet
			want[c.session] = true
		}
	}
	for _, g := range w.gateways {
		for _, r := range g.runs {
			for _, x := range r.sessions {
				if key := x.User + " " + x.Session; x.User == user && r.present && r.holds[key] && !j.ended[key] && j.holders[key] == any(r) {
					want[x.Session] = true
				}
			}
		}
	}
	for _, x := range j.users[user].sessions {
		if x.Live != want[x.SessionID] {
			w.violated("G6", "session %s of %s is live: %t, want %t", x.SessionID, user, x.Live, want[x.SessionID])
		}
		delete(want, x.SessionID)
	}
	if len(want) > 0 {
		w.violated("G6", "of the sessions of %s these are missing: %v, there are %v", user, fmt.Sprint(want), fmt.Sprint(live))
	}
}
