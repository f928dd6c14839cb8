package protocol

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// Headers of an error reply, as NATS micro services have them (PROTOCOL 6).
const (
	ErrorHeader     = "Nats-Service-Error"
	ErrorCodeHeader = "Nats-Service-Error-Code"
)

// Error is an error that crosses the wire (PROTOCOL 6). errors.Is compares two of them
// by their names alone, on both sides:
//
//	if errors.Is(err, protocol.ErrSessionReplaced) { … }
//
// An Error is immutable once it is made.
type Error struct {
	Code         int    `json:"code"`                   // as in HTTP
	Name         string `json:"error"`                  // stable, for programs
	Message      string `json:"message"`                // for people
	RetryAfterMs int64  `json:"retryAfterMs,omitempty"` // milliseconds; only with rate_limited
}

func (e *Error) Error() string {
	if e.Message == "" {
		return e.Name
	}
	return e.Name + ": " + e.Message
}

// Is makes errors.Is compare by name.
func (e *Error) Is(target error) bool {
	t, ok := target.(*Error)
	return ok && t.Name == e.Name
}

// maxMessageBytes bounds a message: it may quote a request, and goes into a
// header too.
const maxMessageBytes = 300

// With returns the same error with another message, which is cut if it is too long.
func (e *Error) With(message string) *Error {
	c := *e
	c.Message = message
	if len(message) > maxMessageBytes {
		c.Message = strings.ToValidUTF8(message[:maxMessageBytes], "") + "…"
	}
	return &c
}

// Withf is With and fmt.Sprintf.
func (e *Error) Withf(format string, args ...any) *Error {
	return e.With(fmt.Sprintf(format, args...))
}

// RetryIn returns the same error, to be tried again after d at the earliest.
func (e *Error) RetryIn(d time.Duration) *Error {
	c := *e
	c.RetryAfterMs = int64((d + time.Millisecond - 1) / time.Millisecond)
	return &c
}

// RetryAfter says when a rate_limited request may be tried again.
func (e *Error) RetryAfter() time.Duration {
	return time.Duration(e.RetryAfterMs) * time.Millisecond
}

// The errors of the contract. All but ErrOutcomeUnknown mean that nothing was done. After
// ErrOutcomeUnknown, send a fresh read OutcomeWithin after the request: its answer settles
// whether the change was done (PROTOCOL 6).
var (
	ErrInvalidRequest      = &Error{Code: 400, Name: "invalid_request", Message: "the request is not valid"}
	ErrInvalidUserID       = &Error{Code: 400, Name: "invalid_user_id", Message: "the user ID is not valid"}
	ErrTooManyUsers        = &Error{Code: 400, Name: "too_many_users", Message: "the list is over its limit"}
	ErrCustomStatusTooLong = &Error{Code: 400, Name: "custom_status_too_long", Message: "the custom status is too long"}
	ErrFeatureDisabled     = &Error{Code: 403, Name: "feature_disabled", Message: "this is switched off"}
	ErrSessionNotFound     = &Error{Code: 404, Name: "session_not_found", Message: "there is no such session: log in again"}
	ErrLeaseNotFound       = &Error{Code: 404, Name: "lease_not_found", Message: "there is no such lease: open again and log everyone in"}
	ErrRevisionConflict    = &Error{Code: 409, Name: "revision_conflict", Message: "the status has another revision"}
	ErrOutOfOrder          = &Error{Code: 409, Name: "out_of_order", Message: "a later request of this gateway was already applied"}
	ErrTooManySessions     = &Error{Code: 409, Name: "too_many_sessions", Message: "the user has too many live sessions"}
	ErrSessionReplaced     = &Error{Code: 410, Name: "session_replaced", Message: "the session was kicked, or replaced by a later login of the same device"}
	ErrRequestTooLarge     = &Error{Code: 413, Name: "request_too_large", Message: "the body is too large"}
	ErrRateLimited         = &Error{Code: 429, Name: "rate_limited", Message: "too many requests"}
	ErrInternal            = &Error{Code: 500, Name: "internal", Message: "the service failed; its log says why"}
	ErrOverloaded          = &Error{Code: 503, Name: "overloaded", Message: "too much is waiting: nothing was done, try again"}
	ErrUnavailable         = &Error{Code: 503, Name: "unavailable", Message: "this instance is starting, stopping or cut off: nothing was done, try again"}
	ErrOutcomeUnknown      = &Error{Code: 504, Name: "outcome_unknown", Message: "the change may be done, now or later: a fresh read that is sent 10 s after the request settles it"}
)

// AsError returns the Error in err's chain. If there is none it returns ErrInternal, and
// the caller should log the cause.
func AsError(err error) *Error {
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	return ErrInternal
}
