package protocol

// The messages of gateways: many users behind one connection (PROTOCOL 4.7).
// Process, in every body, is an ID that the gateway makes anew at each start.

// LeaseRequest renews a gateway's lease.
type LeaseRequest struct {
	Process string `json:"process"`
}

// CloseRequest ends a gateway's lease: its sessions are lost, or logged out.
type CloseRequest struct {
	Process string `json:"process"`
	Logout  bool   `json:"logout,omitempty"`
}

// ApplyRequest does 1 to MaxOpsPerApply ops in order. They are committed together. A
// process numbers its applies by Seq: 1, 2, 3 and so on.
type ApplyRequest struct {
	Process string `json:"process"`
	Seq     uint64 `json:"seq"`
	Ops     []Op   `json:"ops"`
}

// The kinds of op.
const (
	OpKindLogin  = "login"  // UserID, SessionID, Device, Platform, Idle
	OpKindLogout = "logout" // UserID, SessionID
	OpKindLost   = "lost"   // UserID, SessionID
	OpKindIdle   = "idle"   // UserID, SessionID, Idle
	OpKindSet    = "set"    // UserID, CustomStatus, ExpiresInSeconds, Availability, AvailabilityExpiresInSeconds, IfRevision, SessionID
)

// Op is one change by a gateway for one of its users. The constants above say which
// fields each kind uses.
type Op struct {
	Op               string  `json:"op"`
	UserID           string  `json:"userID"`
	SessionID        string  `json:"sessionID,omitempty"`
	Device           string  `json:"device,omitempty"`
	Platform         string  `json:"platform,omitempty"`
	Idle             bool    `json:"idle,omitempty"`
	CustomStatus     *string `json:"customStatus,omitempty"`
	ExpiresInSeconds *int64  `json:"expiresInSeconds,omitempty"`

	Availability                 *Availability `json:"availability,omitempty"`
	AvailabilityExpiresInSeconds *int64        `json:"availabilityExpiresInSeconds,omitempty"`

	IfRevision *uint64 `json:"ifRevision,omitempty"`
}

// Set returns the request that an op of the kind OpKindSet stands for.
func (o *Op) Set() *SetRequest {
	return &SetRequest{
		CustomStatus: o.CustomStatus, ExpiresInSeconds: o.ExpiresInSeconds,
		Availability: o.Availability, AvailabilityExpiresInSeconds: o.AvailabilityExpiresInSeconds,
		IfRevision: o.IfRevision, SessionID: o.SessionID,
	}
}

// ApplyReply answers an ApplyRequest: how many ops were done, and which were
// not. A failed op leaves the others.
type ApplyReply struct {
	Applied  int         `json:"applied"`
	Failures []OpFailure `json:"failures"`
	Revision uint64      `json:"revision"`
	Epoch    string      `json:"epoch"`
}

// OpFailure says why the op at an index of the request was not done.
type OpFailure struct {
	Index int `json:"index"`
	UserFailure
}

// Check implements PROTOCOL 4.7.
func (r *LeaseRequest) Check() error { return CheckID(r.Process, "process") }

// Check implements PROTOCOL 4.7.
func (r *CloseRequest) Check() error { return CheckID(r.Process, "process") }

// Check implements PROTOCOL 4.7: the request as a whole. What is wrong with one
// op goes into the failures of the reply.
func (r *ApplyRequest) Check() error {
	if err := CheckID(r.Process, "process"); err != nil {
		return err
	}
	switch n := len(r.Ops); {
	case r.Seq == 0 || r.Seq > MaxRevision:
		return ErrOutOfOrder.With("seq must begin with 1 and rise by one")
	case n == 0:
		return ErrInvalidRequest.With("ops is missing or empty")
	case n > MaxOpsPerApply:
		return ErrTooManyUsers.Withf("ops has %d ops, at most %d are allowed", n, MaxOpsPerApply)
	}
	return nil
}

// Check reports what is wrong with one op; maxText is the limit in force for
// the custom status, in bytes.
func (o *Op) Check(maxText int) error {
	if err := CheckUserID(o.UserID); err != nil {
		return err
	}
	switch o.Op {
	case OpKindLogin:
		login := LoginRequest{SessionID: o.SessionID, Device: o.Device, Platform: o.Platform}
		if err := login.Check(); err != nil {
			return err
		}
	case OpKindLogout, OpKindLost, OpKindIdle:
	case OpKindSet:
		return o.Set().Check(maxText)
	default:
		return ErrInvalidRequest.Withf("op must be login, logout, lost, idle or set, not %q", o.Op)
	}
	return CheckID(o.SessionID, "sessionID")
}
