package journal

import (
	"fmt"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// setSubjects has the journal's stream take other subjects beside the entries', as an
// operator may.
func setSubjects(t *testing.T, js jetstream.JetStream, others ...string) {
	t.Helper()
	stream, err := js.Stream(t.Context(), DefaultStream)
	if err != nil {
		t.Fatal(err)
	}
	cfg := stream.CachedInfo().Config
	cfg.Subjects = append([]string{subjectOf(DefaultStream)}, others...)
	if _, err := js.UpdateStream(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
}

// TestJournal_ForeignMessages: somebody adds a subject to the journal's stream, and messages arrive
// on it. Running instances pass over them, and so do later starts, with a snapshot and without one.
// Their states are the same.
func TestJournal_ForeignMessages(t *testing.T) {
	t.Parallel()
	nc := startBroker(t)
	a, b := openWith(t, nc, "A", small).start(t), openWith(t, nc, "B").start(t)
	users := a.fill(t, 0, 5)
	setSubjects(t, a.js, "elsewhere.>")
	// The last one looks like an entry.
	for i, data := range []string{`{"a":1}`, "\x63binary", "", "\x01\x93"} {
		m := &nats.Msg{Subject: fmt.Sprint("elsewhere.", i), Data: []byte(data), Header: nats.Header{"X": {"y"}}}
		if _, err := a.js.PublishMsg(t.Context(), m); err != nil {
			t.Fatal(err)
		}
		user := fmt.Sprint("behind", i)
		a.submit(t, user)
		a.waitAnswer(t, user, "applied")
		users = append(users, user)
	}
	a.wantCommands(t, users)
	b.wantCommands(t, users)
	setSubjects(t, a.js) // otherwise no instance starts
	c := openWith(t, nc, "C").start(t)
	c.wantCommands(t, users)
	users = append(users, a.fill(t, 5, 30)...)
	a.snapshots(t, 1, 0)
	d := openWith(t, nc, "D").start(t)
	d.wantCommands(t, users)
	if len(d.restored) == 0 {
		t.Error("no snapshot was restored")
	}
}
