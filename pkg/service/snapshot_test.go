package service

// White-box: no request shows which state a snapshot is of.

import (
	"testing"

	"presence/pkg/internal/state"
)

// TestSnapshot_OfAWrongState: a snapshot that is being taken is given up when its state turns out
// to be wrong.
func TestSnapshot_OfAWrongState(t *testing.T) {
	for _, test := range []struct {
		name  string
		wrong func(s *Service)
	}{
		{"differs", func(s *Service) { s.stateWrong = true }},
		{"built anew", func(s *Service) { s.reset(0) }},
	} {
		s := &Service{state: state.New()}
		s.announcer = newAnnouncer(serviceOutbox{s}, s.subjects, s.log)
		x := s.snapshot()
		if _, _, err := x.Next(nil); err != nil {
			t.Fatalf("%s: before: %v", test.name, err)
		}
		test.wrong(s)
		if _, _, err := x.Next(nil); err == nil {
			t.Errorf("%s: the snapshot went on", test.name)
		}
	}
}
