package service

import (
	"context"
	"hash/maphash"
	"sync"

	"presence/pkg/protocol"
)

const (
	// contactWorkers is how many requests about contacts are worked at at the same
	// time, and workerQueue how many more wait for each worker; beyond that they are
	// overloaded.
	contactWorkers = 32
	workerQueue    = 64
)

// workers do what a request's handler must not wait for. What has the same key is
// done by one worker, in the order of arrival: two changes of one user's contacts
// would only make each other try again.
type workers struct {
	seed   maphash.Seed
	queues []chan func(context.Context)
}

// newWorkers makes so many of them.
func newWorkers(count int) *workers {
	w := &workers{seed: maphash.MakeSeed(), queues: make([]chan func(context.Context), count)}
	for i := range w.queues {
		w.queues[i] = make(chan func(context.Context), workerQueue)
	}
	return w
}

// later has one of some workers do something for a call, and answer it.
func (s *Service) later(w *workers, c *call, key string, do func(context.Context) error) error {
	s.handling.Add(1)
	if !w.do(key, func(ctx context.Context) { s.handle(c, func() error { return do(ctx) }) }) {
		s.handling.Add(-1)
		return protocol.ErrOverloaded
	}
	return nil
}

// do has work done, and reports false where too much waits.
func (w *workers) do(key string, work func(context.Context)) bool {
	select {
	case w.queues[maphash.String(w.seed, key)%uint64(len(w.queues))] <- work:
		return true
	default:
		return false
	}
}

// run works until ctx is done, and then does what is left with that context.
func (w *workers) run(ctx context.Context) {
	var all sync.WaitGroup
	for _, queue := range w.queues {
		all.Go(func() {
			for {
				select {
				case work := <-queue:
					work(ctx)
				case <-ctx.Done():
					for len(queue) > 0 {
						(<-queue)(ctx)
					}
					return
				}
			}
		})
	}
	all.Wait()
}
