package protocol

import (
	"bytes"
	"encoding/json"
	"fmt"
)

// RenewRequest extends a session's lease (PROTOCOL 4.2). If Idle is nil, the session
// stays idle or not as it is.
type RenewRequest struct {
	SessionID string `json:"sessionID"`
	Idle      *bool  `json:"idle,omitempty"`
}

// LogoutRequest ends one session or all of a user's (PROTOCOL 4.3). Sessions that Final or All
// has ended must not log in again by themselves: they get session_replaced.
type LogoutRequest struct {
	SessionID string `json:"sessionID,omitempty"`
	Final     bool   `json:"final,omitempty"` // only with SessionID
	All       bool   `json:"all,omitempty"`
}

// SetRequest changes a user's text or availability (PROTOCOL 4.4). A nil field changes
// nothing. An empty text clears the text.
type SetRequest struct {
	CustomStatus     *string `json:"customStatus,omitempty"`
	ExpiresInSeconds *int64  `json:"expiresInSeconds,omitempty"`
	// Availability is a lasting value or, with an expiry, an override for that time.
	Availability                 *Availability `json:"availability,omitempty"`
	AvailabilityExpiresInSeconds *int64        `json:"availabilityExpiresInSeconds,omitempty"`
	// IfRevision refuses the change unless the owner's status has this revision.
	IfRevision *uint64 `json:"ifRevision,omitempty"`
	// SessionID refuses the change unless this session is live.
	SessionID string `json:"sessionID,omitempty"`
}

// ChangeReply answers renew, logout and set: the owner's view after it.
type ChangeReply struct {
	Status   Status `json:"status"`
	Revision uint64 `json:"revision"`
	Epoch    string `json:"epoch"`
	// Final answers a logout with Final: the session must not log in again by itself.
	Final bool `json:"final,omitempty"`
}

// GetRequest asks for many users (PROTOCOL 4.5): 1 to MaxUsersPerGet IDs.
type GetRequest struct {
	UserIDList []string `json:"userIDList"`
	Detail     bool     `json:"detail,omitempty"`
	// MinRevision makes the instance wait, up to MinRevisionWait, until it has reached
	// that revision. It counts only if Epoch is the epoch of the journal.
	MinRevision uint64 `json:"minRevision,omitempty"`
	Epoch       string `json:"epoch,omitempty"`
	// Fresh makes the read linearizable: it goes through the journal.
	Fresh bool `json:"fresh,omitempty"`
}

// UserFailure says why one user of a list could not be served.
type UserFailure struct {
	UserID  string `json:"userID"`
	Code    int    `json:"code"`
	Name    string `json:"error"`
	Message string `json:"message"`
}

// Failure returns err as the failure of one user of a list.
func Failure(userID string, err error) UserFailure {
	e := AsError(err)
	return UserFailure{UserID: userID, Code: e.Code, Name: e.Name, Message: e.Message}
}

// Err returns the failure as an Error, for errors.Is.
func (f UserFailure) Err() error { return &Error{Code: f.Code, Name: f.Name, Message: f.Message} }

// GetReply answers a GetRequest, in the order asked, a repeated ID once. Every
// ID is in exactly one list. Neither list is ever null.
type GetReply struct {
	SuccessUserList []Status      `json:"successUserList"`
	FailureUserList []UserFailure `json:"failureUserList"`
	// Revision: the reply includes every change up to it.
	Revision uint64 `json:"revision"`
	Epoch    string `json:"epoch"`
	// AsOf is the journal's time at Revision.
	AsOf Time `json:"asOf,omitzero"`
	// Stale says that the instance is cut off from the journal (G12).
	Stale bool `json:"stale"`
}

// OwnStatusReply answers user.<user>.status: the owner's view with sessions.
type OwnStatusReply struct {
	Status       Status               `json:"status"`
	Availability AvailabilitySettings `json:"availability"`
	Sessions     []Session            `json:"sessions"`
	Revision     uint64               `json:"revision"`
	Epoch        string               `json:"epoch"`
	AsOf         Time                 `json:"asOf,omitzero"`
	Stale        bool                 `json:"stale"`
}

// Unmarshal reads a request's or a reply's body into v, a pointer to a message. The body
// must be one JSON object of valid Unicode, at most MaxBodyBytes long. Unknown fields are
// ignored, also those that differ from known ones by case alone. The error is
// ErrRequestTooLarge or ErrInvalidRequest and says what is wrong.
func Unmarshal(body []byte, v any) error {
	if len(body) > MaxBodyBytes {
		return ErrRequestTooLarge.Withf("the body has %d bytes, at most %d are allowed", len(body), MaxBodyBytes)
	}
	if p, ok := v.(jsonScanner); ok && p.scanJSON(body) {
		return nil
	}
	return unmarshal(body, v)
}

// unmarshal is Unmarshal the general way.
func unmarshal(body []byte, v any) error {
	trimmed := bytes.TrimLeft(body, " \t\r\n")
	if len(trimmed) == 0 || trimmed[0] != '{' {
		return ErrInvalidRequest.With("the body must be a JSON object")
	}
	body, err := checkKeys(body, v)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(body, v); err != nil {
		return ErrInvalidRequest.With(describe(err))
	}
	return nil
}

// describe says what is wrong with a body, without the names of Go types.
func describe(err error) string {
	switch e := err.(type) {
	case *json.UnmarshalTypeError:
		if e.Field == "" {
			return fmt.Sprintf("the body is a JSON %s, not an object", e.Value)
		}
		return fmt.Sprintf("the field %q cannot be a JSON %s", e.Field, e.Value)
	case *json.SyntaxError:
		return fmt.Sprintf("the body is not JSON: %v at byte %d", e, e.Offset)
	}
	return "the body is not JSON: " + err.Error()
}

// Ptr returns a pointer to v, for optional fields.
func Ptr[T any](v T) *T { return &v }
