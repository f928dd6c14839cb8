package state

// users are all users of whom anything is remembered: a map to find them, and a
// list to walk over in steps while they come and go (see Snapshot).
type users struct {
	byID map[string]*user
	list []*user // user.place is the index; in no order
}

func (us *users) get(id string) *user { return us.byID[id] }

func (us *users) add(u *user) {
	u.place = int32(len(us.list))
	us.list = append(us.list, u)
	us.byID[u.id] = u
}

// remove takes a user out and returns the one that moved to its place in the
// list; nil where none did.
func (us *users) remove(u *user) (moved *user) {
	last := len(us.list) - 1
	if us.list[last] != u {
		moved = us.list[last]
		us.list[u.place], moved.place = moved, u.place
	}
	us.list[last] = nil
	us.list = us.list[:last]
	delete(us.byID, u.id)
	return moved
}
