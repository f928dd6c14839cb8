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
// The fake has the service's own state machine, so a request means what it means there. Conformance
// runs against this fake and the real service alike. What is different here:
//
//   - Time stands still but for Advance, which documents what happens meanwhile.
//   - There is no journal on a disk. A change is applied at once, and a fresh read is like any other.
//     A read does not wait for its minRevision.
//   - There is one instance, with the default configuration, without permissions and without limits
//     on rates.
package clienttest
