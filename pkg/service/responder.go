package service

import (
	"context"
	"sync"
)

// responder sends the answers to what was applied, so that applying does not wait for a
// connection. What waits here was admitted by the journal, or waited for a revision. When a
// connection is stuck, answers pile up: while there are more than Limits.WaitingChanges, no more
// changes are admitted. Service.Run owns its goroutine, run.
type responder struct {
	service *Service
	wake    chan struct{}

	mu    sync.Mutex
	queue []answer
}

func newResponder(s *Service) *responder {
	return &responder{service: s, wake: make(chan struct{}, 1)}
}

// full reports whether too many answers wait.
func (r *responder) full() bool { return r.waiting() > r.service.limits.Load().WaitingChanges }

// waiting returns how many answers wait.
func (r *responder) waiting() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.queue)
}

func (r *responder) push(answers []answer) {
	if len(answers) == 0 {
		return
	}
	r.mu.Lock()
	r.queue = append(r.queue, answers...)
	r.mu.Unlock()
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// run sends answers until ctx is done, and then those that are left.
func (r *responder) run(ctx context.Context) {
	var batch []answer
	for stopping := false; ; {
		r.mu.Lock()
		batch, r.queue = r.queue, batch[:0]
		r.mu.Unlock()
		for i := range batch {
			batch[i].to.done(&batch[i])
		}
		if len(batch) > 0 {
			clear(batch)
			continue
		}
		if stopping {
			return
		}
		select {
		case <-r.wake:
		case <-ctx.Done():
			stopping = true
		}
	}
}
