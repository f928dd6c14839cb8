package protocol

// The messages of operators' requests (PROTOCOL 4.8).

// StatsReply answers stats, whose request is {}. Users and Sessions are the public
// view: an invisible user counts as what others see, and without sessions.
type StatsReply struct {
	Users UserCounts `json:"users"`
	// Sessions are the live ones of users shown ONLINE, by platform.
	Sessions map[string]int `json:"sessions"`
	// Leases counts sessions, lost ones included, and gateways.
	Leases   int `json:"leases"`
	Gateways int `json:"gateways"`
	// Instances are those that the journal knows.
	Instances []InstanceStats `json:"instances"`
	// Limits in force at the answering instance, by the names of their flags.
	Limits map[string]int64 `json:"limits"`
	// Refusals counts the errors answered by the answering instance since it
	// started, by their names.
	Refusals map[string]uint64 `json:"refusals"`
	Revision uint64            `json:"revision"`
	Epoch    string            `json:"epoch"`
	AsOf     Time              `json:"asOf,omitzero"`
	Stale    bool              `json:"stale"`
}

// UserCounts counts users by their public statusType, those that are remembered.
type UserCounts struct {
	Online    int `json:"online"`
	Offline   int `json:"offline"`
	Unlogined int `json:"unlogined"`
}

// InstanceStats is an instance as the journal knows it.
type InstanceStats struct {
	Writer string `json:"writer"` // one start of an instance
	// Host and Version are the name and the version of that instance; left out if they
	// are not known.
	Host    string `json:"host,omitempty"`
	Version string `json:"version,omitempty"`
	// SilentMs is how long ago it last appended to the journal, in milliseconds.
	SilentMs int64 `json:"silentMs"`
	// Owes counts its changes that are not yet known to be announced.
	Owes int `json:"owes"`
	// Format is the newest journal format that it understands.
	Format int `json:"format"`
	// Answering marks the instance that answers.
	Answering bool `json:"answering,omitempty"`
}

// ListRequest asks for a page of the public view, in the order of the users'
// tokens (PROTOCOL 1).
type ListRequest struct {
	// StatusType selects; 0 for all.
	StatusType StatusType `json:"statusType,omitempty"`
	// Cursor is the one of the page before; empty for the first page.
	Cursor string `json:"cursor,omitempty"`
	// Limit is 1 to MaxUsersPerList; default MaxUsersPerList.
	Limit int `json:"limit,omitempty"`
}

// ListReply is a page. It may be shorter than the limit, even empty, although a
// Cursor says that there is more. A user who is remembered all the while is on exactly
// one page, unless the user's statusType changes meanwhile and StatusType selects.
type ListReply struct {
	Users    []Status `json:"users"`
	Cursor   string   `json:"cursor,omitempty"` // empty: that was the last page
	Revision uint64   `json:"revision"`
	Epoch    string   `json:"epoch"`
	AsOf     Time     `json:"asOf,omitzero"`
	Stale    bool     `json:"stale"`
}

// EraseRequest names a user whom the service forgets, for admin.erase.
type EraseRequest struct {
	UserID string `json:"userID"`
	// Trim makes the data leave the journal and its snapshots soon (PROTOCOL 4.8). Without
	// it they leave when the service next trims these by itself.
	Trim bool `json:"trim,omitempty"`
}

// UserRequest names a user, for explain.
type UserRequest struct {
	UserID string `json:"userID"`
}

// ExplainReply tells an operator everything about a user, invisible or not, and why
// the status is what it is.
type ExplainReply struct {
	// Public is what everybody sees, Owner what the user sees.
	Public Status `json:"public"`
	Owner  Status `json:"owner"`
	// Why are the rules that decided, one sentence each.
	Why          []string             `json:"why"`
	Availability AvailabilitySettings `json:"availability"`
	Sessions     []SessionDetail      `json:"sessions"`
	// Ended are the sessions that must not log in again (PROTOCOL 4.1).
	Ended []EndedSession `json:"ended"`
	// ForgottenInSeconds is when the user is forgotten if nothing happens, by
	// the lease clock; left out while there is something to remember.
	ForgottenInSeconds float64 `json:"forgottenInSeconds,omitempty"`
	// OwedBy is the instance that has to announce the last change; left out once that
	// is known to be done.
	OwedBy string `json:"owedBy,omitempty"`
	// AmnestySeconds is how much longer nothing falls due, after an outage.
	AmnestySeconds float64 `json:"amnestySeconds,omitempty"`
	Revision       uint64  `json:"revision"`
	Epoch          string  `json:"epoch"`
	AsOf           Time    `json:"asOf,omitzero"`
	Stale          bool    `json:"stale"`
}

// SessionDetail is a session with what keeps it live.
type SessionDetail struct {
	Session
	// Process names the start of the Gateway that holds the session.
	Process string `json:"process,omitempty"`
	// EndsInSeconds is when the session is lost, or a lost one forgotten, unless it is
	// renewed. It goes by the lease clock, and may be negative in an amnesty.
	EndsInSeconds float64 `json:"endsInSeconds"`
	// Connection is what the session, or its gateway's lease, is bound to.
	Connection *Connection `json:"connection,omitempty"`
	// ClosedSeconds is how long ago the broker reported it closed.
	ClosedSeconds float64 `json:"closedSeconds,omitempty"`
}

// EndedSession is a session that was replaced, kicked or logged out with all others.
type EndedSession struct {
	SessionID string    `json:"sessionID"`
	Reason    EndReason `json:"reason"`
	// RememberedForSeconds is how much longer a login with its ID is refused.
	RememberedForSeconds float64 `json:"rememberedForSeconds"`
}

// EndReason says why a session was ended that did not end by itself.
type EndReason string

// The reasons.
const (
	EndReplaced EndReason = "replaced" // by a later login of the same device
	EndKicked   EndReason = "kicked"   // by an operator
	EndLogout   EndReason = "logout"   // by a logout for good: of all sessions, or of one
	EndErased   EndReason = "erased"   // with everything else about the user
)

// KickRequest ends a session of a user, or all where SessionID is empty.
type KickRequest struct {
	UserID    string `json:"userID"`
	SessionID string `json:"sessionID,omitempty"`
}

// KickReply answers admin.kick and admin.erase: it names the sessions that were ended.
// To kick a session that does not exist is no error.
type KickReply struct {
	Ended    []string `json:"ended"`
	Revision uint64   `json:"revision"`
	Epoch    string   `json:"epoch"`
}

// Check implements PROTOCOL 4.8. The cursor is a token, or empty.
func (r *ListRequest) Check() error {
	switch {
	case r.StatusType > Unlogined:
		return ErrInvalidRequest.With("statusType must be 0 for all, 1, 2 or 3")
	case r.Limit < 0 || r.Limit > MaxUsersPerList:
		return ErrInvalidRequest.Withf("limit must be 1 to %d", MaxUsersPerList)
	case r.Cursor == "":
		return nil
	}
	if _, err := DecodeToken(r.Cursor); err != nil {
		return ErrInvalidRequest.With("cursor must be from an earlier reply")
	}
	return nil
}

// Check implements PROTOCOL 4.8.
func (r *EraseRequest) Check() error { return CheckUserID(r.UserID) }

// Check implements PROTOCOL 4.8.
func (r *UserRequest) Check() error { return CheckUserID(r.UserID) }

// Check implements PROTOCOL 4.8.
func (r *KickRequest) Check() error {
	if err := CheckUserID(r.UserID); err != nil {
		return err
	}
	if r.SessionID == "" {
		return nil
	}
	return CheckID(r.SessionID, "sessionID")
}
