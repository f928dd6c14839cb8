package admission

import (
	"context"
	"hash/maphash"
	"sync"
)

const (
	// contactWorkers is how many requests for contacts are handled at the same time.
	contactWorkers = 32
	// workerQueue is how many more may wait for each worker.
	workerQueue = 64
)

// workers do what a request's handler must not wait for. Work with the same key goes to the same
// worker, in the order of arrival. Two changes of one user's contacts at the same time would only
// make each other try again.
type workers struct {
	seed   maphash.Seed
	queues []chan func(context.Context)
}

func newWorkers(count int) *workers {
	w := &workers{seed: maphash.MakeSeed(), queues: make([]chan func(context.Context), count)}
	for i := range w.queues {
		w.queues[i] = make(chan func(context.Context), workerQueue)
	}
	return w
}

// do has work done, or reports false if too much waits.
func (w *workers) do(key string, work func(context.Context)) bool {
	select {
	case w.queues[maphash.String(w.seed, key)%uint64(len(w.queues))] <- work:
		return true
	default:
		return false
	}
}

// run does work, and gives it ctx, until answering is done. Then it does what is left.
func (w *workers) run(ctx, answering context.Context) {
	var all sync.WaitGroup
	for _, queue := range w.queues {
		all.Go(func() {
			work(answering, queue, func(do func(context.Context)) { do(ctx) })
		})
	}
	all.Wait()
}
