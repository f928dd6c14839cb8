package journal

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"presence/pkg/broker"
	"presence/pkg/internal/entry"
)

// rig is a journal, with what its Apply and Failed were called with.
type rig struct {
	*Journal[string]
	nc     *nats.Conn
	js     jetstream.JetStream
	cancel context.CancelFunc
	run    chan error

	mu       sync.Mutex
	commands []string // users of the commands applied, in order
	renewed  []uint32 // leases renewed, in order
	last     uint64
	answered map[string]string // caller → "applied" or an error
	twice    []string
	restored []uint64 // positions of the snapshots

	asleep sync.Mutex // held to keep the rig from applying
}

func startBroker(t *testing.T) *nats.Conn {
	t.Helper()
	b, err := broker.Start(broker.Config{Listen: "127.0.0.1:0", DataDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Shutdown)
	nc, err := b.Connect(broker.Journal)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return nc
}

// open opens a journal; wrap may stand between it and JetStream.
func open(t *testing.T, nc *nats.Conn, instance string, wrap func(jetstream.JetStream) jetstream.JetStream) *rig {
	t.Helper()
	return openWith(t, nc, instance, func(cfg *Config[string]) {
		if wrap != nil {
			cfg.JetStream = wrap(cfg.JetStream)
		}
	})
}

func openWith(t *testing.T, nc *nats.Conn, instance string, opts ...func(*Config[string])) *rig {
	t.Helper()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{nc: nc, js: js, answered: map[string]string{}, run: make(chan error, 1)}
	cfg := Config[string]{
		JetStream: js, Instance: instance, Epoch: "E1",
		Genesis:  []entry.Command{{Kind: entry.RequestsLost}},
		Stamp:    func(h *entry.Header, _ time.Time) { h.Epoch = "E1" },
		Apply:    r.apply,
		Reset:    r.reset,
		Restore:  r.restore,
		Snapshot: r.snapshot,
		Skipped: func(position uint64, _ int64) error {
			return r.apply(Applied[string]{Entry: &entry.Entry{}, Position: position})
		},
		Failed: func(callers []string, err error) { r.answer(callers, err.Error()) },
	}
	for _, o := range opts {
		o(&cfg)
	}
	if r.Journal, err = Open(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	r.maintainEvery = 50 * time.Millisecond
	return r
}

func (r *rig) start(t *testing.T) *rig {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	r.cancel = cancel
	go func() { r.run <- r.Run(ctx) }()
	t.Cleanup(cancel)
	select {
	case <-r.CaughtUp():
	case err := <-r.run:
		t.Fatalf("Run: %v", err)
	case <-time.After(10 * time.Second):
		t.Fatal("not caught up after 10 s")
	}
	return r
}

func (r *rig) reset(position uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.commands, r.last = nil, position
}

func (r *rig) apply(a Applied[string]) error {
	r.asleep.Lock()
	defer r.asleep.Unlock()
	r.mu.Lock()
	if a.Position != r.last+1 {
		r.mu.Unlock()
		return fmt.Errorf("position %d after %d", a.Position, r.last)
	}
	r.last = a.Position
	for _, c := range a.Entry.Commands {
		if c.User != "" {
			r.commands = append(r.commands, c.User)
		}
	}
	r.renewed = append(r.renewed, a.Entry.Renewed...)
	r.mu.Unlock()
	if a.Callers == nil {
		return nil
	}
	for i, c := range a.Callers.Commands {
		if a.Entry.Commands[i].User != c {
			return fmt.Errorf("caller %s came back with the command of %s", c, a.Entry.Commands[i].User)
		}
	}
	r.answer(a.Callers.all(), "applied")
	return nil
}

func (r *rig) answer(callers []string, with string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range callers {
		if _, again := r.answered[c]; again {
			r.twice = append(r.twice, c)
		}
		r.answered[c] = with
	}
}

func (r *rig) submit(t *testing.T, user string) {
	t.Helper()
	if err := r.Submit(entry.Command{Kind: entry.Set, User: user}, user); err != nil {
		t.Fatalf("Submit(%q): %v", user, err)
	}
}

// wait waits until a condition on the rig holds.
func (r *rig) wait(t *testing.T, what string, cond func() bool) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for {
		r.mu.Lock()
		ok := cond()
		r.mu.Unlock()
		if ok {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("not within 20 s: %s", what)
		}
		time.Sleep(time.Millisecond)
	}
}

func (r *rig) waitAnswer(t *testing.T, caller, want string) {
	t.Helper()
	r.wait(t, caller+" answered "+want, func() bool { return strings.Contains(r.answered[caller], want) })
}
