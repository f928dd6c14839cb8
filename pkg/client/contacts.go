package client

import (
	"context"
	"errors"
	"slices"
	"time"

	"presence/pkg/protocol"
)

// contactsRetries is how often contacts are asked for again where the answer is
// older than an event that was heard. If it still is, it counts all the same: they
// may have been restored from a backup.
const contactsRetries = 3

// Contacts returns whom a user knows (PROTOCOL 4.6). Where the service's
// friend-notification switch is on, a Client watches the contacts of users who are
// logged in through it by sessions, and nobody else's.
func (c *Client) Contacts(ctx context.Context, userID string) (protocol.ContactsReply, error) {
	return c.contacts(ctx, userID, protocol.ContactsRequest{})
}

// AddContacts adds to a user's contacts, RemoveContacts removes from them, and
// ReplaceContacts replaces all of them. Each returns them as they are then. They
// may become protocol.MaxContacts at most, else the error is
// protocol.ErrRequestTooLarge. On protocol.ErrOutcomeUnknown the change may have
// been or still be made; it is not made twice, because another device may have
// changed them since.
func (c *Client) AddContacts(ctx context.Context, userID string, contacts ...string) (protocol.ContactsReply, error) {
	return c.contacts(ctx, userID, protocol.ContactsRequest{Add: contacts})
}

// RemoveContacts removes from a user's contacts. See AddContacts.
func (c *Client) RemoveContacts(ctx context.Context, userID string, contacts ...string) (protocol.ContactsReply, error) {
	return c.contacts(ctx, userID, protocol.ContactsRequest{Remove: contacts})
}

// ReplaceContacts replaces a user's contacts. See AddContacts.
func (c *Client) ReplaceContacts(ctx context.Context, userID string, contacts []string) (protocol.ContactsReply, error) {
	if contacts == nil {
		contacts = []string{} // which is not the same as to leave them alone
	}
	return c.contacts(ctx, userID, protocol.ContactsRequest{Replace: &contacts})
}

func (c *Client) contacts(ctx context.Context, userID string, req protocol.ContactsRequest) (protocol.ContactsReply, error) {
	var reply protocol.ContactsReply
	subject, err := c.subjects.Contacts(userID)
	if err == nil {
		err = req.Check()
	}
	if err == nil {
		err = c.call(ctx, request{subject: subject, body: req, repeatable: !req.Changes()}, &reply)
	}
	return reply, err
}

// contacts are an owner's, as of a version.
type contacts struct {
	list    []string // sorted, and never changed in place
	version uint64
	watched bool   // the service's switch
	fetched bool   // the other fields say something
	heard   uint64 // the highest version that an event told of
}

// contactsEvent merges a change. Of one that does not follow what is known, only
// a snapshot tells. It needs mu.
func (o *selfWatch) contactsEvent(ev *protocol.SelfEvent) {
	c := &o.contacts
	if ev.Version == 0 { // the user was erased: it counts from the beginning
		c.heard = 0
		o.miss()
		return
	}
	c.heard = max(c.heard, ev.Version)
	switch {
	case !c.fetched || ev.Version <= c.version:
		return
	case ev.PreviousVersion != c.version:
		o.miss()
		return
	}
	list := slices.DeleteFunc(slices.Clone(c.list), func(id string) bool { return slices.Contains(ev.Removed, id) })
	list = append(list, ev.Added...)
	slices.Sort(list)
	c.list, c.version = slices.Compact(list), ev.Version
	o.tell()
	notify(o.wake) // to follow
}

// fetchContacts asks for all contacts.
func (o *selfWatch) fetchContacts(ctx context.Context) error {
	for attempt := 0; ; attempt++ {
		reply, err := o.w.c.Contacts(ctx, o.id)
		if errors.Is(err, protocol.ErrFeatureDisabled) {
			reply, err = protocol.ContactsReply{}, nil
		}
		if err != nil {
			return err
		}
		if o.takeContacts(&reply, attempt == contactsRetries) {
			return nil
		}
		if !sleep(ctx, backoff(attempt, busyWait, busyWaitMax)) {
			return ctx.Err()
		}
	}
}

// takeContacts takes a snapshot, unless it is older than what was heard and there
// will be another.
func (o *selfWatch) takeContacts(reply *protocol.ContactsReply, last bool) bool {
	o.w.mu.Lock()
	defer o.w.mu.Unlock()
	if reply.Version < o.contacts.heard && !last {
		return false
	}
	slices.Sort(reply.Contacts)
	o.contacts = contacts{list: reply.Contacts, version: reply.Version, watched: reply.FriendNotifications, fetched: true, heard: reply.Version}
	return true
}

// follow makes the contacts watched, and nobody else as such.
func (o *selfWatch) follow() error {
	o.w.mu.Lock()
	var want []string
	if o.contacts.watched {
		want = o.contacts.list
	}
	o.w.mu.Unlock()
	o.unfollow(func(id string) bool { _, ok := slices.BinarySearch(want, id); return !ok })
	var missing []string
	for _, id := range want {
		if _, ok := o.followed[id]; !ok && protocol.CheckUserID(id) == nil {
			missing = append(missing, id)
		}
	}
	joined, err := o.w.follow(missing)
	for _, u := range joined {
		o.followed[u.id] = u
	}
	return err
}

// unfollow ends the watching as contacts of those that which says.
func (o *selfWatch) unfollow(which func(id string) bool) {
	var gone []*watched
	for id, u := range o.followed {
		if which(id) {
			gone = append(gone, u)
			delete(o.followed, id)
		}
	}
	o.w.leave(gone, contactOf)
}

// follow watches users as contacts. They are fetched in a moment, with everything
// that keep fetches: where that fails the client is blind.
func (w *watch) follow(ids []string) ([]*watched, error) {
	joined, err := w.join(ids, contactOf)
	if err != nil {
		return nil, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	now := time.Now()
	for _, u := range joined {
		if !u.fetched {
			w.confirm[u.id] = now
		} else if !u.told {
			w.tell(u)
		}
	}
	notify(w.wake)
	return joined, nil
}
