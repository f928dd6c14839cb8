// Package servicetest is the test kit: the one place of the project that
// starts NATS servers, services and daemons for tests.
//
//	func TestMain(m *testing.M) { servicetest.Main(m) }
//
//	func TestLogin(t *testing.T) {
//		kit := servicetest.Start(t)   // a broker and a service, ready
//		nc := kit.Connect(t)          // as a client, over TCP
//		…
//		kit.Restart(t)                // both, on the same data and port
//	}
//
// Start runs the service in this process over presenced's own broker. StartNATS
// runs a server as an operator would, with users and passwords, which can be
// stopped under running instances. StartDaemon runs the real presenced.
// StartCluster runs several servers as one cluster, each a process of its own
// that can be killed or paused, and presenced on it:
//
//	cl := servicetest.StartCluster(t, 3)
//	d := cl.StartDaemon(t)        // its journal has three replicas
//	leader := cl.StreamLeader(t, "PRESENCE_JOURNAL")
//	cl.Servers[leader].Kill(t)    // or Pause and Resume
//	cl.Servers[leader].Restart(t) // on the same data and ports
//
// Certificates writes those that a test of TLS needs.
//
// Everything started is stopped when its test ends, and every wait has a
// deadline, after which the test fails. Stopping is graceful and checked: an
// instance that does not stop, or stops with an error, fails the test.
//
// Tests change the same few users again and again, so the changes of a user are
// not limited, unless a test sets Limits.UserChanges, 0 for the default, or gives
// --user-changes.
//
// Logs of level warning and above go to the test's output; the environment
// variable PRESENCE_TEST_LOG=debug|info|warn|error chooses another level.
package servicetest
