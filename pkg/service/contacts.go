package service

import (
	"context"
	"errors"
	"fmt"

	"presence/pkg/internal/api"
	"presence/pkg/protocol"
	"presence/pkg/service/internal/contacts"
)

// contactsWithin bounds a request that waits for the contacts' bucket, from its
// arrival. It is as long as a caller waits for the journal at most, and not
// longer than drain waits: a bucket without a leader for 4 to 9 s finds another.
const contactsWithin = protocol.OutcomeWithin

// contactsCall implements PROTOCOL 4.6.
type contactsCall struct {
	call
	route *route[protocol.ContactsRequest, *protocol.ContactsReply]
	body  protocol.ContactsRequest
}

func (s *Service) contactsRoute(r route[protocol.ContactsRequest, *protocol.ContactsReply]) *endpoint {
	return r.endpoint(s, func() request { return &contactsCall{route: &r} })
}

func (c *contactsCall) Handle() { c.handle(c.readOrChange) }

func (c *contactsCall) readOrChange() error {
	s := c.endpoint.service
	if err := c.route.read(&c.call, &c.body); err != nil {
		return err
	}
	c.reads = !c.body.Changes()
	return s.withContacts(&c.call, c.owner, func(ctx context.Context) error {
		if c.reads {
			list, err := s.contacts.Get(ctx, c.owner)
			s.noteContacts(err)
			return c.answer(list, err)
		}
		changed, err := s.contacts.Change(ctx, c.owner, &c.body)
		s.noteContacts(err)
		if err == nil {
			s.tellContacts(c.owner, &changed)
		}
		return c.answer(changed.List, err)
	})
}

func (c *contactsCall) answer(list contacts.List, err error) error {
	if err != nil {
		return err
	}
	reply := &protocol.ContactsReply{Contacts: list.Users, FriendNotifications: c.endpoint.service.cfg.FriendNotifications, Version: list.Version}
	if reply.Contacts == nil {
		reply.Contacts = []string{}
	}
	c.succeed(reply)
	return nil
}

// withContacts has a worker do a call about a user's contacts, in contactsWithin
// of its arrival.
// Where the instance is cut off it is refused at once: contacts are where the journal is.
func (s *Service) withContacts(c *call, user string, do func(context.Context) error) error {
	if s.stale() {
		return errCutOff
	}
	return s.gate.Contacts(user, func(ctx context.Context) {
		c.handle(func() error {
			ctx, cancel := context.WithDeadline(ctx, c.begun.Add(contactsWithin))
			defer cancel()
			// In this order: while what is sent on the connection is stuck, asking it waits too.
			if s.stale() || !s.cfg.Journal.IsConnected() {
				return errCutOff
			}
			return do(ctx)
		})
	})
}

// errCutOff refuses what needs the contacts where this instance cannot reach them, or
// says that it is stale.
var errCutOff = protocol.ErrUnavailable.With("this instance is cut off from the contacts: nothing was done, try again")

// noteContacts logs once that the contacts' bucket fails, and once that it works
// again.
func (s *Service) noteContacts(err error) {
	if errors.Is(err, protocol.ErrUnavailable) || errors.Is(err, protocol.ErrOutcomeUnknown) {
		if s.noContacts.CompareAndSwap(false, true) {
			s.log.Warn("contacts cannot be read or changed", "err", err)
		}
		return
	}
	if err == nil && s.noContacts.CompareAndSwap(true, false) {
		s.log.Info("contacts can be read and changed again")
	}
}

// tellContacts tells a user's devices of a change that is stored. It is told once:
// who did not hear it notices by the version.
func (s *Service) tellContacts(user string, changed *contacts.Changed) {
	if len(changed.Added)+len(changed.Removed) == 0 && !changed.Read {
		return
	}
	e := protocol.SelfEvent{Type: protocol.SelfContacts, Added: changed.Added, Removed: changed.Removed, Version: changed.Version, PreviousVersion: changed.Previous}
	if err := s.publishSelf(user, &e); err != nil {
		s.log.Warn("a change of contacts could not be told", "err", err)
	}
}

func (s *Service) publishSelf(user string, e *protocol.SelfEvent) error {
	subject, err := s.subjects.Self(user)
	if err != nil {
		return err
	}
	data, err := protocol.Marshal(e)
	if err == nil && len(data) > s.maxBody() { // read them: no version is the one before itself
		e.Added, e.Removed, e.PreviousVersion = nil, nil, e.Version
		data, err = protocol.Marshal(e)
	}
	if err != nil {
		return fmt.Errorf("encoding an event: %w", err)
	}
	return s.cfg.Answers.Publish(subject, data)
}

// erase implements "admin.erase" of PROTOCOL 4.8: the contacts first, then all
// that is in the journal. Where the second fails the caller is told and does both
// again; the other way round a failure would leave the contacts of somebody whom
// the journal has forgotten.
type erase struct {
	change[protocol.EraseRequest, *protocol.KickReply]
}

func (s *Service) eraseRoute(r route[protocol.EraseRequest, *protocol.KickReply]) *endpoint {
	return r.endpoint(s, func() request {
		c := &erase{}
		c.route = &r
		return c
	})
}

func (c *erase) Handle() { c.handle(c.submit) }

func (c *erase) submit() error {
	s := c.endpoint.service
	err := c.route.read(&c.call, &c.body)
	if err == nil {
		err = s.refuseChange()
	}
	if err == nil && c.body.Trim && s.trims.full() {
		err = protocol.ErrOverloaded.With("too many erased users wait to be trimmed: nothing was done, try again")
	}
	if err != nil {
		return err
	}
	user := c.body.UserID
	return s.withContacts(&c.call, user, func(ctx context.Context) error {
		changed, err := s.contacts.Erase(ctx, user)
		s.noteContacts(err) // and not what the journal says below
		if err != nil {
			return err
		}
		s.tellContacts(user, &changed)
		return s.submit(c, api.Erase(&c.body))
	})
}

func (c *erase) done(a *answer) {
	if c.body.Trim && a.failure() == nil {
		c.endpoint.service.trims.add(c.body.UserID)
	}
	c.change.done(a)
}
