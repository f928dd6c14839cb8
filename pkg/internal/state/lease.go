package state

import (
	"cmp"
	"container/heap"
	"math"
	"slices"

	"presence/pkg/internal/entry"
	"presence/pkg/internal/table"
	"presence/pkg/protocol"
)

// lease keeps sessions live. A session has its own lease. A gateway's process has one
// lease for all sessions that it logged in. A lease runs out at its deadline unless it
// is renewed. When its connection closes it runs out after the grace, renewed or not.
type lease struct {
	// deadline, by the lease clock, is when the lease runs out. Of a lost session it is
	// when the session is forgotten.
	deadline int64

	number uint32 // names it in journal entries
	terms
	bucket uint32 // where it waits in the calendar due; 0: nowhere

	// bound is the connection that the lease is bound to. A session that a gateway keeps live
	// is bound to the gateway instead. place is its index there.
	bound bound
	place uint32

	live bool

	// These belong to the session; they are here to save memory. idle: nobody uses the
	// device. loginOnly: the session was lost with its connection or its gateway, so a
	// login makes it live again, but a renewal does not. loss: how it was lost, for
	// people.
	idle, loginOnly bool
	loss            loss
}

// holder says who has a lease: the session with a number, or the gateway of the lease with a
// number. 0 is nobody.
type holder uint32

// bound says what a lease is bound to: the connection with a number, or the gateway of the
// lease with a number. 0 is nothing.
type bound uint32

// ofGateway is set in a holder or a bound that is a gateway.
const ofGateway = 1 << 31

func (h holder) isGateway() bool { return h&ofGateway != 0 }

func (b bound) isGateway() bool { return b&ofGateway != 0 }

// leaseOf returns the lease of a holder.
func (s *State) leaseOf(h holder) *lease {
	if h.isGateway() {
		return &s.gateways.byLease[uint32(h&^ofGateway)].lease
	}
	return &s.session(uint32(h)).lease
}

// bucketOfLease returns where the lease of a holder remembers its bucket; nil: the holder is
// gone.
func bucketOfLease(t *tables, g gateways, h holder) *uint32 {
	if h.isGateway() {
		if x := g.byLease[uint32(h&^ofGateway)]; x != nil {
			return &x.bucket
		}
		return nil
	}
	if x := t.sessions.Get(uint32(h)); x != nil {
		return &x.bucket
	}
	return nil
}

// holderOf returns who has a lease, sessionOf the session that has it; nil: a gateway has it.
func (s *State) holderOf(l *lease) holder { return s.leases.byNumber.Get(l.number) }

func (s *State) sessionOf(l *lease) *session {
	h := s.holderOf(l)
	if h.isGateway() {
		return nil
	}
	return s.session(uint32(h))
}

// connectionOf returns the connection that a lease is bound to; nil: none.
func (t *tables) connectionOf(l *lease) *connection {
	if l.bound.isGateway() {
		return nil
	}
	return t.connections.table.At(uint32(l.bound))
}

// gatewayOf returns the gateway that keeps a session live instead of the session's own lease;
// nil: none does.
func (s *State) gatewayOf(x *session) *gateway {
	if !x.bound.isGateway() {
		return nil
	}
	return s.gateways.byLease[uint32(x.bound&^ofGateway)]
}

// terms are what the holder of a lease chose, packed to save memory: in the lower 22 bits the TTL in
// milliseconds, above them the grace in seconds. A grace of 0 is that of the rules in force. Digests
// and snapshots have the terms as they are. This file alone knows which terms there are: login,
// open, digests, snapshots and replies take all of them from here.
type terms uint32

const ttlBits, graceBits = 22, 10 // enough for protocol.MaxTTL and protocol.MaxGrace

func makeTerms(ttl, grace uint32) terms {
	return terms(min(grace/1000, 1<<graceBits-1)<<ttlBits | min(ttl, 1<<ttlBits-1))
}

// ttl and grace are in milliseconds.
func (t terms) ttl() int64   { return int64(t & (1<<ttlBits - 1)) }
func (t terms) grace() int64 { return int64(t>>ttlBits) * 1000 }

// graceFormat is the first format in which a lease can have a grace of its own. Below it every lease
// has that of the rules.
const graceFormat = 4

// Terms are those that are in force for a lease, in milliseconds.
type Terms struct{ TTL, Grace int64 }

// termsOf returns the terms that a Login or an Open gets. A grace is at most as long as the rules in
// force allow. To refuse a longer one would be wrong: the rules may change while clients run, and
// those could never log in again.
func (s *State) termsOf(c *entry.Command) terms {
	if s.format < graceFormat {
		return makeTerms(c.TTL, 0)
	}
	return makeTerms(c.TTL, uint32(min(int64(c.Grace), s.params.LongestGrace())))
}

// termsInForce returns what the holder of a lease is told.
func (s *State) termsInForce(l *lease) Terms {
	return Terms{TTL: l.ttl(), Grace: s.graceOf(l)}
}

// showTerms fills in what is shown of a lease beside the session.
func (s *State) showTerms(l *lease, to *protocol.Session) {
	in := s.termsInForce(l)
	to.TTLSeconds, to.GraceSeconds = in.TTL/1000, seconds(in.Grace)
}

// graceOf returns how long a lease outlives its closed connection.
func (s *State) graceOf(l *lease) int64 { return cmp.Or(l.grace(), s.params.Grace) }

// dueAt returns when something happens to the lease's holder.
func (s *State) dueAt(l *lease) int64 {
	switch {
	case l.byGateway():
		return math.MaxInt64 // the gateway's lease decides
	case !l.live:
		return roundUp(l.deadline, forgetGrain) // so that a week of lost sessions shares its buckets
	}
	if c := s.connectionOf(l); c != nil && c.closed {
		return min(l.deadline, c.closedAt+s.graceOf(l))
	}
	return l.deadline
}

// byGateway reports whether it is the lease of a session that a gateway keeps live.
func (l *lease) byGateway() bool { return l.live && l.bound.isGateway() }

// schedule puts a lease into the calendar, in a bucket that is not later than its end.
func (s *State) schedule(l *lease) {
	due := s.dueAt(l)
	if due == math.MaxInt64 {
		return
	}
	s.due.put(s.holderOf(l), leaseBucket(due))
}

// extend makes a lease live from now on for its TTL.
func (s *State) extend(l *lease) {
	x := s.sessionOf(l)
	if x != nil {
		s.preserve(s.userOf(x))
	}
	if !l.live {
		l.live = true
		if x != nil {
			s.live++
			s.countSession(x, +1)
		}
	}
	s.setDeadline(l, s.clock.lease+s.effectiveTTL(l))
	s.schedule(l)
}

// setDeadline changes a deadline and the digest. The caller has preserved the session's
// user.
func (s *State) setDeadline(l *lease, at int64) {
	s.digest += deadlineHash(l.number, at) - deadlineHash(l.number, l.deadline)
	l.deadline = at
}

// overdue reports whether a lease that was just bound and extended has run out all the
// same, because its connection closed longer ago than the grace.
func (s *State) overdue(l *lease) bool {
	return s.dueAt(l) <= s.clock.lease && !s.clock.inAmnesty()
}

// renewNumber extends the lease with a number. The lease existed when the renewal was
// packed. If it has ended since, nothing happens.
func (s *State) renewNumber(number uint32) {
	h := s.leases.get(number)
	switch {
	case h == 0:
	case h.isGateway():
		s.extend(s.leaseOf(h))
	default:
		s.renewSession(s.session(uint32(h)))
	}
}

// expireLeases ends the leases that are due, in the order of their deadlines. Live
// sessions and gateways are lost, lost sessions are forgotten.
func (s *State) expireLeases() {
	type end struct {
		at     int64
		number uint32
		holder holder
	}
	var due []end
	for {
		holders := s.due.pop(s.clock.lease)
		if len(holders) == 0 {
			break
		}
		for _, h := range holders {
			l := s.leaseOf(h)
			at := s.dueAt(l)
			switch {
			case at == math.MaxInt64:
			case bucketOf(at)*bucketWidth > s.clock.lease:
				s.schedule(l)
			default:
				due = append(due, end{at, l.number, h})
			}
		}
	}
	slices.SortFunc(due, func(a, b end) int {
		return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(a.number, b.number))
	})
	for _, e := range due {
		s.noteLoss(e.holder)
		if e.holder.isGateway() {
			s.endGateway(s.gateways.byLease[e.number], false)
			continue
		}
		if x := s.session(uint32(e.holder)); x.live {
			s.lose(x)
		} else {
			s.forget(x)
		}
	}
}

// leases gives each lease a small number, by which renewals in the journal name it. A
// freed number is not used again during the quarantine: a renewal that was packed before
// must not renew another lease.
type leases struct {
	byNumber table.Array[holder]
	freed    table.Queue[freed] // in the order in which they were freed
}

type freed struct {
	number uint32
	at     int64 // lease clock
}

// takeLease gives a new lease of a session a number, freeLease takes the number back.
func (s *State) takeLease(n uint32, x *session) {
	x.number = s.leases.take(s.clock.lease)
	s.leases.byNumber.Set(x.number, holder(n))
	s.digest += deadlineHash(x.number, x.deadline)
}

func (s *State) freeLease(l *lease) {
	s.due.drop(s.holderOf(l))
	s.digest -= deadlineHash(l.number, l.deadline)
	s.leases.free(l.number, s.clock.lease)
}

// allLeases yields all leases, in the order of their numbers.
func (s *State) allLeases(yield func(*lease) bool) {
	for _, h := range s.leases.byNumber.All() {
		if !yield(s.leaseOf(h)) {
			return
		}
	}
}

// take returns a number for a lease.
func (ls *leases) take(now int64) uint32 {
	if ls.freed.Len() > 0 && ls.freed.First().at+quarantine < now {
		return ls.freed.Pop().number
	}
	number := ls.byNumber.Len()
	ls.byNumber.Grow(number + 1)
	return uint32(number)
}

// free takes a number back.
func (ls *leases) free(number uint32, now int64) {
	ls.byNumber.Set(number, 0)
	ls.freed.Push(freed{number: number, at: now})
}

// get returns who has the lease with a number; 0: nobody.
func (ls *leases) get(number uint32) holder { return ls.byNumber.Get(number) }

// count returns how many leases there are.
func (ls *leases) count() int { return ls.byNumber.Len() - ls.freed.Len() }

// bucketWidth is the grain of a calendar in milliseconds: what is due falls
// due at the end of its bucket, at most this much late.
const bucketWidth = 100

// calendar holds items by the moment at which they fall due, without a timer
// or a heap slot for each: a map of buckets, and a heap of the buckets.
//
// Items are numbers. Each remembers the bucket in which it waits; at says where. An item whose
// moment moved later stays where it is and is put in again when its bucket comes
// up, so that renewing a lease costs nothing here. An item that moved earlier, or
// ended, leaves a dead entry behind. A bucket is swept as soon as more than half
// of it is dead, and goes with its last item. So a calendar has at most two
// entries for each item that waits, however often items come and go.
//
// What falls due when follows from the items alone, not from the calendar's
// history; a calendar built anew from the same items behaves the same.
type calendar[B bucket, T ~uint32] struct {
	// at returns where an item remembers its bucket: 0 there, it does not wait. It returns nil
	// for an item that there is no more.
	at      func(T) *B
	buckets map[B]*items[B, T]
	order   bucketHeap[B, T]
	entries int // in all buckets, dead ones included
}

// items are those of one bucket.
type items[B bucket, T ~uint32] struct {
	number  B
	list    []T // what does not remember this bucket is dead
	waiting int // how many are alive
	place   int // index in calendar.order
}

// bucket numbers one: uint32 suffices for the lease clock, which would have to
// run for 13 years, and halves what each item remembers of it; int64 for wall
// time.
type bucket interface{ uint32 | int64 }

// bucketOf returns the number of the bucket in which a moment falls due: the
// first that ends at or after it. Numbers begin at 1; 0 stands for none.
func bucketOf(at int64) int64 {
	return max(1, (at+bucketWidth-1)/bucketWidth)
}

// leaseBucket is bucketOf for a moment of the lease clock.
func leaseBucket(at int64) uint32 { return uint32(min(bucketOf(at), math.MaxUint32)) }

// put has an item wait in a bucket, unless it waits in an earlier one.
func (c *calendar[B, T]) put(item T, bucket B) {
	if at := c.at(item); *at != 0 && *at <= bucket {
		return
	}
	c.drop(item)
	if c.buckets == nil {
		c.buckets = make(map[B]*items[B, T])
	}
	x := c.buckets[bucket]
	if x == nil {
		x = &items[B, T]{number: bucket}
		c.buckets[bucket] = x
		heap.Push(&c.order, x)
	}
	x.list = append(x.list, item)
	x.waiting++
	c.entries++
	*c.at(item) = bucket
}

// drop has an item not wait any more.
func (c *calendar[B, T]) drop(item T) {
	at := c.at(item)
	if at == nil || *at == 0 {
		return
	}
	x := c.buckets[*at]
	*at = 0
	x.waiting--
	switch {
	case x.waiting == 0:
		heap.Remove(&c.order, x.place)
		c.forget(x)
	case len(x.list) > 2*x.waiting:
		c.sweep(x)
	}
}

// pop removes the earliest bucket that is due at now and returns the items that
// wait in it; none where no bucket is due.
func (c *calendar[B, T]) pop(now int64) []T {
	if len(c.order) == 0 || int64(c.order[0].number)*bucketWidth > now {
		return nil
	}
	x := heap.Pop(&c.order).(*items[B, T])
	c.forget(x)
	return c.release(x)
}

// forget notes that a bucket is out of the heap.
func (c *calendar[B, T]) forget(x *items[B, T]) {
	delete(c.buckets, x.number)
	c.entries -= len(x.list)
}

// sweep takes the dead entries out of a bucket.
func (c *calendar[B, T]) sweep(x *items[B, T]) {
	c.entries -= len(x.list)
	x.list = slices.Clone(c.release(x)) // which gives the room back
	c.entries += len(x.list)
	for _, item := range x.list {
		*c.at(item) = x.number
	}
}

// release returns the items that wait in a bucket, each once, and has them wait no
// more. One that left and came back is in the list twice, and so is one whose number was
// given again.
func (c *calendar[B, T]) release(x *items[B, T]) []T {
	alive := x.list[:0]
	for _, item := range x.list {
		if at := c.at(item); at != nil && *at == x.number {
			*at = 0
			alive = append(alive, item)
		}
	}
	return alive
}

// next returns when the earliest bucket falls due.
func (c *calendar[B, T]) next() (int64, bool) {
	if len(c.order) == 0 {
		return 0, false
	}
	return int64(c.order[0].number) * bucketWidth, true
}

type bucketHeap[B bucket, T ~uint32] []*items[B, T]

func (h bucketHeap[B, T]) Len() int           { return len(h) }
func (h bucketHeap[B, T]) Less(i, j int) bool { return h[i].number < h[j].number }
func (h bucketHeap[B, T]) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].place, h[j].place = i, j
}

func (h *bucketHeap[B, T]) Push(x any) {
	b := x.(*items[B, T])
	b.place = len(*h)
	*h = append(*h, b)
}

func (h *bucketHeap[B, T]) Pop() any {
	old := *h
	x := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	return x
}
