package state

import (
	"errors"
	"fmt"
	"math"
	"time"

	"presence/pkg/internal/entry"
	"presence/pkg/protocol"
)

// clock has the two times of the state machine, in milliseconds.
//
// Wall time is the timestamp of the current entry. People are shown wall time, and
// texts expire by it.
//
// The lease clock is for deadlines. From one entry to the next it advances by the
// difference of their timestamps, but never back and never by more than maxStep.
// Instances append an entry at least every second. So the lease clock runs while the
// service runs, and stands still while the service or the broker is down, however
// wall time jumps. While no lease is live, nobody can be lost, so fewer entries do, see
// State.longestStep.
//
// There is one more limit: the lease clock goes at most as far beyond the lease clock
// in the entry's header. Without it an outage could pass as time: a stream leader
// that has lost its majority still gives timestamps to entries, which are stored later.
// Nobody could renew a lease meanwhile.
type clock struct {
	wall         int64
	lease        int64
	amnestyUntil int64 // of the lease clock
	wentBackAt   int64 // lease clock when the stream's clock last went back; 0: not recently
}

// idleFormat is the first format in which the journal may be silent for longer while no
// lease is live.
const idleFormat = 6

// longestStep returns the most by which the lease clock advances with the next entry. It
// is more while no lease is live. Then there is nobody who could be lost, and nobody whose
// renewals could be missed.
func (s *State) longestStep() int64 {
	if s.format >= idleFormat && s.live == 0 && len(s.gateways.byKey) == 0 {
		return maxIdleStep
	}
	return maxStep
}

// Idle reports whether an instance need not append for the sake of time, but now and then,
// and when a text or an availability expires. It is so if long steps are allowed, if no
// other instance is in the table, and if nothing is to be announced. Only an entry can
// change that.
func (s *State) Idle(instance string) bool {
	return s.longestStep() > maxStep && s.Only(instance) && s.instances[0].current == 0
}

// advance moves the clocks to an entry's timestamp. The lease clock goes forward by step
// at most, and to most at most. It advances by the distance to the entry before. A maximum
// of all timestamps would not do: after a jump of one hour back it would stand still for an
// hour. advance returns by how much more than maxStep the lease clock went forward.
func (c *clock) advance(at int64, first bool, step, most int64) (idled int64) {
	gap := at - c.wall
	c.wall = at
	if first {
		return 0
	}
	before := c.lease
	c.lease = max(c.lease, min(c.lease+min(max(gap, 0), step), most))
	if gap > step || gap < -step {
		c.startAmnesty()
	}
	return max(c.lease-before-maxStep, 0)
}

// startAmnesty begins a time in which no deadline is due: no session is lost because
// the service was away (PROTOCOL G6).
func (c *clock) startAmnesty() { c.amnestyUntil = c.lease + amnesty }

func (c *clock) inAmnesty() bool { return c.lease < c.amnestyUntil }

// An entry counts only for as long as its callers wait (PROTOCOL 6, outcome_unknown).
// Whether it counts follows from the journal alone, so every instance decides alike.
//
// The leader of the journal's stream gives an entry its timestamp on arrival. A leader
// without a majority may store the entry much later. The entry then has an old timestamp
// and counts, but its place in the journal is before every entry that is published later.
// An entry that reaches the leader too late gets a late timestamp and counts as empty.
//
// A fresh read is answered by an entry of its own. So 10 s after a request, the request
// either stands before such an entry, or will never take effect.
//
//	0 s                          8 s      9 s      10 s
//	│ request sent, and arrives  │        │        │ a fresh read is sent
//	│ on its way: up to 1 s      │        │        │
//	├─ the entry counts if the leader has it ──────┤
//	│  for CountsFor of its arrival, and at most Skew longer, if that leader's clock is behind
const (
	// CountsFor is how long after its arrival at the service a request may reach the
	// stream's leader and still take effect. The rest of protocol.OutcomeWithin is a
	// second for the request's way to the service, and Skew.
	CountsFor = protocol.OutcomeWithin - time.Second - Skew
	// Skew is by how much the clocks of the stream's leaders may differ. If a new
	// leader's clock differs by more, the entries in flight count as empty, as soon as
	// the journal shows the difference.
	Skew = time.Second
)

const (
	countsFor = int64(CountsFor / time.Millisecond)
	skew      = int64(Skew / time.Millisecond)
)

// maxLeaseClock returns the highest value that the lease clock may have at an entry, see
// clock. step is the longest step. In force from format 3 on.
func (s *State) maxLeaseClock(h *entry.Header, step int64) int64 {
	if s.format < 3 || h.Epoch != s.epoch {
		return math.MaxInt64
	}
	return h.LeaseClock + step
}

// noteClock notes that the stream's clock went back by more than Skew. It compares the
// entry with the entry before, and with the time that the instance knew when it packed
// this one. From then on the StoreBy of earlier entries means nothing. The lease clock
// advances by at least a millisecond, so that before and after differ.
func (s *State) noteClock(h *entry.Header, gap int64) {
	c := &s.clock
	knew := h.StoreBy - countsFor // when a caller's request arrived
	switch {
	case s.format < 3:
	case gap < -skew, h.StoreBy != 0 && h.Epoch == s.epoch && c.wall < knew-skew:
		c.lease++
		c.wentBackAt = c.lease
	case c.lease-c.wentBackAt > maxPacked: // entries packed before are too old by now
		c.wentBackAt = 0
	}
}

// tooOld reports whether an entry was packed too long ago, or reached the leader too long
// after its callers came. If the stream's clock went back since it was packed, nobody can
// tell how long ago that was: the lease clock stands still while nobody appends. For the
// same reason a long step does not make the entry at its end old, which may have been packed
// there. idled is what that step had beyond maxStep.
func (s *State) tooOld(h *entry.Header, idled int64) bool {
	if s.clock.lease-idled-h.LeaseClock > maxPacked {
		return true
	}
	wall := s.clock.wall
	switch {
	case h.StoreBy == 0: // its instance has just started: nobody waits for it
		return false
	case s.format < 3: // as earlier versions have it
		return wall > h.StoreBy || wall < h.StoreBy-maxPacked-maxStep
	}
	return h.LeaseClock < s.clock.wentBackAt || wall > h.StoreBy || wall < h.StoreBy-countsFor-skew
}

// ErrLaterEpoch says that the journal goes on in an epoch whose beginning this
// state never saw: it was restored or recreated.
var ErrLaterEpoch = errors.New("the entry is of an epoch whose beginning was not in this journal")

// enterEpoch begins the epoch of an entry where that is a later one than the
// state's. Revisions of the one before mean nothing from then on, and entries of
// it that are stored late count as empty.
func (s *State) enterEpoch(e *entry.Entry) error {
	h := &e.Header
	switch {
	case s.epoch == "":
	case h.Generation <= s.generation:
		return nil
	case len(e.Commands) == 0 || e.Commands[0].Kind != entry.NewEpoch:
		return fmt.Errorf("%w: its epoch is %s (generation %d), the state's %s (%d)", ErrLaterEpoch, h.Epoch, h.Generation, s.epoch, s.generation)
	case e.Commands[0].All:
		*s = *NewAt(s.position)
	}
	s.epoch, s.generation = h.Epoch, h.Generation
	return nil
}

// Format is the entry format whose behaviour is in force. An entry sets a newer one
// when every instance in the table understands it. So the upgrade of one instance
// never stops another.
func (s *State) Format() uint8 { return s.format }

// NextFormat returns the newest format that every instance in the table
// understands, and whether it is newer than the one in force.
func (s *State) NextFormat() (uint8, bool) {
	known := uint8(0)
	for _, in := range s.instances {
		if s.clock.lease-in.seen <= instanceKept && (known == 0 || in.maxFormat < known) {
			known = in.maxFormat
		}
	}
	return known, known > s.format
}

// setFormat puts a format in force, unless an instance that does not understand it
// has joined meanwhile.
func (s *State) setFormat(format uint8) {
	known, ok := s.NextFormat()
	if !ok || format > known {
		return
	}
	before := s.format
	s.format = max(s.format, format)
	if before < fencesFormat && s.format >= fencesFormat {
		s.startFences()
	}
}
