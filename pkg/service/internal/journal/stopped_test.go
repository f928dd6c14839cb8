package journal

import (
	"errors"
	"testing"
	"time"

	"presence/pkg/internal/entry"
)

// TestG10_EverybodyIsAnswered: whatever becomes of an entry, each of its callers gets one answer:
// of a command, a renewal or a barrier. Nobody is counted as waiting afterwards. The callers of an
// entry that could not be applied once got no answer.
func TestG10_EverybodyIsAnswered(t *testing.T) {
	t.Parallel()
	const own = 2 // position of the entry; the first is genesis
	for _, c := range []struct {
		name  string
		apply func(Applied[string]) error // of that entry
		skip  []uint64
		goes  bool // the journal goes on
		want  error
	}{
		{name: "it cannot be applied", apply: func(Applied[string]) error { return errors.New("poison") }, want: ErrOutcomeUnknown},
		{name: "applying it panics", apply: func(Applied[string]) error { panic("poison") }, want: ErrOutcomeUnknown},
		{name: "it is skipped", skip: []uint64{own}, goes: true, want: ErrOutcomeUnknown},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := openWith(t, startBroker(t), "A", func(cfg *Config[string]) {
				apply := cfg.Apply
				cfg.Skip = c.skip
				cfg.Apply = func(a Applied[string]) error {
					if a.Position == own {
						return c.apply(a)
					}
					return apply(a)
				}
			})
			go func() { r.run <- r.Run(t.Context()) }()
			select {
			case <-r.CaughtUp(): // what is packed before that is given back for other reasons
			case <-time.After(20 * time.Second):
				t.Fatal("not caught up after 20 s")
			}
			r.inOneEntry("command", "renewal", "barrier")
			for _, caller := range []string{"command", "renewal", "barrier"} {
				r.waitAnswer(t, caller, c.want.Error())
			}
			if c.goes {
				r.submit(t, "after")
				r.waitAnswer(t, "after", "applied")
			} else {
				select {
				case err := <-r.run:
					if err == nil {
						t.Error("Run: got nil, want an error")
					}
				case <-time.After(20 * time.Second):
					t.Fatal("Run goes on behind an entry that cannot be applied")
				}
			}
			if n := r.Waiting(); n != 0 {
				t.Errorf("%d callers are counted as waiting", n)
			}
			if len(r.twice) > 0 {
				t.Errorf("answered twice: %v", r.twice)
			}
		})
	}
}

// inOneEntry has a command, a renewal and a barrier wait for the same entry.
func (r *rig) inOneEntry(command, renewal, barrier string) {
	j := r.Journal
	j.mu.Lock()
	defer j.mu.Unlock()
	j.pending.Command(entry.Command{Kind: entry.Set, User: command}, command)
	j.pending.Renew(7, renewal, true)
	j.pending.Barrier(barrier)
	j.waiting += 3
	j.poke()
}

// TestG10_StoppedWithMuchWaiting: callers who wait to be packed are answered too, however many
// entries they would have filled.
func TestG10_StoppedWithMuchWaiting(t *testing.T) {
	t.Parallel()
	r := openWith(t, startBroker(t), "A", func(cfg *Config[string]) {
		cfg.Apply = func(Applied[string]) error { return errors.New("poison") }
	})
	const n = 3 * entry.MaxCommands
	for i := range n {
		r.submit(t, string(rune('a'+i%26))+time.Duration(i).String())
	}
	if err := r.Run(t.Context()); err == nil {
		t.Error("Run: got nil, want an error")
	}
	if len(r.answered) != n || r.Waiting() != 0 {
		t.Errorf("%d of %d callers are answered, %d are counted as waiting", len(r.answered), n, r.Waiting())
	}
}
