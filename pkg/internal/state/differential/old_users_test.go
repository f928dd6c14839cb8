package differential

// users are all users of whom anything is remembered: a map to find them, and a
// list to walk over in steps while they come and go (see Snapshot).
type users struct {
	byID map[string]*user
	list []*user // user.place is the index; in no order

	order *order // for List, see reorder; nil: nobody asked for one
}

func (us *users) get(id string) *user { return us.byID[id] }

func (us *users) add(u *user) {
	u.place = int32(len(us.list))
	us.list = append(us.list, u)
	us.byID[u.id] = u
}

// index makes byID of the list, at once: to let the map grow with a million users
// takes a second. It returns the ID of a user who is in the list twice; empty for
// none.
func (us *users) index() (twice string) {
	us.byID = make(map[string]*user, len(us.list))
	for i, u := range us.list {
		u.place = int32(i)
		us.byID[u.id] = u
	}
	if len(us.byID) == len(us.list) {
		return ""
	}
	for _, u := range us.list {
		if us.byID[u.id] != u {
			return u.id
		}
	}
	return ""
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
	if us.order != nil {
		us.order.tree.Delete(u)
	}
	return moved
}
