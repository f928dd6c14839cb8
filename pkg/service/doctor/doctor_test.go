package doctor_test

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"presence/pkg/broker"
	"presence/pkg/protocol"
	"presence/pkg/service"
	"presence/pkg/service/doctor"
	"presence/pkg/service/servicetest"
)

const waitFor = 30 * time.Second

func TestMain(m *testing.M) { servicetest.Main(m) }

func to(url string, opts ...nats.Option) doctor.Connect {
	return func() (*nats.Conn, error) { return nats.Connect(url, opts...) }
}

// examine runs the doctor, and fails the test if that takes longer than it may.
func examine(t *testing.T, cfg doctor.Config) *doctor.Report {
	t.Helper()
	begun := time.Now()
	r := doctor.Run(t.Context(), cfg)
	if took := time.Since(begun); took > doctor.Within+5*time.Second {
		t.Errorf("it took %v", took)
	}
	return r
}

// wantOnly fails unless the checks that are neither ok nor left out are those named, and each says
// so. A name is followed by its result and a part of what it says.
func wantOnly(t *testing.T, r *doctor.Report, want ...[3]string) {
	t.Helper()
	for _, c := range r.Checks {
		if c.Result == doctor.OK || c.Result == doctor.NotChecked {
			continue
		}
		expected := false
		for _, w := range want {
			expected = expected || matches(c, w)
		}
		if !expected {
			t.Errorf("got %+v as well", c)
		}
	}
	for _, w := range want {
		found := false
		for _, c := range r.Checks {
			found = found || matches(c, w)
		}
		if !found {
			t.Errorf("got %+v, want %v", r.Checks, w)
		}
	}
}

func matches(c doctor.Check, w [3]string) bool {
	return c.Name == w[0] && string(c.Result) == w[1] && strings.Contains(c.Found+" "+c.Means+" "+c.Do, w[2])
}

// TestRun: nothing is wrong with a service that was just started. Every kind of check is made, or
// says what it needs.
func TestRun(t *testing.T) {
	t.Parallel()
	k := servicetest.Start(t, servicetest.WithBroker(func(c *broker.Config) { c.SyncAlways = true }))
	k.AddInstance(t)
	awaitVitals(t, k)
	cfg := doctor.Config{Clients: to(k.URL()), Journal: func() (*nats.Conn, error) { return k.ConnectAs(t, broker.Journal), nil }}
	r := examine(t, cfg)
	wantOnly(t, r)
	names := map[string]int{}
	for _, c := range r.Checks {
		names[c.Name]++
	}
	for name, n := range map[string]int{"connection.server": 1, "connection.tls": 1, "permissions.get": 1, "permissions.list": 1, "permissions.stats": 1, "permissions.explain": 1,
		"permissions.instances": 1, "permissions.watch": 1, "service.answers": 1, "service.versions": 1, "service.rules": 1, "service.states": 1, "service.positions": 1,
		"service.format": 1, "service.owed": 1, "journal.snapshot": 1, "journal.sync": 1, "journal.stream": 1, "journal.snapshots": 1, "journal.contacts": 1,
		"instance.ready": 2, "instance.latency": 2, "instance.lag": 2, "instance.clock": 2, "instance.disk": 2, "instance.defects": 2, "instance.noticing": 2} {
		if names[name] != n {
			t.Errorf("%s: got %d times, want %d", name, names[name], n)
		}
	}
	cfg.Journal = nil
	wantOnly(t, examine(t, cfg), [3]string{"journal.streams", "notChecked", "--journal-creds"})
}

// awaitVitals waits until every instance has looked at the journal and at its server.
func awaitVitals(t *testing.T, k *servicetest.Kit) {
	t.Helper()
	nc := k.Connect(t)
	subjects := protocol.NewSubjects("")
	servicetest.Eventually(t, waitFor, "vitals", func() bool {
		inbox, err := nc.SubscribeSync(nc.NewInbox())
		if err != nil {
			t.Fatal(err)
		}
		defer inbox.Unsubscribe()
		_ = nc.PublishRequest(subjects.Instances(), inbox.Subject, []byte("{}"))
		for range k.Instances {
			var reply protocol.InstanceReply
			m, err := inbox.NextMsg(time.Second)
			if err != nil || protocol.Unmarshal(m.Data, &reply) != nil || reply.Vitals == nil || reply.Vitals.Journal == nil || reply.Vitals.Server == nil {
				return false
			}
		}
		return true
	})
}

// TestRun_Nothing: whatever does not answer, the report says which it is, in time.
func TestRun_Nothing(t *testing.T) {
	t.Parallel()
	b := servicetest.StartBroker(t)
	silent, err := net.Listen("tcp", "127.0.0.1:0") // accepts, and says nothing
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { silent.Close() })
	foreign := servicetest.StartNATS(t)
	k := servicetest.Start(t, servicetest.WithService(func(c *service.Config) { c.Prefix = "other.v1" }), servicetest.WithBroker(func(c *broker.Config) { c.Prefix, c.SyncAlways = "other.v1", true }))
	for _, c := range []struct {
		name string
		cfg  doctor.Config
		want [3]string
	}{
		{"no server", doctor.Config{Clients: to("nats://127.0.0.1:1")}, [3]string{"connection.server", "fail", "no servers"}},
		{"a server that says nothing", doctor.Config{Clients: to("nats://"+silent.Addr().String(), nats.Timeout(time.Minute))}, [3]string{"connection.server", "fail", "no connection within"}},
		{"wrong credentials", doctor.Config{Clients: to(foreign.URL(), nats.UserInfo("nobody", "x"))}, [3]string{"connection.server", "fail", "Authorization Violation"}},
		{"no presenced", doctor.Config{Clients: to(b.URL())}, [3]string{"service.answers", "fail", "presenced does not run on this NATS server"}},
		{"another prefix", doctor.Config{Clients: to(k.URL())}, [3]string{"service.answers", "fail", "give --prefix other.v1"}},
		{"a problem of the caller's", doctor.Config{Clients: func() (*nats.Conn, error) { return nil, &doctor.Problem{Found: "no file", Do: "name one"} }},
			[3]string{"connection.server", "fail", "name one"}},
		{"no journal", doctor.Config{Clients: to(k.URL()), Prefix: "other.v1", Journal: func() (*nats.Conn, error) { return nil, errors.New("no key") }},
			[3]string{"journal.streams", "fail", "no key"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			wantOnly(t, examine(t, c.cfg), c.want)
		})
	}
}

// TestRun_Permissions: what this user may not do is named, with the subject.
func TestRun_Permissions(t *testing.T) {
	t.Parallel()
	s := servicetest.StartNATS(t, `accounts {
  SYS      { users: [ { user: presenced-system, password: secret } ] }
  PRESENCE { users: [ { user: presenced-journal, password: secret } ], jetstream: enabled }
  APP      { users: [
    { user: presenced-clients, password: secret }
    { user: client, password: secret }
    { user: reader, password: secret, permissions: {
        publish: [ presence.v1.get, presence.v1.list, presence.v1.stats ], subscribe: [ "_INBOX.reader.>" ] } } ] }
}`)
	s.StartInstance(t)
	reader := func(opts ...nats.Option) doctor.Config {
		return doctor.Config{Clients: to(s.URL(), append(opts, nats.UserInfo("reader", servicetest.Password))...)}
	}
	wantOnly(t, examine(t, reader(nats.CustomInboxPrefix("_INBOX.reader"))),
		[3]string{"permissions.explain", "fail", "may not publish on presence.v1.explain"},
		[3]string{"permissions.instances", "fail", "may not publish on presence.v1.admin.instances"},
		[3]string{"permissions.watch", "fail", "may not subscribe to presence.v1.status.presence-doctor"},
		[3]string{"instances", "notChecked", "admin.instances"})
	r := examine(t, reader())
	wantOnly(t, r,
		[3]string{"permissions.answers", "fail", "--inbox-prefix"},
		[3]string{"permissions.explain", "fail", "presence.v1.explain"}, [3]string{"permissions.instances", "fail", "admin.instances"}, [3]string{"permissions.watch", "fail", "status"},
		[3]string{"service.answers", "notChecked", "permissions.answers"}, [3]string{"permissions.get", "notChecked", "needs answers"})
}

// TestRun_Faults: each fault is made for real, one after the other, and is found.
func TestRun_Faults(t *testing.T) {
	t.Parallel()
	k := servicetest.StartOverNATS(t)
	cfg := doctor.Config{Clients: to(k.URL()), Journal: to(k.URLAs(servicetest.JournalUser)), System: to(k.URLAs(servicetest.SystemUser))}
	lazy := [3]string{"servers.sync", "warn", "sync_interval: always"} // of the test's server
	wantOnly(t, examine(t, cfg), lazy)

	// Credentials of the wrong account.
	wrong := cfg
	wrong.System, wrong.Journal = cfg.Clients, cfg.System
	wantOnly(t, examine(t, wrong), [3]string{"servers", "fail", "not of the system account"},
		[3]string{"journal.stream", "fail", ""}, [3]string{"journal.snapshots", "fail", ""}, [3]string{"journal.contacts", "fail", ""})

	// Another version, and other rules.
	second := k.AddInstance(t, servicetest.WithService(func(c *service.Config) { c.Host, c.Version, c.Grace = "second", "9.9.9", 9*time.Second }))
	wantOnly(t, examine(t, cfg), lazy, [3]string{"service.versions", "warn", "9.9.9 (second/"}, [3]string{"service.rules", "warn", "9s (second/"})

	// An instance that was stopped a moment ago.
	second.Stop(t)
	wantOnly(t, examine(t, cfg), lazy, [3]string{"instance.answers", "warn", "is gone"})

	// A setting of the stream, which the instance notices, too.
	js, err := jetstream.New(k.ConnectAs(t, broker.Journal))
	if err != nil {
		t.Fatal(err)
	}
	stream, err := js.Stream(t.Context(), "PRESENCE_JOURNAL")
	if err != nil {
		t.Fatal(err)
	}
	changed := stream.CachedInfo().Config
	changed.MaxAge = 24 * time.Hour
	if _, err := js.UpdateStream(t.Context(), changed); err != nil {
		t.Fatal(err)
	}
	servicetest.Eventually(t, waitFor, "the instance to notice", func() bool { return k.Instances[0].Service.Health() != nil })
	wantOnly(t, examine(t, cfg), lazy, [3]string{"instance.answers", "warn", "is gone"},
		[3]string{"journal.stream", "fail", "nats stream edit PRESENCE_JOURNAL --max-age=0s"}, [3]string{"instance.ready", "fail", "max_age"})
}

// TestRun_Clock: an instance whose clock is an hour ahead is named, also one that no journal knows.
func TestRun_Clock(t *testing.T) {
	t.Parallel()
	b := servicetest.StartBroker(t)
	nc := b.ConnectAs(t, broker.Clients)
	subjects := protocol.NewSubjects(protocol.DefaultPrefix)
	writer := protocol.InstanceID{Host: "ahead", Version: "1.0.0", Start: "0123456789abcdef"}.String()
	reply := func(m *nats.Msg, v any) {
		data, err := protocol.Marshal(v)
		if err != nil {
			t.Error(err)
		}
		_ = m.Respond(data)
	}
	describe := func(m *nats.Msg) {
		reply(m, protocol.InstanceReply{Writer: writer, Version: "1.0.0", Vitals: &protocol.Vitals{Clock: protocol.TimeOf(time.Now().Add(time.Hour)), SystemAccount: true}})
	}
	for subject, answer := range map[string]nats.MsgHandler{subjects.Stats(): func(m *nats.Msg) { reply(m, protocol.StatsReply{}) },
		subjects.Instances(): describe, subjects.Instance(writer): describe} {
		if _, err := nc.Subscribe(subject, answer); err != nil {
			t.Fatal(err)
		}
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	r := examine(t, doctor.Config{Clients: to(b.URL())})
	wantOnly(t, r, [3]string{"instance.clock", "warn", "ahead of this machine's"})
}

// TestRun_Canceled: who gives up gets what there is at once.
func TestRun_Canceled(t *testing.T) {
	t.Parallel()
	k := servicetest.Start(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	begun := time.Now()
	doctor.Run(ctx, doctor.Config{Clients: to(k.URL())})
	if took := time.Since(begun); took > 5*time.Second {
		t.Errorf("it took %v", took)
	}
}
