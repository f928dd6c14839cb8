package state

import (
	"errors"
	"maps"
	"math"
	"slices"

	"presence/pkg/internal/entry"
	"presence/pkg/internal/table"
)

// Snapshot writes the state as of one position, in steps, while entries go on being
// applied:
//
//	x := s.BeginSnapshot()                    // guarded like Apply
//	for more := true; more; {
//		block, more, err = x.Next(block[:0])  // guarded like a read; I/O between the steps
//	}
//
// Apply writes a user early if it is about to change a user that is not written yet (copy
// on write). So an entry takes longer by the writing of the users that it changes, and
// nothing waits for the whole snapshot.
//
// A snapshot takes this much memory beside the state: a step, a bit for each user, and what is
// written early, until the steps take it. Each user is written early once at most, and only before its turn. So the
// most is what the whole snapshot has, if all users change before the first step: about 125 bytes
// for each user with one session, and their texts. TestSnapshot_Memory measures it.
type Snapshot struct {
	// Step is about how many bytes Next writes. Tests set smaller ones.
	Step int

	s       *State
	written numberSet // the users that are written, or were added since it began

	format   uint8
	header   headerRecord
	rules    rulesRecord
	params   entry.Params
	links    linksRecord
	clock    clockRecord
	ends     endsRecord
	gateways []byte // their records
	begun    bool   // all of the above are written
	// What is in these is never changed, so it can be written later.
	closed table.Queue[closedConnection]
	freed  table.Queue[freed]
	names  []endedSession
	// fence is the number of the next fence to be written, fencesEnd the number behind the
	// last one. earlyFences has the records of fences that were forgotten meanwhile.
	fence, fencesEnd uint32
	earlyFences      early

	place uint32 // all users whose numbers are below it are written
	early early  // records of users that were about to change

	record userRecord
	more   userMoreRecord
}

var errGivenUp = errors.New("the snapshot was given up")

// blockBytes is about how much one step writes.
const blockBytes = 64 << 10

// BeginSnapshot begins a snapshot of the state as it is now. If another one is not at its
// end, that one is given up.
func (s *State) BeginSnapshot() *Snapshot {
	x := &Snapshot{s: s, written: newNumberSet(s.users.table.End()), Step: blockBytes, closed: s.connections.closed, freed: s.leases.freed, names: s.ended,
		fence: s.fenceTable.first, fencesEnd: s.fenceTable.next}
	x.header = headerRecord{
		Epoch: s.epoch, Generation: s.generation, Format: s.format, Position: s.position,
		Wall: s.clock.wall, Lease: s.clock.lease, AmnestyUntil: s.clock.amnestyUntil,
		Grace: s.params.Grace, Retention: s.params.Retention, Persistent: s.params.Persistent,
		Numbers: s.leases.byNumber.Len(), Digest: s.Digest(),
		Closed: x.closed.Len(), Freed: x.freed.Len(), Users: s.users.table.Len(),
	}
	x.format, x.rules = s.params.Format(), rulesRecord{Sessions: s.params.Sessions}
	x.params = s.params.Short()
	for _, l := range s.connections.lame {
		x.format = max(x.format, 3)
		x.links.Lame = append(x.links.Lame, lameRecord{Server: l.id, Since: l.since})
	}
	if s.clock.wentBackAt != 0 {
		x.format, x.clock.WentBackAt = max(x.format, 3), s.clock.wentBackAt
	}
	if s.format >= graceFormat {
		x.format = max(x.format, 4)
	}
	if s.format >= windowFormat {
		x.format = max(x.format, 5)
	}
	if s.format >= fencesFormat {
		x.format, x.ends = max(x.format, 3), endsRecord{Names: len(x.names), Fences: s.fenceTable.count, First: s.fenceTable.first}
	}
	for i, in := range s.instances {
		in.saved = i
		x.header.Instances = append(x.header.Instances, instanceRecord{ID: in.id, Sequence: in.sequence, Seen: in.seen, MaxFormat: in.maxFormat})
	}
	// In an order, so that two states that are the same write the same.
	for _, g := range slices.SortedFunc(maps.Values(s.gateways.byKey), func(a, b *gateway) int { return a.key.compare(b.key) }) {
		g.saved = x.header.Gateways
		x.header.Gateways++
		var r gatewayRecord
		r.from(s, g)
		x.gateways = must(r.MarshalMsg(x.gateways))
		if x.format >= 3 {
			x.gateways = must((&gatewayMoreRecord{Body: g.last().body}).MarshalMsg(x.gateways))
		}
		if x.format >= 5 {
			var earlier earlierRecord
			earlier.from(g)
			x.gateways = must(earlier.MarshalMsg(x.gateways))
		}
	}
	s.snapshot = x
	return x
}

// Position is the position of the snapshot. Wall is the journal's time at it.
func (x *Snapshot) Position() uint64 { return x.header.Position }
func (x *Snapshot) Wall() int64      { return x.header.Wall }

// Users returns how many users are in the snapshot.
func (x *Snapshot) Users() int { return x.header.Users }

// End stops Apply from writing users early. It must be called when the snapshot is at its
// end or is not needed, under the same lock as Apply.
func (x *Snapshot) End() {
	if x.s.snapshot == x {
		x.s.snapshot = nil
	}
}

// Next appends the next block to b and reports whether there are more. Restore needs the
// blocks in the same order. Next fails if the snapshot was given up: End was called,
// another one was begun, or a new epoch.
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
		if x.format >= 4 {
			b = must(x.params.MarshalMsg(b))
		}
		b = append(b, x.gateways...)
	}
	for x.closed.Len() > 0 && len(b) < enough {
		c := x.closed.Pop()
		b = must((&closedRecord{Server: x.s.names.Get(c.server), Client: c.client, At: c.at}).MarshalMsg(b))
	}
	for x.freed.Len() > 0 && len(b) < enough {
		f := x.freed.Pop()
		b = must((&freedRecord{Number: f.number, At: f.at}).MarshalMsg(b))
	}
	for ; len(x.names) > 0 && len(b) < enough; x.names = x.names[1:] {
		e := x.names[0]
		b = must((&nameRecord{User: e.user, Session: e.session.String(), Until: e.until, Reason: uint8(e.reason)}).MarshalMsg(b))
	}
	if x.closed.Len() > 0 || x.freed.Len() > 0 || len(x.names) > 0 {
		return b, true, nil
	}
	b = x.earlyFences.take(b, enough)
	for ; x.fence != x.fencesEnd && len(b) < enough; x.fence++ {
		b = x.writeFence(b, x.fence)
	}
	if x.fence != x.fencesEnd || len(x.earlyFences) > 0 {
		return b, true, nil
	}
	if b = x.early.take(b, enough); len(x.early) > 0 {
		return b, true, nil
	}
	for n, u := range x.s.users.table.From(x.place) {
		if len(b) >= enough {
			x.place = n
			return b, true, nil
		}
		if !x.written.has(n) {
			b = x.write(b, n, u)
		}
	}
	x.place = math.MaxUint32
	return b, false, nil
}

// write appends the record of the user with a number.
func (x *Snapshot) write(b []byte, n uint32, u *user) []byte {
	x.written.set(n)
	x.record.from(x.s, u)
	if x.format < 3 || !x.more.from(x.s, u) {
		return must(x.record.MarshalMsg(b))
	}
	x.record.PendingParts |= moreFollows
	return must(x.more.MarshalMsg(must(x.record.MarshalMsg(b))))
}

// writeFence appends the record of the fence with a number, if there is one.
func (x *Snapshot) writeFence(b []byte, number uint32) []byte {
	f, page := x.s.fenceTable.get(number)
	if f == nil {
		return b
	}
	return must((&fenceRecord{Number: number, Prev: f.prev, Until: page.until(f), Reason: uint8(f.reason()), Key: f.key}).MarshalMsg(b))
}

// preserveFence writes a fence early that is about to be forgotten.
func (x *Snapshot) preserveFence(number uint32) {
	if number-x.fence < x.fencesEnd-x.fence {
		c := x.earlyFences.open()
		*c = x.writeFence(*c, number)
	}
}

// preserve writes a user early for the snapshot that is being taken. It must be called
// before anything of the user changes that a snapshot contains. change, extend and enqueue
// call it.
func (s *State) preserve(u *user) {
	x := s.snapshot
	if x == nil {
		return
	}
	if n := s.numberOf(u); !x.written.has(n) {
		c := x.early.open()
		*c = x.write(*c, n, u)
	}
}

// numberSet is a set of numbers. Those beyond the end are always in it.
type numberSet []uint64

func newNumberSet(end uint32) numberSet { return make(numberSet, (uint64(end)+63)/64) }

func (ns numberSet) has(n uint32) bool {
	return int(n/64) >= len(ns) || ns[n/64]&(1<<(n%64)) != 0
}

func (ns numberSet) set(n uint32) {
	if int(n/64) < len(ns) {
		ns[n/64] |= 1 << (n % 64)
	}
}

// early has records that were written before their turn. They are in chunks of about blockBytes,
// so that no entry waits for a copy of all that there are.
type early [][]byte

// open returns the chunk to append to.
func (e *early) open() *[]byte {
	if last := len(*e) - 1; last >= 0 && len((*e)[last]) < blockBytes {
		return &(*e)[last]
	}
	*e = append(*e, nil)
	return &(*e)[len(*e)-1]
}

// take moves chunks to the end of b until that has enough bytes.
func (e *early) take(b []byte, enough int) []byte {
	for len(*e) > 0 && len(b) < enough {
		b = append(b, (*e)[0]...)
		(*e)[0] = nil
		*e = (*e)[1:]
	}
	return b
}

// bytes is how much memory they take.
func (e early) bytes() (n int) {
	for _, chunk := range e {
		n += cap(chunk)
	}
	return n
}

// must is for generated code, which fails on values that it cannot represent;
// there are none in the records.
func must(b []byte, err error) []byte {
	if err != nil {
		panic(err)
	}
	return b
}
