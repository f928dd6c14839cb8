// Package clienttest is a presence service for unit tests of programs that use
// package client: in the test's process, in memory, without a port, there in a
// few milliseconds.
//
//	func TestBadge(t *testing.T) {
//		s := clienttest.New(t, clienttest.Options{})
//		badge := NewBadge(s.Client(client.Options{}), "bob") // the code to be tested
//
//		s.SetStatus("bob", protocol.Online, "in a meeting")
//		…                                 // the badge turns green
//		s.Fail("get", protocol.ErrInternal)
//		s.Cut()                           // every client is cut off, and blind
//		s.Mend()
//		s.Kick("alice")                   // alice's sessions end
//		s.Advance(time.Hour)              // texts and overrides expire
//	}
//
// Users, texts, availability, invisible users, contacts, gateways and operators'
// requests follow the contract (PROTOCOL): Conformance says how far, and runs
// against this fake and the real service alike. What is other here:
//
//   - Time stands still but for Advance, which lets texts and overrides expire and
//     lost sessions be forgotten. Leases do not run out, and a closed connection is
//     not noticed: Lose says that a user's sessions were lost.
//   - The custom status is cleared when its user stops being ONLINE; there is no
//     other policy.
//   - There is one instance, without permissions, limits on rates and "fresh".
package clienttest
