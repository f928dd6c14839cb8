package replica

import (
	"time"

	"presence/pkg/internal/entry"
	"presence/pkg/internal/state"
)

const (
	// TickGrain is how often it is asked whether an entry is due. It adds to
	// the time to OFFLINE (G5).
	TickGrain = 200 * time.Millisecond
	// tickEvery is how long the journal may be silent before an entry is
	// appended for the sake of time alone.
	tickEvery = time.Second
	// tickTurn is how much longer each further instance in the table of writers
	// waits, so that one of them appends, not all. Where the first has died that
	// adds to the time to OFFLINE too, until it is out of the table. At most
	// maxTurns of them add up: the lease clock counts 2 s of silence at most.
	tickTurn = 150 * time.Millisecond
	maxTurns = 4
	// showEvery is how often every instance appends an entry of its own, so that
	// it stays in the table of writers: less than a minute.
	showEvery = 20 * time.Second
)

// Due reports whether an entry is to be appended for the sake of time, so that
// the lease clock runs while the service runs: when the journal has been silent
// for a second, when the next deadline is due, and when the writer would be
// forgotten. silent is how long ago the last entry was applied. An instance that
// knows that no request reaches it appends none: were it the only one left, those
// who renew in vain would be lost while it lets time go by (G6). If nobody else
// does either, an amnesty follows by itself.
func Due(s *state.State, instance string, silent time.Duration, reachable bool) bool {
	if !reachable {
		return false
	}
	wait, waits := s.NextDue()
	rank, known := s.Rank(instance)
	mine := time.Duration(s.SilentFor(instance)) * time.Millisecond
	turn := time.Duration(min(rank, maxTurns)) * tickTurn
	switch {
	case silent >= tickEvery-TickGrain/2+turn,
		waits && silent >= max(time.Duration(wait)*time.Millisecond, TickGrain/2)+turn,
		!known || mine >= showEvery:
		return true
	}
	return false
}

// Stamp fills in what an entry's header says of the state and of the time when
// it is packed. waited is from when the state became what it is to the arrival of
// the oldest request in the entry, less than 0 where that came before: the stream's
// time was that much later then, or more where the state has yet to catch up. The
// entry counts for state.CountsFor from that time on. registered says that an entry of
// this writer is applied: before, the state may be of long ago.
func Stamp(h *entry.Header, s *state.State, waited time.Duration, registered bool) {
	h.Epoch, h.Generation, h.LeaseClock, h.MaxFormat = s.Epoch(), s.Generation(), s.LeaseClock(), entry.Format
	if registered {
		h.StoreBy = s.AsOf().Time().Add(waited + state.CountsFor).UnixMilli()
	}
}
