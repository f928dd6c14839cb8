package differential

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

// Format is the entry format whose behaviour is in force. An entry sets a newer one
// when every instance in the table understands it. So the upgrade of one instance
// never stops another.
func (s *State) Format() uint8 { return s.format }

// NextFormat returns the newest format that every instance in the table
// understands, and whether it is newer than the one in force.
func (s *State) NextFormat() (uint8, bool) {
	known := uint8(0)
	for _, in := range s.instances {
		if s.clock.lease-in.seen <= instanceKept && (known == 0 || in.maxFormat < known) {
			known = in.maxFormat
		}
	}
	return known, known > s.format
}

// setFormat puts a format in force, unless an instance that does not understand it
// has joined meanwhile.
func (s *State) setFormat(format uint8) {
	known, ok := s.NextFormat()
	if !ok || format > known {
		return
	}
	before := s.format
	s.format = max(s.format, format)
	if before < fencesFormat && s.format >= fencesFormat {
		s.startFences()
	}
}
