package service

import (
	"sync"

	"presence/pkg/internal/entry"
)

// reloaded is what Reload has changed. The zero value has the rules of no configuration.
type reloaded struct {
	mu      sync.Mutex // guards the rest
	rules   entry.Params
	changed bool // and nobody has taken them
}

// Reload puts the limits and the rules of another configuration into force while the service runs:
// Limits, Grace, MaxGrace, Retention and CustomStatusPolicy. It ignores the rest. Where the service
// has not started, it starts with them.
//
// Limits change at once. What waits goes on waiting, and a gateway that is open keeps the window of
// applies that it was told. Rules go through the journal. They are in force for all instances a
// moment later, but only if they differ from those that this instance wanted before: another one
// may have started later.
//
// An error says what is wrong, and then nothing has changed. Any goroutine may call it.
func (s *Service) Reload(cfg Config) error {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return err
	}
	s.limits.Store(&cfg.Limits)
	s.setLimits()
	s.reloaded.want(cfg.params())
	return nil
}

// setLimits hands the limits to those who keep them.
func (s *Service) setLimits() {
	s.reloaded.mu.Lock() // so that the last limits are set last
	defer s.reloaded.mu.Unlock()
	l := s.limits.Load()
	s.gate.SetLimits(l.admission())
	s.listener.setPending(l.PendingBytes)
	select {
	case <-s.opened:
		s.journal.SetLimits(l.WaitingChanges, l.WaitingBytes)
	default: // the journal is opened with them
	}
}

// want notes the rules that this instance wants.
func (r *reloaded) want(rules entry.Params) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.changed = r.changed || rules != r.rules
	r.rules = rules
}

// wanted returns the rules that this instance wants.
func (r *reloaded) wanted() entry.Params {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.changed = false
	return r.rules
}

// given returns the rules that this instance was given, and takes nothing.
func (r *reloaded) given() entry.Params {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.rules
}

// take returns the rules if they have changed since the last call of take or wanted.
func (r *reloaded) take() (rules entry.Params, changed bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	changed, r.changed = r.changed, false
	return r.rules, changed
}
