package admission

import (
	"context"
	"slices"
	"sync"
	"testing"
)

// TestWorkers: work for one user is done in order, and too much of it is refused. What was accepted
// is done even after the instance is told to stop. (White-box: over the wire it is not visible
// which request is one too many.)
func TestWorkers(t *testing.T) {
	w := newWorkers(contactWorkers)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var running sync.WaitGroup
	defer running.Wait()
	running.Go(func() { w.run(ctx, ctx) })
	begun, block := make(chan struct{}), make(chan struct{})
	w.do("alice", func(context.Context) { close(begun); <-block })
	<-begun
	var mu sync.Mutex
	var done []int
	accepted := 0
	for i := range workerQueue + 10 {
		if w.do("alice", func(ctx context.Context) {
			mu.Lock()
			defer mu.Unlock()
			if ctx.Err() != nil {
				done = append(done, i)
			}
		}) {
			accepted++
		}
	}
	if accepted != workerQueue {
		t.Errorf("accepted %d while the worker was busy, want %d", accepted, workerQueue)
	}
	stop()
	close(block)
	running.Wait()
	if len(done) != accepted || !slices.IsSorted(done) {
		t.Errorf("done, and told that it is time to stop: %v, want %d in order", done, accepted)
	}
}
