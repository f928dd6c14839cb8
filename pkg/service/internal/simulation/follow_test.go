package simulation

import (
	"time"

	"presence/pkg/internal/entry"
	"presence/pkg/service/internal/replica"
)

// follow follows the journal with a new consumer, as journal.followOnce does.
func (p *process) follow() {
	w := p.w
	w.stream.leave(p.follower)
	p.follower = nil
	if p.host.noJournal > 0 || w.stream.leaderless && w.happens(0.5) {
		p.after(w.between(time.Second, 2*time.Second), p.follow)
		return
	}
	p.target = w.stream.last()
	p.heardAt = w.now
	p.follower = w.stream.follow(p, max(p.state.Position(), 1))
	p.checkCaughtUp()
	p.listen(p.follower)
}

// listen replaces a consumer that is silent for 3 s.
func (p *process) listen(c *follower) {
	const silence = 3 * time.Second
	p.after(p.heardAt+silence-p.w.now, func() {
		switch {
		case p.follower != c:
		case p.w.now-p.heardAt >= silence:
			p.follow()
		default:
			p.listen(c)
		}
	})
}

// receive is the part of journal.consume that decides what an entry is.
func (p *process) receive(position uint64, x *stored) {
	p.heardAt = p.w.now
	next := p.state.Position() + 1
	switch {
	case position == next-1:
		if p.last != nil && string(p.last) != string(x.data) {
			p.w.violated("journal", "%s: the entry at %d is not the one that was applied", p.instance, position)
		}
	case position < next: // delivered again
	case position > next && p.w.stream.first > next:
		p.rebuild(p.w.stream.first-1, 0, "its next entry was trimmed")
	case position > next:
		p.follow()
	default:
		p.apply(position, x)
	}
}

// apply is journal.apply and Service.apply.
func (p *process) apply(position uint64, x *stored) {
	w := p.w
	var e entry.Entry
	if err := entry.Decode(x.data, &e); err != nil {
		w.violated("journal", "position %d: %v", position, err)
	}
	var f *flight
	if e.Header.Instance == p.instance {
		f = p.inFlight[e.Header.Sequence]
	}
	switch verdict, _ := p.digests.Compare(p.state, &e.Header); verdict {
	case replica.Rebuild:
		w.judge.differs(p, x.of.p)
		p.rebuilding = true
		p.rebuild(0, 1, "its digest is another")
		return
	case replica.OtherWrong:
		w.judge.differs(p, x.of.p)
	}
	wanted := f != nil
	if p.host.damage && len(e.Commands) > 0 {
		p.host.damage = false
		w.say("%s: its memory is damaged at %d", p.instance, position)
		p.corrupt, p.damaged = true, true
		e.Commands = nil
		wanted = false
	}
	was := p.corrupt // what it answers is of that, though it may end as it should
	out, err := p.state.Apply(&e, position, x.at, wanted)
	if err != nil {
		w.violated("journal", "%s cannot apply position %d: %v", p.instance, position, err)
	}
	p.last, p.applied, p.offset = x.data, w.now, x.offset
	w.judge.holds(p)
	if position >= p.target {
		p.lastAt = w.now
	}
	p.checkCaughtUp()
	if f != nil {
		delete(p.inFlight, f.sequence)
		f.applied = true
		if wanted && !p.corrupt && !was {
			w.judge.answers(position, &out)
		}
		if out.Fenced {
			p.packing.PutBack(f.entry, f.callers)
			p.poke()
		}
		p.answer(f, position, &out)
		p.landed(f)
	}
	p.release()
	if e.Header.Instance == p.instance {
		p.kick()
	}
	if p.wanted {
		p.wanted = false
		p.beginSnapshot()
	}
}

func (p *process) checkCaughtUp() {
	if p.caughtUp || p.state.Position() < p.target {
		return
	}
	p.caughtUp = true
	p.lastAt = p.w.now
	p.register()
}
