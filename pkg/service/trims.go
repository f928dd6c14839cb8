package service

import (
	"sync"

	"presence/pkg/internal/state"
)

// maxTrims bounds the erased users that wait to be trimmed. Those of a few changes at
// once may be more.
const maxTrims = 1 << 12

// trims are users who were erased and whose data are to leave the journal soon. They
// wait until the state has forgotten them, which it does once their end is announced for
// certain: a snapshot of before would still have their names.
type trims struct {
	mu    sync.Mutex
	users map[string]struct{}
}

func (t *trims) full() bool { return t.wait() >= maxTrims }

// wait returns how many wait.
func (t *trims) wait() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.users)
}

func (t *trims) add(user string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.users == nil {
		t.users = make(map[string]struct{})
	}
	t.users[user] = struct{}{}
}

// forgotten takes out those whom a state has forgotten, or who came back, and reports
// whether there were any. The state's lock is held.
func (t *trims) forgotten(s *state.State) (any bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for user := range t.users {
		if !s.IsErased(user) {
			delete(t.users, user)
			any = true
		}
	}
	return any
}

// trimErased has the journal trimmed behind users who were forgotten.
func (s *Service) trimErased() {
	s.mu.RLock()
	due, position := s.trims.forgotten(s.state), s.state.Position()
	s.mu.RUnlock()
	if due {
		s.journal.Supersede(position)
	}
}
