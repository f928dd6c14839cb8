package clienttest_test

import (
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"go.uber.org/goleak"

	"presence/pkg/client/clienttest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// The fake is held to what the real service is held to.
func TestConformance(t *testing.T) {
	s := clienttest.New(t, clienttest.Options{FriendNotifications: true})
	clienttest.Conformance(t, clienttest.Target{
		Connect: func(testing.TB) *nats.Conn { return s.Connect() },
		Pass:    func(d time.Duration) { s.Advance(d) },
	})
}
