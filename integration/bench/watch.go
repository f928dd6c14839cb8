package main

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"presence/pkg/client"
	"presence/pkg/protocol"
)

const (
	watchedUsers = 10_000
	// watchWithin bounds the time until they are all known.
	watchWithin = time.Minute
	// watchSettles is when the client has fetched them a second time, which it
	// does soon after the first.
	watchSettles = 2 * time.Second
)

// watchMeasure is what it takes a process to watch many users by one client: the
// memory and goroutines of this process, which does nothing else meanwhile.
var watchMeasure = measure{
	name: "watch", title: fmt.Sprintf("%s users watched on one connection by pkg/client", count(watchedUsers)),
	alone: func(ctx context.Context, b *bench) ([]row, error) {
		t, err := b.startAlone(ctx, "watch", nil)
		if err != nil {
			return nil, err
		}
		defer t.close()
		if err := loginAll(ctx, t, userID, watchedUsers); err != nil {
			return nil, err
		}
		ids := make([]string, watchedUsers)
		for i := range ids {
			ids[i] = userID(i)
		}
		return watchUsers(ctx, t.conns[0], ids)
	},
}

func watchUsers(ctx context.Context, nc *nats.Conn, ids []string) ([]row, error) {
	ctx, cancel := context.WithTimeout(ctx, watchWithin)
	defer cancel()
	heap := liveHeap()
	c, err := client.New(nc, client.Options{})
	if err != nil {
		return nil, err
	}
	defer c.Close()
	goroutines := runtime.NumGoroutine()
	known := newKnown(len(ids))
	c.OnUserStatusUpdated(known.take)
	begun := time.Now()
	failures, err := c.SubscribeUserStatus(ctx, ids)
	if err != nil {
		return nil, err
	}
	if len(failures) > 0 {
		return nil, fmt.Errorf("%d users could not be watched, the first is %+v", len(failures), failures[0])
	}
	select {
	case <-known.all:
	case <-ctx.Done():
		return nil, fmt.Errorf("waiting for all users to be told: %w", ctx.Err())
	}
	took := time.Since(begun)
	select {
	case <-time.After(watchSettles):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	more := runtime.NumGoroutine() - goroutines
	each := (float64(liveHeap()) - float64(heap)) / float64(len(ids))
	runtime.KeepAlive(ids) // not counted
	return []row{
		{Name: "until all were told to the callback", Text: micros(took), Value: took.Seconds()},
		{Name: "live heap of the process", Text: fmt.Sprintf("%.0f bytes/user", each), Value: each},
		{Name: "goroutines more than with nobody watched", Text: fmt.Sprint(more), Value: float64(more), Goal: "0"},
	}, nil
}

// liveHeap returns what is left after a collection. The second one frees what
// pools had kept over the first.
func liveHeap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// known collects whom a callback told of.
type known struct {
	mu   sync.Mutex
	ids  map[string]struct{} // nil: no more
	want int
	all  chan struct{} // closed when all are
}

func newKnown(want int) *known {
	return &known{ids: make(map[string]struct{}, want), want: want, all: make(chan struct{})}
}

func (k *known) take(list []protocol.Status) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.ids == nil {
		return
	}
	for _, s := range list {
		k.ids[s.UserID] = struct{}{}
	}
	if len(k.ids) == k.want {
		close(k.all)
		k.ids = nil
	}
}
