// Package client is what a Go microservice uses of the presence service: it
// logs users in and keeps their sessions alive, sets and asks for statuses,
// and watches the statuses of others, over a *nats.Conn that it neither opens
// nor closes.
//
//	nc, err := nats.Connect(url, nats.MaxReconnects(-1)) // never give up: the default is 60 attempts
//	…
//	defer nc.Close()
//	c, err := client.New(nc, client.Options{})
//	…
//	defer c.Close()
//
//	session, err := c.Login(ctx, "alice", client.LoginOptions{Platform: "web"})
//	…
//	_, err = session.SetSelfStatus(ctx, "in a meeting", client.ExpiresIn(time.Hour))
//
//	c.OnUserStatusUpdated(func(list []protocol.Status) { … })
//	c.OnState(func(s client.State) { … }) // live, or blind and why
//	failures, err := c.SubscribeUserStatus(ctx, []string{"bob", "carol"})
//
// A process that users are connected to, such as a WebSocket server, logs them in
// by a Gateway: one lease for all of them, and many changes in one request.
//
// # What survives a reconnect
//
// Everything. While the connection is gone, requests wait for it until their
// context ends, or for Options.Patience. Afterwards each open session logs in again on the new
// connection, a Gateway binds its lease to it, and everything watched is
// fetched anew. In between the client is blind and says so: State and OnState
// tell, and Watched answers UNKNOWN. What does not survive is the connection
// being closed by its owner or given up by nats.go (hence MaxReconnects(-1)):
// sessions and gateways end and the client stays blind.
//
// # Watching
//
// A watched user's status is merged from snapshots and events by revision
// (PROTOCOL 2 and 5), so late, repeated and reordered events do no harm.
// OnUserStatusUpdated gets each watched user's status as first fetched and
// from then on changes only. Under a storm, or when a callback is slow,
// several changes of one user arrive as the last of them; the last one always
// arrives. When messages are dropped, the connection breaks, or a fetch fails,
// the client is blind until a new snapshot of everything watched succeeded
// (PROTOCOL 8, G11).
//
// # Reading one's own writes
//
// A get that follows an acknowledged change made through the same Client shows
// it, whichever instance answers. Fresh makes a get show every change
// acknowledged before it, whoever made it.
//
// # Errors
//
// Errors of the service are errors of package protocol: compare with
// errors.Is(err, protocol.ErrSessionReplaced).
//
// "overloaded" and "unavailable" mean that nothing was done: every request is
// tried again, with jittered backoff, until its context ends or, where that has
// no deadline, for Options.Patience. So the restart of one of several instances,
// or one that is cut off from its journal, is not seen. Where nobody answers at
// all, as while the only instance restarts, it is tried again for three seconds;
// the error is then protocol.ErrUnavailable and nats.ErrNoResponders.
//
// "rate_limited" means that nothing was done because of how much this user does:
// Login, Logout and SetIdle wait and ask again, within the same bounds;
// SetSelfStatus returns it at once, because by then somebody may want another
// text. protocol.Error's RetryAfter says when to ask again.
//
// Where a request may have been done (no answer came, or outcome_unknown), it
// is asked twice more if to do it twice is to do it once:
//
//	asked again   Login, Logout, LogoutAll, SetIdle and renewals, GetUserStatus and
//	              other queries, everything of a Gateway, by the number of its request
//	not           SetSelfStatus: meanwhile somebody else may have set another text,
//	              which must not be overwritten by the earlier one, or the
//	              revision may be another. It is protocol.ErrOutcomeUnknown: whoever
//	              wants it sets again, or asks what holds.
//
// A session that was replaced (protocol.ErrSessionReplaced) is never tried again.
//
// # Concurrency
//
// Everything is safe for concurrent use. Callbacks run one at a time, in
// order, on one goroutine of the Client and may call the Client, except for
// Close, which waits for that goroutine.
package client
