package client

import (
	"context"
	"iter"

	"presence/pkg/protocol"
)

// Operators' requests (PROTOCOL 4.8). NATS permissions decide who may make them.
// None of these answers waits for what was changed through this Client before:
// with several instances it may be of one that is a moment behind.

// Stats counts users, sessions and instances, and tells the limits and refusals
// of the instance that answers.
func (c *Client) Stats(ctx context.Context) (protocol.StatsReply, error) {
	var reply protocol.StatsReply
	err := c.call(ctx, request{subject: c.subjects.Stats(), body: struct{}{}, repeatable: true}, &reply)
	return reply, err
}

// List asks for the public view of all users, or those of one statusType, page
// after page as the loop goes on, beginning behind req.Cursor:
//
//	for page, err := range c.List(ctx, protocol.ListRequest{StatusType: protocol.Online}) {
//		if err != nil {
//			return err
//		}
//		for _, status := range page.Users { … }
//	}
//
// Each page is as of its own revision and says whether it is stale; it may be
// empty. An error ends the loop; the Cursor of the page before goes on from there.
// A ctx without a deadline gives each page Options.Patience.
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
	if page.Cursor != "" && page.Cursor <= req.Cursor { // it would go round for ever
		return page, protocol.ErrInternal.Withf("the cursor of a list went from %q back to %q", req.Cursor, page.Cursor)
	}
	return page, nil
}

// Explain tells everything about a user, the invisible truth included, and why
// the status is what it is.
func (c *Client) Explain(ctx context.Context, userID string) (protocol.ExplainReply, error) {
	var reply protocol.ExplainReply
	req := protocol.UserRequest{UserID: userID}
	if err := req.Check(); err != nil {
		return reply, err
	}
	err := c.call(ctx, request{subject: c.subjects.Explain(), body: req, repeatable: true}, &reply)
	return reply, err
}

// Kick ends a session, which must not log in again by itself: its ID is refused
// for protocol.ReplacedKept. Kicking what is not there is no error. It is not
// asked again when no answer comes, because the second reply would not tell what
// the first had ended: that is protocol.ErrOutcomeUnknown, and Explain tells.
func (c *Client) Kick(ctx context.Context, userID, sessionID string) (protocol.KickReply, error) {
	if err := protocol.CheckID(sessionID, "sessionID"); err != nil { // empty would be all
		return protocol.KickReply{}, err
	}
	return c.end(ctx, c.subjects.Kick(), &protocol.KickRequest{UserID: userID, SessionID: sessionID})
}

// KickAll is Kick of all sessions that a user has at that moment. A login by hand
// has a session of another ID and is not refused.
func (c *Client) KickAll(ctx context.Context, userID string) (protocol.KickReply, error) {
	return c.end(ctx, c.subjects.Kick(), &protocol.KickRequest{UserID: userID})
}

// Erase ends all sessions of a user as Kick does, and has everything that is
// known of the user forgotten, contacts included. Whoever watches is told
// (protocol.CauseErased). In the journal and the snapshots the data remain until
// those are trimmed (PROTOCOL 4.8; sooner by EraseAndTrim). On protocol.ErrOutcomeUnknown erase again:
// the client does not, because somebody may have come back meanwhile.
func (c *Client) Erase(ctx context.Context, userID string) (protocol.KickReply, error) {
	return c.end(ctx, c.subjects.Erase(), &protocol.EraseRequest{UserID: userID})
}

// EraseAndTrim is Erase, and has the data leave the journal and the snapshots about
// ten minutes later, whatever else happens there. Each time costs the service two
// snapshots of everything, so of many users Erase all but the last.
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
