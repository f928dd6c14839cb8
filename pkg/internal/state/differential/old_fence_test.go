package differential

import (
	"math"
	"time"

	"presence/pkg/internal/entry"
	"presence/pkg/protocol"
)

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
// clock. In force from format 3 on.
func (s *State) maxLeaseClock(h *entry.Header) int64 {
	if s.format < 3 || h.Epoch != s.epoch {
		return math.MaxInt64
	}
	return h.LeaseClock + maxStep
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
// tell how long ago that was: the lease clock stands still while nobody appends.
func (s *State) tooOld(h *entry.Header) bool {
	if s.clock.lease-h.LeaseClock > maxPacked {
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
