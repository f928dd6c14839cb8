package replica

import (
	"presence/pkg/internal/entry"
	"presence/pkg/internal/state"
)

// Digests compares an instance's state with the others' by the digests that
// entries carry (G14). An instance whose digest differs builds its state anew, from
// a snapshot and the journal. If it differs again after that, the other instance
// is wrong. It then puts its digest into the journal once more, and the other
// instance builds its state anew.
type Digests struct {
	// confirmed is the last position at which a digest in the journal is this
	// state's too.
	confirmed uint64
	// rebuilt is the last position whose digest made this state be built anew.
	rebuilt uint64
	// repeat is a position whose digest goes into the journal although another
	// instance's digest of it is there; 0: none.
	repeat uint64
}

// Verdict is what follows from a comparison.
type Verdict uint8

const (
	Agree      Verdict = iota // or there is nothing to compare
	Rebuild                   // this state is to be built anew
	OtherWrong                // this one was, so it must be the other that is wrong
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
		d.repeat = h.DigestAt
		return OtherWrong, own
	}
	d.rebuilt = h.DigestAt
	return Rebuild, own
}

// Stamp has an entry carry the digest as of the last position that is to be
// compared, unless another entry does.
func (d *Digests) Stamp(h *entry.Header, s *state.State) {
	at := s.Position() / state.DigestEvery * state.DigestEvery
	if d.repeat != 0 {
		at, d.repeat = d.repeat, 0
	} else if at <= d.confirmed {
		return
	}
	if sum, ok := s.DigestAt(at); ok {
		h.DigestAt, h.Digest = at, sum
	}
}

// Rebuilt returns the last position for which the state was built anew; 0: none.
func (d *Digests) Rebuilt() uint64 { return d.rebuilt }
