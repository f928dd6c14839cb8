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
// Start runs the service in this process over presenced's own broker. StartNATS runs a server as an
// operator would, with users and passwords. It can be stopped while instances run. StartDaemon runs
// the real presenced. StartCluster runs several servers as one cluster, and presenced can run on
// it. Each server is a process of its own that can be killed or paused:
//
//	cl := servicetest.StartCluster(t, 3)
//	d := cl.StartDaemon(t)        // its journal has three replicas
//	leader := cl.StreamLeader(t, "PRESENCE_JOURNAL")
//	cl.Servers[leader].Kill(t)    // or Pause and Resume
//	cl.Servers[leader].Restart(t) // on the same data and ports
//
// Certificates writes the files that a test of TLS needs.
//
// Whatever a test starts is stopped when the test ends. Every wait has a deadline, after which the
// test fails. An instance stops gracefully: if it does not stop, or Stop finds an error, the test
// fails.
//
// Tests change the same few users again and again. So the changes of a user are not limited, unless
// a test sets Limits.UserChanges (0 for the default) or gives --user-changes.
//
// Logs of level warning and above go to the test's output. The environment variable
// PRESENCE_TEST_LOG=debug|info|warn|error chooses another level.
package servicetest
