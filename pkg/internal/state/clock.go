package state

// clock is the two times of the state machine, in milliseconds.
//
// Wall time is the timestamp of the entry at hand: what people are shown, and
// what the expiry of texts goes by. The lease clock is what deadlines go by: it
// advances from entry to entry by what lies between their timestamps, but never
// back and never by more than maxStep. Instances append an entry at least every
// second, so it runs like a clock while the service runs, and it stands still
// while the service or the broker is down, however wall time jumps. Nor does it go
// beyond what the writer of the entry had applied by more than maxStep: a leader of the
// stream that has lost its majority gives timestamps to all that it gets meanwhile, and
// when that is stored later, no time in which anybody could renew has gone by.
type clock struct {
	wall         int64
	lease        int64
	amnestyUntil int64 // of the lease clock
	wentBackAt   int64 // lease clock when the stream's clock was last seen to go back; 0: not of late
}

// advance moves the clocks to an entry's timestamp. What is measured is the
// distance to the entry before it: a maximum of all timestamps would freeze the
// lease clock for an hour after a jump of one hour back. The lease clock goes to most at
// most.
func (c *clock) advance(at int64, first bool, most int64) {
	gap := at - c.wall
	c.wall = at
	if first {
		return
	}
	c.lease = max(c.lease, min(c.lease+min(max(gap, 0), maxStep), most))
	if gap > maxStep || gap < -maxStep {
		c.startAmnesty()
	}
}

// startAmnesty begins a time in which no deadline falls due: nobody is dropped
// because the service was away (PROTOCOL G6).
func (c *clock) startAmnesty() { c.amnestyUntil = c.lease + amnesty }

func (c *clock) inAmnesty() bool { return c.lease < c.amnestyUntil }
