package state

import "presence/pkg/protocol"

// user is everything that is remembered of a user.
type user struct {
	id        string
	text      string
	textUntil int64 // wall time at which the text expires; 0: never
	lastSeen  int64 // wall time at which the user last stopped being ONLINE
	idleSince int64 // lease clock since when there is nothing to remember; -1: there is
	sessions  *session
	replaced  *replaced // the first of the sessions that later logins replaced

	// Of the last visible change:
	revision  uint64
	previous  uint64 // the revision before
	updatedAt int64  // wall time
	owed      *owed  // who has yet to announce it for certain; nil: it is announced
	cause     cause

	saved   uint16 // the last snapshot that has the user, see Snapshot
	touched int32  // 1 + index in State.touched while a change is at hand
	place   int32  // index in users.list

	// textBucket and forgetBucket are where the user waits in the calendars
	// expiries and forgets; 0: nowhere.
	forgetBucket uint32
	textBucket   int64
}

// replaced remembers a session that a later login of its device replaced.
type replaced struct {
	session string
	until   int64     // lease clock
	next    *replaced // in the order of their replacing
}

// cause is a protocol.Cause in one byte.
type cause uint8

const (
	byLogin cause = iota
	byLogout
	byLoss
	bySet
	byExpiry
)

func (c cause) String() string {
	return string([...]protocol.Cause{protocol.CauseLogin, protocol.CauseLogout, protocol.CauseLost, protocol.CauseSet, protocol.CauseExpired}[c])
}

// visible is what a change must differ in to be one (PROTOCOL 2).
type visible struct {
	statusType protocol.StatusType
	text       string
	textUntil  int64
}

// touched is a user that the command at hand may have changed, as it was before.
type touched struct {
	user   *user
	before visible
	cause  cause
}

// addUser adds a user of whom nothing is remembered. It stands for change.
func (s *State) addUser(id string) *user {
	u := &user{id: id, idleSince: -1}
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
	s.touched = append(s.touched, touched{user: u, before: u.visible()})
	u.touched = int32(len(s.touched))
}

// statusType implements the rule of PROTOCOL 3: ONLINE while any session is
// live, OFFLINE while one was lost without logging out, UNLOGINED without any.
func (u *user) statusType() protocol.StatusType {
	if u.sessions == nil {
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

func (u *user) visible() visible {
	return visible{statusType: u.statusType(), text: u.text, textUntil: u.textUntil}
}

// ownerView is the status as the user's own devices see it.
func (s *State) ownerView(u *user) protocol.Status {
	st := protocol.Status{
		UserID:                u.id,
		StatusType:            u.statusType(),
		CustomStatus:          u.text,
		CustomStatusExpiresAt: protocol.Time(u.textUntil),
		Revision:              u.revision,
		UpdatedAt:             protocol.Time(u.updatedAt),
	}
	if st.StatusType != protocol.Online {
		st.LastSeenAt = protocol.Time(u.lastSeen)
	}
	return st
}

// publicView is the status as everybody else sees it. The two views are the
// same as long as nobody can be invisible.
func (s *State) publicView(u *user) protocol.Status { return s.ownerView(u) }

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
	for _, t := range s.touched {
		u := t.user
		u.touched = 0
		if u.visible() != t.before {
			u.previous, u.revision = u.revision, s.revision
			u.updatedAt = s.clock.wall
			u.cause = t.cause
			s.owe(s.writer, u)
		}
		s.markIdle(u)
		s.digest += s.hash(u)
	}
	clear(s.touched)
	s.touched = s.touched[:0]
}

// leaveOnline does what goes with the end of a user's last live session: the
// moment is remembered, and the text goes with the session unless it is
// persistent (PROTOCOL 3).
func (s *State) leaveOnline(u *user) {
	if u.online() {
		return
	}
	u.lastSeen = s.clock.wall
	if !s.params.Persistent {
		u.text, u.textUntil = "", 0
	}
}

// markIdle notes since when there is nothing to remember of a user but
// lastSeen, and has the user forgotten a retention later.
func (s *State) markIdle(u *user) {
	idle := u.sessions == nil && u.text == ""
	switch {
	case !idle:
		u.idleSince = -1
	case u.idleSince < 0:
		u.idleSince = s.clock.lease
		s.scheduleForget(u)
	}
}

// forgetAt returns when an idle user is forgotten: never before its replaced
// sessions are.
func (s *State) forgetAt(u *user) int64 {
	at := u.idleSince + s.params.Retention
	for r := u.replaced; r != nil; r = r.next {
		at = max(at, r.until)
	}
	return roundUp(at, forgetGrain)
}

func (s *State) scheduleForget(u *user) {
	if u.idleSince < 0 {
		return
	}
	if b := leaseBucket(s.forgetAt(u)); u.forgetBucket == 0 || b < u.forgetBucket {
		u.forgetBucket = b
		s.forgets.add(b, u)
	}
}

func (s *State) forgetUsers() {
	for {
		bucket, users := s.forgets.pop(s.clock.lease)
		if bucket == 0 {
			return
		}
		for _, u := range users {
			if u.forgetBucket != bucket {
				continue // waits in an earlier one since
			}
			u.forgetBucket = 0
			switch {
			case u.idleSince < 0 || s.users.get(u.id) != u:
			case s.forgetAt(u) > s.clock.lease:
				s.scheduleForget(u)
			case u.owed != nil || u.touched > 0: // its end is to be announced first
				u.forgetBucket = leaseBucket(s.clock.lease + forgetGrain)
				s.forgets.add(u.forgetBucket, u)
			default:
				s.forgetUser(u)
			}
		}
	}
}

func (s *State) forgetUser(u *user) {
	s.preserve(u)
	s.digest -= s.hash(u)
	if moved := s.users.remove(u); moved != nil {
		s.preserve(moved) // the walk of a snapshot may be past its new place
	}
}

func roundUp(at, grain int64) int64 { return (at + grain - 1) / grain * grain }
