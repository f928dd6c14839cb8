package differential

// clock has the two times of the state machine, in milliseconds.
//
// Wall time is the timestamp of the current entry. People are shown wall time, and
// texts expire by it.
//
// The lease clock is for deadlines. From one entry to the next it advances by the
// difference of their timestamps, but never back and never by more than maxStep.
// Instances append an entry at least every second. So the lease clock runs while the
// service runs, and stands still while the service or the broker is down, however
// wall time jumps.
//
// There is one more limit: the lease clock goes at most maxStep beyond the lease clock
// in the entry's header. Without it an outage could pass as time: a stream leader
// that has lost its majority still gives timestamps to entries, which are stored later.
// Nobody could renew a lease meanwhile.
type clock struct {
	wall         int64
	lease        int64
	amnestyUntil int64 // of the lease clock
	wentBackAt   int64 // lease clock when the stream's clock last went back; 0: not recently
}

// advance moves the clocks to an entry's timestamp. The lease clock goes to most at
// most. It advances by the distance to the entry before. A maximum of all timestamps
// would not do: after a jump of one hour back it would stand still for an hour.
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

// startAmnesty begins a time in which no deadline is due: no session is lost because
// the service was away (PROTOCOL G6).
func (c *clock) startAmnesty() { c.amnestyUntil = c.lease + amnesty }

func (c *clock) inAmnesty() bool { return c.lease < c.amnestyUntil }
