package simulation

import (
	"fmt"
	"math/rand/v2"
	"time"
)

// world is one history: everything in it happens on one goroutine, in the order
// of its own time, and follows from the plan and its seed alone.
type world struct {
	plan   *plan
	chance *rand.Rand
	now    time.Duration // true time since the beginning
	queue  queue
	order  uint64

	stream   *stream
	hosts    []*host
	clients  []*client
	gateways []*gateway
	watchers []*watcher
	judge    *judge

	instances, processes, connections, texts, leases int // numbers given so far

	calm       bool
	brokerDown bool
	poisoned   bool    // the older snapshot is of a damaged state, and was begun at
	doomed     []fault // who writes the next command dies of it
	betrayed   []fault // who announces next is cut off from the clients

	tracing bool
	trace   []string
	steps   int
	faults  int
}

// start is the broker's wall clock at the beginning, in milliseconds since 1970.
const start = 1_700_000_000_000

func newWorld(p *plan, tracing bool) *world {
	w := &world{plan: p, chance: rand.New(rand.NewPCG(p.seed, 1)), tracing: tracing}
	w.judge = newJudge(w)
	w.stream = &stream{w: w, first: 1}
	return w
}

// violation is a guarantee that does not hold.
type violation struct {
	guarantee string
	what      string
	at        time.Duration
}

// violated ends the history.
func (w *world) violated(guarantee, format string, args ...any) {
	panic(&violation{guarantee, fmt.Sprintf(format, args...), w.now})
}

// say adds a line to the history that is shown when something is violated.
func (w *world) say(format string, args ...any) {
	if w.tracing {
		w.trace = append(w.trace, fmt.Sprintf("%10.4f  ", w.now.Seconds())+fmt.Sprintf(format, args...))
	}
}

// after has something happen later.
func (w *world) after(d time.Duration, do func()) {
	w.order++
	w.queue.push(happening{at: w.now + max(d, 0), order: w.order, do: do})
}

// runUntil lets time pass.
func (w *world) runUntil(end time.Duration) {
	for len(w.queue) > 0 && w.queue[0].at <= end {
		h := w.queue.pop()
		w.now = h.at
		w.steps++
		h.do()
	}
	w.now = end
}

// clock is what local clocks show, all alike.
func (w *world) clock() time.Time { return time.UnixMilli(start).Add(w.now) }

// happens is true with a probability.
func (w *world) happens(p float64) bool { return p > 0 && w.chance.Float64() < p }

// between draws a duration, about as often from each order of magnitude.
func (w *world) between(from, to time.Duration) time.Duration {
	return between(w.chance, from, to)
}

func between(r *rand.Rand, from, to time.Duration) time.Duration {
	for to > 10*from && r.IntN(2) == 0 {
		to /= 10
	}
	return from + time.Duration(r.Int64N(int64(to-from)+1))
}

// happening is something that is going to happen.
type happening struct {
	at    time.Duration
	order uint64
	do    func()
}

func (h *happening) before(o *happening) bool {
	return h.at < o.at || h.at == o.at && h.order < o.order
}

// queue is a heap, as container/heap has it, without an allocation for each.
type queue []happening

func (q *queue) push(h happening) {
	*q = append(*q, h)
	s := *q
	for i := len(s) - 1; i > 0; {
		up := (i - 1) / 2
		if s[up].before(&s[i]) {
			return
		}
		s[i], s[up] = s[up], s[i]
		i = up
	}
}

func (q *queue) pop() happening {
	s := *q
	first, last := s[0], len(s)-1
	s[0], s[last] = s[last], happening{}
	s = s[:last]
	*q = s
	for i := 0; ; {
		least := i
		for c := 2*i + 1; c <= 2*i+2 && c < len(s); c++ {
			if s[c].before(&s[least]) {
				least = c
			}
		}
		if least == i {
			return first
		}
		s[i], s[least] = s[least], s[i]
		i = least
	}
}
