package wire

import (
	"encoding/json"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"presence/pkg/protocol"
	"presence/pkg/service/servicetest"

	"github.com/nats-io/nats.go"
)

// Recorder keeps what a subscription received.
type Recorder struct {
	mu       sync.Mutex
	messages []Received
}

type Received struct {
	At time.Time
	*nats.Msg
}

// Record subscribes and returns when the server knows it.
func Record(t testing.TB, nc *nats.Conn, patterns ...string) *Recorder {
	t.Helper()
	r := &Recorder{}
	for _, pattern := range patterns {
		if _, err := nc.Subscribe(pattern, r.add); err != nil {
			t.Fatal(err)
		}
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	return r
}

func (r *Recorder) add(m *nats.Msg) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.messages = append(r.messages, Received{time.Now(), m})
}

// All returns what arrived so far.
func (r *Recorder) All() []Received {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.messages[:len(r.messages):len(r.messages)]
}

// Has reports whether a message with this text in its body has arrived on the subject.
func (r *Recorder) Has(subject, text string) bool {
	for _, m := range r.All() {
		if m.Subject == subject && strings.Contains(string(m.Data), text) {
			return true
		}
	}
	return false
}

// Arrived is a public event and when it was received.
type Arrived struct {
	protocol.Event
	At time.Time
}

// Events returns the public events of a user, in the order of arrival, without
// those that came before with the same revision.
func (r *Recorder) Events(t testing.TB, userID string) (list []Arrived) {
	t.Helper()
	subject, err := Subjects.Event(userID)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[uint64]bool{}
	for _, m := range r.All() {
		if m.Subject != subject {
			continue
		}
		e := Arrived{At: m.At}
		if err := json.Unmarshal(m.Data, &e.Event); err != nil {
			t.Fatalf("event on %s: %v: %s", subject, err, m.Data)
		}
		if e.UserID != userID {
			t.Errorf("event on %s: got the user %q", subject, e.UserID)
		}
		if !seen[e.Revision] {
			seen[e.Revision] = true
			list = append(list, e)
		}
	}
	return list
}

// Await waits for an event of a user with a statusType, and returns the first.
func (r *Recorder) Await(t testing.TB, deadline time.Duration, userID string, want protocol.StatusType) (found Arrived) {
	t.Helper()
	servicetest.Eventually(t, deadline, userID+" to become "+want.String(), func() bool {
		for _, e := range r.Events(t, userID) {
			if e.StatusType == want {
				found = e
				return true
			}
		}
		return false
	})
	return found
}

// CheckUndisturbed fails where a change was announced or a status is not as
// before. Events of before may come again.
func CheckUndisturbed(t *testing.T, nc *nats.Conn, events *Recorder, before []protocol.Status) {
	t.Helper()
	for i, now := range Fresh(t, nc, UserIDs(before)...) {
		if !reflect.DeepEqual(now, before[i]) {
			t.Errorf("%s: got %+v, want %+v as before", now.UserID, now, before[i])
		}
		for _, e := range events.Events(t, now.UserID) {
			if e.Revision > before[i].Revision {
				t.Errorf("something was announced: %+v", e.Event)
			}
		}
	}
}

func UserIDs(list []protocol.Status) (ids []string) {
	for _, s := range list {
		ids = append(ids, s.UserID)
	}
	return ids
}
