package service

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"
)

// inspectEvery is how often an instance checks the configuration of the contacts' bucket. (The
// journal checks its own stream, and the one of the snapshots.)
const inspectEvery = 5 * time.Second

// finding is what the last check found wrong; nil: nothing.
type finding struct {
	mu  sync.Mutex
	err error
}

func (f *finding) get() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.err
}

// set notes what was found, and reports whether it differs from the time before.
func (f *finding) set(err error) (news bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	news = (err == nil) != (f.err == nil) || err != nil && err.Error() != f.err.Error()
	f.err = err
	return news
}

// watchContacts checks the contacts' bucket again and again until ctx is done.
func (s *Service) watchContacts(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(inspectEvery + rand.N(inspectEvery/4)):
		}
		s.inspectContacts(ctx)
	}
}

// inspectContacts notes what is wrong with the bucket. It finds nothing if nobody answers: the
// requests for contacts notice that.
func (s *Service) inspectContacts(ctx context.Context) {
	wrong, err := s.contacts.Inspect(ctx)
	if err != nil || !s.contactsWrong.set(wrong) {
		return
	}
	if wrong != nil {
		s.log.Error("the configuration of the contacts' bucket is wrong: this instance is not ready", "err", wrong)
	} else {
		s.log.Info("the configuration of the contacts' bucket is right again")
	}
}
