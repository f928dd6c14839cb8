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
// context ends. Afterwards each open session logs in again on the new
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
// errors.Is(err, protocol.ErrSessionReplaced). "overloaded" and "unavailable"
// are tried again with backoff until the context ends: give one with a
// deadline. Where nobody answers at all, the error is protocol.ErrUnavailable
// and nats.ErrNoResponders after a few quick attempts. What is asked twice
// without harm (everything but setting a status) is asked again when an answer
// does not come; for setting a status that is protocol.ErrOutcomeUnknown: it
// may have been done.
//
// # Concurrency
//
// Everything is safe for concurrent use. Callbacks run one at a time, in
// order, on one goroutine of the Client and may call the Client, except for
// Close, which waits for that goroutine.
package client
