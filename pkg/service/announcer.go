package service

import (
	"context"
	"errors"
	"sync"
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

// announcer publishes the changes that the state says this instance owes. It
// has no queue: what waits is in the state, coalesced to one event for each
// user, and applying an entry does not wait for it.
type announcer struct {
	service *Service
	wake    chan struct{}

	// sending is held while a batch is published, which takes as long as the
	// connection does. batch and buffer are used again and again.
	sending sync.Mutex
	batch   []state.Announcement
	buffer  []byte
	unsent  lograte.Spaced // that an event is too large

	// mu is never held over a publish: packing an entry asks for flushed.
	mu         sync.Mutex
	ledger     replica.Ledger
	reconnects uint64 // of the connection for events, that the ledger knows of
}

func newAnnouncer(s *Service) *announcer {
	return &announcer{service: s, wake: make(chan struct{}, 1)}
}

// kick has the announcer look at the state.
func (a *announcer) kick() {
	select {
	case a.wake <- struct{}{}:
	default:
	}
}

// again has everything announced that is still owed.
func (a *announcer) again() {
	a.mu.Lock()
	a.ledger.Again()
	a.mu.Unlock()
	a.kick()
}

// flushed returns the position up to which nothing is owed any more.
func (a *announcer) flushed() uint64 {
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
				a.service.log.Warn("an event could not be published; trying again", "err", err)
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
			if !more {
				break
			}
		}
	}
}

// flush publishes what is owed and waits until the broker has it.
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
	s := a.service
	batch := a.batch[:0]
	s.mu.RLock()
	to, more := s.state.Pending(s.writer, turn.Cursor, announceBatch, func(n state.Announcement) { batch = append(batch, n) })
	position := s.state.Position()
	s.mu.RUnlock()
	a.batch = batch
	for i := range batch {
		if err := a.send(&batch[i]); err != nil {
			return true, err
		}
	}
	clear(batch) // a user of whom there was much to tell is not kept
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.ledger.Published(turn, to, position, more), nil
}

func (a *announcer) send(n *state.Announcement) error {
	if n.Announce {
		subject, err := a.service.subjects.Event(n.UserID)
		if err != nil {
			return err
		}
		if err := a.sendTo(subject, &n.Public); err != nil {
			return err
		}
	}
	if !n.Tell && len(n.Self) == 0 {
		return nil
	}
	subject, err := a.service.subjects.Self(n.UserID)
	if err != nil {
		return err
	}
	if n.Tell {
		if err := a.sendTo(subject, &n.Status); err != nil {
			return err
		}
	}
	for i := range n.Self {
		if err := a.sendTo(subject, &n.Self[i]); err != nil {
			return err
		}
	}
	return nil
}

func (a *announcer) sendTo(subject string, event any) (err error) {
	if a.buffer, err = protocol.AppendMarshal(a.buffer[:0], event); err != nil {
		return err
	}
	err = a.service.cfg.Answers.Publish(subject, a.buffer)
	switch {
	case errors.Is(err, nats.ErrMaxPayload): // it never will be sent, and others wait behind it
		if a.unsent.Due(time.Now()) {
			a.service.log.Warn("an event is larger than the NATS server takes: it is left out", "subject", subject, "bytes", len(a.buffer))
		}
		return nil
	case err == nil:
		a.service.counted.events.Add(1)
	}
	return err
}

// errLost says that a connection was lost, and perhaps its broker with what it had
// got: what is owed is to be announced again.
var errLost = errors.New("the connection for events was lost meanwhile")

// mark asks the broker whether it has got everything published so far. Where it
// does not say so, all of it stays owed. That the broker is another one than before
// it must find out itself: what nats.go tells of a reconnect comes on a goroutine of
// its own, and may come later than this answer (watchClients).
func (a *announcer) mark() error {
	turn := a.turn()
	if err := a.service.cfg.Answers.FlushTimeout(replica.AnnounceAgain); err != nil {
		return err
	}
	reconnects := a.service.cfg.Answers.Stats().Reconnects
	a.mu.Lock()
	defer a.mu.Unlock()
	if reconnects != a.reconnects {
		a.reconnects = reconnects
		a.ledger.Again()
		a.kick()
		return errLost
	}
	a.ledger.Reached(turn, time.Now())
	return nil
}
