package backup_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"presence/pkg/broker"
	"presence/pkg/internal/entry"
	"presence/pkg/internal/state"
	"presence/pkg/protocol"
	"presence/pkg/service"
	"presence/pkg/service/backup"
	"presence/pkg/service/internal/journal"
	"presence/pkg/service/servicetest"
	"presence/pkg/service/verify"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

func TestMain(m *testing.M) { servicetest.Main(m) }

const soon = 30 * time.Second

var subjects = protocol.NewSubjects("")

// request sends what the service must accept.
func request(t *testing.T, nc *nats.Conn, subject, body string) []byte {
	t.Helper()
	m, err := nc.Request(subject, []byte(body), soon)
	if err != nil {
		t.Fatalf("%s: %v", subject, err)
	}
	if m.Header.Get(protocol.ErrorHeader) != "" {
		t.Fatalf("%s: %s", subject, m.Data)
	}
	return m.Data
}

// user sends a request about a user.
func user(t *testing.T, nc *nats.Conn, of func(string) (string, error), id, body string) {
	t.Helper()
	subject, err := of(id)
	if err != nil {
		t.Fatal(err)
	}
	request(t, nc, subject, body)
}

// users are those of populate who are known in the end.
var users = []string{"alice", "bob", "carol", "dave", "eve", "of-gateway", "lost", "ümlaut/x"}

// populate makes everything that a service keeps.
func populate(t *testing.T, nc *nats.Conn) {
	t.Helper()
	user(t, nc, subjects.Login, "alice", `{"sessionID":"phone","deviceID":"d1","platform":"android","ttlSeconds":3600,"graceSeconds":30}`)
	user(t, nc, subjects.Login, "alice", `{"sessionID":"laptop","platform":"web","ttlSeconds":3600,"idle":true}`)
	user(t, nc, subjects.Set, "alice", `{"customStatus":"in a meeting","expiresInSeconds":3600}`)
	user(t, nc, subjects.Login, "bob", `{"sessionID":"s","ttlSeconds":3600}`)
	user(t, nc, subjects.Set, "bob", `{"availability":"invisible"}`)
	user(t, nc, subjects.Login, "carol", `{"sessionID":"s","ttlSeconds":3600}`)
	user(t, nc, subjects.Set, "carol", `{"availability":"busy","availabilityExpiresInSeconds":3600}`)
	user(t, nc, subjects.Login, "dave", `{"sessionID":"s"}`)
	user(t, nc, subjects.Logout, "dave", `{"all":true}`)
	user(t, nc, subjects.Set, "eve", `{"customStatus":"never logged in"}`)
	user(t, nc, subjects.Login, "ümlaut/x", `{"sessionID":"s","ttlSeconds":3600}`)
	user(t, nc, subjects.Login, "erased", `{"sessionID":"s"}`)
	user(t, nc, subjects.Contacts, "erased", `{"add":["alice"]}`)
	request(t, nc, subjects.Erase(), `{"userID":"erased"}`)
	user(t, nc, subjects.Contacts, "alice", `{"add":["bob","carol"]}`)
	user(t, nc, subjects.Contacts, "ümlaut/x", `{"add":["alice"]}`)
	open, _ := subjects.Gateway("gw", "open")
	apply, _ := subjects.Gateway("gw", "apply")
	request(t, nc, open, `{"process":"p","ttlSeconds":600}`)
	request(t, nc, apply, `{"process":"p","seq":1,"ops":[{"op":"login","userID":"of-gateway","sessionID":"g"},{"op":"login","userID":"lost","sessionID":"l"},{"op":"lost","userID":"lost","sessionID":"l"}]}`)
}

// answers are what the service says of everybody, without what a restore changes.
func answers(t *testing.T, nc *nats.Conn) string {
	t.Helper()
	ids, _ := json.Marshal(append(users, "erased"))
	list := []string{subjects.Get(), fmt.Sprintf(`{"userIDList":%s}`, ids)}
	for _, id := range users {
		status, _ := subjects.OwnStatus(id)
		contacts, _ := subjects.Contacts(id)
		list = append(list, status, `{}`, contacts, `{}`)
	}
	var all strings.Builder
	for i := 0; i < len(list); i += 2 {
		var reply map[string]any
		if err := json.Unmarshal(request(t, nc, list[i], list[i+1]), &reply); err != nil {
			t.Fatal(err)
		}
		for _, key := range []string{"epoch", "revision", "asOf", "version"} {
			delete(reply, key)
		}
		b, _ := json.Marshal(reply)
		fmt.Fprintf(&all, "%s\n", b)
	}
	return all.String()
}

func take(t *testing.T, s *servicetest.Server, w io.Writer) *backup.Info {
	t.Helper()
	info, err := backup.Take(t.Context(), w, backup.Source{Journal: s.ConnectAs(t, broker.Journal), By: "test 1", Timeout: soon})
	if err != nil {
		t.Fatalf("Take: %v", err)
	}
	return info
}

func restore(t *testing.T, s *servicetest.Server, r io.Reader) (*backup.Info, error) {
	t.Helper()
	return backup.Restore(t.Context(), r, backup.Target{Journal: s.ConnectAs(t, broker.Journal)})
}

// taken is a backup of what populate makes.
func taken(t *testing.T) []byte {
	t.Helper()
	kit := servicetest.Start(t)
	populate(t, kit.Connect(t))
	var file bytes.Buffer
	take(t, kit.Server, &file)
	return file.Bytes()
}

// TestRoundTrip: what was backed up while the service runs is restored on another server, and
// answers the same. It is a new epoch, and the instance agrees with its journal.
func TestRoundTrip(t *testing.T) {
	t.Parallel()
	old := servicetest.Start(t, servicetest.WithService(func(c *service.Config) { c.Retention = 48 * time.Hour }))
	populate(t, old.Connect(t))
	want := answers(t, old.Connect(t))
	var file bytes.Buffer
	info := take(t, old.Server, &file)
	// The erased user is in the state until the erasure is announced.
	if info.Users < len(users) || info.Contacts != 2 || info.Gateways != 1 || info.Damaged != 0 {
		t.Errorf("Take: got %+v, want %d users, the contacts of 2, and a gateway", info, len(users))
	}
	checked, err := backup.Check(bytes.NewReader(file.Bytes()))
	if err != nil || *checked != *info {
		t.Errorf("Check: got %+v, %v, want %+v", checked, err, info)
	}

	next := servicetest.StartNATS(t)
	if got, err := restore(t, next, &file); err != nil || *got != *info {
		t.Fatalf("Restore: got %+v, %v, want %+v", got, err, info)
	}
	i := next.StartInstance(t, func(c *service.Config) { c.Retention = 48 * time.Hour })
	nc := next.Connect(t)
	if got := answers(t, nc); got != want {
		t.Errorf("after the restore: got\n%s\nwant\n%s", got, want)
	}
	report, err := verify.Run(t.Context(), verify.Config{Clients: nc, Journal: i.Journal, Timeout: 2 * time.Second})
	if err != nil || !report.OK() || report.Epoch == info.Epoch || len(report.Instances) != 1 {
		t.Errorf("verify: got %+v, %v, want one instance that is right, in another epoch than %s", report, err, info.Epoch)
	}
	// What is known to be missing must not be given twice.
	user(t, nc, subjects.Set, "alice", `{"customStatus":"goes on"}`)
	apply, _ := subjects.Gateway("gw", "apply")
	request(t, nc, apply, `{"process":"p","seq":2,"ops":[{"op":"logout","userID":"of-gateway","sessionID":"g"}]}`)
}

// TestTake_Busy: a backup is the state at its position, while changes go on and the journal is
// trimmed.
func TestTake_Busy(t *testing.T) {
	t.Parallel()
	kit := servicetest.Start(t, servicetest.WithService(func(c *service.Config) { c.SnapshotEntries = 200 }))
	js, err := jetstream.New(kit.ConnectAs(t, broker.Journal))
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	busy := make(chan struct{})
	nc := kit.Connect(t)
	go func() {
		defer close(busy)
		for i := 0; ctx.Err() == nil; i++ {
			set, _ := subjects.Set(fmt.Sprint("user-", i%50))
			_, _ = nc.Request(set, fmt.Appendf(nil, `{"customStatus":"%d"}`, i), soon)
		}
	}()
	var infos []*backup.Info
	servicetest.Eventually(t, soon, "a snapshot and entries behind it", func() bool {
		infos = append(infos, take(t, kit.Server, io.Discard))
		r, err := journal.OpenReader(t.Context(), js, "", "")
		if err != nil {
			t.Fatal(err)
		}
		list, err := r.Snapshots(t.Context())
		return err == nil && len(list) > 0 && infos[len(infos)-1].Position > list[0].Position
	})
	stop()
	<-busy

	// The journal is whole: entries are kept for ten minutes.
	r, err := journal.OpenReader(t.Context(), js, "", "")
	if err != nil {
		t.Fatal(err)
	}
	entries, err := r.Entries(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	defer entries.Stop()
	for s := state.New(); len(infos) > 0; {
		position, at, data, err := entries.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		var e entry.Entry
		if err := entry.Decode(data, &e); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Apply(&e, position, at, false); err != nil {
			t.Fatal(err)
		}
		for len(infos) > 0 && infos[0].Position == position {
			if want := fmt.Sprintf("%016x", s.Digest()); infos[0].Digest != want {
				t.Errorf("the backup of position %d has the digest %s, want %s", position, infos[0].Digest, want)
			}
			infos = infos[1:]
		}
	}
}

// TestCheck_Altered: a file that was changed in any byte, or cut anywhere, is refused, and the
// error says so.
func TestCheck_Altered(t *testing.T) {
	t.Parallel()
	file := taken(t)
	refused := func(what string, b []byte) {
		t.Helper()
		_, err := backup.Check(bytes.NewReader(b))
		if !errors.Is(err, backup.ErrDamaged) && !errors.Is(err, backup.ErrNewer) {
			t.Errorf("%s: got %v, want that it is refused", what, err)
		}
	}
	for i := range file {
		for _, bit := range []byte{0x01, 0x80} {
			b := bytes.Clone(file)
			b[i] ^= bit
			refused(fmt.Sprintf("byte %d changed by %#x", i, bit), b)
		}
		refused(fmt.Sprintf("cut at byte %d of %d", i, len(file)), file[:i])
		refused(fmt.Sprintf("byte %d is missing", i), append(bytes.Clone(file[:i]), file[i+1:]...))
	}
	refused("one byte more", append(bytes.Clone(file), 'x'))
	refused("another file", []byte("PK\x03\x04 and so on"))
	if _, err := backup.Check(bytes.NewReader(file[:len(file)/2])); err == nil || !strings.Contains(err.Error(), "it was cut off") {
		t.Errorf("half a file: got %v, want that it was cut off", err)
	}
}

// TestRestore_Refused: what cannot be restored leaves the store as it was. What was begun, and not
// finished, is taken away, also if it comes through a pipe.
func TestRestore_Refused(t *testing.T) {
	t.Parallel()
	file := taken(t)
	s := servicetest.StartBroker(t)
	js, err := jetstream.New(s.ConnectAs(t, broker.Journal))
	if err != nil {
		t.Fatal(err)
	}
	altered := bytes.Clone(file)
	altered[len(file)-20] ^= 1 // in the end, after the first entry is written
	for what, r := range map[string]io.Reader{
		"a file":                   bytes.NewReader(altered),
		"a pipe":                   io.MultiReader(bytes.NewReader(altered)),
		"a pipe that is cut":       io.MultiReader(bytes.NewReader(file[:len(file)-100])),
		"a pipe that ends at once": io.MultiReader(),
	} {
		if _, err := restore(t, s, r); !errors.Is(err, backup.ErrDamaged) {
			t.Errorf("%s: got %v, want ErrDamaged", what, err)
		}
		if a, err := js.AccountInfo(t.Context()); err != nil || a.Streams != 0 {
			t.Errorf("%s: got %d streams, %v, want none", what, a.Streams, err)
		}
	}
	if _, err := restore(t, s, io.MultiReader(bytes.NewReader(file))); err != nil {
		t.Errorf("a whole pipe: got %v", err)
	}
	if _, err := restore(t, s, bytes.NewReader(file)); !errors.Is(err, backup.ErrNotEmpty) {
		t.Errorf("into a store that is in use: got %v, want ErrNotEmpty", err)
	}
	s.StartInstance(t)
}

// TestRestore_Interrupted: no instance starts on a store whose restore was interrupted. The next
// restore begins anew.
func TestRestore_Interrupted(t *testing.T) {
	t.Parallel()
	file := taken(t)
	s := servicetest.StartBroker(t)
	nc := s.ConnectAs(t, broker.Journal)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	r := journal.NewReplanting(js, "", "", 1)
	if err := r.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Begin(t.Context(), 100, []byte("an entry")); err != nil {
		t.Fatal(err)
	}
	svc, err := service.New(service.Config{Clients: s.ConnectAs(t, broker.Clients), Journal: nc})
	if err != nil {
		t.Fatal(err)
	}
	if err := svc.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "did not finish") {
		t.Errorf("Run: got %v, want that a restore did not finish", err)
	}
	if _, err := restore(t, s, bytes.NewReader(file)); err != nil {
		t.Fatalf("Restore: %v", err)
	}
	s.StartInstance(t)
	if got := s.Connect(t); !strings.Contains(answers(t, got), "in a meeting") {
		t.Error("alice has no text after the second restore")
	}
}

// TestTake_Nothing: a store without a journal has nothing to back up.
func TestTake_Nothing(t *testing.T) {
	t.Parallel()
	s := servicetest.StartBroker(t)
	if _, err := backup.Take(t.Context(), io.Discard, backup.Source{Journal: s.ConnectAs(t, broker.Journal), By: "test"}); !errors.Is(err, backup.ErrNoJournal) {
		t.Errorf("Take: got %v, want ErrNoJournal", err)
	}
}
