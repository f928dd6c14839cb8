package service_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"presence/pkg/broker"
	"presence/pkg/protocol"
	"presence/pkg/service"
	"presence/pkg/service/servicetest"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"
)

// clientsAs is the accounts of StartNATS, with more lines for the user of presenced's connections
// for clients, and for the account.
func clientsAs(user, account string, others ...string) string {
	return fmt.Sprintf(`
accounts {
  SYS      { users: [ { user: presenced-system, password: secret } ] }
  PRESENCE { users: [ { user: presenced-journal, password: secret } ], jetstream: enabled }
  APP      { users: [ { user: presenced-clients, password: secret, %s }, { user: client, password: secret } ], %s }
  %s
}`, user, account, strings.Join(others, "\n"))
}

// run runs a service on a server until the test ends. It does not wait for it.
func run(t *testing.T, server *servicetest.Server, changes ...func(*service.Config)) *service.Service {
	t.Helper()
	cfg := service.Config{
		Clients: server.ConnectAs(t, broker.Clients), Answers: server.ConnectAs(t, broker.Answers),
		Journal: server.ConnectAs(t, broker.Journal), System: server.ConnectAs(t, broker.System),
	}
	for _, change := range changes {
		change(&cfg)
	}
	s, err := service.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	return s
}

func isReady(s *service.Service) bool {
	select {
	case <-s.Ready():
		return true
	default:
		return false
	}
}

// TestListener_SubjectRefused: an instance that may not subscribe to a subject is not ready, and
// names it. It becomes ready by itself when it may subscribe. This holds at the start, and after a
// reload that takes the permission away from a subscription.
func TestListener_SubjectRefused(t *testing.T) {
	t.Parallel()
	for name, subject := range map[string]string{
		"a request":                     "presence.v1.user.*.renew",
		"a request to every instance":   "presence.v1.admin.instances",
		"discovery, of which are three": "$SRV.STATS.>",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			denied := clientsAs(fmt.Sprintf("permissions: { subscribe: { deny: %q } }", subject), "")
			first, _, _ := strings.Cut(subject, ".>")
			server := servicetest.StartNATS(t, denied)
			s := run(t, server)
			awaitHealth(t, s, "refuses the subscription to "+first)
			if isReady(s) {
				t.Error("it is ready at the start although a subscription is refused")
			}
			server.Reload(t, clientsAs("", ""))
			awaitHealth(t, s, "")
			if !isReady(s) {
				t.Error("it is healthy and was never ready")
			}

			server.Reload(t, denied)
			awaitHealth(t, s, "refuses the subscription to "+first)
			server.Reload(t, clientsAs("", ""))
			awaitHealth(t, s, "")
			nc := server.Connect(t)
			login, _ := subjects.Login("alice")
			renew, _ := subjects.Renew("alice")
			if err := request(t, nc, login, protocol.LoginRequest{SessionID: "s"}, nil); err != nil {
				t.Errorf("login: %v", err)
			}
			if err := request(t, nc, renew, protocol.RenewRequest{SessionID: "s"}, nil); err != nil {
				t.Errorf("renew: %v", err)
			}
			if stats := askStats(t, nc); len(stats.Endpoints) == 0 {
				t.Error("STATS has no endpoints")
			}
		})
	}
}

// TestListener_LimitStays: while a limit refuses subscriptions, an instance tries again every few
// seconds. The refusals that follow do not make it try at once.
func TestListener_LimitStays(t *testing.T) {
	t.Parallel()
	server := servicetest.StartNATS(t, clientsAs("", "limits: { max_subscriptions: 12 }"))
	s := run(t, server)
	awaitHealth(t, s, "more: a limit on subscriptions is reached")
	before := s.Refusals()
	if isReady(s) {
		t.Error("it is ready")
	}
	time.Sleep(2 * time.Second) // for what must not happen
	_, subscriptions := s.SubscribeAnew()
	if n := s.Refusals() - before; n > uint64(4*subscriptions) {
		t.Errorf("%d subscriptions were refused in 2 s, of %d in all", n, subscriptions)
	}
}

// TestListener_Bounded: of the subscriptions that were given up, only those are remembered that may
// still bring requests.
func TestListener_Bounded(t *testing.T) {
	t.Parallel()
	s := run(t, servicetest.StartNATS(t))
	awaitHealth(t, s, "")
	for range 50 {
		s.SubscribeAnew()
	}
	servicetest.Eventually(t, soon, "what was given up to be forgotten", func() bool {
		remembered, subscriptions := s.SubscribeAnew()
		return remembered <= 2*subscriptions
	})
}

// gate lets a connection through until it is shut.
type gate struct {
	mu   sync.Mutex
	shut bool
	open []net.Conn
}

func (g *gate) Dial(network, address string) (net.Conn, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.shut {
		return nil, errors.New("the gate is shut")
	}
	c, err := net.Dial(network, address)
	if err == nil {
		g.open = append(g.open, c)
	}
	return c, err
}

func (g *gate) set(shut bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.shut = shut
	for _, c := range g.open {
		c.Close()
	}
	g.open = nil
}

// gated connects the connection for answers through a gate.
func gated(t *testing.T, server *servicetest.Server, g *gate) *nats.Conn {
	t.Helper()
	nc, err := nats.Connect(server.URLAs(servicetest.ClientsUser), nats.SetCustomDialer(g), nats.MaxReconnects(-1),
		nats.ReconnectBufSize(-1), nats.ReconnectWait(10*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return nc
}

// TestListener_AnswersGone: while the connection for answers is lost, an instance takes no
// requests. Another one gets them, or the broker says at once that there is nobody. Requests that
// were taken before are answered all the same.
func TestListener_AnswersGone(t *testing.T) {
	t.Parallel()
	server := servicetest.StartNATS(t)
	var g gate
	s := run(t, server, func(c *service.Config) { c.Answers = gated(t, server, &g) })
	awaitHealth(t, s, "")
	nc := server.Connect(t)
	set, _ := subjects.Set("alice")
	text := "before"
	if err := request(t, nc, set, protocol.SetRequest{CustomStatus: &text}, nil); err != nil {
		t.Fatal(err)
	}
	replies, err := nc.SubscribeSync(nc.NewInbox())
	if err != nil {
		t.Fatal(err)
	}
	// They wait for a revision for 2 s, and are answered when the connection is lost. What
	// is written to a connection at the moment when it is lost may be lost with it.
	now := revision(t, nc)
	waits, _ := protocol.Marshal(protocol.GetRequest{UserIDList: []string{"alice"}, Epoch: now.Epoch, MinRevision: now.Revision + 1<<30})
	const taken = 20
	for range taken {
		if err := nc.PublishRequest(subjects.Get(), replies.Subject, waits); err != nil {
			t.Fatal(err)
		}
	}
	revision(t, nc) // so they are at the instance
	g.set(true)
	for i := range taken {
		if _, err := replies.NextMsg(soon); err != nil {
			t.Fatalf("the answer to request %d of %d taken before: %v", i, taken, err)
		}
	}
	awaitHealth(t, s, "the connection for answers is lost: no requests are taken")
	servicetest.Eventually(t, soon, "the broker to say that nobody takes requests", func() bool {
		_, err := nc.Request(subjects.Get(), []byte(`{"userIDList":["alice"]}`), soon)
		return errors.Is(err, nats.ErrNoResponders)
	})
	for range 10 { // healthy means that the broker has the subscriptions, not that they are on their way
		g.set(true)
		awaitHealth(t, s, "the connection for answers is lost: no requests are taken")
		g.set(false)
		awaitHealth(t, s, "")
		if got := get(t, nc, "alice")[0]; got.CustomStatus != text {
			t.Errorf("get: got %+v, want the text %q", got, text)
		}
	}

	run2 := run(t, server)
	awaitHealth(t, run2, "")
	g.set(true)
	awaitHealth(t, s, "the connection for answers is lost: no requests are taken")
	for range 50 {
		get(t, nc, "alice") // by the other
	}
}

// TestG06_AnswersGone: while the connection for answers is lost, an instance takes no renewals.
// Nobody is lost because of that. If no other instance takes renewals, the amnesty begins at once;
// in any case there is one when the connection is back.
func TestG06_AnswersGone(t *testing.T) {
	t.Parallel()
	for name, instances := range map[string]int{"alone": 1, "another runs": 2} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := servicetest.StartNATS(t)
			var g gate
			s := run(t, server, func(c *service.Config) { c.Answers = gated(t, server, &g) })
			awaitHealth(t, s, "")
			for range instances - 1 {
				awaitHealth(t, run(t, server), "")
			}
			servicetest.Eventually(t, 2*soon, "all instances to be there, without an amnesty", func() bool {
				f := s.Figures()
				return f.Instances == instances && !f.InAmnesty
			})
			g.set(true)
			awaitHealth(t, s, "the connection for answers is lost: no requests are taken")
			if instances == 1 {
				servicetest.Eventually(t, soon, "an amnesty meanwhile", func() bool { return s.Figures().InAmnesty })
			} else if s.Figures().InAmnesty {
				t.Error("there is an amnesty though another instance takes the requests")
			}
			g.set(false)
			awaitHealth(t, s, "")
			servicetest.Eventually(t, soon, "an amnesty", func() bool { return s.Figures().InAmnesty })
		})
	}
}

// TestStop_EmbeddersSubscriptions: whoever runs the service may use its connections for other
// things. Their subscriptions do not keep the service from stopping.
func TestStop_EmbeddersSubscriptions(t *testing.T) {
	t.Parallel()
	kit := servicetest.Start(t)
	i := kit.Instances[0]
	for _, nc := range []*nats.Conn{i.Clients, i.Answers} {
		if _, err := nc.SubscribeSync("something.else"); err != nil {
			t.Fatal(err)
		}
	}
	begun := time.Now()
	i.Stop(t)
	if took := time.Since(begun); took > 5*time.Second { // it waited for 10 s
		t.Errorf("Stop took %v", took)
	}
}

// TestStop_HandlersAsBefore: when the service has stopped, a connection has its owner's error
// handler again.
func TestStop_HandlersAsBefore(t *testing.T) {
	t.Parallel()
	server := servicetest.StartBroker(t)
	handler := func(nc *nats.Conn) uintptr { return reflect.ValueOf(nc.ErrorHandler()).Pointer() }
	before := handler(server.ConnectAs(t, broker.Clients))
	i := server.StartInstance(t)
	if handler(i.Clients) == before {
		t.Fatal("the service hears of no errors")
	}
	i.Stop(t)
	if handler(i.Clients) != before {
		t.Error("a handler of the service stays")
	}
}

// TestStop_HandlerSetMeanwhile: an error handler that somebody set while the service ran stays. If
// it calls the handler that it replaced, that one calls the owner's.
func TestStop_HandlerSetMeanwhile(t *testing.T) {
	t.Parallel()
	server := servicetest.StartBroker(t)
	var told, asked atomic.Int32
	nc := server.ConnectAs(t, broker.Clients)
	nc.SetErrorHandler(func(*nats.Conn, *nats.Subscription, error) { told.Add(1) })
	i := server.StartInstance(t, func(c *service.Config) { c.Clients = nc })
	of := nc.ErrorHandler()
	nc.SetErrorHandler(func(nc *nats.Conn, sub *nats.Subscription, err error) {
		asked.Add(1)
		of(nc, sub, err)
	})
	i.Stop(t)
	nc.ErrorHandler()(nc, nil, errors.New("an error"))
	if asked.Load() != 1 || told.Load() != 1 {
		t.Errorf("an error was told %d times to the handler that was set meanwhile, and %d times to the first, want once each", asked.Load(), told.Load())
	}
}

func askStats(t *testing.T, nc *nats.Conn) (stats micro.Stats) {
	t.Helper()
	m, err := nc.Request("$SRV.STATS.presence", nil, soon)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(m.Data, &stats); err != nil {
		t.Fatal(err)
	}
	return stats
}

// TestStats_True: "nats service stats" reads these fields. An answer counts with the time since its
// request arrived, and an error counts as an error.
func TestStats_True(t *testing.T) {
	t.Parallel()
	kit := servicetest.Start(t)
	nc := kit.Connect(t)
	set, _ := subjects.Set("alice")
	for range 3 {
		if err := request(t, nc, set, map[string]any{}, nil); err == nil {
			t.Fatal("a set of nothing was not refused")
		}
	}
	now := revision(t, nc)
	if err := request(t, nc, subjects.Get(), protocol.GetRequest{UserIDList: []string{"a"}, Epoch: now.Epoch, MinRevision: now.Revision + 1<<30}, nil); err == nil {
		t.Fatal("a revision that does not come was not waited for")
	}
	byName := map[string]*micro.EndpointStats{}
	for _, e := range askStats(t, nc).Endpoints {
		byName[e.Name] = e
	}
	if e := byName["set"]; e.NumRequests != 3 || e.NumErrors != 3 || e.LastError != "400:invalid_request" || e.QueueGroup != protocol.ServiceName {
		t.Errorf("set: got %+v, want 3 requests and as many errors", e)
	}
	// One of two waited for 2 s.
	if e := byName["get"]; e.NumRequests != 2 || e.NumErrors != 1 || e.AverageProcessingTime < 500*time.Millisecond || e.ProcessingTime < e.AverageProcessingTime {
		t.Errorf("get: got %+v, want 2 requests, an error, and the time that one waited", e)
	}
}

// TestImportedService: an account that imports the service gets answers. presenced has the
// permissions of PROTOCOL 9 and no others.
func TestImportedService(t *testing.T) {
	t.Parallel()
	p := subjects.Permissions(protocol.RoleService, "")
	permissions, err := protocol.Marshal(map[string]any{ // JSON, which is the server's language too
		"publish": map[string]any{"allow": p.Publish.Allow}, "subscribe": map[string]any{"allow": p.Subscribe.Allow},
	})
	if err != nil {
		t.Fatal(err)
	}
	server := servicetest.StartNATS(t, clientsAs("permissions: "+string(permissions), `exports: [ { service: "presence.v1.>" } ]`, `
  OTHER {
    users: [ { user: other, password: secret } ]
    imports: [ { service: { account: APP, subject: "presence.v1.>" } } ]
  }`))
	kit := &servicetest.Kit{Server: server}
	kit.AddInstance(t)
	nc, err := nats.Connect(server.URLAs("other"))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	login, _ := subjects.Login("alice")
	set, _ := subjects.Set("alice")
	if err := request(t, nc, login, protocol.LoginRequest{}, nil); err != nil {
		t.Errorf("login: %v", err)
	}
	if err := request(t, nc, set, map[string]any{"customStatus": "from afar"}, nil); err != nil {
		t.Errorf("set: %v", err)
	}
	if got := get(t, nc, "alice")[0]; got.CustomStatus != "from afar" {
		t.Errorf("get: got %+v", got)
	}
}
