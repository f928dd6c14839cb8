package value

import (
	"slices"

	"presence/pkg/protocol"
)

// Edit changes contacts as a request says. It returns the new ones, and those that were added and
// removed. have must be sorted by bytes, and so are all results.
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

// without returns the IDs of one sorted list that are not in another one.
func without(list, other []string) (rest []string) {
	for _, id := range list {
		if _, found := slices.BinarySearch(other, id); !found {
			rest = append(rest, id)
		}
	}
	return rest
}
