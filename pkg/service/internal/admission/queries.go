package admission

import (
	"context"
	"hash/maphash"
	"sync"

	"presence/pkg/protocol"
)

// queries are those between their arrival and their answer.
//
// What waits is bounded by bytes, because a query costs about what its body has. One asker is
// bounded by a part of that. Who asks without waiting for answers fills only its own part, and
// others wait no longer than it takes to answer that part. Who an asker is, the caller says.
// Inboxes can be made up, so this keeps the eager from hurting others, and not the malicious.
type queries struct {
	bytes, each int // bounds
	work        chan Request
	seed        maphash.Seed

	mu      sync.Mutex
	waiting int // bytes
	by      [askers]int
}

const (
	// queryOverhead is what a query counts for beside its body.
	queryOverhead = 256
	// askers is how many are told apart, by a hash.
	askers = 1024
)

func newQueries(bytes, each int) *queries {
	return &queries{
		bytes: bytes, each: min(each, bytes), seed: maphash.MakeSeed(),
		work: make(chan Request, bytes/queryOverhead+1), // room for all that is admitted
	}
}

// take counts a query, or refuses it.
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

// release ends what take began, if it did.
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

// work does what comes by a channel until ctx is done, and then what is left there.
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
