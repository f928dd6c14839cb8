package replica

import (
	"time"

	"presence/pkg/internal/entry"
	"presence/pkg/internal/state"
)

const (
	// TickGrain is how often Due is to be called. It adds to the time to OFFLINE (G5).
	TickGrain = 200 * time.Millisecond
	// tickEvery is how long the journal may be silent before an entry is appended for the sake of
	// time alone.
	tickEvery = time.Second
	// tickTurn is how much longer each further instance in the table of instances waits, so that
	// one of them appends and not all. After the first has died, that adds to the time to OFFLINE
	// too, until the first is out of the table. At most maxTurns are added up, because the lease
	// clock counts 2 s of silence at most.
	tickTurn = 150 * time.Millisecond
	maxTurns = 4
	// showEvery is how often every instance appends an entry of its own, so that it stays in the
	// table of instances. An instance is forgotten after a minute.
	showEvery = 20 * time.Second
)

// Due reports whether an entry is to be appended for the sake of time, so that the lease clock runs
// while the service runs. It is when the journal has been silent for a second, when the next
// deadline is due, or when the instance would be forgotten. silent is how long ago the last entry
// was applied.
//
// reachable says whether requests reach the instance, as far as it knows. If they do not, no entry
// is due. Otherwise time would pass while clients renew in vain, and they would be lost (G6). If no
// other instance appends either, an amnesty follows by itself.
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

// Stamp fills in what an entry's header says about the state, and about the time when the entry is
// packed. The entry counts if it is stored within state.CountsFor of the arrival of its oldest
// request.
//
// waited is the time from when the last entry was applied to that arrival. It is negative if the
// request came first. So at the arrival, the stream's time was that of the last entry plus waited,
// or later if the state has yet to catch up. registered says that an entry of this instance was
// applied. Before that, the state may be old, and the header sets no limit.
func Stamp(h *entry.Header, s *state.State, waited time.Duration, registered bool) {
	h.Epoch, h.Generation, h.LeaseClock, h.MaxFormat = s.Epoch(), s.Generation(), s.LeaseClock(), entry.Format
	if registered {
		h.StoreBy = s.AsOf().Time().Add(waited + state.CountsFor).UnixMilli()
	}
}
