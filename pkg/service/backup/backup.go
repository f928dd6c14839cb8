// Package backup writes all that a presence service keeps into one file, and makes a journal of
// such a file:
//
//	info, err := backup.Take(ctx, w, backup.Source{Journal: jnc, By: "presencectl 1.2.3"})
//	info, err := backup.Check(r)                                   // reads all of it
//	info, err := backup.Restore(ctx, r, backup.Target{Journal: jnc, By: "presenced 1.2.3"})
//
// A file holds the state as of one position of the journal, and the contacts. It is no copy of
// JetStream's files, so it can be restored on any machine, into any server or cluster, and by any
// later version. What is in a file is said in file.go.
//
//   - Consistency: the state is built from the newest snapshot that can be read and the entries
//     behind it, by the instances' own state machine, and compared with the digests that instances
//     wrote into the journal. The service may be at work meanwhile. The contacts are read after it.
//     They are not in the journal, so they may be some seconds newer.
//   - Integrity: each part of the file has a checksum over everything before it, and the end has a
//     SHA-256. A file that was cut or altered is refused (ErrDamaged), one of a later version too
//     (ErrNewer). That finds accidents. Whoever can write the file can make another one.
//   - Restore writes into a store without a journal only. It stores the snapshot last. Whatever
//     happens before that, no instance starts on the store, and a later Restore begins anew. The
//     restored journal begins with the entry of a new epoch, so clients fetch everything anew. Its
//     lease clock goes on from where it was, and nobody is lost for some seconds (PROTOCOL G6).
//   - Memory: the state, once. The file is read and written in pieces.
package backup

import (
	"errors"
	"fmt"
	"time"

	"presence/pkg/internal/entry"
	"presence/pkg/internal/state"
)

var (
	// ErrDamaged says that a file is not what was written: it was cut or altered, or is no backup.
	ErrDamaged = errors.New("the backup is damaged")
	// ErrNewer says that a later version is needed to read a file.
	ErrNewer = errors.New("the backup is of a later version")
	// ErrNoJournal says that there is nothing to back up.
	ErrNoJournal = errors.New("there is no journal")
	// ErrNotEmpty says that Restore was given a store that has a journal or contacts.
	ErrNotEmpty = errors.New("the store is not empty")
)

// DefaultTimeout bounds the wait for one answer, one entry, and one user's contacts.
const DefaultTimeout = 10 * time.Second

// Info says what is in a file. It is at the beginning of the file, as JSON.
type Info struct {
	By string    `json:"by"` // the program that wrote it, and its version
	At time.Time `json:"at"` // when the state was complete
	// The state: the journal position and epoch, the format in use, and the digest by which
	// instances are compared.
	Epoch    string `json:"epoch"`
	Position uint64 `json:"position"`
	Format   uint8  `json:"format"`
	Digest   string `json:"digest"`
	Users    int    `json:"users"`
	Sessions int    `json:"sessions"` // live ones
	Gateways int    `json:"gateways"`
	// Contacts is how many users have contacts. It is known at the end of the file only.
	Contacts int `json:"contacts"`
	// Damaged is how many users' stored contacts could not be read. They are not in the file.
	Damaged int `json:"damagedContacts,omitempty"`
}

func infoOf(s *state.State, by string) *Info {
	return &Info{By: by, At: time.Now().UTC().Truncate(time.Millisecond), Epoch: s.Epoch(), Position: s.Position(), Format: s.Format(),
		Digest: fmt.Sprintf("%016x", s.Digest()), Users: s.Users(), Sessions: s.Sessions(), Gateways: s.Gateways()}
}

// is compares a state with what the file says of it.
func (i *Info) is(s *state.State) error {
	if got := infoOf(s, i.By); got.Digest != i.Digest || got.Position != i.Position || got.Epoch != i.Epoch || got.Users != i.Users {
		return damaged("its state is of position %d with digest %s and %d users; it should be position %d, %s, %d", got.Position, got.Digest, got.Users, i.Position, i.Digest, i.Users)
	}
	return nil
}

func damaged(format string, args ...any) error {
	return fmt.Errorf("%w: %w", ErrDamaged, fmt.Errorf(format, args...))
}

// newer is the error of a file that this program is too old for.
func newer(by string, format, known uint8) error {
	return fmt.Errorf("%w: %s wrote it, in format %d, and this program knows formats up to %d: use that version or a later one", ErrNewer, by, format, known)
}

// readState makes a state of the blocks in a file.
func readState(info *Info, next func() ([]byte, error)) (*state.State, error) {
	if info.Format > entry.Format {
		return nil, newer(info.By, info.Format, entry.Format)
	}
	s, err := state.Restore(next, nil)
	if n, ok := errors.AsType[*state.NewerSnapshotError](err); ok {
		return nil, fmt.Errorf("%w: %s wrote it: use that version or a later one (%w)", ErrNewer, info.By, n)
	}
	switch {
	case errors.Is(err, state.ErrDamagedSnapshot):
		return nil, damaged("%w", err)
	case err != nil:
		return nil, err
	}
	return s, info.is(s)
}
