package state

import (
	"presence/pkg/internal/entry"
	"presence/pkg/internal/table"
)

// users are all users of whom anything is remembered.
type users struct {
	table table.Blocks[user]
	index *table.Index[string] // by ID
	order *order               // for List, see reorder; nil: nobody asked for one
}

// get returns the user with an ID, or nil.
func (us *users) get(id string) *user { return us.table.At(us.index.Find(id)) }

// fetch reads what the next commands need of their users, and changes nothing. With many users
// most of a command is waiting for memory. Here the processor waits for several users at once, as
// in Statuses. There are at most table.Several commands.
func (s *State) fetch(commands []entry.Command) {
	var ids [table.Several]string
	var numbers, sessions [table.Several]uint32
	var texts [table.Several]table.Text
	for i := range commands {
		ids[i] = commands[i].User
	}
	s.users.index.Likely(ids[:len(commands)], &numbers)
	for i := range commands {
		if u := s.user(numbers[i]); u != nil {
			texts[i], sessions[i] = u.id, u.sessions
		}
	}
	for i := range commands {
		if x := s.session(sessions[i]); x != nil {
			s.fetched += x.deadline // without a use the compiler would leave the reading out
		}
		s.fetched += int64(s.texts.Length(texts[i]))
	}
}

// addUser adds a user of whom nothing is remembered. It includes a call of change.
func (s *State) addUser(id string) *user {
	u := s.newUser(id)
	s.users.index.Add(s.numberOf(u))
	if s.snapshot != nil {
		u.saved = s.snapshot.number // it is not in that one
	}
	s.note(u)
	return u
}

// newUser returns a user who cannot be found yet.
func (t *tables) newUser(id string) *user {
	n, u := t.users.table.New()
	u.id = t.texts.Put(n<<ownerBits|uint32(ofUser), id)
	u.idleSince, u.lasting = -1, entry.Available
	return u
}

// dropUser forgets a user who has no sessions and waits nowhere.
func (t *tables) dropUser(u *user) {
	n := t.numberOf(u)
	if t.users.order != nil {
		t.users.order.tree.Delete(n)
	}
	t.users.index.Remove(n)
	if h := t.hidden(u); h != nil {
		t.dropHidden(u)
	}
	t.dropReplaced(u)
	t.dropTombstone(u)
	t.dropRare(u)
	t.texts.Free(u.text)
	t.texts.Free(u.id)
	t.users.table.Free(n)
}

// indexUsers makes all users found by their IDs, at once. It returns an ID that two of them have.
func (t *tables) indexUsers() (twice string, ok bool) {
	t.users.index.Grow(t.users.table.Len())
	for n, u := range t.users.table.All() {
		if id := t.userID(u); t.users.index.Find(id) != 0 {
			return id, false
		}
		t.users.index.Add(n)
	}
	return "", true
}
