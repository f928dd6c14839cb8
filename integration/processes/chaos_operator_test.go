package processes

import (
	"context"
	"strconv"
	"testing"
	"time"

	"presence/integration/internal/wire"
	"presence/pkg/service/servicetest"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// What an operator may do to the streams while presenced runs. Nothing that was
// acknowledged is lost by any of it, and every instance is ready again by itself, or when
// the operator has taken it back.

const (
	snapshotsStream = "OBJ_PRESENCE_SNAPSHOTS"
	contactsStream  = "KV_PRESENCE_CONTACTS"
)

// operations are those of an operator; the short run has one of them.
var operations = []func(*chaos, testing.TB) fault{
	(*chaos).journalPurged, (*chaos).snapshotsPurged, (*chaos).snapshotsDeleted, (*chaos).contactsDeleted,
	(*chaos).journalLimited, (*chaos).subjectAdded,
}

// operation draws one.
func (c *chaos) operation(t testing.TB) fault {
	return operations[c.chance.IntN(len(operations))](c, t)
}

func (c *chaos) journalPurged(testing.TB) fault {
	return c.once("the journal purged", func(ctx context.Context, js jetstream.JetStream) error { return purge(ctx, js, journalStream) })
}

func (c *chaos) snapshotsPurged(testing.TB) fault {
	return c.once("the journal and the snapshots purged", func(ctx context.Context, js jetstream.JetStream) error {
		if err := purge(ctx, js, snapshotsStream); err != nil {
			return err
		}
		return purge(ctx, js, journalStream)
	})
}

func (c *chaos) snapshotsDeleted(testing.TB) fault {
	return c.once("the snapshots' bucket deleted", func(ctx context.Context, js jetstream.JetStream) error {
		return js.DeleteStream(ctx, snapshotsStream)
	})
}

func (c *chaos) contactsDeleted(testing.TB) fault {
	return c.once("the contacts' bucket deleted", func(ctx context.Context, js jetstream.JetStream) error {
		return js.DeleteStream(ctx, contactsStream)
	})
}

func (c *chaos) journalLimited(testing.TB) fault {
	return c.changed("the journal set to keep 1,000 entries", func(cfg *jetstream.StreamConfig) {
		cfg.Discard, cfg.MaxMsgs = jetstream.DiscardOld, 1000
	}, nil)
}

func (c *chaos) subjectAdded(testing.TB) fault {
	const subject = "elsewhere"
	return c.changed("a subject added to the journal, and messages there",
		func(cfg *jetstream.StreamConfig) { cfg.Subjects = append(cfg.Subjects, subject) },
		func(ctx context.Context, js jetstream.JetStream) error {
			_, err := js.PublishMsg(ctx, &nats.Msg{Subject: subject, Data: []byte(`{"not":"an entry"}`)})
			return err
		})
}

func purge(ctx context.Context, js jetstream.JetStream, name string) error {
	stream, err := js.Stream(ctx, name)
	if err != nil {
		return err
	}
	return stream.Purge(ctx)
}

// once is done at the beginning and not taken back. What an instance must store for it, it
// has stored soon.
func (c *chaos) once(name string, do func(context.Context, jetstream.JetStream) error) fault {
	return fault{name: name, lasts: c.seconds(0, 2),
		begin: func(t testing.TB) { c.operate(t, name, do) },
		end:   c.safe}
}

// changed changes the journal's settings, does something more, and takes the settings back.
func (c *chaos) changed(name string, change func(*jetstream.StreamConfig), more func(context.Context, jetstream.JetStream) error) fault {
	var before jetstream.StreamConfig
	return fault{name: name, lasts: c.seconds(1, 15),
		begin: func(t testing.TB) {
			c.operate(t, name, func(ctx context.Context, js jetstream.JetStream) error {
				stream, err := js.Stream(ctx, journalStream)
				if err != nil {
					return err
				}
				before = stream.CachedInfo().Config
				after := before
				after.Subjects = append([]string{}, before.Subjects...)
				change(&after)
				_, err = js.UpdateStream(ctx, after)
				return err
			})
			if more != nil {
				c.operate(t, name, more)
			}
		},
		end: func(t testing.TB) {
			c.operate(t, name+", taken back", func(ctx context.Context, js jetstream.JetStream) error {
				_, err := js.UpdateStream(ctx, before)
				return err
			})
			c.safe(t)
		}}
}

// operate does something to a stream. A cluster may not answer at once.
func (c *chaos) operate(t testing.TB, what string, do func(context.Context, jetstream.JetStream) error) {
	t.Helper()
	js, done := c.journalJetStream(t)
	defer done()
	servicetest.Eventually(t, 2*wire.Soon, what, func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		err := do(ctx, js)
		if err != nil {
			t.Logf("%s: %v; trying again", what, err)
		}
		return err == nil
	})
}

// safe waits until a start would find everything: the journal begins at its first entry, or
// no later than behind the newest snapshot.
func (c *chaos) safe(t testing.TB) {
	t.Helper()
	js, done := c.journalJetStream(t)
	defer done()
	servicetest.Eventually(t, 4*wire.Soon, "what was purged to be in a snapshot", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		stream, err := js.Stream(ctx, journalStream)
		if err != nil {
			return false
		}
		first := stream.CachedInfo().State.FirstSeq
		if first <= 1 {
			return true
		}
		store, err := js.ObjectStore(ctx, "PRESENCE_SNAPSHOTS")
		if err != nil {
			return false
		}
		list, err := store.List(ctx)
		for _, x := range list {
			position, _ := strconv.ParseUint(x.Metadata["position"], 10, 64)
			if err == nil && position+1 >= first {
				return true
			}
		}
		return false
	})
}

// journalJetStream is JetStream as an operator of the journal's account has it, until done.
func (c *chaos) journalJetStream(t testing.TB) (js jetstream.JetStream, done func()) {
	t.Helper()
	nc, err := nats.Connect(c.URLAs(servicetest.JournalUser), nats.MaxReconnects(-1), nats.Timeout(wire.Soon))
	if err != nil {
		t.Fatal(err)
	}
	if js, err = jetstream.New(nc); err != nil {
		t.Fatal(err)
	}
	return js, nc.Close
}
