package protocol

import "time"

// Limits of the contract. Those marked "configurable" are defaults: a service may be
// configured to have others.
const (
	// MaxUserIDBytes bounds a user ID (PROTOCOL 1).
	MaxUserIDBytes = 128
	// MaxSessionIDBytes bounds session, gateway and process IDs (PROTOCOL 1).
	MaxSessionIDBytes = 64
	// MaxDeviceBytes bounds the name of a device (PROTOCOL 4.1).
	MaxDeviceBytes = 128
	// MaxPlatformBytes bounds the name of a platform (PROTOCOL 4.1).
	MaxPlatformBytes = 32
	// MaxServerIDBytes bounds a NATS server's ID in a connection (PROTOCOL 4.1).
	MaxServerIDBytes = 128
	// MaxCustomStatusBytes bounds the custom status; configurable (PROTOCOL 2).
	MaxCustomStatusBytes = 512
	// MostCustomStatusBytes is the highest limit that a service can be configured to have.
	MostCustomStatusBytes = 4096
	// MaxUsersPerGet bounds the list of one get request (PROTOCOL 4.5).
	MaxUsersPerGet = 500
	// MaxUsersPerList bounds a page of list (PROTOCOL 4.8).
	MaxUsersPerList = 500
	// MaxContacts bounds a user's contacts (PROTOCOL 4.6).
	MaxContacts = 2000
	// ApplyWindow is how many applies a gateway may have under way at a time (PROTOCOL 4.7).
	ApplyWindow = 4
	// MaxOpsPerApply bounds the list of one apply request (PROTOCOL 4.7).
	MaxOpsPerApply = 1000
	// MaxBodyBytes bounds a request's and a reply's body (PROTOCOL 1).
	MaxBodyBytes = 512 << 10
	// MaxSessionsPerUser bounds a user's sessions, lost ones included;
	// configurable, up to MostSessionsPerUser (PROTOCOL 3).
	MaxSessionsPerUser = 32
	// MostSessionsPerUser is the highest limit that a service can be configured to
	// have: the sessions of one user fit into every reply and event.
	MostSessionsPerUser = 256
	// MaxRevision is the largest revision: an integer that every JSON parser
	// represents exactly (PROTOCOL 2).
	MaxRevision = 1<<53 - 1
)

// Times of the contract.
const (
	// MaxExpiry bounds the expiry of a text or an availability (PROTOCOL 4.4).
	MaxExpiry = 366 * 24 * time.Hour
	// DefaultRetention is how long a lost session and a user without session
	// and text are kept; configurable (PROTOCOL 3).
	DefaultRetention = 7 * 24 * time.Hour
	// ReplacedKept is how long a replaced or kicked session is remembered
	// as such (PROTOCOL 4.1).
	ReplacedKept = 24 * time.Hour
	// MinRevisionWait bounds the wait for a minRevision (PROTOCOL 4.5).
	MinRevisionWait = 2 * time.Second
	// StaleAfter is how long an instance may see no journal entry before its answers
	// say that they are stale (PROTOCOL 8, G12).
	StaleAfter = 3 * time.Second
	// OutcomeWithin is the longest time from the arrival of a change to its answer. A
	// fresh read that is sent so long after the change settles whether it was done
	// (PROTOCOL 6).
	OutcomeWithin = 10 * time.Second
)
