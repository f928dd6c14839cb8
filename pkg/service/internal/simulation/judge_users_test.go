package simulation

import (
	"slices"
	"time"

	"presence/pkg/internal/entry"
	"presence/pkg/internal/state"
	"presence/pkg/protocol"
)

// checkUser holds what an entry did to a user against the guarantees.
func (j *judge) checkUser(position uint64, user string, e *entry.Entry, out *state.Outcome) {
	w, u := j.w, j.users[user]
	last := &u.versions[len(u.versions)-1].status
	erased := j.erasures(position, user, e, out)
	u.erased = append(u.erased, erased...)
	if now := j.state.Status(user, false); !same(&now, last) {
		switch {
		case now.Revision == 0: // forgotten
		case now.Revision <= u.highest || now.Revision/entry.IndexSpan != position:
			w.violated("G3", "position %d changed %s, and its revision from %s to %s", position, user, showRevision(last.Revision), showRevision(now.Revision))
		}
		w.say("  %s is %v %q %s, revision %s", user, now.StatusType, now.CustomStatus, now.Availability, showRevision(now.Revision))
		u.highest = max(u.highest, now.Revision)
		if now.Revision == 0 {
			for _, revision := range erased { // announced with a revision, though nobody sees one
				u.versions = append(u.versions, version{position, protocol.Status{UserID: user, StatusType: protocol.Unlogined,
					Revision: revision, UpdatedAt: j.state.AsOf()}})
			}
		}
		u.versions = append(u.versions, version{position, now})
		j.changedAt = w.now
	}
	own, _, sessions := j.state.OwnStatus(user)
	if w.plan.persistent && !w.plan.ends && own.CustomStatus != u.text {
		w.violated("G1", "position %d: the text of %s is %q, and what was set last is %q", position, user, own.CustomStatus, u.text)
	}
	for i := range u.sessions {
		before := &u.sessions[i]
		k := slices.IndexFunc(sessions, func(x protocol.Session) bool { return x.SessionID == before.SessionID })
		switch {
		case k < 0:
			j.checkEnd(position, user, before, e, out)
		case before.Live && !sessions[k].Live:
			j.checkLoss(position, user, before.SessionID, e, out)
		}
	}
	for i := range sessions {
		if key := user + " " + sessions[i].SessionID; j.replaced[key] {
			w.violated("G8", "position %d: session %s of %s is back, though it was replaced", position, sessions[i].SessionID, user)
		}
	}
	u.sessions = sessions
}

// erasures returns the revisions at which an entry may have erased a user, the highest first.
// To erase one who is erased does nothing, so it is not all of them.
func (j *judge) erasures(position uint64, user string, e *entry.Entry, out *state.Outcome) (revisions []uint64) {
	if out.Fenced || j.state.Format() < 3 {
		return nil
	}
	for i := len(e.Commands) - 1; i >= 0; i-- {
		if c := &e.Commands[i]; c.Kind == entry.Erase && c.User == user {
			revisions = append(revisions, position*entry.IndexSpan+uint64(1+len(e.Renewed)+i))
		}
	}
	return revisions
}

// checkLoss: nobody is lost who renewed as it should (G6), and nobody by what
// somebody sends late who does not hold the session any more (G8).
func (j *judge) checkLoss(position uint64, user, session string, e *entry.Entry, out *state.Outcome) {
	w := j.w
	w.say("  session %s of %s is lost", session, user)
	if j.wrongAt > 0 && w.now-j.wrongAt < requestTimeout+time.Second {
		return // who knows leases by other numbers renews those of others
	}
	switch h := j.holders[user+" "+session].(type) {
	case *client:
		if h.session == session && !h.mayBeLost() {
			w.violated("G6", "position %d: session %s of %s is lost, whose client %s renewed %v of lease time ago", position, session, user, h.name, j.lease-h.sentAt)
		}
	case *run:
		if !h.mayBeLost() && !out.Fenced && !names(e, entry.Lost, user, session, h) {
			w.violated("G6", "position %d: session %s of %s is lost, whose gateway %s/%s renewed %v of lease time ago", position, session, user, h.gateway.name, h.process, j.lease-h.sentAt)
		}
	}
}

// names reports whether an entry has an op of a run for a session.
func names(e *entry.Entry, kind entry.Kind, user, session string, by *run) bool {
	for i := range e.Commands {
		c := &e.Commands[i]
		if c.Kind != entry.Apply || by != nil && (c.Gateway != by.gateway.name || c.Process != by.process) {
			continue
		}
		if slices.ContainsFunc(c.Ops, func(op entry.Command) bool { return op.Kind == kind && op.User == user && op.Session == session }) {
			return true
		}
	}
	return false
}

// checkEnd: a session that is live ends only by somebody who may end it (G8).
func (j *judge) checkEnd(position uint64, user string, x *protocol.Session, e *entry.Entry, out *state.Outcome) {
	key := user + " " + x.SessionID
	holder, _ := j.holders[key].(*run)
	found, back, erased := false, false, false
	var each func(c *entry.Command, by *run)
	each = func(c *entry.Command, by *run) {
		switch c.Kind {
		case entry.Logout:
			if c.User == user && (c.All || c.Session == x.SessionID && (by == nil || by == holder)) {
				found, back = true, back || !c.All && !(c.Final && j.state.Format() >= 6)
			}
		case entry.Login:
			if c.User == user && c.Session != x.SessionID {
				if c.Device != "" && c.Device == x.Device {
					found = true
				} else if !x.Live {
					found, back = true, true // it makes room
				}
			}
		case entry.Kick:
			found = found || c.User == user && (c.All || c.Session == x.SessionID)
		case entry.Erase:
			found, erased = found || c.User == user, erased || c.User == user
		case entry.Close:
			if r := j.runs[c.Gateway+"/"+c.Process]; c.All && r != nil && r == holder {
				found, back = true, true
			}
		case entry.Apply:
			for k := range c.Ops {
				each(&c.Ops[k], j.runs[c.Gateway+"/"+c.Process])
			}
		}
	}
	if !out.Fenced {
		for i := range e.Commands {
			each(&e.Commands[i], nil)
		}
	}
	j.ended[key] = true
	switch {
	case !found && x.Live:
		j.w.violated("G8", "position %d: session %s of %s is gone, and nobody ended it", position, x.SessionID, user)
	case found && !back && (j.state.Format() >= 3 || !erased && len(j.users[user].ids) < 32):
		j.replaced[key] = true
	}
	j.w.say("  session %s of %s is ended", x.SessionID, user)
}

// forgive lets the replaced sessions of a user come back, below format 3. From then on none
// does within 24 hours, which no history lasts.
func (j *judge) forgive(user string) {
	if j.state.Format() >= 3 {
		return
	}
	for session := range j.users[user].ids {
		delete(j.replaced, user+" "+session)
	}
}

// at returns what everybody saw of a user at a position.
func (j *judge) at(user string, position uint64) *protocol.Status {
	v := j.users[user].versions
	i := len(v) - 1
	for v[i].position > position {
		i--
	}
	return &v[i].status
}

// same reports whether two statuses are.
func same(a, b *protocol.Status) bool {
	return a.StatusType == b.StatusType && a.CustomStatus == b.CustomStatus && a.CustomStatusExpiresAt == b.CustomStatusExpiresAt &&
		a.Availability == b.Availability && a.LastSeenAt == b.LastSeenAt && a.Revision == b.Revision && a.UpdatedAt == b.UpdatedAt
}
