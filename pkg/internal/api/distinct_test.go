package api

// White-box: from outside one sees only whole replies.

import (
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"presence/pkg/protocol"
)

// TestProperty_Distinct: of a list of IDs the first of each is left, in the same order.
func TestProperty_Distinct(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ids := rapid.SliceOfN(rapid.SampledFrom([]string{"", "a", "b", "c", "alice", "bob", "\x00", "é"}), 0, 30).Draw(t, "ids")
		var want []string
		for _, id := range ids {
			if !slices.Contains(want, id) {
				want = append(want, id)
			}
		}
		if got := distinct(slices.Clone(ids)); !slices.Equal(got, want) {
			t.Fatalf("distinct(%q): got %q, want %q", ids, got, want)
		}
	})
}

// TestDistinct_Most: as many IDs as a request may have, each of them twice.
func TestDistinct_Most(t *testing.T) {
	var ids []string
	for i := range protocol.MaxUsersPerGet {
		ids = append(ids, fmt.Sprint("user-", i/2))
	}
	got := distinct(slices.Clone(ids))
	if want := slices.Compact(ids); !slices.Equal(got, want) {
		t.Errorf("got %d IDs, want %d", len(got), len(want))
	}
}
