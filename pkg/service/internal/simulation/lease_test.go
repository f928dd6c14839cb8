package simulation

import (
	"cmp"
	"time"

	"presence/pkg/internal/entry"
)

// grace is the one of the rules in force.
const grace = 5 * time.Second

// lease is what a holder of one remembers of how it kept it: who renewed in time
// is never lost (G6).
type lease struct {
	w          *world
	ttl        time.Duration
	grace      time.Duration // it chose; 0: that of the rules
	connection uint64        // it is bound to; 0: none

	present bool // it wants to be there
	asleep  bool // it does nothing, by its own fault
	// In lease time, as the judge counts it: when the holder last renewed or
	// tried to, and when the connection closed by its own fault, where it has not
	// logged in again since.
	sentAt   time.Duration
	doneAt   time.Duration // the same, of the last that was answered
	closedAt time.Duration
	closed   bool
	missed   time.Duration // true time until which it may be lost for having slept
	bound    uint64        // the last connection that it was bound to
	overrun  bool          // by a request of its own that it had given up
	cutUntil time.Duration // true time until which the broker's outage keeps it away
}

func newLease(w *world, ttl time.Duration) lease {
	w.leases++
	return lease{w: w, ttl: ttl, grace: w.plan.graces[w.leases%len(w.plan.graces)], sentAt: w.judge.lease, doneAt: w.judge.lease}
}

// chooses fills in the terms of a command that opens the lease.
func (l *lease) chooses(c entry.Command) entry.Command {
	c.TTL, c.Grace = uint32(l.ttl.Milliseconds()), uint32(l.grace.Milliseconds())
	return c
}

// rests notes that the holder does nothing from now on: what it tried to do
// without an answer does not count then.
func (l *lease) rests() { l.sentAt = l.doneAt }

// inVain is for how long one may try to renew while lease time goes by: an instance
// does not know that it is cut off, and no other is there. Who renews every third
// of its TTL has more; who comes later has not (G6 does not promise it).
const inVain = unnoticed + 2*requestTimeout

// tries notes that the holder renews, or tries to. It returns what is to be done
// when that is answered.
func (l *lease) tries() (answered func()) {
	now := l.w.judge.lease
	if now-l.sentAt >= l.ttl-inVain {
		l.missed = l.w.now + 2*inVain
	}
	l.sentAt = now
	return func() { l.doneAt = now }
}

// goesOnInVain notes that from now on lease time may go by although nobody can renew.
// Who has not renewed for long by then, because an earlier outage kept it away, say, may
// be lost by that.
func (l *lease) goesOnInVain() {
	if l.w.judge.lease-l.doneAt >= l.ttl-inVain {
		l.missed = l.w.now + 2*inVain
	}
}

// closes notes that the connection closes by the holder's own fault.
func (l *lease) closes() {
	if !l.closed {
		l.closed, l.closedAt = true, l.w.judge.lease
	}
}

// binds notes that a login or an open has taken effect. One that was given up when
// the connection was lost by which it went can do so after the one that followed it,
// and before the service knows that the connection is closed. Then it binds to
// that one, and the session is lost with it. The contract has a client wait for a
// reply; who cannot is told to log in again by the next renewal.
func (l *lease) binds(connection uint64) {
	l.overrun = connection < l.bound
	l.bound = max(l.bound, connection)
}

// mayBeLost reports whether it is the holder's own fault if it is lost now.
func (l *lease) mayBeLost() bool {
	now := l.w.judge.lease
	return !l.present || l.overrun || l.w.now < l.missed ||
		l.asleep && now-l.sentAt >= l.ttl ||
		l.closed && now-l.closedAt >= cmp.Or(l.grace, grace)
}
