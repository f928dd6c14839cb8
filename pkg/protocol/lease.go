package protocol

import "time"

// A lease keeps a session live, or all sessions of a gateway. This file has the requests that open
// leases, and what is shown of a session.

// Times of leases.
const (
	// MinTTL and MaxTTL bound the time to live of a session (PROTOCOL 4.1).
	MinTTL = 5 * time.Second
	MaxTTL = 3600 * time.Second
	// DefaultTTL is the time to live of a session that is bound to no connection.
	DefaultTTL = 30 * time.Second
	// DefaultBoundTTL is the time to live of a session that is bound to one.
	DefaultBoundTTL = 120 * time.Second
	// DefaultGrace is how long a session outlives its closed connection; configurable.
	DefaultGrace = 5 * time.Second
	// MinGrace and MaxGrace bound the grace that a login or an open may choose. A service
	// may be configured to allow less: DefaultMaxGrace, unless it is.
	MinGrace        = time.Second
	MaxGrace        = 300 * time.Second
	DefaultMaxGrace = 60 * time.Second
)

// Connection names a NATS connection: the server's ID and the client ID that
// it was given (PROTOCOL 4.1).
type Connection struct {
	ServerID string `json:"serverID"`
	ClientID uint64 `json:"clientID"`
}

// LoginRequest opens or resumes a session (PROTOCOL 4.1). All fields are optional.
type LoginRequest struct {
	SessionID  string `json:"sessionID,omitempty"` // default: a new UUID
	Device     string `json:"device,omitempty"`    // replaces that device's earlier session
	Platform   string `json:"platform,omitempty"`  // default "unknown"
	TTLSeconds int64  `json:"ttlSeconds,omitempty"`
	// GraceSeconds is how long the session outlives its closed connection. Default: the service's.
	GraceSeconds int64       `json:"graceSeconds,omitempty"`
	Idle         bool        `json:"idle,omitempty"`
	Connection   *Connection `json:"connection,omitempty"`
}

// LoginReply answers a LoginRequest. Status is the owner's view.
type LoginReply struct {
	SessionID    string   `json:"sessionID"`
	TTLSeconds   int64    `json:"ttlSeconds"`
	GraceSeconds float64  `json:"graceSeconds"`
	Replaced     []string `json:"replaced,omitempty"`
	Status       Status   `json:"status"`
	Revision     uint64   `json:"revision"`
	Epoch        string   `json:"epoch"`
}

// OpenRequest opens or resumes a gateway's lease.
type OpenRequest struct {
	Process      string      `json:"process"`
	TTLSeconds   int64       `json:"ttlSeconds,omitempty"`
	GraceSeconds int64       `json:"graceSeconds,omitempty"` // as in LoginRequest
	Connection   *Connection `json:"connection,omitempty"`
}

// LeaseReply answers open, renew and close.
type LeaseReply struct {
	TTLSeconds   int64   `json:"ttlSeconds,omitempty"`
	GraceSeconds float64 `json:"graceSeconds,omitempty"`
	// Seq is the number of this process's last apply. Only the reply to open has it.
	Seq uint64 `json:"seq"`
	// Window is how many applies this process may have under way at a time. Only the reply to
	// open has it. 0 stands for 1.
	Window   int    `json:"window,omitempty"`
	Revision uint64 `json:"revision"`
	Epoch    string `json:"epoch"`
}

// Session is one login of one device, as its owner sees it.
type Session struct {
	SessionID  string `json:"sessionID"`
	Device     string `json:"device,omitempty"`
	Platform   string `json:"platform"`
	Live       bool   `json:"live"`
	Idle       bool   `json:"idle"`
	TTLSeconds int64  `json:"ttlSeconds"`
	// GraceSeconds is how long the session outlives its closed connection.
	GraceSeconds float64 `json:"graceSeconds"`
	// Bound says that the session ends with its NATS connection.
	Bound bool `json:"bound"`
	// Connection is the one that the session is bound to, or was bound to when it was lost. A
	// client that finds a connection here that was never its own knows that another client
	// has taken the session.
	Connection *Connection `json:"connection,omitempty"`
	// Gateway is the one that holds the session; left out if none does.
	Gateway string `json:"gateway,omitempty"`
	// LoginAt is when the session was opened, LostAt when it was lost.
	LoginAt Time `json:"loginAt"`
	LostAt  Time `json:"lostAt,omitzero"`
}

// Check implements PROTOCOL 4.1.
func (r *LoginRequest) Check() error {
	if r.SessionID != "" {
		if err := CheckID(r.SessionID, "sessionID"); err != nil {
			return err
		}
	}
	if len(r.Device) > MaxDeviceBytes {
		return ErrInvalidRequest.Withf("device has %d bytes, at most %d are allowed", len(r.Device), MaxDeviceBytes)
	}
	if err := checkText(r.Device, ErrInvalidRequest, "device"); err != nil {
		return err
	}
	if err := checkPlatform(r.Platform); err != nil {
		return err
	}
	if err := checkTerms(r.TTLSeconds, r.GraceSeconds); err != nil {
		return err
	}
	return r.Connection.check()
}

// Check implements PROTOCOL 4.7.
func (r *OpenRequest) Check() error {
	if err := CheckID(r.Process, "process"); err != nil {
		return err
	}
	if err := checkTerms(r.TTLSeconds, r.GraceSeconds); err != nil {
		return err
	}
	return r.Connection.check()
}

// checkTerms accepts 0, which stands for the default.
func checkTerms(ttlSeconds, graceSeconds int64) error {
	if err := checkSeconds("ttlSeconds", ttlSeconds, MinTTL, MaxTTL); err != nil {
		return err
	}
	return checkSeconds("graceSeconds", graceSeconds, MinGrace, MaxGrace)
}

func checkSeconds(what string, seconds int64, least, most time.Duration) error {
	if seconds != 0 && (seconds < int64(least/time.Second) || seconds > int64(most/time.Second)) {
		return ErrInvalidRequest.Withf("%s must be %d to %d", what, least/time.Second, most/time.Second)
	}
	return nil
}

func checkPlatform(p string) error {
	if len(p) > MaxPlatformBytes {
		return ErrInvalidRequest.Withf("platform has %d bytes, at most %d are allowed", len(p), MaxPlatformBytes)
	}
	for i := 0; i < len(p); i++ {
		if c := p[i]; !('a' <= c && c <= 'z' || '0' <= c && c <= '9' || c == '-') {
			return ErrInvalidRequest.With("platform may contain only a-z 0-9 -")
		}
	}
	return nil
}

func (c *Connection) check() error {
	switch {
	case c == nil:
		return nil
	case c.ServerID == "" || len(c.ServerID) > MaxServerIDBytes:
		return ErrInvalidRequest.Withf("connection.serverID must have 1 to %d bytes", MaxServerIDBytes)
	case c.ClientID == 0:
		return ErrInvalidRequest.With("connection.clientID is missing")
	}
	// It becomes part of a subject of the system account.
	for i := 0; i < len(c.ServerID); i++ {
		if !isTokenByte(c.ServerID[i]) {
			return ErrInvalidRequest.With("connection.serverID may contain only A-Z a-z 0-9 _ -")
		}
	}
	return nil
}
