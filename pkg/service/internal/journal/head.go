package journal

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// headEvery is how often the head is written while entries are applied.
const headEvery = 100 * time.Millisecond

// head is a file with the last position that was applied, as decimal text (Config.Head). It is
// beside the store of the NATS server inside presenced. It shows at the next start that the store
// has lost entries.
//
// nats-server 2.15.2 does not tell. A record of a message block may be unreadable when the server
// starts, because of a bad sector or a truncated file. After a kill or a power loss the server then
// drops the rest of the block, and logs nothing. After an orderly stop it knows how many records
// there were, and delivers the readable ones. Then there is a gap, or the last entry never comes,
// see explainGap and explainSilence.
//
// The file is not fsynced. So after a power loss its position may be too low, and a loss of the
// entries behind it is not noticed. A journal that has lost nothing is never refused.
type head struct {
	file    *os.File // nil: none
	written uint64
}

// openHead opens the file, or creates it, and reads it.
func openHead(path string) (h head, position uint64, err error) {
	if path == "" {
		return h, 0, nil
	}
	if h.file, err = os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600); err != nil {
		return h, 0, fmt.Errorf("opening the journal's head: %w", err)
	}
	b := make([]byte, 32)
	n, _ := h.file.ReadAt(b, 0)
	// After a power loss the file may be damaged. Then the position is 0.
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
		_ = h.file.Close() // its last position may be lost
	}
}

// keepHead writes the head until ctx is done, and once more then.
func (j *Journal[W]) keepHead(ctx context.Context) error {
	if j.head.file == nil {
		return nil
	}
	defer j.head.close()
	said := false
	for {
		select {
		case <-ctx.Done():
		case <-j.headDue:
			_ = pause(ctx, headEvery)
		}
		if j.isCaughtUp() { // before that, the head may show that the journal is too short
			if err := j.head.write(j.position()); err != nil && !said {
				said = true
				j.cfg.Logger.Warn("the journal's head cannot be written: entries that the store loses may go unnoticed", "err", err)
			}
		}
		if ctx.Err() != nil {
			return nil
		}
	}
}

// lostBehind is the error of a journal that ends before a position that it had.
func (j *Journal[W]) lostBehind(position, last uint64) error {
	return fmt.Errorf("%w: it ends at position %d, and had position %d when it was last used here; %s", ErrRestoredJournal, last, position, goOnWithJournal)
}
