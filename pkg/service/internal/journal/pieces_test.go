package journal

// White-box: from outside one sees only that sets take longer.

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"presence/pkg/broker"
)

// TestPieces_OneByOne: while a snapshot is read back, no more of it is on its way than the piece that
// was asked for. Acknowledgements of entries come by the same connection, and would wait behind it.
func TestPieces_OneByOne(t *testing.T) {
	t.Parallel()
	s, x := storedPieces(t, 24)
	info, stream, err := s.whole(t.Context(), x.name)
	if err != nil {
		t.Fatal(err)
	}
	nc := s.js.Conn()
	before := nc.Stats().InBytes
	p := &pieces{ctx: t.Context(), stream: stream, subject: s.contents(info.NUID), left: uint64(info.Chunks), stall: s.stall}
	if _, err := p.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	if err := nc.FlushTimeout(10 * time.Second); err != nil { // what was sent before the answer is here
		t.Fatal(err)
	}
	if came := nc.Stats().InBytes - before; came < chunkBytes || came > 2*chunkBytes {
		t.Errorf("after the first piece %d bytes of %d have come, want those of one piece", came, x.bytes)
	}
}

// TestReadBack_Damaged: a snapshot that is not stored as it was written is not taken for one.
func TestReadBack_Damaged(t *testing.T) {
	t.Parallel()
	s, x := storedPieces(t, 3)
	if err := s.compare(t.Context(), x.name); err != nil {
		t.Fatalf("as it was written: %v", err)
	}
	info, stream, err := s.whole(t.Context(), x.name)
	if err != nil {
		t.Fatal(err)
	}
	first, err := stream.GetMsg(t.Context(), 1, jetstream.WithGetMsgSubject(s.contents(info.NUID)))
	if err != nil {
		t.Fatal(err)
	}
	// The pieces are the same, but in another order: the first one comes last.
	if err := stream.DeleteMsg(t.Context(), first.Sequence); err != nil {
		t.Fatal(err)
	}
	if err := s.compare(t.Context(), x.name); err == nil {
		t.Error("a piece is missing: got no error")
	}
	if _, err := s.js.PublishMsg(t.Context(), &nats.Msg{Subject: first.Subject, Data: first.Data}); err != nil {
		t.Fatal(err)
	}
	if err := s.compare(t.Context(), x.name); err == nil {
		t.Error("the pieces are in another order: got no error")
	}
}

// TestReadBack_Digest: each piece can be read, and the whole is another one than the note says.
func TestReadBack_Digest(t *testing.T) {
	t.Parallel()
	s, x := storedPieces(t, 3)
	bucket, err := s.objects(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	other, err := bucket.PutBytes(t.Context(), "other", nil)
	if err != nil {
		t.Fatal(err)
	}
	info, err := bucket.GetInfo(t.Context(), x.name)
	if err != nil {
		t.Fatal(err)
	}
	info.Digest = other.Digest
	note, err := json.Marshal(info)
	if err != nil {
		t.Fatal(err)
	}
	msg := &nats.Msg{Subject: s.note(x.name), Header: nats.Header{jetstream.MsgRollup: {jetstream.MsgRollupSubject}}, Data: note}
	if _, err := s.js.PublishMsg(t.Context(), msg); err != nil {
		t.Fatal(err)
	}
	if err := s.compare(t.Context(), x.name); !errors.Is(err, jetstream.ErrDigestMismatch) {
		t.Errorf("got %v, want that the digest is another", err)
	}
}

// storedPieces stores a snapshot of at least so many pieces, which cannot be compressed.
func storedPieces(t *testing.T, pieces int) (*store, stored) {
	t.Helper()
	b, err := broker.Start(broker.Config{Listen: "127.0.0.1:0", DataDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Shutdown)
	s, written := connectStore(t, b), 0
	x, err := s.write(t.Context(), stored{position: 1}, func(buf []byte) ([]byte, bool, error) {
		written++
		data := make([]byte, chunkBytes)
		_, _ = rand.Read(data)
		return append(buf, data...), written < pieces, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return s, x
}
