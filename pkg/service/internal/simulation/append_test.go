package simulation

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"presence/pkg/internal/entry"
	"presence/pkg/service/internal/journal"
	"presence/pkg/service/internal/replica"
)

// flight is an entry on its way into the journal.
type flight struct {
	p        *process
	sequence uint64
	entry    *entry.Entry
	callers  *journal.Callers[*request]
	data     []byte
	packedAt time.Duration
	arrived  time.Duration // of its requests the one that has waited longest
	offset   time.Duration // of the stream's clock, by the last entry applied then
	attempts journal.Attempts
	attempt  int
	applied  bool
	landed   bool // acknowledged, or given up
	next     bool // the next one is on its way
}

func (f *flight) String() string {
	if f.p == nil {
		return "the first"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s/%d of %.3f", f.p.instance, f.sequence, f.packedAt.Seconds())
	if len(f.entry.Renewed) > 0 {
		fmt.Fprintf(&b, " renews %v", f.entry.Renewed)
	}
	for i := range f.entry.Commands {
		b.WriteString(" {" + show(&f.entry.Commands[i]) + "}")
	}
	return b.String()
}

// flights returns what is in flight, in order.
func (p *process) flights() []*flight {
	var list []*flight
	for _, f := range p.inFlight {
		list = append(list, f)
	}
	slices.SortFunc(list, func(a, b *flight) int { return int(a.sequence) - int(b.sequence) })
	return list
}

// poke has the next entry packed, unless one is in flight.
func (p *process) poke() {
	if p.flying || p.packing.Empty() {
		return
	}
	p.flying = true
	p.after(p.w.between(time.Microsecond, 200*time.Microsecond), p.pack)
}

// pack is the beginning of journal.appendOne.
func (p *process) pack() {
	p.failLate()
	e, callers := p.packing.Take()
	if e == nil {
		p.flying = false
		return
	}
	p.sequence++
	f := &flight{p: p, sequence: p.sequence, entry: e, callers: callers, packedAt: p.w.now, arrived: oldest(callers, p.w.now), offset: p.offset}
	p.inFlight[f.sequence] = f
	h := &e.Header
	h.Instance, h.Sequence = p.instance, f.sequence
	replica.Stamp(h, p.state, f.arrived-p.applied, p.registered)
	p.digests.Stamp(h, p.state)
	h.AnnouncedThrough = p.ledger.AnnouncedThrough()
	data, err := entry.Append(nil, e)
	if err != nil {
		p.w.violated("journal", "encoding an entry: %v", err)
	}
	f.data = data
	p.w.judge.packed(f)
	p.publish(f)
}

// failLate is journal.failLate.
func (p *process) failLate() {
	late := p.packing.TakeLate(func(r *request) bool { return p.w.now-r.begun > journal.LateAfter })
	late.Fail(journal.ErrRejected, p.failCallers)
}

// oldest is journal.Callers.oldest.
func oldest(callers *journal.Callers[*request], now time.Duration) time.Duration {
	for _, r := range allOf(callers) {
		now = min(now, r.begun)
	}
	return now
}

// publish is journal.publish.
func (p *process) publish(f *flight) {
	f.attempt++
	attempt, begun, applied := f.attempt, p.w.now, p.state.Position()
	once := func(position uint64, err error) {
		if f.landed || f.attempt != attempt {
			return
		}
		if err == nil {
			if position != 0 && position <= applied {
				p.w.violated("journal", "%s: position %d is acknowledged after %d was applied", p.instance, position, applied)
			}
			p.acknowledged(f)
			return
		}
		f.attempt++ // what else comes of this one counts no more
		again, outcome := f.attempts.Failed(err)
		switch {
		case !again:
			p.giveUp(f, outcome)
		case f.applied:
			p.acknowledged(f)
		case p.w.now-f.arrived >= journal.GiveUp:
			p.giveUp(f, outcome)
		default:
			p.after(min(f.attempts.Pause(p.w.now-begun), f.arrived+journal.GiveUp-p.w.now), func() {
				switch {
				case f.applied:
					p.acknowledged(f)
				case p.w.now-f.arrived >= journal.GiveUp:
					p.giveUp(f, outcome)
				case !f.landed:
					p.publish(f)
				}
			})
		}
	}
	p.w.stream.publish(f, func(position uint64, err error) {
		p.after(0, func() { once(position, err) })
	})
	p.after(min(journal.AttemptTimeout, f.arrived+journal.GiveUp-p.w.now), func() { once(0, errTimeout) })
}

// acknowledged is journal.awaitApplied.
func (p *process) acknowledged(f *flight) {
	if f.landed {
		return
	}
	f.landed = true
	p.landed(f)
	p.after(time.Second, func() { p.nextOne(f) })
	p.after(f.arrived+journal.GiveUp-p.w.now, func() { // journal.giveBackOverdue
		if p.inFlight[f.sequence] == f {
			p.w.say("%s has no answer for the callers of %d, which is stored", p.instance, f.sequence)
			p.failEntry(f, journal.ErrOutcomeUnknown)
		}
	})
}

// landed goes on with the next entry once one is acknowledged and applied.
func (p *process) landed(f *flight) {
	if f.landed && f.applied {
		p.nextOne(f)
	}
}

func (p *process) nextOne(f *flight) {
	if !f.next {
		f.next = true
		p.flying = false
		p.poke()
	}
}

func (p *process) giveUp(f *flight, outcome error) {
	if f.landed {
		return
	}
	f.landed = true
	if p.inFlight[f.sequence] != nil {
		p.w.say("%s gives up %d: %v", p.instance, f.sequence, outcome)
		p.failEntry(f, outcome)
	}
	p.nextOne(f)
}

// failEntry is journal.failEntry.
func (p *process) failEntry(f *flight, err error) {
	p.packing.PutBack(f.entry, f.callers)
	p.poke()
	p.fail(f, err)
}

// fail tells the callers of an entry that it failed.
func (p *process) fail(f *flight, err error) {
	delete(p.inFlight, f.sequence)
	p.w.judge.failed(f, err)
	f.callers.Fail(err, p.failCallers)
}

func (p *process) failCallers(callers []*request, err error) {
	p.waiting -= len(callers)
	for _, r := range callers {
		r.refused = errors.Is(err, journal.ErrRejected)
		p.w.judge.answersInTime(p, r)
		p.reply(r, &reply{err: wireError(err)})
	}
}

func allOf(callers *journal.Callers[*request]) []*request {
	all := append(slices.Clone(callers.Commands), callers.Barriers...)
	for _, r := range callers.Renewals {
		all = append(all, r.Caller)
	}
	return all
}
