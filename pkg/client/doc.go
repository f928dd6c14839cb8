// Package client uses the presence service from Go. It logs users in and keeps their
// sessions alive, sets and asks for statuses, and watches the statuses of others. It works
// over a *nats.Conn, which it neither opens nor closes.
//
//	nc, err := nats.Connect(url, client.ConnectOptions()...) // by default nats.go gives up
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
// A server that users are connected to, such as a WebSocket server, logs them in by a
// Gateway: one lease for all of them, and many changes in one request. Package clienttest
// is a presence service for unit tests.
//
// # What survives a reconnect
//
// While the connection is gone, requests wait for it until their context ends, or
// for Options.Patience. Afterwards:
//
//	sessions       log in again on the new connection, with their IDs. Within the
//	               grace (LoginOptions.Grace, 5 s unless configured) nobody notices.
//	               Whoever was kicked or replaced meanwhile is refused, and ends.
//	gateways       bind their lease to the connection, see Gateway
//	watched users  are fetched anew, and so are awaited users. Meanwhile the client is
//	               blind: State and OnState say so, Watched returns UNKNOWN, and
//	               Await waits.
//	own state      is fetched anew: status, availability, sessions, contacts
//	contacts       are fetched anew, then watched or not as they are by then
//	texts and      are kept by the service. The client sets nothing again: two devices
//	availability   that did would overwrite each other for ever.
//
// If the connection is closed by its owner, or given up by nats.go (see ConnectOptions),
// nothing survives: sessions and gateways end, waiting calls fail, and the client stays
// blind. Session.Err, Gateway.Err and State.Err say why.
//
// # A dead connection that seems alive
//
// A network (a NAT, a VPN, a firewall) may forget a connection without a word, while new
// ones work. Its status stays "connected" for minutes. So the client asks the broker for a
// sign of life when nothing has come for Options.Probe, or when an answer does not come. If
// there is none, it makes nats.go connect again: by default within 25 s after the network
// forgot. It asks the broker and not the service: while only the service is away, the
// connection stays. All users of the connection are affected. A negative Options.Probe
// switches this off.
//
// A server in lame duck mode is left for another (see LameDuck).
//
// # Watching
//
// A watched user's status is merged from snapshots and events by revision (PROTOCOL 2 and
// 5), so late, repeated and reordered events do no harm. OnUserStatusUpdated gets each
// watched user's status once as it is first fetched, then only changes. Of many changes of
// one user, or while a callback is slow, some may be left out. The last one always arrives.
// When messages are dropped, the connection breaks, or a fetch fails, the client is blind
// until it has fetched everything watched anew (PROTOCOL 8, G11).
//
// The broker may refuse a subscription or end one, because permissions were reloaded or a
// limit is reached. NATS does not bring it back. Then the client is blind, with the reason
// Refused. It tries until the broker accepts the subscription, and fetches. It knows this
// by the errors that the broker sends. It also takes a subscription for dead when a
// snapshot shows a change, and no event of it comes within 15 s.
//
// The watched users are those of SubscribeUserStatus and, if the service's
// friend-notification switch is on, the contacts of users who have sessions here. A user
// who is both stays watched until neither holds. Each takes a NATS subscription and 300
// bytes more (BenchmarkWatch), but no goroutine: all events go through one channel.
// Everything watched is fetched in pages of protocol.MaxUsersPerGet: when it is first
// watched or the connection comes back, again a moment later, and then once per
// Options.Resync, jittered.
//
// # The user's own
//
// For a user who has sessions here the client listens on self.<user>, with one subscription
// and one goroutine for all sessions. What the user changes on another device arrives like
// changes made here: by OnOwnChanged, and the status by OnUserStatusUpdated too. That is
// the owner's view, which shows an invisible user as ONLINE. But if the user is also
// watched, OnUserStatusUpdated has only what everybody sees. So a program that shows users
// to others cannot betray an invisible one (PROTOCOL 8, G9).
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
// everything it watches, and calls back with what has changed. A restored journal may also go on in
// its epoch, with lower revisions. The Client notices that by a fresh answer (PROTOCOL 2). It is
// blind for a moment (EpochChanged), forgets the revisions that it knew, fetches everything, and
// makes sessions and gateways renew their leases. It asks for a fresh answer
//
//   - after it was disconnected,
//   - when an answer or event is older than what it has known for 2 s,
//   - when an answer that must show a change of its own does not come for 1 s,
//   - with each regular snapshot.
//
// # Errors
//
// Errors of the service are errors of package protocol: compare with
// errors.Is(err, protocol.ErrSessionReplaced).
//
// Every text is checked before it is sent: valid UTF-8 without control characters, within the
// limits of the contract (for the custom status the highest limit that a service can have). The
// errors are the same as from the service, such as protocol.ErrInvalidRequest.
//
// "overloaded" and "unavailable" mean that nothing was done. Every request is tried again, with
// jittered backoff, until its context ends or, if that has no deadline, for Options.Patience. So
// nobody notices that one of several instances restarts or is cut off from its journal. If nobody
// answers at all, as while the only instance restarts, it is tried again for three seconds. Then
// the error is protocol.ErrUnavailable and nats.ErrNoResponders.
//
// "rate_limited" means that nothing was done because this user does too much. Login, Logout and
// SetIdle wait and ask again, within the same bounds. SetSelfStatus returns it at once, because by
// then somebody may want another text. protocol.Error's RetryAfter says when to ask again.
//
// A request without an answer, or with outcome_unknown, may have been done. It is tried twice more
// if it does no harm to do it twice:
//
//	asked again   Login, Logout, LogoutAll, SetIdle and renewals, GetUserStatus and
//	              other queries, everything of a Gateway, by the number of its request
//	not           SetSelfStatus, SetAvailability and changes of contacts: another
//	              device may have set something else meanwhile, which the earlier
//	              change must not overwrite. Kick and Erase, because the second
//	              answer would not be the first one's. The error is
//	              protocol.ErrOutcomeUnknown: do it again, or ask what holds.
//
// Such a change may still be done later. A Fresh get that is sent protocol.OutcomeWithin (10 s)
// after the request settles it: what its answer shows is final. If the context ends before an
// answer, the outcome is as unknown as with protocol.ErrOutcomeUnknown. The error is then an
// UnknownOutcome. It says when the change was sent; Settle waits, and tells what holds. A change of
// contacts is settled by the next one that is answered (PROTOCOL 4.6).
//
// A session that was kicked or replaced (protocol.ErrSessionReplaced) is never tried again.
//
// # Concurrency
//
// Everything is safe for concurrent use. Callbacks run one at a time, in order, on one
// goroutine of the Client. They may call the Client, but not Close, which waits for that
// goroutine.
package client
