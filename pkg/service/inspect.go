package service

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"
)

// inspectEvery is how often an instance checks the configuration of the contacts' bucket. (The
// journal checks its own stream, and the one of the snapshots.)
const inspectEvery = 5 * time.Second

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
	if err != nil {
		return
	}
	before := s.contactsWrong.Swap(&wrong)
	switch {
	case before == nil && wrong == nil, before != nil && fmt.Sprint(*before) == fmt.Sprint(wrong):
	case wrong != nil:
		s.log.Error("the configuration of the contacts' bucket is wrong: this instance is not ready", "err", wrong)
	default:
		s.log.Info("the configuration of the contacts' bucket is right again")
	}
}
