package journal

import (
	"time"

	"presence/pkg/internal/entry"
)

// Submit has a command appended. Then Apply is called with its caller at the command's place, or
// Failed is. If Submit returns ErrFull, ErrTooLarge or ErrStopped, neither is.
func (j *Journal[W]) Submit(c entry.Command, caller W) error {
	bytes := c.Size()
	if !j.fitsAlone(&c, bytes) {
		return ErrTooLarge
	}
	return j.admit(bytes, func(q *Queue[W]) { q.Command(c, caller) })
}

// Renew has a lease renewed by its number. Where answer is true, Apply or Failed is called with
// the caller. An entry renews a lease once, however often Renew was called. A renewal is never
// refused: where too many wait for an answer, the error is ErrRenewalPending.
func (j *Journal[W]) Renew(number uint32, caller W, answer bool) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.stopped {
		return ErrStopped
	}
	full := j.waiting >= j.maxWaiting
	j.pending.Renew(number, caller, answer && !full)
	j.poke()
	if answer && full {
		return ErrRenewalPending
	}
	if answer {
		j.waiting++
		wake(j.called)
	}
	return nil
}

// Barrier has Apply called with the caller for the next entry, which may be empty. What the caller
// then reads of the state is linearizable. What was submitted before may be in a later entry, see
// Waiting.
func (j *Journal[W]) Barrier(caller W) error {
	return j.admit(0, func(q *Queue[W]) { q.Barrier(caller) })
}

// SetLimits changes Config.MaxWaiting and Config.MaxWaitingBytes. Who waits goes on waiting.
func (j *Journal[W]) SetLimits(waiting, bytes int) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.maxWaiting, j.maxBytes = waiting, bytes
}

// Waiting returns how many callers of Submit, Renew and Barrier have no answer yet.
func (j *Journal[W]) Waiting() int {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.waiting
}

// Unpacked reports whether anything waits that is in no entry yet. That includes reports, and
// renewals without an answer.
func (j *Journal[W]) Unpacked() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return !j.pending.Empty()
}

// Report appends a command that nobody waits for, such as a closed connection. MaxWaiting does not
// count for it. It returns ErrFull only where maxReports of them wait.
func (j *Journal[W]) Report(c entry.Command) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.stopped {
		return ErrStopped
	}
	if err := j.pending.Report(c); err != nil {
		return err
	}
	j.poke()
	return nil
}

// PutBack is called by Apply for an entry that counts as empty. If this instance packed the entry,
// its reports and renewals go into the next one.
func (j *Journal[W]) PutBack(a Applied[W]) {
	if a.Callers == nil { // another instance's, or put back before
		return
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.putBack(a.Entry, a.Callers)
}

// putBack needs mu.
func (j *Journal[W]) putBack(e *entry.Entry, callers *Callers[W]) {
	j.pending.PutBack(e, callers)
	if !j.pending.Empty() {
		j.poke()
	}
}

// Tick has an entry appended, even an empty one, so that time goes on.
func (j *Journal[W]) Tick() {
	j.mu.Lock()
	j.pending.Tick()
	j.mu.Unlock()
	j.poke()
}

func (j *Journal[W]) admit(bytes int, add func(*Queue[W])) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	switch {
	case j.stopped:
		return ErrStopped
	case j.waiting >= j.maxWaiting, bytes > 0 && j.bytes >= j.maxBytes:
		return ErrFull
	}
	j.waiting++
	wake(j.called)
	j.bytes += bytes
	add(&j.pending)
	if len(j.pending.commands) >= j.many {
		j.poke()
	}
	return nil
}

// take makes the next entry. It returns nil if nothing waits.
func (j *Journal[W]) take() (*entry.Entry, *Callers[W]) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.pending.Bytes = entryBytes(j.Payload())
	e, callers := j.pending.Take()
	if !j.pending.Empty() {
		j.poke()
	}
	return e, callers
}

// poke wakes the appending goroutine.
func (j *Journal[W]) poke() { wake(j.wake) }

// wake wakes the goroutine that waits for c.
func wake(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default: // it is already awake
	}
}

// failLate answers the callers who have waited for too long. Their commands are dropped. Their
// renewals stay in the queue.
func (j *Journal[W]) failLate() {
	if j.cfg.Arrived == nil {
		return
	}
	before := time.Now().Add(-LateAfter)
	j.mu.Lock()
	callers := j.pending.TakeLate(func(w W) bool { return j.cfg.Arrived(w).Before(before) })
	j.mu.Unlock()
	j.fail(callers, ErrRejected)
}

// stop refuses what is submitted from now on, and fails everybody who waits.
func (j *Journal[W]) stop() {
	j.mu.Lock()
	j.stopped = true
	entries := j.inFlight
	j.inFlight = map[uint64]*inFlight[W]{}
	j.mu.Unlock()
	for _, f := range entries {
		j.fail(f.callers, ErrOutcomeUnknown)
	}
	for {
		_, callers := j.take()
		if callers == nil {
			return
		}
		j.fail(callers, ErrStopped)
	}
}

func (j *Journal[W]) fail(callers *Callers[W], err error) {
	j.mu.Lock()
	j.release(callers)
	j.mu.Unlock()
	callers.Fail(err, j.cfg.Failed)
}

// release makes room for as many new callers. It needs mu.
func (j *Journal[W]) release(c *Callers[W]) {
	j.waiting -= len(c.Commands) + len(c.Renewals) + len(c.Barriers)
	j.bytes -= c.bytes
}
