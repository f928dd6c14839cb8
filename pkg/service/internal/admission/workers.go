package admission

import (
	"context"
	"hash/maphash"
	"sync"
)

const (
	// contactWorkers is how many requests about contacts are worked at at the same time.
	contactWorkers = 32
	// workerQueue is how many more wait for each worker. Beyond that they are overloaded.
	workerQueue = 64
)

// workers do what a request's handler must not wait for. One worker does what has the same
// key, in the order of arrival: two changes of one user's contacts would only make each other
// try again.
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

// do has work done, and reports false where too much waits.
func (w *workers) do(key string, work func(context.Context)) bool {
	select {
	case w.queues[maphash.String(w.seed, key)%uint64(len(w.queues))] <- work:
		return true
	default:
		return false
	}
}

// run works with ctx until answering is done, and then does what is left.
func (w *workers) run(ctx, answering context.Context) {
	var all sync.WaitGroup
	for _, queue := range w.queues {
		all.Go(func() {
			work(answering, queue, func(do func(context.Context)) { do(ctx) })
		})
	}
	all.Wait()
}
