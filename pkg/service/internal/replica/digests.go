package replica

import (
	"presence/pkg/internal/entry"
	"presence/pkg/internal/state"
)

// Digests compares an instance's state with the others' by the digests that
// entries carry (G14). Who differs builds its state anew, from a snapshot and the
// journal. Who was built anew for that position and differs still knows that it
// is the other who is wrong, and says so in the journal: then that one does the
// same.
type Digests struct {
	// confirmed is the last position whose digest is in the journal and is this
	// state's, rebuilt the last for which the state was built anew because the
	// digest was another. disputed, where not 0, is a position whose digest is
	// to be journaled although another is.
	confirmed, rebuilt, disputed uint64
}

// Verdict is what follows from a comparison.
type Verdict uint8

const (
	Agree   Verdict = iota // or there is nothing to compare
	Rebuild                // this state is to be built anew
	TheyErr                // this one was, so it must be the other that is wrong
)

// Compare compares the digest that an entry carries with a state's, before the
// entry is applied. own is the state's digest of that position.
func (d *Digests) Compare(s *state.State, h *entry.Header) (v Verdict, own uint64) {
	own, ok := s.DigestAt(h.DigestAt)
	switch {
	case !ok || h.Epoch != s.Epoch():
		return Agree, own
	case own == h.Digest:
		d.confirmed = max(d.confirmed, h.DigestAt)
		return Agree, own
	case h.DigestAt <= d.rebuilt:
		d.disputed = h.DigestAt
		return TheyErr, own
	}
	d.rebuilt = h.DigestAt
	return Rebuild, own
}

// Stamp has an entry carry the digest as of the last position that is to be
// compared, unless another entry does.
func (d *Digests) Stamp(h *entry.Header, s *state.State) {
	at := s.Position() / state.DigestEvery * state.DigestEvery
	if d.disputed != 0 {
		at, d.disputed = d.disputed, 0
	} else if at <= d.confirmed {
		return
	}
	if sum, ok := s.DigestAt(at); ok {
		h.DigestAt, h.Digest = at, sum
	}
}

// Rebuilt returns the last position for which the state was built anew; 0: none.
func (d *Digests) Rebuilt() uint64 { return d.rebuilt }
