package servicetest

import (
	"fmt"
	"os"
	"testing"

	"go.uber.org/goleak"
)

// Main is a TestMain that fails where goroutines are left over when all tests
// have passed, and that removes what Build built. Neither nats-server nor
// nats.go leaves any when it is stopped as the kit stops it, so there are no
// exceptions. In the processes of a Cluster it is the server.
func Main(m *testing.M) {
	if config := os.Getenv(configEnv); config != "" {
		if err := runServer(config); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		removeBinaries()
		os.Exit(code)
	}))
}

// CheckLeaks fails the test where goroutines that it started are left over at
// its end. Call it first, before anything is started: cleanups run in reverse.
func CheckLeaks(t testing.TB) {
	t.Helper()
	before := goleak.IgnoreCurrent()
	t.Cleanup(func() { goleak.VerifyNone(t, before) })
}
