package service

import (
	"sync"

	"presence/pkg/internal/state"
)

// maxTrims bounds the erased users who wait to be trimmed. Requests that are handled at the same
// time may exceed it a little.
const maxTrims = 1 << 12

// trims are erased users whose data are to leave the journal soon. They wait until the state has
// forgotten them: a snapshot from before would still have their names. The state forgets a user
// when the end counts as announced.
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

// forgotten removes the users whom a state has forgotten, or who came back. It reports whether
// there were any. The caller holds the state's lock.
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

// trimErased has the journal trimmed if users were forgotten since the last call.
func (s *Service) trimErased() {
	s.mu.RLock()
	due, position := s.trims.forgotten(s.state), s.state.Position()
	s.mu.RUnlock()
	if due {
		s.journal.Supersede(position)
	}
}
