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
	bytes, each int // bounds of all queries, and of those of one asker
	work        chan Request
	seed        maphash.Seed

	mu      sync.Mutex
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
	return &queries{
		bytes: bytes, each: min(each, bytes), seed: maphash.MakeSeed(),
		work: make(chan Request, bytes/queryOverhead+1), // room for all that is admitted
	}
}

// take counts a query until release, or refuses it.
func (q *queries) take(t *Ticket, asker string, bytes int) error {
	cost, of := bytes+queryOverhead, int(maphash.String(q.seed, asker)%askers)
	q.mu.Lock()
	full, over := q.waiting+cost > q.bytes, q.by[of]+cost > q.each
	if !full && !over {
		q.waiting += cost
		q.by[of] += cost
		t.bytes, t.asker = cost, of
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

// release ends what take began. Without that it does nothing.
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
// Several goroutines may do so.
func work[T any](ctx context.Context, from <-chan T, do func(T)) {
	for {
		select {
		case x := <-from:
			do(x)
			continue
		case <-ctx.Done():
		}
		for {
			select {
			case x := <-from:
				do(x)
			default:
				return
			}
		}
	}
}
