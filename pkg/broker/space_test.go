package broker

import (
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// TestSpaceGuard: what would be stored is refused while too little of the disk is
// free, and stored again once there is a quarter more.
func TestSpaceGuard(t *testing.T) {
	b, err := Start(Config{Listen: "127.0.0.1:0", DataDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Shutdown()
	nc, err := b.Connect(Journal)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "S", Subjects: []string{"s"}}); err != nil {
		t.Fatal(err)
	}
	if _, err := js.Publish(t.Context(), "s", nil); err != nil {
		t.Fatal(err)
	}

	account, err := b.server.LookupAccount(JournalAccount)
	if err != nil {
		t.Fatal(err)
	}
	var free, size uint64
	g := &spaceGuard{account: account, logger: slog.New(slog.DiscardHandler), space: func(string) (uint64, uint64, error) { return free, size, nil }}
	const mib = 1 << 20
	for _, step := range []struct {
		free, size uint64
		refused    bool
	}{
		{64 * mib, 1000 * 1000 * mib, false},
		{64*mib - 1, 1000 * 1000 * mib, true},
		{0, 1000 * 1000 * mib, true},
		{80*mib - 1, 1000 * 1000 * mib, true}, // not before there is some more
		{80 * mib, 1000 * 1000 * mib, false},
		{6 * mib, 100 * mib, false}, // a small disk
		{4 * mib, 100 * mib, true},
		{6 * mib, 100 * mib, true},
		{7 * mib, 100 * mib, false},
	} {
		free, size = step.free, step.size
		if err := g.look(); err != nil {
			t.Fatal(err)
		}
		_, err := js.Publish(t.Context(), "s", nil)
		if e := new(jetstream.APIError); step.refused && !errors.As(err, &e) || !step.refused && err != nil {
			t.Errorf("%d of %d bytes free: got %v, want it refused: %t", free, size, err, step.refused)
		}
	}
	if got := account.JetStreamUsage().Limits.MaxStore; got != -1 {
		t.Errorf("afterwards the account may store %d bytes, want what it could before: any number", got)
	}
}

// TestSpaceGuardGoesOn: a look that failed is not the last one, or what it was to
// free would stay limited.
func TestSpaceGuardGoesOn(t *testing.T) {
	b, err := Start(Config{Listen: "127.0.0.1:0", DataDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Shutdown()
	account, err := b.server.LookupAccount(JournalAccount)
	if err != nil {
		t.Fatal(err)
	}
	limit := func() int64 { return account.JetStreamUsage().Limits.MaxStore }
	looks, freed := 0, make(chan struct{})
	g := &spaceGuard{account: account, logger: slog.New(slog.DiscardHandler), stop: make(chan struct{}), ended: make(chan struct{})}
	g.space = func(string) (uint64, uint64, error) {
		switch looks++; looks {
		case 1:
			return 0, 1 << 40, nil
		case 2:
			if limit() == -1 {
				t.Error("the account was not limited")
			}
			return 0, 0, errors.New("an I/O error")
		case 4:
			close(freed)
		}
		return 1 << 39, 1 << 40, nil
	}
	go g.run()
	defer g.end()
	select {
	case <-freed:
	case <-g.ended:
		t.Fatal("it has ended")
	case <-time.After(10 * time.Second):
		t.Fatal("it does not look again")
	}
	if got := limit(); got != -1 {
		t.Errorf("with space the account may store %d bytes, want any number", got)
	}
}
