package state

import (
	"sync"
	"sync/atomic"

	"github.com/google/btree"

	"presence/pkg/protocol"
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
// of a list is asked for, from the lowest number of a user to the highest, and kept
// from then on: who never lists pays nothing for it. To put a million users in
// order takes about as long as to restore them (BenchmarkOrder, BenchmarkRestore),
// which a start has no time for.
type order struct {
	tree *btree.BTreeG[uint32] // of users, by their numbers
	next uint32                // users from this number on have still to be put in; 0: none

	// pivots are the IDs from which lists go on. Each list under way has one, by a number that
	// no user has, because a tree compares numbers only.
	pivots    sync.Map
	lastPivot atomic.Uint32
}

// pivot is set in the numbers of pivots.
const pivot = 1 << 31

// degree of the tree: an item takes about 9 bytes.
const degree = 64

func (t *tables) newOrder() *order {
	o := &order{next: 1}
	id := func(n uint32) string {
		if n < pivot {
			return t.userID(t.user(n))
		}
		id, _ := o.pivots.Load(n)
		return id.(string)
	}
	o.tree = btree.NewG(degree, func(a, b uint32) bool { return protocol.CompareTokens(id(a), id(b)) < 0 })
	return o
}

// from calls yield for the users from an ID on, until it returns false.
func (o *order) from(id string, yield func(uint32) bool) {
	n := o.lastPivot.Add(1) | pivot
	o.pivots.Store(n, id)
	defer o.pivots.Delete(n)
	o.tree.AscendGreaterOrEqual(n, yield)
}

// Ordered reports whether Order has come to its end.
func (s *State) Ordered() bool { return s.users.order != nil && s.users.order.next == 0 }

// Order does a part of what List needs, for n users. It is guarded like Apply.
func (s *State) Order(n int) {
	if s.users.order == nil {
		s.users.order = s.newOrder()
	}
	o := s.users.order
	if o.next == 0 {
		return
	}
	for number, u := range s.users.table.From(o.next) {
		if n == 0 {
			o.next = number
			return
		}
		n--
		if s.publicRevision(u) != 0 {
			o.tree.ReplaceOrInsert(number)
		}
	}
	o.next = 0
}

// reorder puts a user in order who is to be listed from now on, and takes out one
// who is not any more. was is the public revision before.
func (s *State) reorder(u *user, was uint64) {
	switch is := s.publicRevision(u); {
	case s.users.order == nil || (is == 0) == (was == 0):
	case is == 0:
		s.users.order.tree.Delete(s.numberOf(u))
	default:
		s.users.order.tree.ReplaceOrInsert(s.numberOf(u))
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
	s.users.order.from(after, func(n uint32) bool {
		u := s.user(n)
		if s.userID(u) == after {
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
		looked, last = looked+1, s.userID(u)
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
