// Package processes holds the contract from outside as package integration does, where
// the code under test runs in processes of its own: presenced and NATS servers that are
// killed, paused, cut off or flooded. The race detector would see nothing of these
// processes, so the package runs without it.
package processes

import (
	"testing"

	"presence/pkg/service/servicetest"
)

func TestMain(m *testing.M) { servicetest.Main(m) }
