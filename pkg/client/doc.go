// Package client is what a Go microservice uses of the presence service: it
// logs users in and keeps their sessions alive, sets and asks for statuses,
// and watches the statuses of others, over a *nats.Conn that it neither opens
// nor closes.
//
//	nc, err := nats.Connect(url, client.ConnectOptions()...) // nats.go's defaults give up sooner or later
//	…
//	defer nc.Close()
//	c, err := client.New(nc, client.Options{})
//	…
//	defer c.Close()
//
//	session, err := c.Login(ctx, "alice", client.LoginOptions{Platform: "web"})
//	…
//	_, err = session.SetSelfStatus(ctx, "in a meeting", client.ExpiresIn(time.Hour))
//	_, err = session.SetAvailability(ctx, protocol.Busy)
//
//	c.OnUserStatusUpdated(func(list []protocol.Status) { … })
//	c.OnOwnChanged(func(own client.Own) { … }) // alice, as she sees herself on all devices
//	c.OnState(func(s client.State) { … })      // live, or blind and why
//	failures, err := c.SubscribeUserStatus(ctx, []string{"bob", "carol"})
//
// A process that users are connected to, such as a WebSocket server, logs them in
// by a Gateway: one lease for all of them, and many changes in one request.
// Package clienttest is a service for unit tests of what uses this package.
//
// # What survives a reconnect
//
// While the connection is gone, requests wait for it until their context ends, or
// for Options.Patience. Afterwards:
//
//	sessions       log in again on the new connection, with their IDs. Within the
//	               grace (5 s unless configured) nobody notices. Whoever was kicked
//	               or replaced meanwhile is refused, and ends.
//	gateways       bind their lease to the connection, see Gateway
//	watched users  are fetched anew, and so are those awaited. In between the client
//	               is blind and says so: State and OnState tell, Watched answers
//	               UNKNOWN, and Await waits.
//	one's own      is fetched anew: status, availability, sessions, contacts
//	contacts       are fetched anew, then watched or not as they are by then
//	texts and      are the service's. The client sets nothing again: two devices
//	availability   that did would never come to rest.
//
// What does not survive is the connection being closed by its owner or given up by
// nats.go (hence ConnectOptions): sessions and gateways end, what waits fails,
// and the client stays blind. Session.Err, Gateway.Err and State.Err say why.
//
// # A connection that is dead and does not know
//
// A network may forget a connection without a word (a NAT, a VPN, a firewall) while
// new ones work. Its status stays "connected" for minutes. So the client asks the
// broker for a sign of life when nothing has come for Options.Probe, or when an
// answer stays away, and has nats.go make another connection when there is none:
// within 25 s, with the default, of the moment when the network forgot. It is the
// broker that is asked: while only the service is away, the connection stays.
// That concerns everybody who uses the connection; a negative Options.Probe
// switches it off.
//
// A server in lame duck mode is left for another (see LameDuck).
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
// The broker may refuse a subscription or end one, by a reload of permissions or a
// limit, and NATS brings none back. The client is blind then, for Refused, tries
// until the broker takes it, and fetches. It goes by the errors that the broker
// sends for each subscription, and takes one for dead too when a snapshot shows a
// change of which no event comes within 15 s.
//
// Users are watched who were subscribed to and, where the service's
// friend-notification switch is on, the contacts of users who are logged in by
// sessions. Whoever is both stays watched until neither holds. A watched user takes
// a NATS subscription and 300 bytes beside it (BenchmarkWatch), but no goroutine:
// all events go through one channel. Everything watched is fetched in pages of
// protocol.MaxUsersPerGet, a second time a moment after it was first watched or the
// connection came back, and then once per Options.Resync, jittered.
//
// # Oneself
//
// A user who is logged in by a session is heard on self.<user>, on one
// subscription and by one goroutine however many sessions there are. What was
// changed on another device arrives as one's own changes do: by OnOwnChanged, and
// the status by OnUserStatusUpdated too. That is the owner's view, which tells the
// truth of an invisible user. Who watches a user, though, is told what everybody
// sees and nothing else, so that a program that shows users to others cannot give
// one away (PROTOCOL 8, G9).
//
// # Reading one's own writes
//
// A get that follows an acknowledged change made through the same Client shows
// it, whichever instance answers. Fresh makes a get show every change
// acknowledged before it, whoever made it.
//
// # A journal that goes back
//
// Each restart of a presenced with a server inside begins a new epoch. The Client then fetches
// everything it watches, and tells what differs from what it has told. A restored journal may also
// go on in its epoch, with lower revisions. The Client notices by a fresh answer (PROTOCOL 2). It
// is blind for a moment (EpochChanged), forgets the revisions that it knew, fetches everything,
// and has sessions and gateways make sure of their leases. It asks for such an answer when it was
// disconnected, when an answer or event is older than what it has known for 2 s, when an answer
// that must show a change of its own stays away for 1 s, and with each regular snapshot.
//
// # Errors
//
// Errors of the service are errors of package protocol: compare with
// errors.Is(err, protocol.ErrSessionReplaced).
//
// Every text is checked before it is sent: valid UTF-8 without control characters, within the
// limits of the contract (the custom status within the highest that a service can be configured to
// have). What is refused so is protocol.ErrInvalidRequest and the like, as from the service.
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
//	not           SetSelfStatus, SetAvailability and changes of contacts: meanwhile
//	              another device may have set something else, which must not be
//	              overwritten by the earlier one, or the revision may be another.
//	              Kick and Erase, whose answer would not be the first one's. It is
//	              protocol.ErrOutcomeUnknown: whoever wants it does it again, or
//	              asks what holds.
//
// Such a change may still be done, however late. A Fresh get that is sent
// protocol.OutcomeWithin (10 s) after the request, and is answered, settles it: what
// that shows is final. A context that ends earlier, without an answer, leaves as much
// open as protocol.ErrOutcomeUnknown does. The error is an UnknownOutcome then, which
// says when the change was sent, and Settle waits and tells what holds. Of contacts the next change that is answered
// is what settles it (PROTOCOL 4.6).
//
// A session that was kicked or replaced (protocol.ErrSessionReplaced) is never tried
// again.
//
// # Concurrency
//
// Everything is safe for concurrent use. Callbacks run one at a time, in
// order, on one goroutine of the Client and may call the Client, except for
// Close, which waits for that goroutine.
package client
