package simulation

import (
	"bytes"
	"reflect"
	"slices"

	"github.com/cespare/xxhash/v2"

	"presence/pkg/internal/state"
)

// holds checks that an instance's state is the only one there is of its position
// (G3, G14).
func (j *judge) holds(p *process) {
	position := p.state.Position()
	want, ok := j.whole[position]
	if p.corrupt {
		p.corrupt = !ok || p.writing != nil || wholeOf(p.state) != want // what it did not do may make no difference
		j.wrongAt = j.w.now
		return
	}
	if !j.agrees(p) {
		j.w.violated("G14", "%s has the digest %016x at %d, want %016x", p.instance, p.state.Digest(), position, j.digests[position-1])
	}
	if ok && p.writing == nil && wholeOf(p.state) != want {
		j.w.violated("G14", "the state of %s at %d is another, though its digest is the same", p.instance, position)
	}
}

// agrees reports whether an instance's digest is the right one.
func (j *judge) agrees(p *process) bool { return p.state.Digest() == j.digests[p.state.Position()-1] }

// agreed reports whether an instance's digest was the right one when it was compared last:
// that it differs since is yet to be noticed.
func (j *judge) agreed(p *process) bool {
	at := p.state.Position() / state.DigestEvery * state.DigestEvery
	sum, ok := p.state.DigestAt(at)
	return ok && sum == j.digests[at-1]
}

// answers checks what an entry's callers are told (G3).
func (j *judge) answers(position uint64, out *state.Outcome) {
	if want := j.outcomes[position-1]; !reflect.DeepEqual(*out, want) {
		j.w.violated("G3", "position %d: its callers are told %+v, want %+v", position, *out, want)
	}
}

// differs: only who was damaged may.
func (j *judge) differs(p, other *process) {
	if !p.damaged && !other.damaged {
		j.w.violated("G14", "%s differs from %s at %d", p.instance, other.instance, p.state.Position())
	}
}

// wholeOf hashes everything that a state holds. A snapshot of it is written in an
// order that tells of its past; so the records are sorted.
func wholeOf(s *state.State) uint64 {
	x := s.BeginSnapshot()
	defer x.End()
	x.Step = 1
	var blocks [][]byte
	for more := true; more; {
		var b []byte
		var err error
		if b, more, err = x.Next(nil); err != nil {
			panic(err)
		}
		blocks = append(blocks, b)
	}
	slices.SortFunc(blocks[1:], bytes.Compare)
	return xxhash.Sum64(bytes.Join(blocks, nil))
}
