package service

import (
	"context"
	"sync/atomic"
	"time"

	"presence/pkg/protocol"
)

// pauseGrain is how often an instance notes that it runs.
const pauseGrain = 250 * time.Millisecond

// pauses notices that the whole process stood still, as a virtual machine does
// that is moved and a process that is stopped, while others went on. Then
// neither of two things can be trusted: the state, which is as old as the pause
// although entries are being applied, and the requests in the buffers, whose
// callers have given up, and may have set something else by way of another
// instance since. Until it has caught up and has seen all those requests the
// instance is stale: it says so, and refuses changes.
//
// The zero value has noticed nothing.
type pauses struct {
	begun  time.Time
	looked atomic.Int64 // since begun, in nanoseconds; 0: nobody looks yet
	waking atomic.Bool
}

// paused reports whether the process stood still and is not back yet. A request
// may be handled before the goroutine that looks has run again.
func (p *pauses) paused() bool {
	looked := time.Duration(p.looked.Load())
	return p.waking.Load() || looked != 0 && time.Since(p.begun)-looked > protocol.StaleAfter
}

// watchPauses looks until ctx is done.
func (s *Service) watchPauses(ctx context.Context) {
	p := &s.pauses
	ticker := time.NewTicker(pauseGrain)
	defer ticker.Stop()
	for {
		if !p.waking.Load() && p.paused() {
			stood := time.Since(p.begun) - time.Duration(p.looked.Load())
			s.log.Warn("this process stood still; it is stale until it has caught up, and nobody is dropped for a while", "for", stood.Round(time.Millisecond))
			p.waking.Store(true)
			s.reportDeaf() // renewals may be among what is refused
		}
		p.looked.Store(int64(time.Since(p.begun)))
		if p.waking.Load() && s.isBack(ctx) {
			p.waking.Store(false)
			continue // how long did that take?
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// isBack waits until the requests are handled that the broker had sent by now,
// and until everything is applied that the journal held.
func (s *Service) isBack(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, protocol.StaleAfter/2)
	defer cancel()
	if s.cfg.Clients.FlushWithContext(ctx) != nil {
		return false
	}
	handled := make(chan struct{})
	if s.cfg.Clients.Barrier(func() { close(handled) }) != nil {
		return false
	}
	select {
	case <-handled:
	case <-ctx.Done():
		return false
	}
	return s.barrier(ctx) == nil
}
