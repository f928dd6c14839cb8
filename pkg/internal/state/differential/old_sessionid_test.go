package differential

import (
	"strings"

	"github.com/google/uuid"
)

// sessionID is a session's ID in little room: a UUID, which most are, as its 16
// bytes, anything else as it is. The two cannot be mistaken for each other: a
// UUID's ninth byte is above 0x7f, and the IDs of the contract are ASCII
// (PROTOCOL 1). Two are equal where the IDs are.
type sessionID string

const packedLength = 16

func packID(id string) sessionID {
	if len(id) != 36 {
		return sessionID(id)
	}
	u, err := uuid.Parse(id)
	if err != nil || u.Variant() != uuid.RFC4122 || strings.ContainsAny(id, "ABCDEF") { // in capitals it is another ID
		return sessionID(id)
	}
	return sessionID(u[:])
}

func (p sessionID) String() string {
	if len(p) != packedLength || p[8] < 0x80 {
		return string(p)
	}
	return uuid.UUID([]byte(p)).String()
}
