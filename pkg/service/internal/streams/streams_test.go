package streams

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/goleak"

	"presence/pkg/broker"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestUnanswered: a question that nobody answers is asked again, whether it was heard or not. One
// that is answered is not. Nothing is asked after ctx is done.
func TestUnanswered(t *testing.T) {
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
	real, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	want := jetstream.StreamConfig{Name: "S", Subjects: []string{"s"}}

	deaf := &deafJetStream{JetStream: real, left: 1}
	if _, err := Find(t.Context(), deaf, "S"); !errors.Is(err, jetstream.ErrStreamNotFound) || deaf.asked != 2 {
		t.Errorf("of a stream that is not there: got %v after %d questions, want that it is not there after 2", err, deaf.asked)
	}
	deaf = &deafJetStream{JetStream: real, left: 1}
	if s, err := Create(t.Context(), deaf, want); err != nil || s.CachedInfo().Config.Name != "S" || deaf.asked != 2 {
		t.Errorf("created, and not told so: got %v after %d questions", err, deaf.asked)
	}
	deaf = &deafJetStream{JetStream: real, left: 1}
	if s, err := Find(t.Context(), deaf, "S"); err != nil || s.CachedInfo().Config.Name != "S" || deaf.asked != 2 {
		t.Errorf("of a stream that is there: got %v after %d questions", err, deaf.asked)
	}
	want.Subjects = []string{"other"} // another instance's, of another version
	if s, err := Create(t.Context(), real, want); err != nil || s.CachedInfo().Config.Subjects[0] != "s" {
		t.Errorf("made by another instance meanwhile: got %v", err)
	}

	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if _, err := Find(ctx, &deafJetStream{JetStream: real, left: 1_000_000}, "S"); !unanswered(err) {
		t.Errorf("never answered: got %v", err)
	}
	calls := 0
	if _, err := Ask(t.Context(), func(context.Context) (int, error) {
		if calls++; calls == 1 {
			return 0, fmt.Errorf("creating: %w", &jetstream.APIError{Code: 400, ErrorCode: 10005, Description: "no suitable peers for placement"})
		}
		return 0, errors.New("no")
	}); err == nil || err.Error() != "no" || calls != 2 {
		t.Errorf("of a cluster that has just elected itself: got %v after %d questions, want the refusal after 2", err, calls)
	}
	notEnabled := &jetstream.APIError{Code: 503, ErrorCode: jetstream.JSErrCodeJetStreamNotEnabled}
	if _, err := Ask(t.Context(), func(context.Context) (int, error) { return 0, notEnabled }); !errors.Is(err, notEnabled) {
		t.Errorf("of a server without JetStream: got %v, want that it says so", err)
	}
	calls = 0
	if _, err := Ask(t.Context(), func(context.Context) (int, error) {
		if calls++; calls == 1 {
			return 0, nats.ErrNoResponders
		}
		return 0, errors.New("no")
	}); err == nil || err.Error() != "no" || calls != 2 {
		t.Errorf("without responders, then refused: got %v after %d questions, want the refusal after 2", err, calls)
	}
}

// deafJetStream does what it is asked. The first times it does not answer.
type deafJetStream struct {
	jetstream.JetStream
	left, asked int
}

func (d *deafJetStream) hears(ctx context.Context) error {
	d.asked++
	if d.left == 0 {
		return nil
	}
	d.left--
	<-ctx.Done()
	return ctx.Err()
}

func (d *deafJetStream) Stream(ctx context.Context, name string) (jetstream.Stream, error) {
	s, err := d.JetStream.Stream(ctx, name)
	return s, errors.Join(err, d.hears(ctx))
}

func (d *deafJetStream) CreateStream(ctx context.Context, cfg jetstream.StreamConfig) (jetstream.Stream, error) {
	s, err := d.JetStream.CreateStream(ctx, cfg)
	return s, errors.Join(err, d.hears(ctx))
}
