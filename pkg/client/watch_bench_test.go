package client_test

import (
	"fmt"
	"runtime"
	"testing"

	"github.com/nats-io/nats.go"

	"presence/pkg/client"
	"presence/pkg/client/clienttest"
	"presence/pkg/protocol"
)

func manyUsers(n int) []string {
	ids := make([]string, n)
	for i := range ids {
		ids[i] = fmt.Sprintf("user-%06d", i)
	}
	return ids
}

// Ten thousand users are watched over one connection by as many goroutines as one,
// and fetched in pages: at once, and a second time.
func TestWatchingManyTakesNoGoroutines(t *testing.T) {
	const users = 10_000
	f := newFake(t)
	c, nc, _ := f.connect(client.Options{})
	subscribe(t, c, "first")
	eventually(t, "the second fetch", func() bool { return f.count("get") == 2 })
	goroutines, subs := runtime.NumGoroutine(), nc.NumSubscriptions()
	ids := manyUsers(users)
	subscribe(t, c, ids...)
	if n := nc.NumSubscriptions(); n != subs+users {
		t.Errorf("%d subscriptions, want %d", n-subs, users)
	}
	eventually(t, "the second fetch", func() bool { return f.count("get") >= 2+2*users/protocol.MaxUsersPerGet })
	eventually(t, "no more goroutines than with one", func() bool { return runtime.NumGoroutine() <= goroutines })
	f.set(ids[users-1], "heard")
	eventually(t, "the last of them", shows(c, ids[users-1], "heard"))
	for i, g := range asked[protocol.GetRequest](f, "get") {
		if n := len(g.UserIDList); n > protocol.MaxUsersPerGet {
			t.Errorf("request %d is for %d users", i, n)
		}
	}
	if n := f.count("get"); n != 2+2*users/protocol.MaxUsersPerGet {
		t.Errorf("%d requests, want pages of %d", n, protocol.MaxUsersPerGet)
	}
}

// BenchmarkWatch is what a watched user takes: the time to begin watching, and
// memory, in all and beyond what the subscription alone takes. The NATS server is
// in this process, and its part in both figures.
func BenchmarkWatch(b *testing.B) {
	const users = 10_000
	ids := manyUsers(users)
	s := clienttest.New(b, clienttest.Options{})
	subjects := protocol.NewSubjects("")
	for b.Loop() {
		nc := s.Connect()
		before := heap()
		ch := make(chan *nats.Msg, 1)
		for _, id := range ids {
			subject, err := subjects.Event(id)
			must(b, err)
			_, err = nc.ChanSubscribe(subject, ch)
			must(b, err)
		}
		must(b, nc.Flush())
		bare := heap() - before
		nc.Close()

		nc = s.Connect()
		c, err := client.New(nc, client.Options{})
		must(b, err)
		before = heap()
		_, err = c.SubscribeUserStatus(b.Context(), ids)
		must(b, err)
		watched := heap() - before
		must(b, c.Close())
		nc.Close()
		b.ReportMetric(float64(watched)/users, "B/user")
		b.ReportMetric(float64(watched-bare)/users, "B/user-beyond-NATS")
	}
	b.ReportMetric(b.Elapsed().Seconds()/float64(b.N)/users*1e9, "ns/user")
}

// heap is what is live.
func heap() int64 {
	var m runtime.MemStats
	for range 2 { // sync.Pool lets go in two
		runtime.GC()
	}
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
