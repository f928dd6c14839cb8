package differential

import (
	"presence/pkg/protocol"

	"github.com/google/btree"
)

// maxLooked bounds how many users List looks at for one page, and pageOverhead what a page
// has beside its statuses.
const (
	maxLooked    = 10 * protocol.MaxUsersPerList
	pageOverhead = 4096
)

// order is the users in the order of their tokens, without those who look like
// somebody never seen: these are not listed, and there may be so many of them in a
// row that nobody may wait for a walk over them. It is made when the first page
// of a list is asked for, from the end of users.list to its beginning, and kept
// from then on: who never lists pays nothing for it. To put a million users in
// order takes about as long as to restore them (BenchmarkOrder, BenchmarkRestore),
// which a start has no time for.
type order struct {
	tree *btree.BTreeG[*user] // nil: not begun
	left int                  // users.list up to here has still to be put in
}

// degree of the tree: an item takes about 17 bytes.
const degree = 64

func newOrder(left int) *order {
	return &order{left: left, tree: btree.NewG(degree, func(a, b *user) bool { return protocol.CompareTokens(a.id, b.id) < 0 })}
}

// Ordered reports whether Order has come to its end.
func (s *State) Ordered() bool { return s.users.order != nil && s.users.order.left == 0 }

// Order does a part of what List needs, for n users. It is guarded like Apply.
func (s *State) Order(n int) {
	us := &s.users
	if us.order == nil {
		us.order = newOrder(len(us.list))
	}
	o := us.order
	for o.left = min(o.left, len(us.list)); o.left > 0 && n > 0; n-- {
		o.left--
		if u := us.list[o.left]; u.publicRevision() != 0 {
			o.tree.ReplaceOrInsert(u)
		}
	}
}

// reorder puts a user in order who is to be listed from now on, and takes out one
// who is not any more. was is the public revision before.
func (us *users) reorder(u *user, was uint64) {
	switch is := u.publicRevision(); {
	case us.order == nil || (is == 0) == (was == 0):
	case is == 0:
		us.order.tree.Delete(u)
	default:
		us.order.tree.ReplaceOrInsert(u)
	}
}

// List calls yield for the users behind after in the order of their tokens, of
// all or of one statusType, as everybody sees them: at most limit, and no more
// than a reply of so many bytes can hold, which must have room for one. It returns the last user looked at where there may be
// more, and empty where there are none. The users must be Ordered.
//
// A user who looks like one never seen neither is listed nor is looked at nor ends
// a page: nothing tells of such a one (G9).
func (s *State) List(after string, t protocol.StatusType, limit, most int, yield func(protocol.Status)) (last string) {
	looked, bytes, more := 0, 0, false
	s.users.order.tree.AscendGreaterOrEqual(&user{id: after}, func(u *user) bool {
		if u.id == after {
			return true
		}
		if more = limit == 0 || looked == maxLooked; more {
			return false
		}
		if st := s.publicView(u); t == 0 || t == st.StatusType {
			if bytes += statusBytes(&st); bytes > most-pageOverhead {
				more = true
				return false
			}
			limit--
			yield(st)
		}
		looked, last = looked+1, u.id
		return true
	})
	if !more {
		return ""
	}
	return last
}

// statusBytes is no less than what a status has as JSON, where a byte takes two
// at most.
func statusBytes(st *protocol.Status) int { return 512 + 2*len(st.UserID) + 2*len(st.CustomStatus) }
