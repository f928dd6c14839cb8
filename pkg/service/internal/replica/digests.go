package replica

import (
	"presence/pkg/internal/entry"
	"presence/pkg/internal/state"
)

// Digests compares an instance's state with the others' by the digests in entries (G14). If the
// digests differ, the instance builds its state anew, from a snapshot and the journal. If they
// differ again, the other instance's state is wrong. Then this instance puts its digest into the
// journal once more, so that the other one builds its state anew.
type Digests struct {
	// confirmed is the last position whose digest in the journal is the same as this state's.
	confirmed uint64
	// rebuilt is the last position whose digest had this state built anew.
	rebuilt uint64
	// repeat is a position whose digest goes into the journal although another instance's is
	// there. 0: none.
	repeat uint64
}

// Verdict is the result of a comparison.
type Verdict uint8

const (
	Agree      Verdict = iota // or there is nothing to compare
	Rebuild                   // this state is to be built anew
	OtherWrong                // this state was built anew, so the other instance's is wrong
)

// Compare compares the digest in an entry's header with the state's, before the entry is applied.
// own is the state's digest of that position.
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

// Stamp puts the digest of the last position that is to be compared into an entry's header. It does
// not if an earlier entry has the same digest.
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

// Rebuilt returns the last position whose digest had the state built anew. 0: none.
func (d *Digests) Rebuilt() uint64 { return d.rebuilt }
