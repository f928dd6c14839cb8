// Package state is what the journal's entries mean: a deterministic state
// machine of users, sessions, leases and texts.
//
//	s := state.New()
//	out, err := s.Apply(&e, position, time)   // entries in the journal's order, none left out
//	st := s.Status("alice", false)
//
// It is pure: no I/O, no clock, no goroutine, no randomness, and nothing
// depends on the order of a map. Two states that applied the same entries are
// the same, answer the same and announce the same; that is what makes several
// instances one service. Time is what the entries say (see clock).
//
// Apply follows three rules for each entry: first its renewals, then what fell
// due, then its commands, each of these with a revision of its own. A change is
// visible, and announced, when the view of a user differs before and after it.
//
// A State is not safe for concurrent use: guard Apply with a lock and the
// methods that read with its read side.
package state

import (
	"fmt"
	"math"

	"presence/pkg/internal/entry"
	"presence/pkg/protocol"
)

// Bounds of what is remembered. All times are of the lease clock, in
// milliseconds.
const (
	// maxStep is what the lease clock advances by at most from one entry to
	// the next; a longer silence was an outage of ours and starts an amnesty.
	maxStep = 2_000
	// amnesty is how long after an outage no deadline falls due.
	amnesty = 30_000
	// maxPacked is how old an entry may be when it is applied (PROTOCOL 6,
	// outcome_unknown).
	maxPacked = 10_000
	// quarantine is how long a lease's number is not used again: a late renewal
	// must not find another session behind it. Much longer than one can wait to
	// be packed and then to be stored, which is maxPacked each.
	quarantine = 60_000
	// closedKept and maxClosed bound the memory of closed connections. A login
	// that arrives after its connection closed is at most that late.
	closedKept = 120_000
	maxClosed  = 1 << 20
	// writerKept is how long a silent writer is remembered. Longer than
	// maxPacked, after which its late entries count as empty anyway.
	instanceKept = 60_000
	// takeover is how old a writer's oldest change may be before another
	// writer announces it.
	takeover = 10_000
	// replacedKept is how long sessions that were ended are remembered. maxReplaced
	// bounds those of a user below format 3, see fences for the bound from then on;
	// of a user who may have more sessions than that, as many are remembered.
	replacedKept = int64(protocol.ReplacedKept / 1e6)
	maxReplaced  = 32
	// scratchKept is for how many users the room is kept to change them at once.
	scratchKept = 4096
	// forgetGrain is what the moment of forgetting is rounded up to, so that a
	// week of lost sessions shares some ten thousand calendar buckets.
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

	users       users
	fenceTable  fences
	ended       []endedSession // the latest, in their order; what is in it is never changed
	gateways    map[gatewayKey]*gateway
	leases      leases
	connections connections
	instances   []*instance // in order of appearance

	// due holds leases by their deadlines, those of lost sessions by when they
	// are forgotten; forgets holds users that have nothing left to remember, and
	// hidden ones. Both run on the lease clock. expiries holds what users said,
	// by wall time.
	due      calendar[uint32, *lease]
	forgets  calendar[uint32, *user]
	expiries calendar[int64, *user]

	counts counts // derived from users, see Counts
	// lastOwed numbers what is to be announced, for all writers: one that was
	// forgotten and comes back goes on from where it was.
	lastPending uint64

	// While an entry is applied: its writer, the revision of the change at
	// hand, and the users it touched.
	instance *instance
	revision uint64
	touched  []touched

	snapshot  *Snapshot // the one being taken, or nil
	snapshots uint16    // numbers them, see user.saved

	// digest is the sum of the hashes of users and deadlines, see Digest;
	// digests remembers those of past positions, scratch is what hashing needs.
	digest  uint64
	digests [digestsKept]pointDigest
	scratch []byte
}

// New returns the state before the first entry.
func New() *State { return NewAt(0) }

// NewAt returns a state without users as of a position, for the beginning of a
// new epoch in a journal whose earlier entries are lost.
func NewAt(position uint64) *State {
	return &State{
		due:         calendar[uint32, *lease]{at: func(l *lease) *uint32 { return &l.bucket }},
		forgets:     calendar[uint32, *user]{at: func(u *user) *uint32 { return &u.forgetBucket }},
		expiries:    calendar[int64, *user]{at: func(u *user) *int64 { return &u.expiryBucket }},
		position:    position,
		format:      1,
		fenceTable:  newFences(),
		users:       users{byID: make(map[string]*user)},
		gateways:    make(map[gatewayKey]*gateway),
		connections: connections{known: make(map[connectionKey]*connection)},
		params: entry.Params{
			Grace:     protocol.DefaultGrace.Milliseconds(),
			Retention: protocol.DefaultRetention.Milliseconds(),
		}.Complete(),
	}
}

// Outcome is what became of an entry.
type Outcome struct {
	// Fenced says that the entry counted as empty: its writer may tell its
	// callers that nothing was done.
	Fenced bool
	// Results of the entry's commands, where they were asked for.
	Results []Result
}

// Result is what became of one command.
type Result struct {
	// Err is nil where the command did what it should; else nothing was done.
	Err *protocol.Error
	// Revision is that of the command, whether it changed anything or not.
	Revision uint64
	// Status is the owner's view right after the command.
	Status protocol.Status
	// Session, TTL (milliseconds) and Replaced answer a login.
	Session  string
	TTL      int64
	Replaced []string
	// Ended answers a Kick and an Erase.
	Ended []string
	// Seq answers an Open: that of the last Apply. Gateway answers an Apply.
	Seq     uint64
	Gateway GatewayAnswer
}

// Apply applies the entry at a position of the journal with its timestamp in
// milliseconds since 1970. Positions must come one after the other without a
// gap. Results are filled in where wanted. An error means that the entry
// cannot be understood; the state must not be used afterwards.
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
	s.clock.advance(at, first, s.maxLeaseClock(&e.Header))
	s.noteClock(&e.Header, gap)
	defer s.noteDigest()
	s.instance = s.findInstance(e.Header.Instance)
	s.connections.newlyBound = s.connections.newlyBound[:0]

	out := Outcome{Fenced: s.isFenced(&e.Header)}
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
			if u := s.users.get(e.Commands[i].User); u != nil {
				r.Status = s.ownerView(u)
			} else {
				r.Status = unknownUser(e.Commands[i].User)
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
		s.logout(c)
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
	// Deadlines depend on the parameters, so they are set anew: one that moved
	// earlier must not wait in its old bucket.
	for _, l := range s.leases.byNumber {
		if l != nil {
			s.schedule(l)
		}
	}
	for _, u := range s.users.list {
		s.scheduleForget(u)
	}
	return nil
}

// fallDue lets everything happen that is due: texts that expire, leases that run
// out, lost sessions and users that are forgotten.
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

// Skip passes over the entry at a position as if it held nothing, not even a
// writer: one that an operator has every instance skip because it cannot be
// applied. at is its timestamp.
func (s *State) Skip(position uint64, at int64) error {
	if position != s.position+1 {
		return fmt.Errorf("skipping position %d after %d", position, s.position)
	}
	s.position = position
	s.clock.advance(at, s.epoch == "", math.MaxInt64)
	s.noteDigest()
	return nil
}

// NextDue returns in how many milliseconds the next deadline falls due, as the
// clocks stand now, and false where none waits.
func (s *State) NextDue() (int64, bool) {
	wait, found := int64(0), false
	consider := func(at int64, ok bool, now int64) {
		if ok && (!found || at-now < wait) {
			wait, found = at-now, true
		}
	}
	at, ok := s.expiries.next()
	consider(at, ok, s.clock.wall)
	if s.clock.inAmnesty() {
		consider(s.clock.amnestyUntil, true, s.clock.lease)
	} else {
		at, ok = s.due.next()
		consider(at, ok, s.clock.lease)
	}
	return max(wait, 0), found
}
