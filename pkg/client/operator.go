package client

import (
	"context"
	"iter"

	"presence/pkg/protocol"
)

// Operators' requests (PROTOCOL 4.8). NATS permissions decide who may make them. Their
// answers may lack changes that were just made through this Client: the instance that
// answers may be a moment behind.

// Stats counts users, sessions and instances, and tells the limits and refusals
// of the instance that answers.
func (c *Client) Stats(ctx context.Context) (protocol.StatsReply, error) {
	var reply protocol.StatsReply
	err := c.call(ctx, request{subject: c.subjects.Stats(), body: struct{}{}, repeatable: true}, &reply)
	return reply, err
}

// List asks for the public view of all users, or of those with one statusType, from
// req.Cursor on. It asks for page after page while the loop goes on:
//
//	for page, err := range c.List(ctx, protocol.ListRequest{StatusType: protocol.Online}) {
//		if err != nil {
//			return err
//		}
//		for _, status := range page.Users { … }
//	}
//
// Each page has its own revision and says whether it is stale; it may be empty. An error
// ends the loop; to continue there, use the Cursor of the page before. If ctx has no
// deadline, each page has Options.Patience.
func (c *Client) List(ctx context.Context, req protocol.ListRequest) iter.Seq2[protocol.ListReply, error] {
	return func(yield func(protocol.ListReply, error) bool) {
		for req := req; ; {
			page, err := c.listPage(ctx, req)
			if err != nil {
				yield(protocol.ListReply{}, err)
				return
			}
			if !yield(page, nil) || page.Cursor == "" {
				return
			}
			req.Cursor = page.Cursor
		}
	}
}

func (c *Client) listPage(ctx context.Context, req protocol.ListRequest) (protocol.ListReply, error) {
	var page protocol.ListReply
	if err := req.Check(); err != nil {
		return page, err
	}
	if err := c.call(ctx, request{subject: c.subjects.List(), body: req, repeatable: true}, &page); err != nil {
		return page, err
	}
	if page.Cursor != "" && page.Cursor <= req.Cursor { // the loop would never end
		return page, protocol.ErrInternal.Withf("the cursor of a list went from %q back to %q", req.Cursor, page.Cursor)
	}
	return page, nil
}

// Explain tells everything about a user, invisible or not, and why the status is what it
// is.
func (c *Client) Explain(ctx context.Context, userID string) (protocol.ExplainReply, error) {
	var reply protocol.ExplainReply
	req := protocol.UserRequest{UserID: userID}
	if err := req.Check(); err != nil {
		return reply, err
	}
	err := c.call(ctx, request{subject: c.subjects.Explain(), body: req, repeatable: true}, &reply)
	return reply, err
}

// Kick ends a session, which must not log in again by itself: its ID is refused for
// protocol.ReplacedKept. To kick a session that does not exist is no error. Without an
// answer the Client does not ask again, because the second reply would not name the session
// that the first has ended. The error is then protocol.ErrOutcomeUnknown; Explain tells.
func (c *Client) Kick(ctx context.Context, userID, sessionID string) (protocol.KickReply, error) {
	if err := protocol.CheckID(sessionID, "sessionID"); err != nil { // empty would be all
		return protocol.KickReply{}, err
	}
	return c.end(ctx, c.subjects.Kick(), &protocol.KickRequest{UserID: userID, SessionID: sessionID})
}

// KickAll kicks all sessions that a user has at that moment. A login by hand has another
// session ID, and is not refused.
func (c *Client) KickAll(ctx context.Context, userID string) (protocol.KickReply, error) {
	return c.end(ctx, c.subjects.Kick(), &protocol.KickRequest{UserID: userID})
}

// Erase ends all sessions of a user as Kick does, and makes the service forget everything
// about the user, contacts included. Watchers get an event (protocol.CauseErased). The data
// remain in the journal and the snapshots until those are trimmed (PROTOCOL 4.8; sooner by
// EraseAndTrim). After protocol.ErrOutcomeUnknown erase again: the Client does not, because
// the user may have come back meanwhile.
func (c *Client) Erase(ctx context.Context, userID string) (protocol.KickReply, error) {
	return c.end(ctx, c.subjects.Erase(), &protocol.EraseRequest{UserID: userID})
}

// EraseAndTrim is Erase, but the data leave the journal and the snapshots about ten minutes
// later in any case. Each call costs the service two snapshots of everything. So of many
// users, Erase all but the last.
func (c *Client) EraseAndTrim(ctx context.Context, userID string) (protocol.KickReply, error) {
	return c.end(ctx, c.subjects.Erase(), &protocol.EraseRequest{UserID: userID, Trim: true})
}

// end makes a request that ends sessions.
func (c *Client) end(ctx context.Context, subject string, req interface{ Check() error }) (protocol.KickReply, error) {
	var reply protocol.KickReply
	if err := req.Check(); err != nil {
		return reply, err
	}
	if err := c.call(ctx, request{subject: subject, body: req}, &reply); err != nil {
		return reply, err
	}
	c.own.note(reply.Epoch, reply.Revision)
	return reply, nil
}
