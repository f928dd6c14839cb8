package verify_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"presence/pkg/broker"
	"presence/pkg/protocol"
	"presence/pkg/service"
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

// populate makes users of every kind.
func populate(t *testing.T, nc *nats.Conn, n int) {
	t.Helper()
	for i := range n {
		id := fmt.Sprintf("user-%d", i)
		login, _ := subjects.Login(id)
		set, _ := subjects.Set(id)
		logout, _ := subjects.Logout(id)
		request(t, nc, login, `{"sessionID":"phone","platform":"android","ttlSeconds":3600}`)
		switch i % 4 {
		case 1:
			request(t, nc, set, `{"customStatus":"hello","expiresInSeconds":600}`)
		case 2:
			request(t, nc, set, `{"availability":"invisible"}`)
		case 3:
			request(t, nc, logout, `{"all":true}`)
		}
	}
}

func run(t *testing.T, kit *servicetest.Kit, change ...func(*verify.Config)) *verify.Report {
	t.Helper()
	cfg := verify.Config{Clients: kit.Connect(t), Journal: kit.ConnectAs(t, broker.Journal), Timeout: soon}
	for _, c := range change {
		c(&cfg)
	}
	report, err := verify.Run(t.Context(), cfg)
	if err != nil {
		t.Fatalf("Run: %v", err)
	}
	return report
}

// wantOnly fails if no difference in the report contains text, or if another one does not.
func wantOnly(t *testing.T, report *verify.Report, text string) {
	t.Helper()
	if report.OK() {
		t.Errorf("Run: nothing is off, want %q", text)
	}
	for _, d := range report.Differences {
		if !strings.Contains(d.What, text) {
			t.Errorf("Run: got the difference %+v, want only such as %q", d, text)
		}
	}
}

// snapshots waits until there are two snapshots and the journal is trimmed.
func snapshots(t *testing.T, kit *servicetest.Kit) {
	t.Helper()
	nc, js := kit.Connect(t), journal(t, kit)
	login, _ := subjects.Login("busy")
	servicetest.Eventually(t, 2*soon, "two snapshots and a trimmed journal", func() bool {
		request(t, nc, login, `{"sessionID":"s"}`)
		s, err := js.Stream(t.Context(), "PRESENCE_JOURNAL")
		return err == nil && s.CachedInfo().State.FirstSeq > 1
	})
}

func journal(t *testing.T, kit *servicetest.Kit) jetstream.JetStream {
	t.Helper()
	js, err := jetstream.New(kit.ConnectAs(t, broker.Journal))
	if err != nil {
		t.Fatal(err)
	}
	return js
}

// TestRun_AllIsWell: two running instances hold and answer what the snapshots and the journal say.
func TestRun_AllIsWell(t *testing.T) {
	t.Parallel()
	kit := servicetest.Start(t, servicetest.WithService(func(c *service.Config) {
		c.SnapshotEntries, c.JournalKeep = 50, time.Millisecond
	}))
	kit.AddInstance(t)
	nc := kit.Connect(t)
	populate(t, nc, 40)
	report := run(t, kit)
	if !report.OK() || len(report.Notes) > 0 {
		t.Errorf("Run: got %+v, %v", report.Differences, report.Notes)
	}
	if len(report.Instances) != 2 || report.Answers != 40 || report.Users != 40 || report.From != 0 || report.To < 60 {
		t.Errorf("Run: got %+v, want 2 instances and 40 users", report)
	}

	// Begun at a snapshot, while changes go on.
	snapshots(t, kit)
	stop := make(chan struct{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		set, _ := subjects.Set("user-0")
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
				nc.Request(set, fmt.Appendf(nil, `{"customStatus":"%d"}`, i), soon)
			}
		}
	}()
	report = run(t, kit)
	close(stop)
	<-done
	if !report.OK() {
		t.Errorf("Run while changes go on: got %+v", report.Differences)
	}
	if len(report.Snapshots) == 0 || report.From == 0 || len(report.Instances) != 2 || report.Answers != 41 {
		t.Errorf("Run while changes go on: got %+v, want it begun at a snapshot", report)
	}
}

// TestRun_SmallPayload: the NATS server takes no large messages. Answers are asked for in parts
// that fit, down to one user, and that user without the sessions.
func TestRun_SmallPayload(t *testing.T) {
	t.Parallel()
	kit := &servicetest.Kit{Server: servicetest.StartNATS(t, "max_payload: 16384")}
	kit.AddInstance(t)
	nc := kit.Connect(t)
	const users, sessions = 20, 32
	long := strings.Repeat(`\"\\`, protocol.MaxCustomStatusBytes/2)
	device := strings.Repeat("d", protocol.MaxDeviceBytes)
	for i := range users {
		id := fmt.Sprintf("user-%d", i)
		login, _ := subjects.Login(id)
		set, _ := subjects.Set(id)
		for s := range sessions {
			request(t, nc, login, fmt.Sprintf(`{"sessionID":"%d","device":%q,"ttlSeconds":3600}`, s, device))
			if i > 0 {
				break // the first user has many
			}
		}
		request(t, nc, set, `{"customStatus":"`+long+`"}`)
	}
	report := run(t, kit)
	if !report.OK() || len(report.Notes) > 0 || report.Answers != users {
		t.Errorf("Run: got %d answers, %+v, %v, want those about %d users", report.Answers, report.Differences, report.Notes, users)
	}
}

// TestRun_DamagedSnapshot: one of the last two snapshots has lost its content.
func TestRun_DamagedSnapshot(t *testing.T) {
	t.Parallel()
	kit := servicetest.Start(t, servicetest.WithService(func(c *service.Config) {
		c.SnapshotEntries, c.JournalKeep = 50, time.Millisecond
	}))
	populate(t, kit.Connect(t), 40)
	snapshots(t, kit)
	js := journal(t, kit)
	os, err := js.ObjectStore(t.Context(), "PRESENCE_SNAPSHOTS")
	if err != nil {
		t.Fatal(err)
	}
	list, err := os.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	newest := list[0]
	for _, o := range list {
		if o.Name > newest.Name {
			newest = o
		}
	}
	stream, err := js.Stream(t.Context(), "OBJ_PRESENCE_SNAPSHOTS")
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Purge(t.Context(), jetstream.WithPurgeSubject("$O.PRESENCE_SNAPSHOTS.C."+newest.NUID)); err != nil {
		t.Fatal(err)
	}
	report := run(t, kit)
	wantOnly(t, report, "the snapshot of position "+newest.Metadata["position"]+" cannot be used: ")
	if len(report.Instances) != 1 || !report.Instances[0].Same {
		t.Errorf("Run: got the instances %+v, want one that is the same by the older snapshot", report.Instances)
	}
}

// TestRun_DroppedSnapshot: a snapshot that was dropped before it was read is no difference. The
// service drops it when it has stored a later one.
func TestRun_DroppedSnapshot(t *testing.T) {
	t.Parallel()
	kit := servicetest.Start(t, servicetest.WithService(func(c *service.Config) {
		c.SnapshotEntries, c.JournalKeep = 50, time.Millisecond
	}))
	populate(t, kit.Connect(t), 40)
	snapshots(t, kit)
	os, err := journal(t, kit).ObjectStore(t.Context(), "PRESENCE_SNAPSHOTS")
	if err != nil {
		t.Fatal(err)
	}
	list, err := os.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	dropped := 0
	report := run(t, kit, func(c *verify.Config) {
		c.Progress = func(what string) {
			for _, o := range list {
				if dropped == 0 && strings.HasPrefix(what, "reading the snapshot of position "+o.Metadata["position"]+",") {
					dropped++
					if err := os.Delete(t.Context(), o.Name); err != nil {
						t.Errorf("dropping a snapshot: %v", err)
					}
				}
			}
		}
	})
	if dropped == 0 || !report.OK() {
		t.Errorf("Run after %d were dropped: got %+v", dropped, report.Differences)
	}
}

// TestRun_WrongAnswer: somebody else answers "get", with a wrong answer about one user.
func TestRun_WrongAnswer(t *testing.T) {
	t.Parallel()
	s := servicetest.StartNATS(t, `
accounts {
  SYS      { users: [ { user: presenced-system, password: secret } ] }
  PRESENCE { users: [ { user: presenced-journal, password: secret } ], jetstream: enabled }
  APP      { users: [ { user: presenced-clients, password: secret }, { user: client, password: secret } ]
             mappings: { "presence.v1.get": "lie.get", "truth.get": "presence.v1.get" } }
}`)
	kit := &servicetest.Kit{Server: s}
	kit.AddInstance(t)
	nc := kit.Connect(t)
	populate(t, nc, 4)
	if _, err := nc.Subscribe("lie.get", func(m *nats.Msg) {
		truth, err := nc.Request("truth.get", m.Data, soon)
		if err != nil {
			return
		}
		m.Respond([]byte(strings.Replace(string(truth.Data), `"hello"`, `"hullo"`, 1)))
	}); err != nil {
		t.Fatal(err)
	}
	report := run(t, kit)
	wantOnly(t, report, `the answer about user "user-1"`)
	want := []verify.Field{{Name: "customStatus", Have: `"hullo"`, Journal: `"hello"`}}
	if d := report.Differences; len(d) != 1 || fmt.Sprint(d[0].Fields) != fmt.Sprint(want) || d[0].Position == 0 {
		t.Errorf("Run: got %+v, want the fields %+v", d, want)
	}
}

// TestRun_Journal: an entry that cannot be applied is named, and so is an instance that does not
// answer.
func TestRun_Journal(t *testing.T) {
	t.Parallel()
	kit := servicetest.Start(t)
	populate(t, kit.Connect(t), 4)
	report := run(t, kit, func(c *verify.Config) { c.Prefix = "nobody.here"; c.Sample = -1 })
	wantOnly(t, report, "no instance answers on nobody.here.admin.instances")
	if len(report.Notes) != 1 || !strings.Contains(report.Notes[0], "did not answer") {
		t.Errorf("Run: got the notes %q, want one about the instance that did not answer", report.Notes)
	}

	kit.Instances[0].Stop(t)
	if _, err := journal(t, kit).Publish(t.Context(), "PRESENCE_JOURNAL.entries", []byte("garbage")); err != nil {
		t.Fatal(err)
	}
	report = run(t, kit)
	wantOnly(t, report, "cannot be applied")
	position := report.Differences[0].Position
	report = run(t, kit, func(c *verify.Config) { c.Skip = []uint64{position} })
	wantOnly(t, report, "no instance answers")
	b, err := json.Marshal(report)
	if err != nil || !strings.Contains(string(b), `"instances":[]`) {
		t.Errorf("as JSON: got %s, %v", b, err)
	}
}
