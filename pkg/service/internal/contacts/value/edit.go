package value

import (
	"slices"

	"presence/pkg/protocol"
)

// Edit returns what a request makes of contacts, and what that adds and removes.
// All are sorted, by bytes; have must be.
func Edit(have []string, r *protocol.ContactsRequest) (want, added, removed []string) {
	want = []string{}
	if r.Replace != nil {
		want = append(want, *r.Replace...)
	} else {
		want = append(append(want, have...), r.Add...)
	}
	slices.Sort(want)
	want = slices.Compact(want)
	if len(r.Remove) > 0 {
		gone := make(map[string]bool, len(r.Remove))
		for _, id := range r.Remove {
			gone[id] = true
		}
		want = slices.DeleteFunc(want, func(id string) bool { return gone[id] })
	}
	return want, without(want, have), without(have, want)
}

// without returns what of one sorted list is not in another.
func without(list, other []string) (rest []string) {
	for _, id := range list {
		if _, found := slices.BinarySearch(other, id); !found {
			rest = append(rest, id)
		}
	}
	return rest
}
