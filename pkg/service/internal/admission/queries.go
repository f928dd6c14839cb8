package admission

import (
	"context"
	"hash/maphash"
	"sync"

	"presence/pkg/protocol"
)

// queries are the queries between arrival and answer.
//
// They are bounded by bytes, because a query costs about as much as its body is long. Each asker
// may take a part of that. So an asker that does not wait for its answers fills only its own part,
// and others wait no longer than it takes to answer that part. The caller says who the asker is.
// A client can make up inboxes, so this protects others from an eager client, but not from a
// malicious one.
type queries struct {
	seed maphash.Seed

	mu          sync.Mutex // guards what follows
	bytes, each int        // bounds of all queries, and of those of one asker
	// work has room for all that is admitted. When bytes is raised another takes its place, and it
	// is closed: workers go on with the other.
	work    chan Request
	waiting int // bytes
	by      [askers]int
}

const (
	// queryOverhead is how many bytes a query counts beside its body.
	queryOverhead = 256
	// askers is how many askers are told apart, by a hash.
	askers = 1024
)

func newQueries(bytes, each int) *queries {
	q := &queries{seed: maphash.MakeSeed(), work: make(chan Request)}
	q.setLimits(bytes, each)
	return q
}

// setLimits changes the bounds.
func (q *queries) setLimits(bytes, each int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.bytes, q.each = bytes, min(each, bytes)
	room, old := bytes/queryOverhead+1, q.work
	if room <= cap(old) {
		return
	}
	q.work = make(chan Request, room)
	close(old)
	for r := range old { // what no worker has taken
		q.work <- r
	}
}

// run has queries handled until ctx is done, and then those that are left. Several goroutines may
// do so.
func (q *queries) run(ctx context.Context, do func(Request)) {
	for more := true; more; {
		q.mu.Lock()
		from := q.work
		q.mu.Unlock()
		more = work(ctx, from, do)
	}
}

// add has a worker handle a query, which counts until release, or refuses it.
func (q *queries) add(r Request, t *Ticket, asker string, bytes int) error {
	cost, of := bytes+queryOverhead, int(maphash.String(q.seed, asker)%askers)
	q.mu.Lock()
	full, over := q.waiting+cost > q.bytes, q.by[of]+cost > q.each
	if !full && !over {
		q.waiting += cost
		q.by[of] += cost
		t.bytes, t.asker = cost, of
		q.work <- r // it does not wait: there is room
	}
	q.mu.Unlock()
	switch {
	case over:
		return protocol.ErrOverloaded.With("too many of your queries wait: nothing was done, wait for answers and try again")
	case full:
		return protocol.ErrOverloaded
	}
	return nil
}

// release ends what add began. Without that it does nothing.
func (q *queries) release(t *Ticket) {
	if t.bytes == 0 {
		return
	}
	q.mu.Lock()
	q.waiting -= t.bytes
	q.by[t.asker] -= t.bytes
	q.mu.Unlock()
	t.bytes = 0
}

// work calls do with what comes by a channel until ctx is done, and then with what is left there.
// Several goroutines may do so. It reports true if it ended because the channel was closed.
func work[T any](ctx context.Context, from <-chan T, do func(T)) (closed bool) {
	for {
		select {
		case x, ok := <-from:
			if !ok {
				return true
			}
			do(x)
			continue
		case <-ctx.Done():
		}
		for {
			select {
			case x, ok := <-from:
				if !ok {
					return true
				}
				do(x)
			default:
				return false
			}
		}
	}
}
