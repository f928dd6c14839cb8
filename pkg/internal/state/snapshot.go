package state

import (
	"errors"
	"maps"
	"slices"
)

// Snapshot is the state as of one position, written down in steps while entries
// go on being applied:
//
//	x := s.BeginSnapshot()                    // guarded like Apply
//	for more := true; more; {
//		block, more, err = x.Next(block[:0])  // guarded like a read; I/O between the steps
//	}
//
// What has not been written when it is about to change is written first, by
// Apply (copy on write, a user at a time). So an entry takes longer by what it
// takes to write the users that it changes, and nothing ever waits for the
// whole. Until a snapshot is at its end or given up it holds in memory what was
// written early: at most all users' records.
type Snapshot struct {
	// Step is about how many bytes Next writes; tests have smaller ones.
	Step int

	s      *State
	number uint16 // user.saved of those who are written

	format   uint8
	header   headerRecord
	rules    rulesRecord
	links    linksRecord
	clock    clockRecord
	ends     endsRecord
	gateways []byte // their records
	begun    bool   // all of these are written
	// What is in these is never changed, so that they can be written later.
	closed []*connection
	freed  []freed
	names  []endedSession
	// fence is the number of the next fence to be written, fencesEnd the one behind the
	// last. earlyFences are the records of those that were about to be forgotten.
	fence, fencesEnd uint32
	earlyFences      []byte

	place int    // in users.list: everybody before it is written
	early []byte // records of those who were about to change

	record userRecord
	more   userMoreRecord
}

var errGivenUp = errors.New("the snapshot was given up")

// blockBytes is about how much one step writes.
const blockBytes = 64 << 10

// BeginSnapshot begins to write the state down as it is now. It gives up a
// snapshot that has not come to its end.
func (s *State) BeginSnapshot() *Snapshot {
	s.snapshots++
	x := &Snapshot{s: s, number: s.snapshots, Step: blockBytes, closed: s.connections.closed, freed: s.leases.freed, names: s.ended,
		fence: s.fenceTable.first, fencesEnd: s.fenceTable.next}
	x.header = headerRecord{
		Epoch: s.epoch, Generation: s.generation, Format: s.format, Position: s.position,
		Wall: s.clock.wall, Lease: s.clock.lease, AmnestyUntil: s.clock.amnestyUntil,
		Grace: s.params.Grace, Retention: s.params.Retention, Persistent: s.params.Persistent,
		Numbers: len(s.leases.byNumber), Digest: s.Digest(),
		Closed: len(x.closed), Freed: len(x.freed), Users: len(s.users.list),
	}
	x.format, x.rules = s.params.Format(), rulesRecord{Sessions: s.params.Sessions}
	for _, l := range s.connections.lame {
		x.format = max(x.format, 3)
		x.links.Lame = append(x.links.Lame, lameRecord{Server: l.id, Since: l.since})
	}
	if s.clock.wentBackAt != 0 {
		x.format, x.clock.WentBackAt = max(x.format, 3), s.clock.wentBackAt
	}
	if s.format >= fencesFormat {
		x.format, x.ends = snapshotFormat, endsRecord{Names: len(x.names), Fences: s.fenceTable.count, First: s.fenceTable.first}
	}
	for i, in := range s.instances {
		in.saved = i
		x.header.Instances = append(x.header.Instances, instanceRecord{ID: in.id, Sequence: in.sequence, Seen: in.seen, MaxFormat: in.maxFormat})
	}
	// In an order, so that two states that are the same write the same.
	for _, g := range slices.SortedFunc(maps.Values(s.gateways), func(a, b *gateway) int { return a.key.compare(b.key) }) {
		g.saved = x.header.Gateways
		x.header.Gateways++
		var r gatewayRecord
		r.from(g)
		x.gateways = must(r.MarshalMsg(x.gateways))
		if x.format >= 3 {
			x.gateways = must((&gatewayMoreRecord{Body: g.body}).MarshalMsg(x.gateways))
		}
	}
	s.snapshot = x
	return x
}

// Position is the one that the snapshot is as of, Wall the journal's time then.
func (x *Snapshot) Position() uint64 { return x.header.Position }
func (x *Snapshot) Wall() int64      { return x.header.Wall }

// Users counts those in the snapshot.
func (x *Snapshot) Users() int { return x.header.Users }

// End has Apply write nothing early any more. It must be called once the
// snapshot is at its end or of no use, and is guarded like Apply.
func (x *Snapshot) End() {
	if x.s.snapshot == x {
		x.s.snapshot = nil
	}
}

// Next appends the next block to b and reports whether there are more. Blocks
// are to be restored in the order in which they were written. It fails where the
// snapshot was given up, which another one and a new epoch do too.
func (x *Snapshot) Next(b []byte) (block []byte, more bool, err error) {
	enough := len(b) + x.Step
	if x.s.snapshot != x {
		return nil, false, errGivenUp
	}
	if !x.begun {
		x.begun = true
		b = must(x.header.MarshalMsg(append(b, x.format)))
		if x.format >= 2 {
			b = must(x.rules.MarshalMsg(b))
		}
		if x.format >= 3 {
			b = must(x.links.MarshalMsg(b))
			b = must(x.clock.MarshalMsg(b))
			b = must(x.ends.MarshalMsg(b))
		}
		b = append(b, x.gateways...)
	}
	for ; len(x.closed) > 0 && len(b) < enough; x.closed = x.closed[1:] {
		c := x.closed[0]
		b = must((&closedRecord{Server: c.key.server, Client: c.key.client, At: c.closedAt}).MarshalMsg(b))
	}
	for ; len(x.freed) > 0 && len(b) < enough; x.freed = x.freed[1:] {
		b = must((&freedRecord{Number: x.freed[0].number, At: x.freed[0].at}).MarshalMsg(b))
	}
	for ; len(x.names) > 0 && len(b) < enough; x.names = x.names[1:] {
		e := x.names[0]
		b = must((&nameRecord{User: e.user, Session: e.session.String(), Until: e.until, Reason: uint8(e.reason)}).MarshalMsg(b))
	}
	if len(x.closed) > 0 || len(x.freed) > 0 || len(x.names) > 0 {
		return b, true, nil
	}
	b = append(b, x.earlyFences...)
	x.earlyFences = x.earlyFences[:0]
	for ; x.fence != x.fencesEnd && len(b) < enough; x.fence++ {
		b = x.writeFence(b, x.fence)
	}
	if x.fence != x.fencesEnd {
		return b, true, nil
	}
	b = append(b, x.early...)
	x.early = x.early[:0]
	list := x.s.users.list
	for ; x.place < len(list) && len(b) < enough; x.place++ {
		if u := list[x.place]; u.saved != x.number {
			b = x.write(b, u)
		}
	}
	return b, x.place < len(list), nil
}

// write appends a user's record.
func (x *Snapshot) write(b []byte, u *user) []byte {
	u.saved = x.number
	x.record.from(u)
	if x.format < 3 || !x.more.from(u) {
		return must(x.record.MarshalMsg(b))
	}
	x.record.PendingParts |= moreFollows
	return must(x.more.MarshalMsg(must(x.record.MarshalMsg(b))))
}

// writeFence appends a fence's record, where the number has a fence.
func (x *Snapshot) writeFence(b []byte, number uint32) []byte {
	f, page := x.s.fenceTable.get(number)
	if f == nil {
		return b
	}
	return must((&fenceRecord{Number: number, Prev: f.prev, Until: page.until(f), Reason: uint8(f.reason()), Key: f.key}).MarshalMsg(b))
}

// preserveFence writes down a fence that is about to be forgotten.
func (x *Snapshot) preserveFence(number uint32) {
	if number-x.fence < x.fencesEnd-x.fence {
		x.earlyFences = x.writeFence(x.earlyFences, number)
	}
}

// preserve writes a user down, as it is, for the snapshot that is being taken.
// It must be called before anything changes that a snapshot holds of the user;
// change, extend and owe do.
func (s *State) preserve(u *user) {
	x := s.snapshot
	if x == nil || u.saved == x.number {
		return
	}
	x.early = x.write(x.early, u)
}

// must is for generated code, which fails on values that it cannot represent;
// there are none in the records.
func must(b []byte, err error) []byte {
	if err != nil {
		panic(err)
	}
	return b
}
