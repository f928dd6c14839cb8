package servicetest

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"presence/pkg/broker"
	"presence/pkg/service"

	"github.com/nats-io/nats.go"
)

// Instance is a running service with its connections.
type Instance struct {
	Service                           *service.Service
	Clients, Answers, Journal, System *nats.Conn

	cancel context.CancelFunc
	done   chan struct{} // closed when Run has returned
	err    error         // what it returned; read after done
}

// StartInstance starts a service on the server and waits until it is ready.
func (s *Server) StartInstance(t testing.TB, changes ...func(*service.Config)) *Instance {
	t.Helper()
	i := &Instance{
		Clients: s.ConnectAs(t, broker.Clients),
		Answers: s.ConnectAs(t, broker.Answers),
		Journal: s.ConnectAs(t, broker.Journal),
		System:  s.ConnectAs(t, broker.System),
		done:    make(chan struct{}),
	}
	cfg := service.Config{Clients: i.Clients, Answers: i.Answers, Journal: i.Journal, System: i.System, Logger: logger(t, slog.LevelWarn)}
	cfg.Limits.UserChanges = service.Unlimited
	cfg.Heard = s.heard
	if !s.foreign {
		cfg.Server = s.broker.Vitals
	}
	for _, change := range changes {
		change(&cfg)
	}
	var err error
	if i.Service, err = service.New(cfg); err != nil {
		t.Fatalf("service.New: %v", err)
	}
	// Not the context of the test: that is done before the cleanups run.
	ctx, cancel := context.WithCancel(context.Background())
	i.cancel = cancel
	go func() {
		defer close(i.done)
		i.err = i.Service.Run(ctx)
	}()
	t.Cleanup(func() { i.end(t) })
	select {
	case <-i.Service.Ready():
	case <-i.done:
		t.Fatalf("the service stopped before it was ready: %v", i.err)
	case <-time.After(waitFor):
		t.Fatalf("the service was not ready within %v", waitFor)
	}
	return i
}

// Stop stops the service gracefully and closes its connections. It fails the test if Run returned
// an error. Stopping it twice does nothing.
func (i *Instance) Stop(t testing.TB) {
	t.Helper()
	i.end(t)
	if i.err != nil {
		t.Errorf("Run: %v", i.err)
	}
}

// Done is closed when Run has returned. Without Stop, Run returns only with an error.
func (i *Instance) Done() <-chan struct{} { return i.done }

// Err waits until Done is closed, and returns what Run returned.
func (i *Instance) Err() error { <-i.done; return i.err }

// end is Stop, but ignores the error of Run: the test may have wanted it.
func (i *Instance) end(t testing.TB) {
	t.Helper()
	i.cancel()
	select {
	case <-i.done:
	case <-time.After(waitFor):
		t.Fatalf("the service did not stop within %v", waitFor)
	}
	for _, nc := range []*nats.Conn{i.Clients, i.Answers, i.Journal, i.System} {
		nc.Close()
	}
}
