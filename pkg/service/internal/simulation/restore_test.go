package simulation

import (
	"io"
	"time"

	"presence/pkg/internal/state"
	"presence/pkg/service/internal/journal"
)

// begin gives the state a place to begin at, as journal.begin does: the newest
// snapshot that can be read, or the first entry.
func (p *process) begin(atLeast uint64, avoid int) {
	p.w.stream.leave(p.follower)
	p.follower = nil
	p.after(p.w.between(time.Millisecond, p.w.plan.slowRestore), func() {
		s := p.w.stream
		for _, x := range journal.Candidates(s.snapshots, avoid, s.first == 1) {
			if x.damaged || x.position < atLeast || x.position+1 < s.first {
				continue
			}
			rest := x.blocks
			restored, err := state.Restore(func() ([]byte, error) {
				if len(rest) == 0 {
					return nil, io.EOF
				}
				b := rest[0]
				rest = rest[1:]
				return b, nil
			}, nil)
			if err != nil {
				p.w.violated("G14", "%s cannot restore the snapshot of %d: %v", p.instance, x.position, err)
			}
			p.replace(restored)
			p.lastSnapshot = x.position
			p.corrupt, p.damaged = x.corrupt, p.damaged || x.corrupt
			p.w.poisoned = p.w.poisoned || x.corrupt && x != s.snapshots[0]
			p.w.judge.holds(p)
			p.w.say("%s restored the snapshot of %d", p.instance, x.position)
			p.failInFlight()
			p.follow()
			return
		}
		if s.first > 1 {
			p.w.violated("journal", "%s finds no snapshot to begin at before %d", p.instance, s.first)
		}
		p.replace(state.New())
		p.failInFlight()
		p.follow()
	})
}

// replace is Service.replace.
func (p *process) replace(with *state.State) {
	p.state, p.rebuilding, p.corrupt, p.last = with, false, false, nil
	p.applied = p.w.now
	p.ledger.Again()
	p.kick()
}

// rebuild builds the state anew, as journal.forgetState and begin do.
func (p *process) rebuild(atLeast uint64, avoid int, why string) {
	p.w.say("%s builds its state anew: %s", p.instance, why)
	p.lastAt = -time.Hour
	p.failInFlight()
	p.begin(atLeast, avoid)
}

// failInFlight is journal.failInFlight.
func (p *process) failInFlight() {
	for _, f := range p.flights() {
		p.failEntry(f, journal.ErrOutcomeUnknown)
		f.applied = true
		p.landed(f)
	}
}

// maintain is a model of journal.maintain.
func (p *process) maintain() {
	rank, ok := p.state.Rank(p.instance)
	if !ok || !p.caughtUp || p.corrupt || p.rebuilding {
		return
	}
	s := p.w.stream
	if len(s.snapshots) > 0 && s.snapshots[0].position > p.lastSnapshot {
		p.lastSnapshot = s.snapshots[0].position
	}
	if p.state.Position()-min(p.lastSnapshot, p.state.Position()) < p.w.plan.snapshotEvery {
		p.dueSince = 0
	} else if p.dueSince == 0 {
		p.dueSince = p.w.now
	}
	if p.dueSince != 0 && p.w.now-p.dueSince >= time.Duration(rank)*30*time.Second && p.writing == nil {
		p.wanted = true
		p.packing.Tick()
		p.poke()
	}
	if rank == 0 && p.host.noJournal == 0 {
		s.trim(p.w.plan.keep)
	}
}

// beginSnapshot writes the state down, a step at a time.
func (p *process) beginSnapshot() {
	x := p.state.BeginSnapshot()
	x.Step = p.w.plan.snapshotStep
	p.writing, p.dueSince = x, 0
	image := &image{position: x.Position(), corrupt: p.corrupt}
	p.w.say("%s begins a snapshot of %d", p.instance, image.position)
	p.writeSnapshot(x, p.state, image)
}

func (p *process) writeSnapshot(x *state.Snapshot, of *state.State, to *image) {
	p.after(p.w.between(time.Millisecond, p.w.plan.slowSnapshot), func() {
		block, more, err := x.Next(nil)
		if err == nil {
			to.blocks = append(to.blocks, block)
		}
		switch {
		case err != nil || p.rebuilding || p.state != of: // see service.snapshot
			p.writing = nil
			x.End()
		case more:
			p.writeSnapshot(x, of, to)
		default:
			p.writing = nil
			x.End()
			if p.host.noJournal == 0 && !p.w.stream.leaderless {
				p.lastSnapshot = max(p.lastSnapshot, to.position)
				p.w.stream.keep(to)
			}
		}
	})
}
