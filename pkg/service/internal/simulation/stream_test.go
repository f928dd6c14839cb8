package simulation

import (
	"context"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// stream is a model of the journal's stream and of the store of snapshots.
//
// An entry that is published may be lost, stored late, or stored twice, and its
// acknowledgement may be lost; while nobody leads the stream nothing is stored.
// A leader without a majority has what it gets in its log, with a timestamp, and
// stores it when the majority is back, unless another one leads then. What is stored
// is never lost, unless it is trimmed. A leader's clock may be any time away from true
// time, and another one than the last leader's.
type stream struct {
	w          *world
	entries    []*stored // all there ever were; the first is position 1
	first      uint64    // the first one that is not trimmed
	leaderless bool
	leaderAt   time.Duration // when there is one again
	minority   bool          // its leader has no majority
	log        []*stored     // and this in its log
	offset     time.Duration // the leader's clock is so much ahead
	followers  []*follower
	snapshots  []*image // the newest first
}

// stored is an entry in the stream.
type stored struct {
	data   []byte
	at     int64         // its timestamp
	when   time.Duration // true time at which it was stored
	had    time.Duration // and at which its leader had it
	offset time.Duration // of the clock by which it has its timestamp
	of     *flight
}

// image is a snapshot in the store.
type image struct {
	position uint64
	blocks   [][]byte
	damaged  bool // it cannot be read
	corrupt  bool // it is of a state that was wrong
}

func (s *stream) last() uint64 { return uint64(len(s.entries)) }

// publish has an entry stored, or not, and acknowledged, or not.
func (s *stream) publish(f *flight, acknowledge func(position uint64, err error)) {
	w, p := s.w, f.p
	late := func(within time.Duration) {
		w.after(w.between(time.Millisecond, within), func() { s.store(f) })
	}
	if p.host.noJournal > 0 { // what is in the network's buffers may come through when it heals
		if w.happens(0.3) {
			late(3 * time.Minute)
		}
		return
	}
	if w.happens(w.plan.mess) {
		switch w.chance.IntN(4) {
		case 0: // it is lost
		case 1: // its acknowledgement is
			w.after(w.between(100*time.Microsecond, 10*time.Millisecond), func() { s.store(f) })
		case 2: // it comes minutes late
			late(3 * time.Minute)
		case 3: // it comes twice
			s.deliver(f, func(position uint64, err error) {
				acknowledge(position, err)
				if err == nil {
					late(3 * time.Minute)
				}
			})
		}
		return
	}
	s.deliver(f, acknowledge)
}

func (s *stream) deliver(f *flight, acknowledge func(uint64, error)) {
	w := s.w
	w.after(w.between(50*time.Microsecond, 5*time.Millisecond), func() {
		if s.minority {
			s.propose(f)
			return
		}
		if s.leaderless {
			switch w.chance.IntN(4) {
			case 0, 1:
				acknowledge(0, jetstream.ErrNoStreamResponse)
			case 2:
				acknowledge(0, &jetstream.APIError{Code: 503, Description: "no leader"})
			case 3: // proposed to a leader that is no more: the next one may have it
				if w.happens(0.5) {
					w.after(w.between(time.Millisecond, time.Minute), func() { s.store(f) })
				}
			}
			return
		}
		position := s.store(f)
		w.after(w.between(50*time.Microsecond, 5*time.Millisecond), func() { acknowledge(position, nil) })
	})
}

// loseMajority has the leader go on without its followers: nothing is stored, and it
// does not know. After a while it leads no more; until the followers are back nobody
// does.
func (s *stream) loseMajority(d time.Duration) {
	w := s.w
	if s.leaderless || s.minority {
		return
	}
	s.minority = true
	const stepsDown = 20 * time.Second
	w.after(min(d, stepsDown), func() {
		s.minority = false
		s.leaderless, s.leaderAt = true, w.now+max(d-stepsDown, 0)+w.between(time.Millisecond, 3*time.Second)
		w.after(s.leaderAt-w.now, s.regainMajority)
	})
}

// propose has the leader without a majority take an entry into its log.
func (s *stream) propose(f *flight) {
	w := s.w
	w.say("in the leader's log: %s", f)
	s.log = append(s.log, s.stamped(f))
}

// regainMajority elects the leader of before, mostly, who stores what it has in its
// log. Where it is another one that is lost, but for what the followers had got.
func (s *stream) regainMajority() {
	w, log := s.w, s.log
	s.leaderless, s.log = false, nil
	if w.happens(0.3) {
		log = log[:w.chance.IntN(len(log)+1)]
		s.offset += w.between(0, 20*time.Millisecond) - 10*time.Millisecond
	}
	for _, x := range log {
		x.when = w.now
		s.keepEntry(x)
	}
}

func (s *stream) stamped(f *flight) *stored {
	w := s.w
	return &stored{data: f.data, at: start + (w.now + s.offset).Milliseconds(), when: w.now, had: w.now, offset: s.offset, of: f}
}

// store appends an entry, as soon as there is a leader.
func (s *stream) store(f *flight) uint64 {
	w := s.w
	if s.minority {
		s.propose(f)
		return 0
	}
	if s.leaderless {
		w.after(s.leaderAt-w.now+w.between(10*time.Millisecond, time.Second), func() { s.store(f) })
		return 0
	}
	return s.keepEntry(s.stamped(f))
}

func (s *stream) keepEntry(x *stored) uint64 {
	w, f := s.w, x.of
	s.entries = append(s.entries, x)
	position := s.last()
	w.say("stored %d: %s", position, f)
	w.judge.stored(position, x)
	if len(w.doomed) > 0 && f.p != nil && f.p.host.p == f.p && len(f.entry.Commands) > 0 {
		w.deathOf(f.p.host, w.doomed[0])
		w.doomed = w.doomed[1:]
	}
	for _, c := range s.followers {
		c.wake()
	}
	return position
}

// errTimeout is what nobody's answering looks like.
var errTimeout = context.DeadlineExceeded

// follower is a consumer of the stream. It delivers in order, but may pass over
// entries, deliver some again, and fall silent.
type follower struct {
	p      *process
	cursor uint64 // what it delivers next
	busy   bool
	mute   bool // nothing comes any more
}

func (s *stream) follow(p *process, from uint64) *follower {
	c := &follower{p: p, cursor: from}
	s.followers = append(s.followers, c)
	c.wake()
	return c
}

// leave ends a consumer.
func (s *stream) leave(c *follower) {
	for i := range s.followers {
		if s.followers[i] == c {
			s.followers = append(s.followers[:i:i], s.followers[i+1:]...)
			return
		}
	}
}

// wake has a consumer deliver.
func (c *follower) wake() {
	if c.busy || c.mute {
		return
	}
	c.busy = true
	w := c.p.w
	w.after(w.between(50*time.Microsecond, 5*time.Millisecond), c.deliver)
}

func (c *follower) deliver() {
	w, s := c.p.w, c.p.w.stream
	c.busy = false
	if c.p.host.noJournal > 0 {
		c.mute = true
	}
	if w.happens(w.plan.skips) {
		switch w.chance.IntN(3) {
		case 0:
			c.mute = true
		case 1:
			c.cursor++
		case 2:
			c.cursor = max(c.cursor, 3) - 2
		}
	}
	c.cursor = max(c.cursor, s.first)
	if c.mute || c.cursor > s.last() {
		return
	}
	position, x := c.cursor, s.entries[c.cursor-1]
	c.cursor++
	c.p.after(0, func() {
		if c.p.follower == c {
			c.p.receive(position, x)
		}
	})
	c.wake()
}

// keep stores a snapshot; the last two are kept.
func (s *stream) keep(x *image) {
	s.w.say("snapshot of %d is stored", x.position)
	i := 0
	for i < len(s.snapshots) && s.snapshots[i].position > x.position {
		i++
	}
	s.snapshots = append(s.snapshots[:i:i], append([]*image{x}, s.snapshots[i:]...)...)
	if len(s.snapshots) > 2 {
		s.snapshots = s.snapshots[:2]
	}
}

// trim drops entries that the older snapshot holds, but for the one at its
// position, and that are old enough.
func (s *stream) trim(keep time.Duration) {
	if len(s.snapshots) < 2 {
		return
	}
	for s.first < s.snapshots[1].position && s.entries[s.first-1].when < s.w.now-keep {
		s.first++
	}
}
