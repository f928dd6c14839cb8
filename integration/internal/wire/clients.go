package wire

import (
	"reflect"
	"sync"
	"testing"

	"presence/pkg/client"
	"presence/pkg/protocol"

	"github.com/nats-io/nats.go"
)

// NewClient is a client that is closed with the test.
func NewClient(t testing.TB, nc *nats.Conn, opts client.Options) *client.Client {
	t.Helper()
	c, err := client.New(nc, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// LoginClient logs a user in through the client, until the test ends.
func LoginClient(t testing.TB, c *client.Client, userID string, opts client.LoginOptions) *client.Session {
	t.Helper()
	s, err := c.Login(t.Context(), userID, opts)
	if err != nil {
		t.Fatalf("Login(%q): %v", userID, err)
	}
	return s
}

// Subscribe watches users, all of whom can be watched.
func Subscribe(t testing.TB, c *client.Client, userIDs ...string) {
	t.Helper()
	failures, err := c.SubscribeUserStatus(t.Context(), userIDs)
	if err != nil || len(failures) > 0 {
		t.Fatalf("SubscribeUserStatus: %v, %+v", err, failures)
	}
}

// Teller keeps what a client was told.
type Teller struct {
	mu       sync.Mutex
	statuses []protocol.Status
	states   []client.State
}

func Listen(c *client.Client) *Teller {
	told := &Teller{}
	c.OnUserStatusUpdated(func(list []protocol.Status) {
		told.mu.Lock()
		defer told.mu.Unlock()
		told.statuses = append(told.statuses, list...)
	})
	c.OnState(func(s client.State) {
		told.mu.Lock()
		defer told.mu.Unlock()
		told.states = append(told.states, s)
	})
	return told
}

// All returns the statuses told so far.
func (told *Teller) All() []protocol.Status {
	told.mu.Lock()
	defer told.mu.Unlock()
	return told.statuses[:len(told.statuses):len(told.statuses)]
}

// Last returns the status that each user was told to have.
func (told *Teller) Last() map[string]protocol.Status {
	last := map[string]protocol.Status{}
	for _, s := range told.All() {
		last[s.UserID] = s
	}
	return last
}

// Blind reports whether the client has said so, for a reason.
func (told *Teller) Blind(reason client.Reason) bool {
	told.mu.Lock()
	defer told.mu.Unlock()
	for _, s := range told.states {
		if !s.Live && s.Reason == reason {
			return true
		}
	}
	return false
}

// CheckRising fails where a user was told a status older than one before.
func (told *Teller) CheckRising(t *testing.T) {
	t.Helper()
	last := map[string]protocol.Status{}
	for _, s := range told.All() {
		if s.Revision < last[s.UserID].Revision {
			t.Errorf("told %+v and then %+v", last[s.UserID], s)
		}
		last[s.UserID] = s
	}
}

// Truth returns the statuses of users as of now.
func Truth(t *testing.T, nc *nats.Conn, users []string) map[string]protocol.Status {
	t.Helper()
	statuses := map[string]protocol.Status{}
	for _, s := range Fresh(t, nc, users...) {
		statuses[s.UserID] = s
	}
	return statuses
}

// Watched returns the copies of a client.
func Watched(c *client.Client, users []string) map[string]protocol.Status {
	statuses := map[string]protocol.Status{}
	for _, id := range users {
		statuses[id], _ = c.Watched(id)
	}
	return statuses
}

func Equal(a, b protocol.Status) bool { return reflect.DeepEqual(a, b) }
