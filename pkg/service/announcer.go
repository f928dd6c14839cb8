package service

import (
	"context"
	"sync"
	"time"

	"presence/pkg/protocol"
	"presence/pkg/service/internal/state"
)

const (
	// announceBatch is how many events are published between two looks at the
	// state, and between two round trips to the broker while more wait: the
	// pace at which the broker takes them is the pace at which they are made.
	announceBatch = 512
	// announceAgain is how long an event that reached the broker is still owed:
	// after a reconnect what was published in that time is published again.
	// The broker that took it may have died with it.
	announceAgain = 5 * time.Second
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

	// mu is never held over a publish: packing an entry asks for flushed.
	mu     sync.Mutex
	cursor uint64 // number of the last change published
	resets int    // how often the cursor was set back
	sentAt uint64 // position up to which everything was published
	marks  []mark
	final  bool // the instance stops: what is flushed counts at once
}

// mark says that everything up to a position had reached the broker at a time.
type mark struct {
	position uint64
	at       time.Time
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

// again has everything announced that is still owed: all of the last
// announceAgain, and more.
func (a *announcer) again() {
	a.mu.Lock()
	a.cursor, a.sentAt, a.marks = 0, 0, nil
	a.resets++
	a.mu.Unlock()
	a.kick()
}

// flushed returns the position up to which nothing is owed any more.
func (a *announcer) flushed() uint64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	position := uint64(0)
	for _, m := range a.marks {
		if !a.final && time.Since(m.at) < announceAgain {
			break
		}
		position = m.position
	}
	return position
}

// finish makes marks count at once: the instance is about to stop.
func (a *announcer) finish() {
	a.mu.Lock()
	a.final = true
	a.mu.Unlock()
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
	for more := true; more; {
		var err error
		if more, err = a.publish(); err != nil {
			return err
		}
	}
	return a.mark()
}

// publish publishes one batch and reports whether there is more.
func (a *announcer) publish() (more bool, err error) {
	a.sending.Lock()
	defer a.sending.Unlock()
	a.mu.Lock()
	cursor, resets := a.cursor, a.resets
	a.mu.Unlock()
	s := a.service
	batch := a.batch[:0]
	s.mu.RLock()
	last, more := s.state.Owed(s.writer, cursor, announceBatch, func(n state.Announcement) { batch = append(batch, n) })
	position := s.state.Position()
	s.mu.RUnlock()
	a.batch = batch
	for i := range batch {
		if err := a.send(&batch[i]); err != nil {
			return true, err
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.resets != resets { // set back meanwhile: from the beginning
		return true, nil
	}
	a.cursor = last
	if !more {
		a.sentAt = position
	}
	return more, nil
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
	return a.service.cfg.Answers.Publish(subject, a.buffer)
}

// mark asks the broker whether it has got everything published so far. Where it
// does not say so, all of it stays owed.
func (a *announcer) mark() error {
	a.mu.Lock()
	position, resets := a.sentAt, a.resets
	a.mu.Unlock()
	if err := a.service.cfg.Answers.FlushTimeout(announceAgain); err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.resets != resets {
		return nil // what was asked about is to be published again
	}
	now := time.Now()
	// Of the marks that are old enough, the last says it all.
	for len(a.marks) > 1 && now.Sub(a.marks[1].at) >= announceAgain {
		a.marks = a.marks[1:]
	}
	a.marks = append(a.marks, mark{position: position, at: now})
	return nil
}
