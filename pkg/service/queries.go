package service

import (
	"context"
	"hash/maphash"
	"strings"
	"sync"

	"presence/pkg/protocol"
)

// queries holds the queries between their arrival and their answer. They are
// answered by workers, so that the goroutine that they arrive on has time to
// refuse what is too much, at once and not when its turn has come:
//
//	arrival ─► add ─► work ─► workers: decode, answer or wait for the journal
//	            └► overloaded
//
// What waits is bounded by bytes, because a query costs about what its body has,
// and one asker by a part of that: who asks without waiting for answers fills its
// own part, and others wait no longer than it takes to answer that. An asker is
// the connection that the answer goes to, as its inbox has it, or the user whose
// own status is asked for. Inboxes can be made up, so this keeps the eager from
// hurting others, and not the malicious.
type queries struct {
	bytes, each int // bounds
	work        chan *call
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

func newQueries(l *Limits) *queries {
	return &queries{
		bytes: l.QueryBytes, each: min(l.AskerBytes, l.QueryBytes), seed: maphash.MakeSeed(),
		work: make(chan *call, l.QueryBytes/queryOverhead+1), // room for all that is admitted
	}
}

// add gives a query to the workers, or refuses it.
func (q *queries) add(c *call, asker string) error {
	cost, of := len(c.request.Data())+queryOverhead, int(maphash.String(q.seed, asker)%askers)
	q.mu.Lock()
	full, over := q.waiting+cost > q.bytes, q.by[of]+cost > q.each
	if !full && !over {
		q.waiting += cost
		q.by[of] += cost
		c.cost, c.asker = cost, of
	}
	q.mu.Unlock()
	switch {
	case over:
		return protocol.ErrOverloaded.With("too many of your queries wait: nothing was done, wait for answers and try again")
	case full:
		return protocol.ErrOverloaded
	}
	q.work <- c
	return nil
}

// release ends what add began, if it did.
func (q *queries) release(c *call) {
	if c.cost == 0 {
		return
	}
	q.mu.Lock()
	q.waiting -= c.cost
	q.by[c.asker] -= c.cost
	q.mu.Unlock()
	c.cost = 0
}

// run handles queries until ctx is done, and then what is left.
func (q *queries) run(ctx context.Context, handle func(*call)) {
	work(ctx, q.work, handle)
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

// asker says whose query a call is.
func (s *Service) asker(c *call) string {
	if user := s.subjects.UserToken(c.request.Subject()); user != "" {
		return user
	}
	return inbox(c.request.Reply())
}

// inbox returns a reply subject without its last token, which tells the answers
// of a connection apart where it has one subscription for all of them. One of two
// tokens is whole: it is an inbox of its own.
func inbox(reply string) string {
	if last := strings.LastIndexByte(reply, '.'); last > strings.IndexByte(reply, '.') {
		return reply[:last]
	}
	return reply
}
