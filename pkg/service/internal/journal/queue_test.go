package journal

import (
	"testing"

	"presence/pkg/service/internal/entry"
)

// TestQueue_OldestRenewalsFirst: where more leases are to be renewed than fit
// into an entry, none waits for ever. Taken in no order, some would.
func TestQueue_OldestRenewalsFirst(t *testing.T) {
	var q Queue[int]
	const leases = 3 * entry.MaxCommands
	for n := range uint32(leases) {
		q.Renew(n, int(n), true)
	}
	for next := uint32(0); next < leases; {
		e, callers := q.Take()
		for i, number := range e.Renewed[:min(len(e.Renewed), int(leases-next))] {
			if number != next || callers.Renewals[i].Caller != int(next) {
				t.Fatalf("Take() renews lease %d for caller %d, want %d", number, callers.Renewals[i].Caller, next)
			}
			next++
		}
		q.Renew(0, 0, false) // comes again and again
	}
}
