package service

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"presence/pkg/internal/state"
	"presence/pkg/protocol"
	"presence/pkg/service/internal/lograte"
	"presence/pkg/service/internal/replica"
)

const (
	// announceBatch is how many events are published between two looks at the
	// state, and between two round trips to the broker while more wait: the
	// pace at which the broker takes them is the pace at which they are made.
	announceBatch = 512
	// markEvery is how often the announcer asks the broker what it has got.
	markEvery = 250 * time.Millisecond
)

// outbox is what the announcer needs: what is to be announced, and a way to the broker.
type outbox interface {
	// pending appends at most announceBatch of the changes that this instance has to announce to
	// the list of a batch, from a cursor on. If this instance is the only one, it leaves out the
	// events on subjects that nobody subscribes to: they count as published.
	pending(from state.Cursor, b batch) batch
	// trace returns the trace of the change with a revision; empty: it has none.
	trace(revision uint64) string
	// publish sends an event, with a trace that may be empty. It may wait as long as the connection
	// does.
	publish(subject string, data []byte, trace string) error
	// arrived waits until the broker has everything that was published, for AnnounceAgain at
	// most. By then reported was called with what the broker has refused of it. reconnects
	// counts how often the connection was lost and came back until then.
	arrived() (reconnects uint64, err error)
	// repeated returns what was announced last of a user's status; see state.Repeated.
	repeated(userID string) (state.Announcement, bool)
}

// batch is what is published between two looks at the state.
type batch struct {
	list     []state.Announcement
	to       state.Cursor // behind the list
	more     bool         // there are others
	position uint64       // the state's
}

// announcer publishes the changes that this instance has to announce. It has no queue: what
// waits is in the state, coalesced to one event for each user. So applying an entry does not
// wait for it. Its only goroutine is run, which Service.Run owns; any goroutine may call the
// other methods.
type announcer struct {
	outbox   outbox
	subjects protocol.Subjects
	log      *slog.Logger
	wake     chan struct{}
	events   atomic.Uint64 // published
	// published is told up to which position everything was published. nil: nobody wants to know.
	published func(position uint64)

	// sending is held while a batch is published, which takes as long as the
	// connection does. batch and buffer are used again and again.
	sending  sync.Mutex
	batch    batch
	buffer   []byte
	tooLarge lograte.Spaced // the log line of an event that is too large

	// What the broker refuses is tried again by run, at retryAt, and after a longer pause
	// each time.
	attempt attempt
	retryAt time.Time
	pause   time.Duration

	// mu is never held over a publish: packing an entry asks for announcedThrough.
	mu         sync.Mutex
	ledger     replica.Ledger
	reconnects uint64 // of the connection for events, that the ledger knows of
	refused    string // the subject of the event that the broker refused last; empty for none
}

func newAnnouncer(o outbox, subjects protocol.Subjects, log *slog.Logger) *announcer {
	return &announcer{outbox: o, subjects: subjects, log: log, wake: make(chan struct{}, 1)}
}

// serviceOutbox is the outbox of a service's state, and its connection for events.
type serviceOutbox struct{ s *Service }

func (o serviceOutbox) pending(from state.Cursor, b batch) batch {
	o.s.mu.RLock()
	defer o.s.mu.RUnlock()
	add := func(n state.Announcement) { b.list = append(b.list, n) }
	if o.s.cfg.Heard != nil && o.s.state.Only(o.s.instance) {
		b.to, b.more = o.s.state.PendingHeard(o.s.instance, from, announceBatch, o.heard, add)
	} else {
		b.to, b.more = o.s.state.Pending(o.s.instance, from, announceBatch, add)
	}
	b.position = o.s.state.Position()
	return b
}

// heard reports who would get the events of a user.
//
// No watcher misses an event that nobody would get (G4, G11). The state has the change before heard
// looks, and the server takes each subscription at once. So who is not among the subscribers
// subscribes later, and gets the status later still (PROTOCOL 5). Only this instance can answer
// that: an instance that it does not know has not applied the entry by which it joins, and that one
// is behind the changes. All others answer from a state that has them.
func (o serviceOutbox) heard(userID string) (public, own bool) {
	return o.heardOn(o.s.subjects.Event(userID)), o.heardOn(o.s.subjects.Self(userID))
}

// heardOn reports whether anybody subscribes to a subject, or may do so.
func (o serviceOutbox) heardOn(subject string, err error) bool {
	return err != nil || o.s.cfg.Heard(subject)
}

func (o serviceOutbox) trace(revision uint64) string { return o.s.traces.of(revision) }

func (o serviceOutbox) publish(subject string, data []byte, trace string) error {
	if trace != "" {
		err := o.s.cfg.Answers.PublishMsg(&nats.Msg{Subject: subject, Header: traced(nil, trace), Data: data})
		if !errors.Is(err, nats.ErrMaxPayload) { // without the trace it may fit
			return err
		}
	}
	return o.s.cfg.Answers.Publish(subject, data)
}

func (o serviceOutbox) arrived() (reconnects uint64, err error) {
	if err := o.s.cfg.Answers.FlushTimeout(replica.AnnounceAgain); err != nil {
		return 0, err
	}
	awaitTold(context.Background(), o.s.cfg.Answers)
	return o.s.cfg.Answers.Stats().Reconnects, nil
}

func (o serviceOutbox) repeated(userID string) (state.Announcement, bool) {
	o.s.mu.RLock()
	defer o.s.mu.RUnlock()
	return o.s.state.Repeated(userID)
}

// kick has the announcer look at the state.
func (a *announcer) kick() {
	select {
	case a.wake <- struct{}{}:
	default:
	}
}

// again publishes everything again that does not count as announced yet.
func (a *announcer) again() {
	a.mu.Lock()
	a.ledger.Again()
	a.mu.Unlock()
	a.kick()
}

// announcedThrough returns the position up to which everything counts as announced.
func (a *announcer) announcedThrough() uint64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.ledger.AnnouncedThrough()
}

// finish has what reached the broker count at once: the instance is about to stop.
func (a *announcer) finish() {
	a.mu.Lock()
	a.ledger.Finish()
	a.mu.Unlock()
}

// turn returns how far the announcer is.
func (a *announcer) turn() replica.Turn {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.ledger.Turn()
}

// run announces until ctx is done.
func (a *announcer) run(ctx context.Context) {
	var lastMark time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case <-a.wake:
		}
		for ctx.Err() == nil {
			more, err := a.publish()
			if err != nil {
				a.log.Warn("an event could not be published; trying again", "err", err)
				select {
				case <-ctx.Done():
				case <-time.After(markEvery):
				}
				continue
			}
			if more || time.Since(lastMark) >= markEvery {
				_ = a.mark() // asked again before long
				lastMark = time.Now()
			}
			a.retry()
			if !more {
				break
			}
		}
	}
}

// flush publishes everything that waits, and waits until the broker has it.
func (a *announcer) flush() error {
	for {
		more, err := a.publish()
		if err == nil && !more {
			err = a.mark()
		}
		switch {
		case errors.Is(err, errLost): // published again
		case err != nil || !more:
			return err
		}
	}
}

// publish publishes one batch and reports whether there is more.
func (a *announcer) publish() (more bool, err error) {
	a.sending.Lock()
	defer a.sending.Unlock()
	turn := a.turn()
	a.batch = a.outbox.pending(turn.Cursor, batch{list: a.batch.list[:0]})
	b := &a.batch
	for i := range b.list {
		if err := a.send(&b.list[i]); err != nil {
			return true, err
		}
	}
	clear(b.list) // it may hold long texts, and is used again
	if a.published != nil && !b.more {
		a.published(b.position)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.ledger.Published(turn, b.to, b.position, b.more), nil
}

func (a *announcer) send(n *state.Announcement) error {
	if n.Announce {
		subject, err := a.subjects.Event(n.UserID)
		if err == nil {
			err = a.sendTo(subject, &n.Public, a.publicTrace(&n.Public))
		}
		if err != nil {
			return err
		}
	}
	if !n.Tell && len(n.Self) == 0 {
		return nil
	}
	subject, err := a.subjects.Self(n.UserID)
	if err != nil {
		return err
	}
	trace := ""
	if n.Tell {
		trace = a.outbox.trace(n.Status.Status.Revision)
		err = a.sendTo(subject, &n.Status, trace)
	}
	for i := 0; err == nil && i < len(n.Self); i++ {
		err = a.sendTo(subject, &n.Self[i], trace)
	}
	return err
}

// publicTrace returns the trace of a public event. OFFLINE has none: a user who was lost sends no
// request, so a trace would give away one who becomes invisible (G9).
func (a *announcer) publicTrace(e *protocol.Event) string {
	if e.StatusType == protocol.Offline {
		return ""
	}
	return a.outbox.trace(e.Revision)
}

func (a *announcer) sendTo(subject string, event any, trace string) (err error) {
	if a.buffer, err = protocol.AppendMarshal(a.buffer[:0], event); err != nil {
		return err
	}
	err = a.outbox.publish(subject, a.buffer, trace)
	switch {
	case errors.Is(err, nats.ErrMaxPayload): // no later attempt would send it, and others wait
		if a.tooLarge.Due(time.Now()) {
			a.log.Warn("an event is larger than the NATS server takes: it is left out", "subject", subject, "bytes", len(a.buffer))
		}
		return nil
	case err == nil:
		a.events.Add(1)
	}
	return err
}

// errLost says that the connection was lost, and perhaps the broker with the events that it
// had. They are published again.
var errLost = errors.New("the connection for events was lost meanwhile")

// mark asks the broker whether it has everything published so far. Without its answer all of
// that is still to be announced. Nor does the answer of another broker count: the connection
// may have been lost and made again. nats.go tells of a reconnect on another goroutine, perhaps
// later than this answer comes (see watchClients), so mark counts reconnects by itself.
func (a *announcer) mark() error {
	turn := a.turn()
	reconnects, err := a.outbox.arrived()
	if err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if reconnects != a.reconnects {
		a.reconnects = reconnects
		a.ledger.Again()
		a.kick()
		return errLost
	}
	if a.refused != "" {
		return errRefusedEvents
	}
	a.ledger.Reached(turn, time.Now())
	return nil
}
