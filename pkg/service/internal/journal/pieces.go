package journal

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// pieces reads the contents of an object, one message after the other, each when the one before it
// is used up. The library would have the server send all at once. That takes a second for some
// hundred megabytes, and the acknowledgements of entries, which come by the same connection, would
// wait behind it.
type pieces struct {
	ctx     context.Context
	stream  jetstream.Stream
	subject string
	left    uint64        // so many messages are to come
	stall   time.Duration // bounds the wait for one
	next    uint64        // no message before this sequence is to come
	piece   []byte
	begun   time.Time // when the piece was asked for
}

// Read implements io.Reader. Like a blockWriter it uses a third of a processor at most, the work of
// the caller included.
func (p *pieces) Read(b []byte) (int, error) {
	for len(p.piece) == 0 {
		if p.left == 0 {
			return 0, io.EOF
		}
		if !p.begun.IsZero() {
			if err := pause(p.ctx, 2*time.Since(p.begun)); err != nil {
				return 0, err
			}
		}
		p.begun = time.Now()
		if err := p.fetch(); err != nil {
			return 0, err
		}
	}
	n := copy(b, p.piece)
	p.piece = p.piece[n:]
	return n, nil
}

// fetch asks for the next piece.
func (p *pieces) fetch() error {
	ctx, cancel := context.WithTimeout(p.ctx, p.stall)
	defer cancel()
	m, err := p.stream.GetMsg(ctx, max(p.next, 1), jetstream.WithGetMsgSubject(p.subject))
	if err != nil {
		return fmt.Errorf("%d pieces are still to come: %w", p.left, err)
	}
	p.piece, p.next = m.Data, m.Sequence+1
	p.left--
	return nil
}
