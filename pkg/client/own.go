package client

import (
	"context"
	"sync"

	"presence/pkg/protocol"
)

// ownWrites remembers the revision of the newest change made through this
// Client, so that a get can ask to see it (PROTOCOL 4.5, minRevision).
type ownWrites struct {
	mu       sync.Mutex
	epoch    string
	revision uint64
}

func (o *ownWrites) note(epoch string, revision uint64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if epoch != o.epoch {
		o.epoch, o.revision = epoch, 0
	}
	o.revision = max(o.revision, revision)
}

func (o *ownWrites) newest() (epoch string, revision uint64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.epoch, o.revision
}

// SetSelfStatus sets the custom status of a user without a session; empty
// clears it. It returns the owner's view. On protocol.ErrOutcomeUnknown, which
// a missing answer is too, the change may have been or still be made.
func (c *Client) SetSelfStatus(ctx context.Context, userID, text string, opts ...SetOption) (protocol.Status, error) {
	return c.set(ctx, userID, "", text, opts)
}

func (c *Client) set(ctx context.Context, userID, sessionID, text string, opts []SetOption) (protocol.Status, error) {
	req := protocol.SetRequest{CustomStatus: &text, SessionID: sessionID}
	for _, o := range opts {
		o(&req)
	}
	subject, err := c.subjects.Set(userID)
	if err != nil {
		return protocol.Status{}, err
	}
	reply, err := c.change(ctx, request{subject: subject, body: req})
	return reply.Status, err
}

// Logout ends a session. Logging out what is not there is not an error.
func (c *Client) Logout(ctx context.Context, userID, sessionID string) error {
	return c.logout(ctx, userID, protocol.LogoutRequest{SessionID: sessionID})
}

// LogoutAll ends all sessions of a user.
func (c *Client) LogoutAll(ctx context.Context, userID string) error {
	return c.logout(ctx, userID, protocol.LogoutRequest{All: true})
}

func (c *Client) logout(ctx context.Context, userID string, req protocol.LogoutRequest) error {
	subject, err := c.subjects.Logout(userID)
	if err != nil {
		return err
	}
	_, err = c.change(ctx, request{subject: subject, body: req, repeatable: true})
	return err
}

// change sends a request that changes something and remembers its revision.
func (c *Client) change(ctx context.Context, r request) (protocol.ChangeReply, error) {
	var reply protocol.ChangeReply
	if err := c.call(ctx, r, &reply); err != nil {
		return reply, err
	}
	c.own.note(reply.Epoch, reply.Revision)
	return reply, nil
}

// OwnStatus returns what a user sees of oneself, sessions included.
func (c *Client) OwnStatus(ctx context.Context, userID string) (protocol.OwnStatusReply, error) {
	var reply protocol.OwnStatusReply
	subject, err := c.subjects.OwnStatus(userID)
	if err != nil {
		return reply, err
	}
	err = c.call(ctx, request{subject: subject, body: struct{}{}, repeatable: true}, &reply)
	return reply, err
}
