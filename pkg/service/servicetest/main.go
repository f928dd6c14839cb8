package servicetest

import (
	"fmt"
	"os"
	"testing"

	"go.uber.org/goleak"
)

// Main is a TestMain that fails where goroutines are left over when all tests
// have passed, and that removes what Build built. Neither nats-server nor
// nats.go leaves any when it is stopped as the kit stops it, but for one, see
// leftByPut. In the processes of a Cluster it is the server.
func Main(m *testing.M) {
	if config := os.Getenv(configEnv); config != "" {
		if err := runServer(config); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	goleak.VerifyTestMain(m, leftByPut, goleak.Cleanup(func(code int) {
		removeBinaries()
		os.Exit(code)
	}))
}

// leftByPut is a goroutine that nats.go 1.55.0 leaves for ever where
// ObjectStore.Put, which stores snapshots, ends before that goroutine has begun:
// it waits for a channel that is nil by then.
var leftByPut = goleak.IgnoreTopFunction("github.com/nats-io/nats.go/jetstream.(*jetStream).resetPendingAcksOnReconnect")

// CheckLeaks fails the test where goroutines that it started are left over at
// its end. Call it first, before anything is started: cleanups run in reverse.
func CheckLeaks(t testing.TB) {
	t.Helper()
	before := goleak.IgnoreCurrent()
	t.Cleanup(func() { goleak.VerifyNone(t, before, leftByPut) })
}
