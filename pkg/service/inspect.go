package service

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"
)

// inspectEvery is how often an instance looks whether the contacts' bucket is as it must
// be. (The journal looks after its own stream and the snapshots.)
const inspectEvery = 5 * time.Second

// finding is what is wrong with something, as of the last look; nil: nothing.
type finding struct {
	mu  sync.Mutex
	err error
}

func (f *finding) get() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.err
}

// set notes what was found, and reports whether that is news.
func (f *finding) set(err error) (news bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	news = (err == nil) != (f.err == nil) || err != nil && err.Error() != f.err.Error()
	f.err = err
	return news
}

// watchContacts looks after the contacts' bucket until ctx is done.
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

// inspectContacts notes what is wrong with the bucket. That nobody answers is no finding:
// requests for contacts tell that.
func (s *Service) inspectContacts(ctx context.Context) {
	wrong, err := s.contacts.Inspect(ctx)
	if err != nil || !s.contactsWrong.set(wrong) {
		return
	}
	if wrong != nil {
		s.log.Error("the contacts' bucket was changed: this instance is not ready", "err", wrong)
	} else {
		s.log.Info("the contacts' bucket is as it must be again")
	}
}
