package api

import (
	"hash/maphash"

	"presence/pkg/protocol"
)

// distinctSlots is a power of two, and more than twice protocol.MaxUsersPerGet.
const distinctSlots = 1024

var distinctSeed = maphash.MakeSeed()

// distinct takes those IDs out of a list that came before in it. The list may have
// protocol.MaxUsersPerGet IDs. A map would take three times as long.
func distinct(ids []string) []string {
	var slots [distinctSlots]uint16 // 1 + the index of an ID, by its hash or behind that; 0: unused
	kept := ids[:0]
	for _, id := range ids {
		at := maphash.String(distinctSeed, id) % distinctSlots
		for slots[at] != 0 && kept[slots[at]-1] != id {
			at = (at + 1) % distinctSlots
		}
		if slots[at] == 0 {
			kept = append(kept, id)
			slots[at] = uint16(len(kept))
		}
	}
	return kept
}

const _ = uint(distinctSlots - 2*protocol.MaxUsersPerGet) // does not compile if there are too few
