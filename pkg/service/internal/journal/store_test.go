package journal

import (
	"context"
	"crypto/rand"
	"io"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"presence/pkg/broker"
)

// TestStore_Stalled: nothing of a snapshot comes, or it stops in the middle. The reader gets an
// error in time, which is transient.
func TestStore_Stalled(t *testing.T) {
	const block, blocks = 1 << 20, 24 // more than fits into buffers
	b, err := broker.Start(broker.Config{Listen: "127.0.0.1:0", DataDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Shutdown)
	written := 0
	x, err := connectStore(t, b).write(t.Context(), stored{position: 1}, func(buf []byte) ([]byte, bool, error) {
		written++
		data := make([]byte, block)
		_, _ = rand.Read(data)
		return append(buf, data...), written < blocks, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for name, after := range map[string]int64{"at all": 0, "in the middle": 4 * block} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			line := &line{stop: make(chan struct{})}
			s := connectStore(t, b, func(o *nats.Options) error {
				line.server, o.InProcessServer = o.InProcessServer, line
				return nil
			})
			t.Cleanup(func() { close(line.stop) })
			s.stall = 2 * time.Second // a busy machine takes a while to begin
			line.left.Store(after)
			line.limited.Store(true)

			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			read, err := readAll(ctx, s, x.name)
			if !transient(err) || ctx.Err() != nil {
				t.Errorf("after %d blocks: got %v, want an error that is transient", read, err)
			}
			if after > 0 && read == 0 {
				t.Error("nothing was read before the line stalled")
			}
		})
	}
	t.Run("not", func(t *testing.T) {
		if read, err := readAll(t.Context(), connectStore(t, b), x.name); err != io.EOF || read != blocks {
			t.Errorf("got %d blocks and %v, want %d", read, err, blocks)
		}
	})
}

func readAll(ctx context.Context, s *store, name string) (int, error) {
	next, done, err := s.open(ctx, name)
	if err != nil {
		return 0, err
	}
	defer done()
	for read := 0; ; read++ {
		if _, err := next(); err != nil {
			return read, err
		}
	}
}

func connectStore(t *testing.T, b *broker.Broker, opts ...nats.Option) *store {
	t.Helper()
	nc, err := b.Connect(broker.Journal, opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	return &store{js: js, bucket: DefaultBucket, replicas: 1, stall: storeTimeout}
}

// line is a connection that delivers only so many bytes more, once it is limited.
type line struct {
	server  nats.InProcessConnProvider
	limited atomic.Bool
	left    atomic.Int64
	stop    chan struct{}
	net.Conn
}

func (l *line) InProcessConn() (net.Conn, error) {
	var err error
	l.Conn, err = l.server.InProcessConn()
	return l, err
}

func (l *line) Read(p []byte) (int, error) {
	n, err := l.Conn.Read(p)
	if l.limited.Load() && l.left.Add(int64(-n)) < 0 {
		<-l.stop
	}
	return n, err
}
