// Package state gives the journal's entries their meaning: a deterministic state
// machine of users, sessions, leases and texts.
//
//	s := state.New()
//	out, err := s.Apply(&e, position, time)   // entries in the journal's order, none left out
//	st := s.Status("alice", false)
//
// It is pure: no I/O, no clock, no goroutine, no randomness, and nothing
// depends on the order of a map. Two states that applied the same entries are
// equal: they answer and announce the same. So several instances are one service.
// The entries also bring the time (see clock).
//
// Apply does three things with each entry, in this order: its renewals, then
// everything that is due, then its commands. Each of them has a revision of its
// own. A change is visible, and is announced, if the user's view differs before
// and after it.
//
// A State is not safe for concurrent use: call Apply under a lock, and the methods
// that read under its read lock.
//
// Words:
//
//	instance     one start of one presenced. It has an ID that is never used again.
//	entry        one message of the journal: commands that arrived together
//	lease        keeps sessions live until its deadline; renewals move the deadline
//	lease clock  time that passes only while the service runs, see clock
//	amnesty      the time after an outage in which no lease ends
//	grace        how long a session outlives its closed connection; the rules', or its own
//	retention    how long lost sessions, and users without any, are remembered
//	fence        remembers that a session was ended and must not come back
//	outbox       what an instance has to announce, until it is announced for certain
//	format       the version of entries and snapshots; newer behaviour needs a newer one
//	epoch        the life of one journal; all revisions are of an epoch
//
// Files, in reading order:
//
//	state                the commands of an entry, one after the other
//	user, view           what a user says; what is seen of it, and when that changes
//	session              logins, renewals, losses, ends
//	lease                deadlines, and the calendars in which they wait
//	connection, gateway  what leases and sessions are bound to
//	ended, fences        sessions that must not come back
//	clock, instance      time, and epochs; who writes entries, and which of them count
//	outbox               what is to be announced
//	read, explain        what is asked
//	digest               the whole state in one number
//	snapshot, restore    the whole state in bytes, and back; record has their form
//	tables               where users and sessions lie, without pointers
package state

import (
	"fmt"
	"math"

	"presence/pkg/internal/entry"
	"presence/pkg/internal/table"
	"presence/pkg/protocol"
)

// Bounds of what is remembered. All times are of the lease clock, in
// milliseconds.
const (
	// maxStep is the most by which the lease clock advances from one entry to the
	// next. A longer silence was an outage of the service: it starts an amnesty.
	maxStep = 2_000
	// maxIdleStep is the same while no lease is live, see State.longestStep.
	maxIdleStep = 32_000
	// amnesty is how long after an outage no deadline falls due.
	amnesty = 30_000
	// maxPacked is how old an entry may be when it is applied (PROTOCOL 6,
	// outcome_unknown).
	maxPacked = 10_000
	// quarantine is how long the number of an ended lease is not used again, so
	// that a late renewal does not renew another session. A renewal waits at most
	// maxPacked to be packed and maxPacked to be stored, much less than this.
	quarantine = 60_000
	// closedLate, or closedKept below format 4, and maxClosed bound the memory of closed
	// connections, see State.closedKept.
	closedLate = 60_000
	closedKept = 120_000
	maxClosed  = 1 << 20
	// instanceKept is how long a silent instance is remembered. It is longer than
	// maxPacked, after which late entries of the instance count as empty anyway.
	instanceKept = 60_000
	// takeover is how long an announcement may be pending before another instance
	// takes it over.
	takeover = 10_000
	// replacedKept is how long ended sessions are remembered. Below format 3
	// maxReplaced bounds how many of a user are, or the user's limit of sessions
	// where that is higher. From format 3 on the bound is in fences.
	replacedKept = int64(protocol.ReplacedKept / 1e6)
	maxReplaced  = 32
	// scratchKept is how many entries of State.touched are kept allocated.
	scratchKept = 4096
	// forgetGrain rounds up the moment at which something is forgotten, so that a
	// week of lost sessions shares about ten thousand calendar buckets.
	forgetGrain = 60_000
)

// State is everything that follows from the journal up to a position.
type State struct {
	epoch      string
	generation uint32 // of the epoch: rises by one with each
	format     uint8  // see Format
	position   uint64
	clock      clock
	params     entry.Params

	*tables // what there is most of

	fenceTable fences
	ended      []endedSession // the latest, in order; the elements are never changed
	gateways   gateways
	leases     leases
	instances  []*instance // in order of appearance

	// due has the leases by their deadlines; a lost session's deadline is when it is
	// forgotten. forgets has the users of whom nothing is left to remember, and the
	// hidden ones. Both go by the lease clock. expiries has the users whose text or
	// override expires, by wall time.
	due      calendar[uint32, holder]
	forgets  calendar[uint32, uint32]
	expiries calendar[int64, uint32]

	counts counts // derived from users, see Counts
	live   int    // how many sessions are live, derived from them
	// lastPending is the number of the newest pending announcement of all instances.
	// Numbers are never given again, so a forgotten instance that comes back can go on.
	lastPending uint64

	// While an entry is applied: its instance, the revision of the current change,
	// and the users that this change touched.
	instance *instance
	revision uint64
	touched  []touched

	snapshot *Snapshot // the one that is being taken, or nil
	losses   []Loss    // by the current entry, see Losses

	// digest is the sum of the hashes of users and deadlines, see Digest. digests
	// has the digests of past positions. scratch is a buffer for hashing.
	digest  uint64
	digests [digestsKept]pointDigest
	scratch []byte
	fetched int64 // see fetch
}

// New returns the state before the first entry.
func New() *State { return NewAt(0) }

// NewAt returns a state without users as of a position. A new epoch begins with it
// where the journal's earlier entries are lost.
func NewAt(position uint64) *State {
	t, gateways := newTables(), newGateways()
	return &State{
		tables:     t,
		gateways:   gateways,
		due:        calendar[uint32, holder]{at: func(h holder) *uint32 { return bucketOfLease(t, gateways, h) }},
		forgets:    calendar[uint32, uint32]{at: t.forgetBucket},
		expiries:   calendar[int64, uint32]{at: t.expiryBucket},
		position:   position,
		format:     1,
		fenceTable: newFences(),
		params: entry.Params{
			Grace:     protocol.DefaultGrace.Milliseconds(),
			Retention: protocol.DefaultRetention.Milliseconds(),
		}.Complete(),
	}
}

// Outcome is what became of an entry.
type Outcome struct {
	// Fenced says that the entry counted as empty: its instance may tell the
	// callers that nothing was done.
	Fenced bool
	// Results has one element for each command, if Apply was asked for results.
	Results []Result
}

// Result is what became of one command.
type Result struct {
	// Err is nil if the command succeeded. Otherwise it did nothing.
	Err *protocol.Error
	// Revision is the revision of the command, even if it changed nothing.
	Revision uint64
	// Status is the owner's view right after the command.
	Status protocol.Status
	// Session and Replaced answer a login.
	Session  string
	Replaced []string
	// Terms answer a login, and an Open, RenewGateway and Close.
	Terms
	// Ended answers a Kick and an Erase.
	Ended []string
	// Final answers a Logout with Final: the session must not log in again by itself.
	Final bool
	// Seq, the number of the last Apply, and Window, how many may be under way, answer an Open.
	// Gateway answers an Apply.
	Seq     uint64
	Window  int
	Gateway GatewayAnswer
}

// Apply applies the entry at a position of the journal. at is the entry's timestamp
// in milliseconds since 1970. Positions must come in order and without a gap. With
// wanted, the outcome has results. An error means that the entry cannot be
// understood; the state must not be used after it.
func (s *State) Apply(e *entry.Entry, position uint64, at int64, wanted bool) (Outcome, error) {
	if position != s.position+1 {
		return Outcome{}, fmt.Errorf("applying position %d after %d", position, s.position)
	}
	first := s.epoch == ""
	if err := s.enterEpoch(e); err != nil {
		return Outcome{}, err
	}
	s.position = position
	gap := at - s.clock.wall
	step := s.longestStep()
	idled := s.clock.advance(at, first, step, s.maxLeaseClock(&e.Header, step))
	s.noteClock(&e.Header, gap)
	defer s.noteDigest()
	defer s.tidy()
	s.instance = s.findInstance(e.Header.Instance)
	s.connections.newlyBound = s.connections.newlyBound[:0]
	s.forgetLosses()

	out := Outcome{Fenced: s.isFenced(&e.Header, idled)}
	if out.Fenced {
		s.begin(0)
		s.fallDue()
		s.finish()
		return out, nil
	}
	s.accept(&e.Header)

	index := 0
	for _, number := range e.Renewed {
		s.begin(index)
		s.renewNumber(number)
		s.finish()
		index++
	}
	s.begin(index)
	s.fallDue()
	s.finish()
	if wanted {
		out.Results = make([]Result, len(e.Commands))
	}
	var discarded Result
	for i := range e.Commands {
		if i%table.Several == 0 {
			s.fetch(e.Commands[i:min(i+table.Several, len(e.Commands))])
		}
		index++
		r := &discarded
		if wanted {
			r = &out.Results[i]
		}
		s.begin(index)
		if err := s.do(&e.Commands[i], r); err != nil {
			return out, fmt.Errorf("command %d of position %d: %w", i, position, err)
		}
		s.finish()
		r.Revision = s.revision
		if wanted && e.Commands[i].User != "" {
			id := e.Commands[i].User
			if u := s.users.get(id); u != nil {
				r.Status = s.ownerView(u, id)
			} else {
				r.Status = unknownUser(id)
			}
		}
	}
	s.takeOver()
	s.forgetInstances()
	return out, nil
}

// do carries out one command.
func (s *State) do(c *entry.Command, r *Result) error {
	switch c.Kind {
	case entry.Configure:
		return s.configure(c)
	case entry.Login:
		r.Err = s.login(c, nil, r)
	case entry.Renew:
		r.Err = s.renew(c)
	case entry.Logout:
		s.logout(c, r)
	case entry.Set:
		r.Err = s.set(c)
	case entry.Closed:
		s.closeConnection(connectionKey{c.Server, c.Client})
	case entry.Unbind:
		s.unbindConnection(connectionKey{c.Server, c.Client})
	case entry.LameDuck:
		s.lameDuck(c.Server)
	case entry.RequestsLost:
		s.clock.startAmnesty()
	case entry.Open:
		r.Err = s.openGateway(c, r)
	case entry.RenewGateway:
		r.Err = s.renewGateway(c, r)
	case entry.Apply:
		r.Err = s.applyOps(c, r)
	case entry.Close:
		s.closeGateway(c, r)
	case entry.Kick:
		s.kick(c, r)
	case entry.Erase:
		s.erase(c, r)
	case entry.NewEpoch: // enterEpoch did it
	case entry.SetFormat:
		s.setFormat(uint8(c.Seq))
	default:
		return fmt.Errorf("unknown kind %d", c.Kind)
	}
	return nil
}

func (s *State) configure(c *entry.Command) error {
	if c.Params == nil {
		return fmt.Errorf("configure without parameters")
	}
	before := s.params.Retention
	s.params = c.Params.Complete()
	if moved := s.params.Retention - before; moved != 0 && s.format >= 3 {
		s.moveLost(moved)
	}
	// Deadlines depend on the parameters, so all are scheduled again: a deadline
	// that moved earlier must not wait in its old bucket.
	for l := range s.allLeases {
		s.schedule(l)
	}
	for _, u := range s.users.table.All() {
		s.scheduleForget(u)
	}
	return nil
}

// fallDue does everything that is due: texts expire, leases run out, lost sessions
// and users are forgotten.
func (s *State) fallDue() {
	s.expire()
	s.expireConnections()
	s.expireLame()
	s.expireFences()
	if s.clock.inAmnesty() {
		return
	}
	s.expireLeases()
	s.forgetUsers()
}

// Skip passes over the entry at a position as if it were empty and of no instance.
// An operator has every instance skip an entry that cannot be applied. at is the
// entry's timestamp.
func (s *State) Skip(position uint64, at int64) error {
	if position != s.position+1 {
		return fmt.Errorf("skipping position %d after %d", position, s.position)
	}
	s.position = position
	s.clock.advance(at, s.epoch == "", s.longestStep(), math.MaxInt64)
	s.noteDigest()
	return nil
}

// NextDue returns in how many milliseconds, from the last entry on, the next
// deadline is due. It returns false if there is no deadline. While long steps are
// allowed, only lost sessions have a deadline by the lease clock. Nobody waits for
// those to be forgotten, so they do not count.
func (s *State) NextDue() (int64, bool) {
	wait, found := int64(0), false
	consider := func(at int64, ok bool, now int64) {
		if ok && (!found || at-now < wait) {
			wait, found = at-now, true
		}
	}
	at, ok := s.expiries.next()
	consider(at, ok, s.clock.wall)
	switch {
	case s.clock.inAmnesty():
		consider(s.clock.amnestyUntil, true, s.clock.lease)
	case s.longestStep() > maxStep:
	default:
		at, ok = s.due.next()
		consider(at, ok, s.clock.lease)
	}
	return max(wait, 0), found
}
