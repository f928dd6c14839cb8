package service

import (
	"context"
	"errors"
	"fmt"

	"presence/pkg/internal/api"
	"presence/pkg/protocol"
	"presence/pkg/service/internal/contacts"
)

// contactsWithin bounds the time from a request's arrival until the contacts' bucket has answered.
// It is as long as a caller waits for the journal at most, and no longer than drain waits. A
// bucket that has no leader finds another one in 4 to 9 s.
const contactsWithin = protocol.OutcomeWithin

// contactsCall implements PROTOCOL 4.6.
type contactsCall struct {
	change[protocol.ContactsRequest, *protocol.ContactsReply]
}

func newContactsCall(c change[protocol.ContactsRequest, *protocol.ContactsReply]) request {
	return &contactsCall{c}
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
			s.tellContacts(c.owner, &changed, c.traced)
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

// withContacts has a worker do something for a call about a user's contacts, within contactsWithin
// of its arrival. A stale instance refuses at once: the contacts are where the journal is.
func (s *Service) withContacts(c *call, user string, do func(context.Context) error) error {
	if s.stale() {
		return errCutOff
	}
	return s.gate.Contacts(user, func(ctx context.Context) {
		c.handle(func() error {
			ctx, cancel := context.WithDeadline(ctx, c.begun.Add(contactsWithin))
			defer cancel()
			// Ask the connection last: while sending on it is stuck, asking for its status waits.
			if s.stale() || !s.cfg.Journal.IsConnected() {
				return errCutOff
			}
			return do(ctx)
		})
	})
}

// errCutOff refuses a request for contacts while this instance cannot reach them, or is stale.
var errCutOff = protocol.ErrUnavailable.With("this instance is cut off from the contacts: nothing was done, try again")

// noteContacts logs once that the contacts' bucket fails, and once that it works again.
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

// tellContacts publishes a stored change to the user's devices, once. A device that missed it
// notices by the next version.
func (s *Service) tellContacts(user string, changed *contacts.Changed, trace string) {
	if len(changed.Added)+len(changed.Removed) == 0 && !changed.Read {
		return
	}
	e := protocol.SelfEvent{Type: protocol.SelfContacts, Added: changed.Added, Removed: changed.Removed, Version: changed.Version, PreviousVersion: changed.Previous}
	if err := s.publishSelf(user, &e, trace); err != nil {
		s.log.Warn("a change of contacts could not be published", "err", err)
	}
}

func (s *Service) publishSelf(user string, e *protocol.SelfEvent, trace string) error {
	subject, err := s.subjects.Self(user)
	if err != nil {
		return err
	}
	data, err := protocol.Marshal(e)
	if err == nil && len(data) > s.maxBody() {
		// A version that is its own previous one tells devices to read the contacts.
		e.Added, e.Removed, e.PreviousVersion = nil, nil, e.Version
		data, err = protocol.Marshal(e)
	}
	if err != nil {
		return fmt.Errorf("encoding an event: %w", err)
	}
	return serviceOutbox{s}.publish(subject, data, trace)
}

// erase implements "admin.erase" of PROTOCOL 4.8. It erases the contacts first, and then what is
// in the journal. If the second step fails, the caller gets an error and repeats both. In the
// other order a failure would leave contacts of a user whom the journal has forgotten.
type erase struct {
	change[protocol.EraseRequest, *protocol.KickReply]
}

func newErase(c change[protocol.EraseRequest, *protocol.KickReply]) request { return &erase{c} }

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
		s.noteContacts(err) // only this error is the bucket's
		if err != nil {
			return err
		}
		s.tellContacts(user, &changed, "")
		return s.submit(c, api.Erase(&c.body))
	})
}

func (c *erase) done(a *answer) {
	if c.body.Trim && a.failure() == nil {
		c.endpoint.service.trims.add(c.body.UserID)
	}
	c.change.done(a)
}
