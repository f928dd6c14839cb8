package service

import (
	"sync"
	"sync/atomic"

	"presence/pkg/protocol"

	"github.com/nats-io/nats.go"
)

// maxTraces bounds the changes whose trace waits for their events. A trace above that is not told:
// its event goes without.
const maxTraces = 1 << 14

// traces are those of changes that are applied, and whose events are not yet published (PROTOCOL
// 5.1). They are of this instance's requests only, and it announces what they change. They are not
// in the journal: if the instance dies, the events of its last changes have none.
//
// Any goroutine may call its methods. A revision is added before the announcer can see the change.
type traces struct {
	any atomic.Bool // so that events take no lock while there are none

	mu         sync.Mutex
	byRevision map[uint64]string
	order      []tracedChange // as they were applied
}

type tracedChange struct{ revision, position uint64 }

// add notes the trace of the change with a revision, by the entry at a position.
func (t *traces) add(revision, position uint64, trace string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.order) >= maxTraces {
		return
	}
	if t.byRevision == nil {
		t.byRevision = make(map[uint64]string)
	}
	t.any.Store(true)
	t.byRevision[revision] = trace
	t.order = append(t.order, tracedChange{revision, position})
}

// of returns the trace of the change with a revision; empty: it has none.
func (t *traces) of(revision uint64) string {
	if !t.any.Load() {
		return ""
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.byRevision[revision]
}

// announced forgets the traces of entries up to a position: their events are published.
func (t *traces) announced(position uint64) {
	if !t.any.Load() {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	done := 0
	for done < len(t.order) && t.order[done].position <= position {
		delete(t.byRevision, t.order[done].revision)
		done++
	}
	if t.order = t.order[done:]; len(t.order) == 0 {
		t.order, t.byRevision = nil, nil
		t.any.Store(false)
	}
}

// count returns how many changes are remembered.
func (t *traces) count() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.order)
}

// traced returns headers with a trace added; an empty one is not added.
func traced(headers nats.Header, trace string) nats.Header {
	if trace == "" {
		return headers
	}
	if headers == nil {
		headers = make(nats.Header, 1)
	}
	headers[protocol.TraceHeader] = []string{trace}
	return headers
}
