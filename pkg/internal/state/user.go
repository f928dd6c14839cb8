package state

import (
	"presence/pkg/internal/entry"
	"presence/pkg/internal/table"
	"presence/pkg/protocol"
)

// user is everything that is remembered of a user. See tables.
type user struct {
	id       table.Text
	text     table.Text
	sessions uint32 // the first, in the order of their logins; 0: none
	rare     uint32 // see rare; 0: it has nothing

	lastSeen  int64 // wall time at which the user last stopped being ONLINE
	idleSince int64 // lease clock since when nothing is to be remembered; -1: something is

	// Of the last change that the owner sees:
	revision  uint64
	previous  uint64 // revision of the public view before; means nothing while hidden
	updatedAt int64  // wall time
	pending   uint32 // in an instance's outbox; 0: the change is announced
	cause     cause

	lasting  entry.Availability
	erased   erasure
	presence presence // of the sessions, see notePresence

	saved   uint16 // number of the last snapshot that contains the user, see Snapshot
	fenced  uint16 // how many sessions were replaced since the last trimFences
	touched int32  // 1 + index in State.touched while a change is at hand

	forgetBucket uint32 // where the user waits in the calendar forgets; 0: nowhere

	fence uint32 // number of the newest fence of a replaced session; 0: none
}

// presence says what is most present of a user: a higher number is more.
type presence uint8

const (
	absent presence = iota // there is no session
	lost                   // all sessions are lost
	idle                   // a session is live, and all that are live are idle
	active                 // a live session is not idle
)

// notePresence must be called after sessions of a user came, went, were lost or revived, and
// after they became idle or active. So nobody who reads has to look at the sessions.
func (s *State) notePresence(u *user) { u.presence = s.presenceOf(u) }

func (s *State) presenceOf(u *user) (p presence) {
	for x := s.first(u); x != nil; x = s.after(x) {
		switch {
		case !x.live:
			p = max(p, lost)
		case x.idle:
			p = max(p, idle)
		default:
			return active
		}
	}
	return p
}

// erasure says whether a user was erased. An erased user is forgotten as soon as the
// erasure is announced.
type erasure uint8

const (
	notErased erasure = iota
	// erasedKnown: below format 3 the user shows the revision of the erasure until then.
	erasedKnown
	// erasedGone: the user is at once like one never seen, and has a tombstone.
	erasedGone
)

// tombstone is the erasure of a user, to be announced. It stays when the user does
// something that nobody sees. It is the last change until something is seen again.
type tombstone struct {
	revision, previous uint64
	updatedAt          int64
}

// status returns the status that announces the erasure.
func (x *tombstone) status(id string) protocol.Status {
	return protocol.Status{UserID: id, StatusType: protocol.Unlogined, Revision: x.revision, UpdatedAt: protocol.Time(x.updatedAt)}
}

// setTombstone makes an erased user look like one never seen, and has the erasure
// announced. previous is the revision of the public view before.
func (s *State) setTombstone(u *user, previous uint64) {
	s.putTombstone(u, tombstone{revision: s.revision, previous: previous, updatedAt: s.clock.wall})
	u.revision, u.previous, u.updatedAt = 0, 0, 0
}

func (t *tables) putTombstone(u *user, x tombstone) {
	t.needRare(u).tombstone = true
	t.tombstones[t.numberOf(u)] = x
}

// tombstone returns the erasure of a user that is to be announced.
func (t *tables) tombstone(u *user) (x tombstone, ok bool) {
	if !t.rare(u).tombstone {
		return tombstone{}, false
	}
	return t.tombstones[t.numberOf(u)], true
}

// dropTombstone notes that an erasure is announced.
func (t *tables) dropTombstone(u *user) {
	if t.rare(u).tombstone {
		delete(t.tombstones, t.numberOf(u))
		t.needRare(u).tombstone = false
	}
}

// cause is a protocol.Cause in one byte.
type cause uint8

const (
	byLogin cause = iota
	byLogout
	byLoss
	bySet
	byExpiry
	byKick
	byErasure
)

func (c cause) String() string {
	return string([...]protocol.Cause{protocol.CauseLogin, protocol.CauseLogout, protocol.CauseLost, protocol.CauseSet, protocol.CauseExpired,
		protocol.CauseKicked, protocol.CauseErased}[c])
}

// view is what can be seen of a user. A change that leaves it equal is not visible
// (PROTOCOL 2).
type view struct {
	text         string
	textUntil    int64
	statusType   protocol.StatusType
	availability entry.Availability
}

// touched is a user that the current command may have changed, as the user was before.
type touched struct {
	user        *user
	own, public view
	revision    uint64 // of the public view
	cause       cause
	parts       parts // what is to be announced besides the views
	erased      bool  // the change erased the user, from format 3 on
}

// change must be called before anything of a user changes that a snapshot contains,
// sessions included. The deadlines of leases (see extend) and the outbox are
// exceptions. It saves the user for the snapshot that is being taken, and takes the
// user out of the digest until finish.
func (s *State) change(u *user) {
	if u.touched > 0 {
		return
	}
	s.preserve(u)
	s.digest -= s.hash(u)
	s.note(u)
}

// note adds a user to those that finish looks at.
func (s *State) note(u *user) {
	t := touched{user: u, own: s.own(u), revision: s.publicRevision(u)}
	t.public = s.public(u, t.own)
	s.touched = append(s.touched, t)
	u.touched = int32(len(s.touched))
}

// tell adds to what the current change has to announce of a user.
func (s *State) tell(u *user, what parts) {
	s.change(u)
	s.touched[u.touched-1].parts |= what
}

// statusType implements the rule of PROTOCOL 3: ONLINE while any session is
// live, OFFLINE while one was lost without logging out, UNLOGINED without any. The user
// may be nil.
func (u *user) statusType() protocol.StatusType {
	switch {
	case u == nil || u.presence == absent:
		return protocol.Unlogined
	case u.presence == lost:
		return protocol.Offline
	}
	return protocol.Online
}

func (u *user) online() bool { return u.presence > lost }

// own returns the view of the user's own devices.
func (s *State) own(u *user) view {
	return view{statusType: u.statusType(), text: s.text(u), textUntil: s.rare(u).textUntil, availability: s.availability(u)}
}

// public returns the view of everybody else. own is the result of State.own.
func (s *State) public(u *user, own view) view {
	if h := s.hidden(u); h != nil {
		return s.hiddenView(h)
	}
	return own
}

// publicRevision is the revision of the public view's last change.
func (t *tables) publicRevision(u *user) uint64 {
	if h := t.hidden(u); h != nil {
		return h.revision
	}
	return u.revision
}

// ownerView is the status as the user's own devices see it.
func (s *State) ownerView(u *user) protocol.Status {
	return s.own(u).status(s.userID(u), u.lastSeen, u.revision, u.updatedAt)
}

// publicView is the status as everybody else sees it.
func (s *State) publicView(u *user) protocol.Status {
	if h := s.hidden(u); h != nil {
		return s.hiddenView(h).status(s.userID(u), h.lastSeen, h.revision, h.updatedAt)
	}
	return s.ownerView(u)
}

func (v view) status(id string, lastSeen int64, revision uint64, updatedAt int64) protocol.Status {
	st := protocol.Status{
		UserID:                id,
		StatusType:            v.statusType,
		CustomStatus:          v.text,
		CustomStatusExpiresAt: protocol.Time(v.textUntil),
		Availability:          wire(v.availability),
		Revision:              revision,
		UpdatedAt:             protocol.Time(updatedAt),
	}
	if st.StatusType != protocol.Online {
		st.LastSeenAt = protocol.Time(lastSeen)
	}
	return st
}

// unknownUser is the view of somebody who was never seen (PROTOCOL 4.5).
func unknownUser(id string) protocol.Status {
	return protocol.Status{UserID: id, StatusType: protocol.Unlogined}
}

// begin starts the change with an index in the current entry.
func (s *State) begin(index int) {
	s.revision = s.position<<12 | uint64(index)
}

// touch is change with the cause that the event will have. It is for changes that may
// be visible.
func (s *State) touch(u *user, cause cause) {
	s.change(u)
	s.touched[u.touched-1].cause = cause
}

// finish ends a change. Users whose view has changed get its revision, and an
// announcement in the outbox of the entry's instance.
func (s *State) finish() {
	for i := range s.touched {
		t := &s.touched[i]
		t.user.touched = 0
		s.revise(t)
		s.markIdle(t.user)
		s.scheduleForget(t.user)
		s.dropRare(t.user)
		s.digest += s.hash(t.user)
	}
	clear(s.touched)
	s.touched = s.touched[:0]
	if cap(s.touched) > scratchKept { // after many users at once
		s.touched = nil
	}
}

// revise is finish for one user.
func (s *State) revise(t *touched) {
	u, what := t.user, t.parts
	if u.erased == erasedGone && !s.isForgettable(u) {
		u.erased = notErased // there is something to know again
	}
	own := s.own(u)
	rest, shown := s.hide(u, own)
	online := t.own.statusType == protocol.Online && own.statusType == protocol.Online
	if own != t.own || what&partOwner != 0 {
		u.revision, u.updatedAt, u.cause = s.revision, s.clock.wall, t.cause
		switch {
		case shown:
			u.cause = byLogin
		case online && t.cause != byExpiry: // for example the end of the only active session
			u.cause = bySet
		}
		what |= partOwner
	}
	if public := s.public(u, own); public != t.public || what&partPublic != 0 {
		what |= partPublic
		if h := s.hidden(u); h != nil {
			h.revision, h.previous, h.updatedAt = s.revision, t.revision, s.clock.wall
		} else {
			u.previous = t.revision
		}
	}
	if t.erased {
		s.setTombstone(u, t.revision)
	}
	if !online {
		what &^= partSessions // there is no other device to tell
	}
	s.countUser(t.public.statusType, t.revision, -1)
	s.countUser(s.public(u, own).statusType, s.publicRevision(u), +1)
	s.reorder(u, t.revision)
	if what&partPublic != 0 && s.hidden(u) != nil {
		what &^= partPublic
		s.enqueueHidden(s.instance, u)
	}
	if what |= rest; what != 0 {
		s.enqueue(s.instance, u, what)
	}
}

// leaveOnline is called when a live session has ended. If it was the user's last one,
// the time is remembered, and the text is cleared unless the policy is persistent
// (PROTOCOL 3). A user who came and went within one change was not seen.
func (s *State) leaveOnline(u *user) {
	if u.online() {
		return
	}
	if s.touched[u.touched-1].own.statusType == protocol.Online {
		u.lastSeen = s.clock.wall
	}
	if !s.params.Persistent {
		s.setText(u, "", 0)
	}
}

// markIdle notes since when nothing but lastSeen is to be remembered of a user. A
// retention later the user is forgotten.
func (s *State) markIdle(u *user) {
	forgettable := s.isForgettable(u)
	switch {
	case !forgettable:
		u.idleSince = -1
	case u.idleSince < 0:
		u.idleSince = s.clock.lease
	}
}

// isForgettable reports whether nothing is to be remembered of a user but lastSeen and
// which sessions were ended.
func (s *State) isForgettable(u *user) bool {
	if u.presence != absent || u.text != 0 || u.lasting != entry.Available || s.rare(u).override != entry.Keep {
		return false
	}
	h := s.hidden(u)
	return h == nil || h.gone
}

// forgetAt returns when a user with nothing to remember is forgotten. An erased user is
// forgotten at once, any other not before the user's ended sessions.
func (s *State) forgetAt(u *user) int64 {
	if u.erased != notErased {
		return u.idleSince
	}
	at := u.idleSince + s.params.Retention
	for r := s.replacedOf(u); r != nil; r = r.next {
		at = max(at, r.until)
	}
	return roundUp(at, forgetGrain)
}

// nextForget returns when something about a user is forgotten next. It returns false
// for never, and while something has to be announced before.
func (s *State) nextForget(u *user) (at int64, ok bool) {
	if u.idleSince >= 0 && !s.hasPending(u) {
		at, ok = s.forgetAt(u), true
	}
	if h := s.hidden(u); h != nil {
		if step, steps := h.nextStep(s.params.Retention); steps && (!ok || step < at) {
			return step, true
		}
	}
	return at, ok
}

// scheduleForget puts a user of whom something is to be forgotten into the calendar.
// Where something has to be announced before, dequeue calls it again.
func (s *State) scheduleForget(u *user) {
	at, ok := s.nextForget(u)
	if !ok {
		return
	}
	s.forgets.put(s.numberOf(u), leaseBucket(at))
}

// forgetUsers forgets the users whose time is over, and advances the views of hidden
// users that are due.
func (s *State) forgetUsers() {
	for {
		users := s.forgets.pop(s.clock.lease)
		if len(users) == 0 {
			return
		}
		for _, n := range users {
			u := s.user(n)
			if s.hidden(u) != nil {
				s.stepHidden(u)
			}
			switch {
			case u.idleSince < 0 || s.forgetAt(u) > s.clock.lease:
				s.scheduleForget(u)
			case s.hasPending(u) || u.touched > 0: // scheduled again once it is announced
			default:
				s.forgetUser(u)
			}
		}
	}
}

func (s *State) forgetUser(u *user) {
	s.preserve(u)
	n := s.numberOf(u)
	s.forgets.drop(n)
	s.expiries.drop(n)
	s.digest -= s.hash(u)
	s.countUser(s.public(u, s.own(u)).statusType, s.publicRevision(u), -1)
	s.dropUser(u)
}

func roundUp(at, grain int64) int64 { return (at + grain - 1) / grain * grain }
