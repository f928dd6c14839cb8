package service

import (
	"context"
	"io"

	"presence/pkg/internal/entry"
	"presence/pkg/internal/state"
	"presence/pkg/service/internal/admission"
	"presence/pkg/service/internal/contacts"
)

// Tests make an instance's state another one than the journal's by these: Copy
// it, have entries applied, and Diverge to the copy as if those had done
// nothing.

// Copy returns a copy of the state.
func (s *Service) Copy() (*state.State, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	x := s.state.BeginSnapshot()
	defer x.End()
	more := true
	return state.Restore(func() (b []byte, err error) {
		if !more {
			return nil, io.EOF
		}
		b, more, err = x.Next(nil)
		return b, err
	}, nil)
}

// Diverge replaces the state by a copy.
func (s *Service) Diverge(copied *state.State) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for copied.Position() < s.state.Position() {
		if err := copied.Skip(copied.Position()+1, int64(s.state.AsOf())); err != nil {
			return err
		}
	}
	s.state = copied
	return nil
}

// Digest returns the state's position and digest.
func (s *Service) Digest() (position, digest uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state.Position(), s.state.Digest()
}

// Rebuilt returns the position for which the state was last built anew.
func (s *Service) Rebuilt() uint64 {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.digests.Rebuilt()
}

// ContactReads is how many reads of contacts may wait.
const ContactReads = admission.MaxContactReads

// Occupy keeps the worker of a key busy until release.
func (s *Service) Occupy(key string) (release func()) {
	done := make(chan struct{})
	_ = s.gate.Contacts(key, func(context.Context) { <-done })
	return func() { close(done) }
}

// OccupyOrders keeps the worker busy that puts users in order, until release.
func (s *Service) OccupyOrders() (release func()) {
	done := make(chan struct{})
	_ = s.gate.Order(func(context.Context) { <-done })
	return func() { close(done) }
}

// Compare compares the digest that a header carries, as apply does.
func (s *Service) Compare(h *entry.Header) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.compare(h)
}

// TellContacts publishes a change of contacts.
func (s *Service) TellContacts(user string, changed *contacts.Changed) {
	s.tellContacts(user, changed, "")
}

// Refusals returns how many refusals of subscriptions the instance has heard of.
func (s *Service) Refusals() uint64 { return s.listener.heard.Load() }

// SubscribeAnew makes all subscriptions anew. It returns how many that were given up are
// remembered.
func (s *Service) SubscribeAnew() (remembered, subscriptions int) {
	l := s.listener
	l.work.Lock()
	defer l.work.Unlock()
	for _, x := range l.subscriptions {
		l.make(x)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.leaving), len(l.subscriptions)
}
