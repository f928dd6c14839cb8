package client

import (
	"context"
	"sync"

	"presence/pkg/protocol"
)

// ownWrites remembers the revision of the newest change made through this Client, so that
// a get can ask for an answer that includes it (PROTOCOL 4.5, minRevision).
type ownWrites struct {
	mu       sync.Mutex
	epoch    string
	revision uint64

	seen  horizon
	doubt func() // raises a doubt whether the journal went back
}

func (o *ownWrites) note(epoch string, revision uint64) {
	if o.seen.note(epoch, revision) {
		o.doubt()
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if epoch != o.epoch {
		o.epoch, o.revision = epoch, 0
	}
	o.revision = max(o.revision, revision)
}

// forget drops the revision: the journal went back, and may never reach it again.
func (o *ownWrites) forget(epoch string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if epoch == o.epoch {
		o.revision = 0
	}
}

func (o *ownWrites) newest() (epoch string, revision uint64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.epoch, o.revision
}

// SetSelfStatus sets the custom status of a user without a session; an empty text clears
// it. It returns the owner's view. After protocol.ErrOutcomeUnknown, also for a missing
// answer, the change may be done, now or later: Settle tells.
func (c *Client) SetSelfStatus(ctx context.Context, userID, text string, opts ...SetOption) (protocol.Status, error) {
	return c.set(ctx, userID, protocol.SetRequest{CustomStatus: &text}, opts)
}

// SetAvailability sets how a user wants to be reached, without a session: the lasting value
// or, with ExpiresIn, an override of it. Otherwise it is like SetSelfStatus.
func (c *Client) SetAvailability(ctx context.Context, userID string, a protocol.Availability, opts ...SetOption) (protocol.Status, error) {
	return c.set(ctx, userID, protocol.SetRequest{Availability: &a}, opts)
}

func (c *Client) set(ctx context.Context, userID string, req protocol.SetRequest, opts []SetOption) (protocol.Status, error) {
	for _, o := range opts {
		o(&req)
	}
	subject, err := c.subjects.Set(userID)
	if err == nil {
		err = req.Check(protocol.MostCustomStatusBytes)
	}
	if err != nil {
		return protocol.Status{}, err
	}
	reply, err := c.change(ctx, request{subject: subject, body: req})
	return reply.Status, err
}

// Logout ends a session. To log out a session that does not exist is no error. A Session
// with that ID in another process logs in again with its next renewal, because it takes
// itself for forgotten. To end the session of another device for good, use LogoutFinal.
func (c *Client) Logout(ctx context.Context, userID, sessionID string) error {
	_, err := c.logout(ctx, userID, protocol.LogoutRequest{SessionID: sessionID})
	return err
}

// LogoutFinal ends the session of another device for good: for 24 hours it gets
// protocol.ErrSessionReplaced, for a login too. protocol.ErrSessionNotFound says that nothing was
// ended for good. Either the session is not there, or it was logged out, but an instance of an
// earlier version runs, so it may log in again. In that case repeat the call a minute after the
// upgrade.
func (c *Client) LogoutFinal(ctx context.Context, userID, sessionID string) error {
	reply, err := c.logout(ctx, userID, protocol.LogoutRequest{SessionID: sessionID, Final: true})
	if err == nil && !reply.Final {
		return protocol.ErrSessionNotFound.With("nothing was ended for good: the session is not there, or the service is being upgraded")
	}
	return err
}

// LogoutAll ends all sessions of a user.
func (c *Client) LogoutAll(ctx context.Context, userID string) error {
	_, err := c.logout(ctx, userID, protocol.LogoutRequest{All: true})
	return err
}

func (c *Client) logout(ctx context.Context, userID string, req protocol.LogoutRequest) (reply protocol.ChangeReply, err error) {
	subject, err := c.subjects.Logout(userID)
	if err == nil {
		err = req.Check()
	}
	if err != nil {
		return reply, err
	}
	return c.change(ctx, request{subject: subject, body: req, repeatable: true})
}

// change sends a request that changes something, and remembers the reply.
func (c *Client) change(ctx context.Context, r request) (protocol.ChangeReply, error) {
	var reply protocol.ChangeReply
	if err := c.call(ctx, r, &reply); err != nil {
		return reply, err
	}
	c.note(reply)
	return reply, nil
}

// note remembers the revision of a change, and the owner's view if the user has a session
// here.
func (c *Client) note(reply protocol.ChangeReply) {
	c.own.note(reply.Epoch, reply.Revision)
	c.watch.ownReply(reply)
}

// OwnStatus returns a user's own view, sessions included.
func (c *Client) OwnStatus(ctx context.Context, userID string) (protocol.OwnStatusReply, error) {
	var reply protocol.OwnStatusReply
	subject, err := c.subjects.OwnStatus(userID)
	if err != nil {
		return reply, err
	}
	err = c.call(ctx, request{subject: subject, body: struct{}{}, repeatable: true}, &reply)
	return reply, err
}
