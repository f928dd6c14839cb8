package state

import (
	"errors"
	"fmt"

	"presence/pkg/internal/entry"
)

// ErrLaterEpoch says that the journal goes on in an epoch whose beginning this
// state never saw: it was restored or recreated.
var ErrLaterEpoch = errors.New("the entry is of an epoch whose beginning was not in this journal")

// enterEpoch begins the epoch of an entry where that is a later one than the
// state's. Revisions of the one before mean nothing from then on, and entries of
// it that are stored late count as empty.
func (s *State) enterEpoch(e *entry.Entry) error {
	h := &e.Header
	switch {
	case s.epoch == "":
	case h.Generation <= s.generation:
		return nil
	case len(e.Commands) == 0 || e.Commands[0].Kind != entry.NewEpoch:
		return fmt.Errorf("%w: its epoch is %s (generation %d), the state's %s (%d)", ErrLaterEpoch, h.Epoch, h.Generation, s.epoch, s.generation)
	case e.Commands[0].All:
		*s = *NewAt(s.position)
	}
	s.epoch, s.generation = h.Epoch, h.Generation
	return nil
}

// Level is the newest entry format whose behaviour is in force. It is raised by
// an entry once every writer in the table understands it, so that no instance is
// left behind by an upgrade of another.
func (s *State) Level() uint8 { return s.level }

// CanRaise returns the level that every writer in the table understands, and
// whether it is above the one in force.
func (s *State) CanRaise() (uint8, bool) {
	known := uint8(0)
	for _, w := range s.writers {
		if s.clock.lease-w.seen <= writerKept && (known == 0 || w.maxFormat < known) {
			known = w.maxFormat
		}
	}
	return known, known > s.level
}

// raise puts a level in force, unless a writer has come meanwhile that does not
// understand it.
func (s *State) raise(level uint8) {
	known, ok := s.CanRaise()
	if !ok || level > known {
		return
	}
	before := s.level
	s.level = max(s.level, level)
	if before < fencesLevel && s.level >= fencesLevel {
		s.startFences()
	}
}
