package integration

import (
	"fmt"
	"os"
	"testing"

	"presence/pkg/service/servicetest"
)

// The tests of this package hold the contract from outside: over real
// connections, through the wire or the Go client, against a service in this
// process or the real daemon. A guarantee's test carries its number.

func TestMain(m *testing.M) {
	if url := os.Getenv(gatewayEnv); url != "" {
		if err := runGateway(url); err != nil {
			fmt.Fprintln(os.Stderr, "the gateway of a test:", err)
			os.Exit(1)
		}
		return
	}
	servicetest.Main(m)
}
