package simulation

import (
	"time"

	"presence/pkg/internal/state"
)

// stop is SIGTERM: Service.drain. The process ends when it has done everything,
// or after a while.
func (h *host) stop(stopped func()) {
	p := h.p
	if p == nil || !p.member {
		h.crash()
		stopped()
		return
	}
	h.w.say("%s is to stop", h.name)
	p.member, p.leaving = false, true
	p.ledger.Finish()
	end := func(why string) {
		if p.dead {
			return
		}
		for _, f := range p.flights() {
			p.fail(f, errTimeout)
		}
		h.w.say("%s stops: %s", h.name, why)
		p.dead, h.p = true, nil
		h.w.stream.leave(p.follower)
		stopped()
	}
	timeout := 10 * time.Second
	p.drain(h.w.now+timeout, end)
}

// drain waits until the requests on their way are handled, and settles.
func (p *process) drain(deadline time.Duration, end func(string)) {
	if p.coming > 0 && p.w.now < deadline {
		p.after(time.Millisecond, func() { p.drain(deadline, end) })
		return
	}
	timeout := 10 * time.Second
	if p.waiting == 0 && len(p.waiters) == 0 {
		timeout = 2 * time.Second
	}
	p.after(timeout, func() { end("there is no more time") })
	p.settle(end)
}

// settle is Service.settle.
func (p *process) settle(end func(string)) {
	p.flush(func(err error) {
		if err != nil {
			end("it cannot announce")
			return
		}
		p.barrier(func(err error) {
			owes := false
			p.state.Pending(p.instance, state.Cursor{}, 1, func(state.Announcement) { owes = true })
			switch {
			case err != nil:
				end("it cannot append")
			case p.waiting == 0 && p.packing.Empty() && !owes:
				p.w.judge.settled(p)
				end("everything is done")
			default:
				p.settle(end)
			}
		})
	})
}

// flush is announcer.flush.
func (p *process) flush(done func(error)) {
	p.publishOwed(func(more bool, err error) {
		switch {
		case err != nil:
			done(err)
		case more:
			p.flush(done)
		default:
			p.mark(done)
		}
	})
}
