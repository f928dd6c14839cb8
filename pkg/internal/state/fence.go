package state

import (
	"math"
	"time"

	"presence/pkg/internal/entry"
	"presence/pkg/protocol"
)

// An entry counts only while its callers may still expect that (PROTOCOL 6,
// outcome_unknown). The verdict follows from the journal alone, so that it is the same
// on every instance. The leader of the journal's stream gives an entry its timestamp
// when it has it. So what a leader without a majority stores late keeps a timestamp of
// long ago, and counts; but then its place in the journal is before every entry that is
// published later. What the leader had not by then gets a later timestamp, and counts
// as empty. A fresh read is answered at an entry of its own. So once 10 s have gone by,
// whatever that entry has before it is all that there will ever be.
//
//	0 s                          8 s      9 s      10 s
//	│ request sent, and arrives  │        │        │ a fresh read is sent
//	│ on its way: up to 1 s      │        │        │
//	├─ the entry counts if the leader has it ──────┤
//	│  for CountsFor of its arrival, and at most Skew longer, if that leader's clock is behind
const (
	// CountsFor is how long after its arrival a request may reach the stream's leader
	// and still take effect. Of protocol.OutcomeWithin that leaves a second for its way
	// to the service, and Skew.
	CountsFor = protocol.OutcomeWithin - time.Second - Skew
	// Skew is by how much the clocks of the servers that lead the stream one after the
	// other may differ. Who is further off has what is in flight count as empty, as
	// soon as the journal shows it.
	Skew = time.Second
)

const (
	countsFor = int64(CountsFor / time.Millisecond)
	skew      = int64(Skew / time.Millisecond)
)

// mostLease returns to where the lease clock may go at an entry at most, see clock. In
// force with format 3.
func (s *State) maxLeaseClock(h *entry.Header) int64 {
	if s.format < 3 || h.Epoch != s.epoch {
		return math.MaxInt64
	}
	return h.LeaseClock + maxStep
}

// noteClock notes where the stream's clock went back by more than Skew: against the
// entry before, or against what the writer of the entry at hand knew when it packed it.
// Entries that were packed before say nothing by their StoreBy from then on. The lease
// clock goes on by a millisecond at least, to tell before from after.
func (s *State) noteClock(h *entry.Header, gap int64) {
	c := &s.clock
	knew := h.StoreBy - countsFor // when a caller's request arrived
	switch {
	case s.format < 3:
	case gap < -skew, h.StoreBy != 0 && h.Epoch == s.epoch && c.wall < knew-skew:
		c.lease++
		c.wentBackAt = c.lease
	case c.lease-c.wentBackAt > maxPacked: // entries of before are too old by now
		c.wentBackAt = 0
	}
}

// tooOld reports whether an entry was packed too long ago, or too long after its
// callers came. Where the stream's clock went back since, it may have been any time
// ago: the lease clock does not tell while nobody appends.
func (s *State) tooOld(h *entry.Header) bool {
	if s.clock.lease-h.LeaseClock > maxPacked {
		return true
	}
	wall := s.clock.wall
	switch {
	case h.StoreBy == 0: // its writer has only just come: nobody waits for it
		return false
	case s.format < 3: // as earlier versions have it
		return wall > h.StoreBy || wall < h.StoreBy-maxPacked-maxStep
	}
	return h.LeaseClock < s.clock.wentBackAt || wall > h.StoreBy || wall < h.StoreBy-countsFor-skew
}
