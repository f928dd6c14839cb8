package replica

import (
	"time"

	"presence/pkg/internal/entry"
	"presence/pkg/internal/state"
)

const (
	// TickGrain is how often Due is to be called, see Grain. It adds to the time to OFFLINE (G5).
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
	// idleEvery is how long the journal may be silent while the instance is idle, see Due. The
	// lease clock counts 32 s of silence then.
	idleEvery = 30 * time.Second
	// idleGrain is how often Due is to be called then.
	idleGrain = 500 * time.Millisecond
	// mostDrift is by how much an idle instance's clock and the journal's may come to differ. It is
	// less than state.Skew: with an older time of the journal, the next caller's entry would count
	// as empty.
	mostDrift = state.Skew / 2
)

// Idle reports whether an instance may leave the journal silent for idleEvery. alone says that the
// journal's server runs beside this instance only. Then the instance need not append to learn that
// the server is there, and that it takes entries: there is no majority that could be lost.
func Idle(s *state.State, instance string, alone bool) bool { return alone && s.Idle(instance) }

// Grain returns how often Due is to be called. An idle instance has only texts and availabilities to
// end on time.
func Grain(idle bool) time.Duration {
	if idle {
		return idleGrain
	}
	return TickGrain
}

// Drifted reports whether the wall clock, which is the journal's as well while the instance is
// idle, has jumped since the last entry was applied. That was silent ago. Then an entry is due.
func Drifted(s *state.State, silent time.Duration, now time.Time) bool {
	drift := now.Sub(s.AsOf().Time()) - silent
	return drift > mostDrift || drift < -mostDrift
}

// Due reports whether an entry is to be appended for the sake of time, so that the lease clock runs
// while the service runs. It is when the journal has been silent for a second, when the next
// deadline is due, or when the instance would be forgotten. silent is how long ago the last entry
// was applied.
//
// reachable says whether requests reach the instance, as far as it knows. If they do not, no entry
// is due. Otherwise time would pass while clients renew in vain, and they would be lost (G6). If no
// other instance appends either, an amnesty follows by itself.
//
// idle is what Idle reports.
func Due(s *state.State, instance string, silent time.Duration, reachable, idle bool) bool {
	if !reachable {
		return false
	}
	every := tickEvery
	if idle {
		every = idleEvery
	}
	wait, waits := s.NextDue()
	rank, known := s.Rank(instance)
	mine := time.Duration(s.SilentFor(instance)) * time.Millisecond
	turn := time.Duration(min(rank, maxTurns)) * tickTurn
	switch {
	case silent >= every-TickGrain/2+turn,
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
