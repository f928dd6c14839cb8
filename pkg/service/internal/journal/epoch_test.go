package journal

import (
	"slices"
	"sync"
	"testing"
	"time"

	"presence/pkg/internal/entry"
)

// epochs has a rig keep the journal's epoch, as the state machine does.
func epochs(cfg *Config[string]) {
	var mu sync.Mutex
	last := entry.Header{Epoch: "E1"}
	apply := cfg.Apply
	cfg.Apply = func(a Applied[string]) error {
		mu.Lock()
		if a.Entry.Header.Generation > last.Generation {
			last = a.Entry.Header
		}
		mu.Unlock()
		return apply(a)
	}
	cfg.Stamp = func(h *entry.Header, _ time.Time) {
		mu.Lock()
		defer mu.Unlock()
		h.Epoch, h.Generation = last.Epoch, last.Generation
	}
}

// TestNextEpoch: a new epoch of a journal that is whole takes one entry. No snapshot is stored or
// removed for it, and a later start goes on from a snapshot of an earlier epoch. It begins although
// another instance appends meanwhile.
func TestNextEpoch(t *testing.T) {
	nc := startBroker(t)
	a, users := twoSnapshots(t, nc)
	before := a.snapshots(t, 2, 0)
	if !a.Made() {
		t.Error("the instance that wrote the first entry says that it did not")
	}
	a.stop(t)

	b := openWith(t, nc, "B", epochs).start(t)
	if b.Made() {
		t.Error("an instance that found the journal says that it made it")
	}
	other := openWith(t, nc, "C", epochs).start(t)
	ending := make(chan struct{})
	var appending sync.WaitGroup
	appending.Go(func() {
		for {
			select {
			case <-ending:
				return
			default:
				other.Tick()
			}
		}
	})
	for _, epoch := range []string{"E2", "E3"} {
		if err := b.NextEpoch(t.Context(), epoch); err != nil {
			t.Fatal(err)
		}
		var h entry.Header
		if b.cfg.Stamp(&h, time.Now()); h.Epoch != epoch {
			t.Errorf("the epoch is %s, want %s", h.Epoch, epoch)
		}
	}
	close(ending)
	appending.Wait()
	b.wantCommands(t, append(slices.Clone(users), b.fill(t, 300, 305)...))
	if after := b.snapshots(t, 2, 0); !slices.EqualFunc(before, after, func(x, y stored) bool { return x.name == y.name }) {
		t.Errorf("the snapshots were %v, and are %v", before, after)
	}
	other.stop(t)
	b.stop(t)

	d := openWith(t, nc, "D", epochs).start(t)
	d.wantCommands(t, b.commands)
	var h entry.Header
	if d.cfg.Stamp(&h, time.Now()); h.Epoch != "E3" || h.Generation != 3 {
		t.Errorf("started again in epoch %s, generation %d, want E3 and 3", h.Epoch, h.Generation)
	}
	if !slices.Equal(d.restored, []uint64{before[0].position}) {
		t.Errorf("restored the snapshots of %v, want the newest, %d", d.restored, before[0].position)
	}
}
