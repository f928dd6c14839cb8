package service

import (
	"context"
	"sync/atomic"
	"time"

	"presence/pkg/protocol"
)

// pauseGrain is how often an instance notes that it runs.
const pauseGrain = 250 * time.Millisecond

// pauses notices that the whole process stood still while others went on. That happens when a
// virtual machine is moved, or a process is stopped. After a pause there are two dangers. The
// state is old, although entries are being applied again. And the callers of the requests in
// the buffers have given up: they may have changed something else since, by another instance.
// So the instance is stale until it has caught up and has seen those requests. While it is
// stale it says so, and refuses changes.
//
// The zero value has noticed no pause.
type pauses struct {
	begun  time.Time
	looked atomic.Int64 // when watchPauses last ran, in nanoseconds since begun; 0: never
	waking atomic.Bool  // there was a pause, and the instance has not caught up since
}

// paused reports whether the process stood still and has not caught up since. A request may be
// handled before watchPauses has run again, so it compares the times too.
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
			s.log.Warn("this process stood still: it is stale until it has caught up, and nobody is dropped for a while", "for", stood.Round(time.Millisecond))
			p.waking.Store(true)
			s.reportRequestsLost() // renewals may be among the requests that are refused
		}
		p.looked.Store(int64(time.Since(p.begun)))
		if p.waking.Load() && s.isBack(ctx) {
			p.waking.Store(false)
			continue // catching up may have been a pause too
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// isBack waits until all requests that the broker has sent so far are handled, and until all
// entries that the journal holds are applied. It reports whether that happened in time.
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
