package journal

import (
	"time"
)

// foreign counts messages in the journal's stream that are not entries, because
// somebody added a subject to the stream: follow's own.
type foreign struct {
	unsaid uint64 // since it was logged last
	said   time.Time
}

// passForeign passes over a message of another subject than the entries'. Every
// instance does, at the same position and in the same way as with Config.Skip, so that
// their states stay the same. An earlier version stops before it until it is given that
// position to skip, which has the same effect. No caller waits for it.
func (j *Journal[W]) passForeign(subject string, data []byte, position uint64, at int64) error {
	if err := j.cfg.Skipped(position, at); err != nil {
		return &fatalError{err}
	}
	j.mu.Lock()
	j.noteApplied(position, at, data)
	j.mu.Unlock()
	f := &j.foreign
	f.unsaid++
	if time.Since(f.said) >= sayEvery {
		j.cfg.Logger.Error("the journal's stream has messages that presenced did not write, on a subject that somebody added to it: they are passed over; take the subject out of the stream",
			"stream", j.cfg.Stream, "subject", subject, "position", position, "messages", f.unsaid)
		f.unsaid, f.said = 0, time.Now()
	}
	return nil
}
