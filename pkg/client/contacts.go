package client

import (
	"context"
	"errors"
	"slices"
	"time"

	"presence/pkg/protocol"
)

// contactsRetries is how often contacts are asked for again while the answer is older
// than an event. An answer that still is older counts all the same: the contacts may have
// been restored from a backup.
const contactsRetries = 3

// Contacts returns whom a user knows (PROTOCOL 4.6). If the service's friend-notification
// switch is on, a Client watches the contacts of users who have sessions through it.
func (c *Client) Contacts(ctx context.Context, userID string) (protocol.ContactsReply, error) {
	return c.contacts(ctx, userID, protocol.ContactsRequest{})
}

// AddContacts adds to a user's contacts, RemoveContacts removes from them, and
// ReplaceContacts replaces all of them. Each returns all contacts after the change. If
// there would be more than protocol.MaxContacts, the error is protocol.ErrRequestTooLarge.
// After protocol.ErrOutcomeUnknown the change may be done, now or later. The Client does
// not repeat it, because another device may have changed the contacts since.
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
		contacts = []string{} // nil would change nothing
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

// contacts are the contacts of a user, as of a version.
type contacts struct {
	list    []string // sorted, and never changed in place
	version uint64
	watched bool   // the service's switch
	fetched bool   // otherwise the other fields mean nothing
	heard   uint64 // the highest version in an event
}

// contactsEvent merges a change. If it does not follow the known version, all contacts are
// fetched. It needs mu.
func (o *selfWatch) contactsEvent(ev *protocol.SelfEvent) {
	c := &o.contacts
	if ev.Version == 0 { // the user was erased: versions begin anew
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

// takeContacts takes a snapshot, unless it is older than an event and not the last attempt.
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

// follow watches the contacts, and stops watching those who are contacts no more.
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

// unfollow stops watching the contacts for which which is true.
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

// follow watches users as contacts. keep fetches them in a moment, with everything else
// that is due. If that fails the client is blind.
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
