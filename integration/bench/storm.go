package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"golang.org/x/sync/errgroup"

	"presence/pkg/protocol"
)

const (
	// stormTick is how long a sender waits before it looks again at what is due,
	// stormBatch how many requests it sends between two looks at least.
	stormTick  = time.Millisecond
	stormBatch = 256
)

// storm is requests that are sent whatever becomes of those before them. Each asks
// for its answer on a subject of its own, so that every answer is counted to its
// request.
type storm struct {
	// perSecond is how many each sender sends; 0: as many as it can.
	perSecond float64
	// window is how many of each sender's may wait for their answers; 0: any number.
	window int
	// silence is after how long without an answer those missing are given up.
	silence time.Duration
	// message makes a sender's i-th request.
	message func(sender, i int) (subject string, body []byte)
}

// outcome is what became of the requests of a storm.
type outcome struct {
	Sent       int
	Done       int
	Refused    map[string]int // by the error's name
	Unanswered int

	begun, ended time.Time       // from the first to the last that was sent
	late         int             // were done in the later half of the storm's time
	refusals     []time.Duration // from the sending to the refusal
}

func (o *outcome) refused() (n int) {
	for _, k := range o.Refused {
		n += k
	}
	return n
}

// offered is how many were sent in a second.
func (o *outcome) offered() float64 { return float64(o.Sent) / o.ended.Sub(o.begun).Seconds() }

func (o *outcome) add(p *outcome) {
	o.Sent, o.Done, o.Unanswered = o.Sent+p.Sent, o.Done+p.Done, o.Unanswered+p.Unanswered
	o.late += p.late
	if o.Refused == nil {
		o.Refused = map[string]int{}
	}
	for name, n := range p.Refused {
		o.Refused[name] += n
	}
	if o.begun.IsZero() || p.begun.Before(o.begun) {
		o.begun = p.begun
	}
	if p.ended.After(o.ended) {
		o.ended = p.ended
	}
	o.refusals = append(o.refusals, p.refusals...)
}

// run sends for that long, or until ctx is done, on each connection, and then waits
// for the answers. A second answer to a request is an error.
func (s *storm) run(ctx context.Context, conns []*nats.Conn, d time.Duration) (*outcome, error) {
	senders := make([]*sender, len(conns))
	var g errgroup.Group
	for i, nc := range conns {
		senders[i] = &sender{storm: s, number: i, nc: nc, inbox: nc.NewInbox(), lasts: d, news: make(chan struct{}, 1)}
		g.Go(func() error { return senders[i].run(ctx) })
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	all := &outcome{}
	for _, x := range senders {
		all.add(&x.outcome)
	}
	return all, nil
}

// sender is a storm's part on one connection.
type sender struct {
	storm  *storm
	number int
	nc     *nats.Conn
	inbox  string
	lasts  time.Duration
	news   chan struct{} // an answer came

	mu       sync.Mutex  // guards the rest
	sent     []time.Time // by request; zero: it is answered
	answered int
	outcome  outcome
	wrong    error
}

func (s *sender) run(ctx context.Context) error {
	s.outcome.Refused, s.outcome.begun = map[string]int{}, time.Now()
	sub, err := s.nc.Subscribe(s.inbox+".*", s.take)
	if err != nil {
		return err
	}
	defer sub.Unsubscribe()
	if err := sub.SetPendingLimits(-1, -1); err != nil {
		return err
	}
	if err := s.send(ctx); err != nil {
		return err
	}
	s.mu.Lock()
	s.outcome.Sent, s.outcome.ended = len(s.sent), time.Now()
	s.mu.Unlock()
	for s.open() > 0 && s.heard(s.storm.silence) {
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.outcome.Unanswered = len(s.sent) - s.answered
	return s.wrong
}

func (s *sender) send(ctx context.Context) error {
	for ctx.Err() == nil {
		elapsed := time.Since(s.outcome.begun)
		if elapsed >= s.lasts {
			break
		}
		first, n := s.due(elapsed)
		for i := first; i < first+n; i++ {
			subject, body := s.storm.message(s.number, i)
			if err := s.nc.PublishRequest(subject, s.inbox+"."+strconv.Itoa(i), body); err != nil {
				return err
			}
		}
		switch {
		case s.storm.perSecond > 0:
			time.Sleep(stormTick)
		case n == 0:
			s.heard(stormTick)
		}
	}
	return s.nc.FlushTimeout(requestTimeout)
}

// due says which requests to send now, and notes that they are.
func (s *sender) due(elapsed time.Duration) (first, n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	first, n = len(s.sent), stormBatch
	if s.storm.perSecond > 0 {
		n = min(n, int(s.storm.perSecond*elapsed.Seconds())-first)
	}
	if s.storm.window > 0 {
		n = min(n, s.storm.window-(first-s.answered))
	}
	for now := time.Now(); len(s.sent) < first+n; {
		s.sent = append(s.sent, now)
	}
	return first, n
}

// heard waits for an answer, and reports whether there was one.
func (s *sender) heard(within time.Duration) bool {
	select {
	case <-s.news:
		return true
	case <-time.After(within):
		return false
	}
}

func (s *sender) open() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.sent) - s.answered
}

// take counts an answer.
func (s *sender) take(m *nats.Msg) {
	i, err := strconv.Atoi(m.Subject[len(s.inbox)+1:])
	if err != nil {
		return // nobody was asked for it
	}
	name, _, refused := strings.Cut(m.Header.Get(protocol.ErrorHeader), ":")
	s.count(i, name, refused)
	select {
	case s.news <- struct{}{}:
	default:
	}
}

// count notes what became of a request, and reports whether that was not known.
func (s *sender) count(i int, name string, refused bool) bool {
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.sent[i].IsZero() {
		s.wrong = fmt.Errorf("request %d of %d was answered twice, the second time with %q", i, len(s.sent), name)
		return false
	}
	if since := now.Sub(s.outcome.begun); !refused && since > s.lasts/2 && since <= s.lasts {
		s.outcome.late++
	}
	if refused {
		s.outcome.Refused[name]++
		s.outcome.refusals = append(s.outcome.refusals, now.Sub(s.sent[i]))
	} else {
		s.outcome.Done++
	}
	s.sent[i] = time.Time{}
	s.answered++
	return true
}
