package journal

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/klauspost/compress/s2"
)

// maxBlock bounds one block of a snapshot that is read, in bytes.
const maxBlock = 64 << 20

// blockWriter is a reader of a snapshot in the form in which it is stored: each block behind its
// length as an unsigned varint, all compressed as an S2 stream.
type blockWriter struct {
	next func([]byte) ([]byte, bool, error)
	more bool
	out  bytes.Buffer
	s2   *s2.Writer
	b    []byte
}

func newBlockWriter(next func([]byte) ([]byte, bool, error)) *blockWriter {
	w := &blockWriter{next: next, more: true}
	w.s2 = s2.NewWriter(&w.out, s2.WriterConcurrency(1))
	return w
}

// Read fills p if there is enough left, because each call becomes a message. It uses a third of a
// processor at most: nothing waits for a snapshot.
func (w *blockWriter) Read(p []byte) (n int, err error) {
	for w.more && w.out.Len() < len(p) {
		begun := time.Now()
		if w.b, w.more, err = w.next(w.b[:0]); err != nil {
			return 0, err
		}
		if err := w.write(); err != nil {
			return 0, err
		}
		time.Sleep(2 * time.Since(begun))
	}
	return w.out.Read(p)
}

func (w *blockWriter) write() error {
	var length [binary.MaxVarintLen64]byte
	if _, err := w.s2.Write(binary.AppendUvarint(length[:0], uint64(len(w.b)))); err != nil {
		return err
	}
	if _, err := w.s2.Write(w.b); err != nil {
		return err
	}
	if !w.more {
		return w.s2.Close()
	}
	return w.s2.Flush()
}

// readBlocks returns a function that returns the blocks which a blockWriter wrote, and io.EOF in
// the end.
func readBlocks(r io.Reader) func() ([]byte, error) {
	in := bufio.NewReader(r)
	var b []byte
	return func() ([]byte, error) {
		n, err := binary.ReadUvarint(in)
		switch {
		case err != nil:
			return nil, err // io.EOF is the end
		case n > maxBlock:
			return nil, fmt.Errorf("a block of %d bytes: a block has at most %d", n, maxBlock)
		}
		b = slices.Grow(b[:0], int(n))[:n]
		if _, err := io.ReadFull(in, b); err != nil {
			return nil, errors.Join(io.ErrUnexpectedEOF, err)
		}
		return b, nil
	}
}
