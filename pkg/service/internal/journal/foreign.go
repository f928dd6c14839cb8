package journal

import "time"

// foreign counts messages in the journal's stream that are not entries. There are some if somebody
// adds a subject to the stream. Only follow uses it.
type foreign struct {
	unlogged uint64 // since it was last logged
	logged   time.Time
}

// passForeign passes over a message on another subject than the entries', as Config.Skip does.
// Every instance does so at the same position, so their states stay the same. An earlier version
// stops before the message. With Config.Skip it goes on, and has the same state.
func (j *Journal[W]) passForeign(subject string, data []byte, position uint64, at int64) error {
	if err := j.cfg.Skipped(position, at); err != nil {
		return &fatalError{err}
	}
	j.mu.Lock()
	j.noteApplied(position, at, data)
	j.mu.Unlock()
	f := &j.foreign
	f.unlogged++
	if time.Since(f.logged) >= logEvery {
		j.cfg.Logger.Error("the journal's stream has messages that presenced did not write, on a subject that somebody added to it: they are passed over; take the subject out of the stream",
			"stream", j.cfg.Stream, "subject", subject, "position", position, "messages", f.unlogged)
		f.unlogged, f.logged = 0, time.Now()
	}
	return nil
}
