package service

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"presence/pkg/protocol"
	"presence/pkg/service/internal/journal"
)

// Health returns nil while the instance is ready: it has caught up with the journal, its state
// is right, it can append, and its clients reach it. Otherwise it returns the reason, in one
// line for people. It may be called at any time.
func (s *Service) Health() error {
	if s.leaving.Load() {
		return errors.New("stopping")
	}
	select {
	case <-s.opened:
	default:
		return withCause("starting: opening the journal", s.refused.journal.refusal())
	}
	if p := s.journal.Progress(); p.Phase != journal.PhaseFollowing {
		return withCause(p.String(), s.refused.journal.refusal())
	}
	if s.stateIsWrong() {
		return errors.New("the state differs from another instance's and is built anew")
	}
	if err := s.journal.Wrong(); err != nil {
		return withCause("the journal is not safe", err)
	}
	if err := s.checkPayload(); err != nil {
		return err
	}
	cutOff := s.cutOff()
	if silent := s.journal.SinceCurrent(); silent > protocol.StaleAfter {
		why := s.refused.journal.refusal()
		if why == nil {
			why = s.journal.Appending()
		}
		if why == nil {
			why = cutOff // then the instance appends nothing for the sake of time: see replica.Due
		}
		return withCause(fmt.Sprintf("stale: nothing was applied from the journal for %v", silent.Round(time.Second)), why)
	}
	if err := s.journal.Appending(); err != nil {
		if why := s.refused.journal.refusal(); why != nil {
			err = why
		}
		return withCause("changes are refused", err)
	}
	if err := s.refused.journal.trouble(); err != nil {
		return err
	}
	if s.pauses.paused() {
		return errors.New("the process stood still and is catching up")
	}
	if cutOff != nil {
		return cutOff
	}
	if err := s.refused.publishing(s); err != nil {
		return err
	}
	if wrong := s.contactsWrong.Load(); wrong != nil && *wrong != nil {
		return withCause("contacts", *wrong)
	}
	select {
	case <-s.ready:
		return s.listener.trouble()
	default:
	}
	if err := s.listener.trouble(); err != nil {
		return err
	}
	return errors.New("starting: joining the other instances")
}

// Impaired returns what does not work although the instance should get requests, in one line for
// people; nil where there is nothing. It may be called at any time.
func (s *Service) Impaired() error {
	if err := s.connections.Trouble(); err != nil {
		return err
	}
	for _, x := range []*requester{s.refused.system, s.refused.journal} {
		if x == nil {
			continue
		}
		if err := x.refusal(); err != nil {
			return err
		}
	}
	return nil
}

// cutOff returns an error while the instance is cut off from its clients.
func (s *Service) cutOff() error {
	switch {
	case !s.replies.requestsUp.Load():
		return errors.New("the connection to the clients' account is lost")
	case !s.replies.answersUp.Load():
		return errNoAnswers
	}
	return nil
}

// withCause makes an error of one line. cause may be nil.
func withCause(what string, cause error) error {
	if cause == nil {
		return errors.New(what)
	}
	return errors.New(what + ": " + strings.Join(strings.Fields(cause.Error()), " "))
}
