package journal

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// headEvery is how often the head is written down.
const headEvery = 100 * time.Millisecond

// head is a file with the last position that was applied, as decimal text, beside
// the store of a NATS server that is ours (Config.Head): entries that the store
// has lost by the next start are noticed by it.
//
// nats-server 2.15.2 does not tell. Where a record of a message block cannot be
// read when it starts, because of a bad sector or a file that was cut, it cuts the
// block there, with everything behind it, and logs nothing. So it does after a
// kill or a power loss. After an orderly stop it knows how many there were and
// delivers those that can be read: then there is a gap, or an end that never
// comes, see explainGap and explainSilence.
//
// The file is not fsynced: after a power loss it may say less than it could, and
// so lets a journal pass that it should not, but never one that is whole not.
type head struct {
	file    *os.File // nil: none
	written uint64
}

// openHead opens the file, made where it is missing, and reads it.
func openHead(path string) (h head, position uint64, err error) {
	if path == "" {
		return h, 0, nil
	}
	if h.file, err = os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600); err != nil {
		return h, 0, fmt.Errorf("opening the journal's head: %w", err)
	}
	b := make([]byte, 32)
	n, _ := h.file.ReadAt(b, 0)
	// What a power loss left of it counts as nothing.
	position, _ = strconv.ParseUint(strings.TrimSpace(string(b[:n])), 10, 64)
	return h, position, nil
}

func (h *head) write(position uint64) error {
	if h.file == nil || position == h.written {
		return nil
	}
	_, err := h.file.WriteAt(fmt.Appendf(nil, "%020d\n", position), 0)
	if err == nil {
		h.written = position
	}
	return err
}

func (h *head) close() {
	if h.file != nil {
		_ = h.file.Close() // what it holds is no more than could be lost
	}
}

// keepHead writes the head down until ctx is done, and once more then.
func (j *Journal[W]) keepHead(ctx context.Context) error {
	if j.head.file == nil {
		return nil
	}
	defer j.head.close()
	ticker := time.NewTicker(headEvery)
	defer ticker.Stop()
	said := false
	for {
		select {
		case <-ctx.Done():
		case <-ticker.C:
		}
		if j.isCaughtUp() { // before, it may be found too short
			if err := j.head.write(j.position()); err != nil && !said {
				said = true
				j.cfg.Logger.Warn("the journal's head cannot be written down: entries that the store loses may go unnoticed", "err", err)
			}
		}
		if ctx.Err() != nil {
			return nil
		}
	}
}

// lostBehind is the error of a journal that ends before a position which it had.
func (j *Journal[W]) lostBehind(position, last uint64) error {
	return fmt.Errorf("%w: it ends at position %d and had %d when it was last used here; %s", ErrRestoredJournal, last, position, goOnWithJournal)
}
