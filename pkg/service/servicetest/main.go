package servicetest

import (
	"fmt"
	"os"
	"testing"

	"go.uber.org/goleak"
)

// Main is a TestMain. It fails if goroutines are left over when all tests have passed, and it
// removes what Build built. When the kit stops a nats-server and nats.go, they leave no goroutine
// but the one of leftByPut. In a process of a Cluster, Main runs the server.
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

// leftByPut is a goroutine that nats.go 1.55.0 may leave behind for ever. If ObjectStore.Put, which
// stores snapshots, ends before the goroutine has begun, it waits for a nil channel.
var leftByPut = goleak.IgnoreTopFunction("github.com/nats-io/nats.go/jetstream.(*jetStream).resetPendingAcksOnReconnect")

// CheckLeaks fails the test if goroutines that it started are left over at its end. Call it before
// anything is started: cleanups run in reverse.
func CheckLeaks(t testing.TB) {
	t.Helper()
	before := goleak.IgnoreCurrent()
	t.Cleanup(func() { goleak.VerifyNone(t, before, leftByPut) })
}
