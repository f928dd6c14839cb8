package state

import (
	"presence/pkg/internal/entry"
	"presence/pkg/protocol"
)

// user is everything that is remembered of a user.
type user struct {
	id        string
	text      string
	textUntil int64 // wall time at which the text expires; 0: never
	lastSeen  int64 // wall time at which the user last stopped being ONLINE
	idleSince int64 // lease clock since when there is nothing to remember; -1: there is
	sessions  *session
	*rare

	// Of the last change that the owner sees:
	revision  uint64
	previous  uint64   // what everybody else saw before; of no meaning while hidden
	updatedAt int64    // wall time
	pending   *pending // who has yet to announce it for certain; nil: it is announced
	cause     cause

	lasting  entry.Availability
	override entry.Availability // Keep: none
	erased   erasure

	saved   uint16 // the last snapshot that has the user, see Snapshot
	fenced  uint16 // how many sessions were replaced since the last trimFences
	touched int32  // 1 + index in State.touched while a change is at hand
	place   int32  // index in users.list

	forgetBucket uint32 // where the user waits in the calendar forgets; 0: nowhere

	fence uint32 // the newest of a session that was replaced; 0: none
}

// rare is what there is of few users only. The others share nothingRare, and
// take no room for it.
type rare struct {
	overrideUntil int64        // wall time at which override ends
	hidden        *hidden      // what everybody else sees; nil: what the owner does
	replaced      *replaced    // the first of the sessions that were ended, below format 3
	ends          *pendingEnds // those whose end is to be told, from format 3 on; nil: none
	tombstone     *tombstone   // nil: the user was not erased, or that is announced for certain
	expiryBucket  int64        // where the user waits in the calendar expiries; 0: nowhere
}

var nothingRare rare // is never written to

// needRare must be called before anything rare of a user is set.
func (u *user) needRare() *rare {
	if u.rare == &nothingRare {
		u.rare = &rare{}
	}
	return u.rare
}

// erasure says whether a user was erased, and is to be forgotten as soon as that is
// announced.
type erasure uint8

const (
	notErased erasure = iota
	// erasedKnown, below format 3, looks until then like one with a last change.
	erasedKnown
	// erasedGone is one never seen at once, with a tomb.
	erasedGone
)

// tomb is what is to be announced of a user who was erased. It outlives that the user does
// something that nobody sees: until something is seen again, it is the last change.
type tombstone struct {
	revision, previous uint64
	updatedAt          int64
}

// status is the status that the erasure is announced by.
func (x *tombstone) status(id string) protocol.Status {
	return protocol.Status{UserID: id, StatusType: protocol.Unlogined, Revision: x.revision, UpdatedAt: protocol.Time(x.updatedAt)}
}

// bury makes a user who is being erased one never seen, whose erasure is to be announced.
// previous is the revision of what everybody saw.
func (s *State) setTombstone(u *user, previous uint64) {
	u.needRare().tombstone = &tombstone{revision: s.revision, previous: previous, updatedAt: s.clock.wall}
	u.revision, u.previous, u.updatedAt = 0, 0, 0
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

// view is what a change must differ in to be a visible one (PROTOCOL 2).
type view struct {
	text         string
	textUntil    int64
	statusType   protocol.StatusType
	availability entry.Availability
}

// touched is a user that the command at hand may have changed, as it was before.
type touched struct {
	user        *user
	own, public view
	revision    uint64 // of the public view
	cause       cause
	parts       parts // what is to be told besides
	erased      bool  // the change erased the user, for everybody to see
}

// addUser adds a user of whom nothing is remembered. It stands for change.
func (s *State) addUser(id string) *user {
	u := &user{id: id, idleSince: -1, lasting: entry.Available, rare: &nothingRare}
	s.users.add(u)
	if s.snapshot != nil {
		u.saved = s.snapshot.number // it is not in that one
	}
	s.note(u)
	return u
}

// change must be called before anything of a user changes that a snapshot
// holds, sessions included, but for the deadlines of leases (see extend) and
// what is owed: it has the user saved as it was, and takes it out of the digest
// until finish.
func (s *State) change(u *user) {
	if u.touched > 0 {
		return
	}
	s.preserve(u)
	s.digest -= s.hash(u)
	s.note(u)
}

// note has finish look at a user.
func (s *State) note(u *user) {
	t := touched{user: u, own: u.own(), revision: u.publicRevision()}
	t.public = u.public(t.own)
	s.touched = append(s.touched, t)
	u.touched = int32(len(s.touched))
}

// tell adds to what is to be told of the change at hand.
func (s *State) tell(u *user, what parts) {
	s.change(u)
	s.touched[u.touched-1].parts |= what
}

// statusType implements the rule of PROTOCOL 3: ONLINE while any session is
// live, OFFLINE while one was lost without logging out, UNLOGINED without any. The user
// may be nil.
func (u *user) statusType() protocol.StatusType {
	if u == nil || u.sessions == nil {
		return protocol.Unlogined
	}
	if u.online() {
		return protocol.Online
	}
	return protocol.Offline
}

func (u *user) online() bool {
	for x := u.sessions; x != nil; x = x.next {
		if x.live {
			return true
		}
	}
	return false
}

// own is what the user's own devices see.
func (u *user) own() view { return u.ownOf(u.statusType()) }

// ownOf is own where the user's statusType is known.
func (u *user) ownOf(t protocol.StatusType) view {
	return view{statusType: t, text: u.text, textUntil: u.textUntil, availability: u.availability(t)}
}

// public is what everybody else sees; own is what own returns.
func (u *user) public(own view) view {
	if u.hidden != nil {
		return u.hidden.view
	}
	return own
}

// publicRevision is that of the last change of the public view.
func (u *user) publicRevision() uint64 {
	if u.hidden != nil {
		return u.hidden.revision
	}
	return u.revision
}

// ownerView is the status as the user's own devices see it.
func (s *State) ownerView(u *user) protocol.Status {
	return u.own().status(u.id, u.lastSeen, u.revision, u.updatedAt)
}

// publicView is the status as everybody else sees it.
func (s *State) publicView(u *user) protocol.Status { return u.publicViewOf(u.statusType()) }

// publicViewOf is publicView where the user's statusType is known.
func (u *user) publicViewOf(t protocol.StatusType) protocol.Status {
	if h := u.hidden; h != nil {
		return h.status(u.id, h.lastSeen, h.revision, h.updatedAt)
	}
	return u.ownOf(t).status(u.id, u.lastSeen, u.revision, u.updatedAt)
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

// begin starts the change with an index in the entry at hand.
func (s *State) begin(index int) {
	s.revision = s.position<<12 | uint64(index)
}

// touch is change, with the cause that an event will name, where what everybody
// sees of the user may change.
func (s *State) touch(u *user, cause cause) {
	s.change(u)
	s.touched[u.touched-1].cause = cause
}

// finish gives the users whose view differs from before the change its
// revision, and leaves their announcement to the entry's writer.
func (s *State) finish() {
	for i := range s.touched {
		t := &s.touched[i]
		t.user.touched = 0
		s.revise(t)
		s.markIdle(t.user)
		s.scheduleForget(t.user)
		s.digest += s.hash(t.user)
	}
	clear(s.touched)
	s.touched = s.touched[:0]
	if cap(s.touched) > scratchKept { // after many users at once
		s.touched = nil
	}
}

// revise gives what is seen of a user the revision of the change at hand, where
// that changed it, and leaves its announcement to the entry's writer.
func (s *State) revise(t *touched) {
	u, what := t.user, t.parts
	if u.erased == erasedGone && !u.isForgettable() {
		u.erased = notErased // there is something to know again
	}
	own := u.own()
	rest, shown := s.hide(u, own)
	online := t.own.statusType == protocol.Online && own.statusType == protocol.Online
	if own != t.own || what&partOwner != 0 {
		u.revision, u.updatedAt, u.cause = s.revision, s.clock.wall, t.cause
		switch {
		case shown:
			u.cause = byLogin
		case online && t.cause != byExpiry: // the end of the only active session, say
			u.cause = bySet
		}
		what |= partOwner
	}
	if public := u.public(own); public != t.public || what&partPublic != 0 {
		what |= partPublic
		if h := u.hidden; h != nil {
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
	s.countUser(u.public(own).statusType, u.publicRevision(), +1)
	s.users.reorder(u, t.revision)
	if u.hidden != nil && what&partPublic != 0 {
		what &^= partPublic
		s.enqueueHidden(s.instance, u)
	}
	if what |= rest; what != 0 {
		s.enqueue(s.instance, u, what)
	}
}

// leaveOnline does what goes with the end of a user's last live session: the
// moment is remembered, and the text goes with the session unless it is
// persistent (PROTOCOL 3). Who comes and goes by one change was not seen.
func (s *State) leaveOnline(u *user) {
	if u.online() {
		return
	}
	if s.touched[u.touched-1].own.statusType == protocol.Online {
		u.lastSeen = s.clock.wall
	}
	if !s.params.Persistent {
		u.text, u.textUntil = "", 0
	}
}

// markIdle notes since when there is nothing to remember of a user but
// lastSeen, and has the user forgotten a retention later.
func (s *State) markIdle(u *user) {
	idle := u.isForgettable()
	switch {
	case !idle:
		u.idleSince = -1
	case u.idleSince < 0:
		u.idleSince = s.clock.lease
	}
}

// isForgettable reports whether there is nothing to remember of a user but
// lastSeen and which sessions were ended.
func (u *user) isForgettable() bool {
	return u.sessions == nil && u.text == "" && u.lasting == entry.Available && u.override == entry.Keep &&
		(u.hidden == nil || u.hidden.gone)
}

// forgetAt returns when an idle user is forgotten: one who was erased at once,
// any other not before its ended sessions are.
func (s *State) forgetAt(u *user) int64 {
	if u.erased != notErased {
		return u.idleSince
	}
	at := u.idleSince + s.params.Retention
	for r := u.replaced; r != nil; r = r.next {
		at = max(at, r.until)
	}
	return roundUp(at, forgetGrain)
}

// nextForget returns when something about a user is forgotten, and false for
// never, or not before something is announced.
func (s *State) nextForget(u *user) (at int64, ok bool) {
	if u.idleSince >= 0 && !u.hasPending() {
		at, ok = s.forgetAt(u), true
	}
	if u.hidden != nil {
		if step, steps := u.hidden.nextStep(s.params.Retention); steps && (!ok || step < at) {
			return step, true
		}
	}
	return at, ok
}

// scheduleForget puts a user of whom something is to be forgotten into the
// calendar. What is to be announced first is put there once it is.
func (s *State) scheduleForget(u *user) {
	at, ok := s.nextForget(u)
	if !ok {
		return
	}
	s.forgets.put(u, leaseBucket(at))
}

// forgetUsers forgets the users that have been idle for long enough, and lets
// happen what is due to the views of hidden ones.
func (s *State) forgetUsers() {
	for {
		users := s.forgets.pop(s.clock.lease)
		if len(users) == 0 {
			return
		}
		for _, u := range users {
			if u.hidden != nil {
				s.stepHidden(u)
			}
			switch {
			case u.idleSince < 0 || s.forgetAt(u) > s.clock.lease:
				s.scheduleForget(u)
			case u.hasPending() || u.touched > 0: // comes back when its end is announced
			default:
				s.forgetUser(u)
			}
		}
	}
}

func (s *State) forgetUser(u *user) {
	s.preserve(u)
	s.forgets.drop(u)
	s.expiries.drop(u)
	s.digest -= s.hash(u)
	s.countUser(u.public(u.own()).statusType, u.publicRevision(), -1)
	if moved := s.users.remove(u); moved != nil {
		s.preserve(moved) // the walk of a snapshot may be past its new place
	}
}

func roundUp(at, grain int64) int64 { return (at + grain - 1) / grain * grain }
