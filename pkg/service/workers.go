package service

import (
	"context"
	"hash/maphash"
	"sync"
)

const (
	// workerCount is how many requests wait for JetStream at the same time, and
	// workerQueue how many more wait for each worker; beyond that they are
	// overloaded. A request waits no longer than contactsWithin altogether.
	workerCount = 32
	workerQueue = 64
)

// workers do what a request's handler must not wait for. What is about one user
// is done by one worker, in the order of arrival: two changes of the same contacts
// would only make each other try again.
type workers struct {
	seed   maphash.Seed
	queues [workerCount]chan func(context.Context)
}

func newWorkers() *workers {
	w := &workers{seed: maphash.MakeSeed()}
	for i := range w.queues {
		w.queues[i] = make(chan func(context.Context), workerQueue)
	}
	return w
}

// do has work done, and reports false where too much waits.
func (w *workers) do(userID string, work func(context.Context)) bool {
	select {
	case w.queues[maphash.String(w.seed, userID)%workerCount] <- work:
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
