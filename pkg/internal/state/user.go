package state

import (
	"cmp"
	"slices"

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

	lastSeen  instant // wall time at which the user last stopped being ONLINE
	idleSince instant // lease clock since when nothing is to be remembered; -1: something is
	updatedAt instant // wall time of the last change that the owner sees

	fenced  uint16 // how many sessions were replaced since the last trimFences
	touched int32  // 1 + index in State.touched while a change is at hand

	// Of the last change that the owner sees:
	revision uint64
	previous uint64 // revision of the public view before; means nothing while hidden
	pending  uint32 // in an instance's outbox; 0: the change is announced
	cause    cause

	lasting  entry.Availability
	erased   erasure
	presence presence // of the sessions, see notePresence

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

// set changes what a user says: the text, whose expiry goes with it, and the
// availability (PROTOCOL 4.4).
func (s *State) set(c *entry.Command) *protocol.Error {
	u := s.users.get(c.User)
	if c.Session != "" {
		if err := s.liveSession(u, c.User, c.Session); err != nil {
			return err
		}
	}
	if c.CheckRevision {
		var have uint64
		if u != nil {
			have = u.revision
		}
		if have != c.IfRevision {
			return protocol.ErrRevisionConflict.Withf("the status has revision %d, not %d", have, c.IfRevision)
		}
	}
	until := int64(0)
	if c.Expires > 0 {
		until = s.clock.wall + c.Expires
	}
	if u == nil {
		if c.Text == "" && c.Availability <= entry.Available {
			return nil // nothing to clear, nothing to remember
		}
		u = s.addUser(c.User)
	}
	s.touch(u, bySet)
	u.unerase()
	if !c.KeepText {
		s.setText(u, c.Text, until)
	}
	if c.Availability != entry.Keep {
		s.setAvailability(u, c.Availability, c.Override)
	}
	s.scheduleExpiry(u)
	return nil
}

// nextExpiry is when, by wall time, something that a user said ends: the text,
// as the owner or as everybody sees it, or an override; 0: never.
func (s *State) nextExpiry(u *user) int64 {
	r := s.rare(u)
	at := r.textUntil
	earlier := func(t int64) {
		if t != 0 && (at == 0 || t < at) {
			at = t
		}
	}
	earlier(r.overrideUntil)
	if h := s.hidden(u); h != nil {
		earlier(h.textUntil)
	}
	return at
}

// scheduleExpiry puts a user of whom something expires into the calendar, and takes
// any other out.
func (s *State) scheduleExpiry(u *user) {
	if u.rare == 0 {
		return // nothing expires
	}
	if at := s.nextExpiry(u); at != 0 {
		s.expiries.put(s.numberOf(u), bucketOf(at))
	} else {
		s.expiries.drop(s.numberOf(u))
		s.dropRare(u)
	}
}

// expire ends the texts and overrides whose time has come. Wall time decides, in
// and out of an amnesty: the user named a moment.
func (s *State) expire() {
	var due []*user
	for {
		users := s.expiries.pop(s.clock.wall)
		if len(users) == 0 {
			break
		}
		for _, n := range users {
			u := s.user(n)
			if s.expired(s.nextExpiry(u)) {
				due = append(due, u)
			} else {
				s.scheduleExpiry(u)
			}
		}
	}
	slices.SortFunc(due, func(a, b *user) int { return cmp.Compare(s.userID(a), s.userID(b)) })
	for _, u := range due {
		s.touch(u, byExpiry)
		r := s.rare(u)
		if s.expired(r.textUntil) {
			s.setText(u, "", 0)
		}
		if s.expired(r.overrideUntil) {
			s.setChosen(u, u.lasting, entry.Keep, 0)
			s.tell(u, partSettings)
		}
		if h := s.hidden(u); h != nil && s.expired(h.textUntil) {
			s.expireHiddenText(h)
		}
		s.scheduleExpiry(u)
	}
}

// expired reports whether something that ends at a moment, 0 for never, has: at
// the end of the moment's bucket.
func (s *State) expired(at int64) bool {
	return at != 0 && bucketOf(at)*bucketWidth <= s.clock.wall
}

// leaveOnline is called when a live session has ended. If it was the user's last one,
// the time is remembered, and the text is cleared unless the policy is persistent
// (PROTOCOL 3). A user who came and went within one change was not seen.
func (s *State) leaveOnline(u *user) {
	if u.online() {
		return
	}
	if s.touched[u.touched-1].own.statusType == protocol.Online {
		u.lastSeen = instantOf(s.clock.wall)
	}
	if !s.params.Persistent {
		s.setText(u, "", 0)
	}
}

// erase ends all sessions of a user, clears what is known, announces that, and
// has the user forgotten as soon as it is (PROTOCOL 4.8).
func (s *State) erase(c *entry.Command, r *Result) {
	u := s.users.get(c.User)
	if u == nil || u.erased == erasedGone {
		return
	}
	s.touch(u, byErasure)
	r.Ended = s.endSessions(u, func(*session) bool { return true }, byErasure, wasErased)
	s.tell(u, partPublic|partOwner) // its revision is gone, whether it looked like that before or not
	s.setText(u, "", 0)
	u.lastSeen = instant{}
	s.setChosen(u, entry.Available, entry.Keep, 0)
	if s.hidden(u) != nil {
		s.show(u)
	}
	u.erased, u.idleSince = erasedKnown, instantOf(-1)
	if s.format >= erasedGoneFormat {
		u.erased = erasedGone
		s.touched[u.touched-1].erased = true
		s.forgetNames(s.userID(u))
	}
}

// IsErased reports whether a user was erased and is yet to be forgotten.
func (s *State) IsErased(userID string) bool {
	u := s.users.get(userID)
	return u != nil && u.erased != notErased
}

// erasedGoneFormat is the format from which an erased user looks like one never seen.
const erasedGoneFormat = 3

// unerase keeps a user who was erased, below format 3, from being forgotten. From format 3
// on, an erased user goes on looking like one never seen until something is known, see
// revise.
func (u *user) unerase() {
	if u.erased == erasedKnown {
		u.erased = notErased
	}
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
	u.revision, u.previous, u.updatedAt = 0, 0, instant{}
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

// markIdle notes since when nothing but lastSeen is to be remembered of a user. A
// retention later the user is forgotten.
func (s *State) markIdle(u *user) {
	forgettable := s.isForgettable(u)
	switch {
	case !forgettable:
		u.idleSince = instantOf(-1)
	case u.idleSince.ms() < 0:
		u.idleSince = instantOf(s.clock.lease)
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
		return u.idleSince.ms()
	}
	at := u.idleSince.ms() + s.params.Retention
	for r := s.replacedOf(u); r != nil; r = r.next {
		at = max(at, r.until)
	}
	return roundUp(at, forgetGrain)
}

// nextForget returns when something about a user is forgotten next. It returns false
// for never, and while something has to be announced before.
func (s *State) nextForget(u *user) (at int64, ok bool) {
	if u.idleSince.ms() >= 0 && !s.hasPending(u) {
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
			case u.idleSince.ms() < 0 || s.forgetAt(u) > s.clock.lease:
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
