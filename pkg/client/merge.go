package client

import (
	"reflect"

	"presence/pkg/protocol"
)

// known is what is known of one user as of a revision (PROTOCOL 2, Merging). An event has
// a revision of its own, a snapshot the revision of its reply. What is not newer is
// ignored, so events may come late, twice, in any order, and before the snapshot.
type known struct {
	status protocol.Status
	asOf   uint64
	// fetched: a snapshot came. Before that an event may be old: the change after it
	// may have been announced before anybody listened.
	fetched bool
	// anew: the status is of an earlier epoch, and callbacks have had it.
	anew bool
}

// event merges the status of an event, and reports whether callbacks are to have it.
func (k *known) event(s protocol.Status) bool {
	if s.Revision <= k.asOf {
		return false
	}
	k.status, k.asOf, k.anew = s, s.Revision, false
	return k.fetched
}

// snapshot merges a status that was fetched as of a revision, and reports whether
// callbacks are to have it: the first time always, then if its last visible change is
// another one.
func (k *known) snapshot(s protocol.Status, asOf uint64) bool {
	if k.anew { // revisions of two epochs cannot be compared
		changed := !reflect.DeepEqual(k.status, s)
		*k = known{status: s, asOf: asOf, fetched: true}
		return changed
	}
	first, told := !k.fetched, k.status.Revision
	if asOf > k.asOf || k.status.UserID == "" { // an empty journal is at revision 0
		k.status, k.asOf = s, asOf
	}
	k.fetched = true
	return first || k.status.Revision != told
}
