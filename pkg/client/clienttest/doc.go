// Package clienttest is a fake presence service for unit tests of programs that use package
// client. It runs in the test's process and memory, needs no port, and starts in a few
// milliseconds.
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
// The fake has the service's own state machine, so a request means the same as there. Conformance
// runs against this fake and against the real service. These are the differences:
//
//   - Time passes only by Advance, which documents what happens then.
//   - There is no journal on a disk. A change is applied at once, and a fresh read is like any
//     other. A read does not wait for its minRevision.
//   - There is one instance, with the default configuration, without permissions and without limits
//     on rates.
package clienttest
