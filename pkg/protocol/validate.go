package protocol

import "time"

// Each Check method returns the first thing that is wrong with a decoded request, as an
// Error of PROTOCOL 6. It looks at the request alone, not at the state of the service.

// CheckID reports whether id can be a session, gateway or process ID: 1 to
// MaxSessionIDBytes bytes of A-Z a-z 0-9 _ -. what names it in the message.
func CheckID(id, what string) error {
	if id == "" || len(id) > MaxSessionIDBytes {
		return ErrInvalidRequest.Withf("%s must have 1 to %d bytes", what, MaxSessionIDBytes)
	}
	for i := 0; i < len(id); i++ {
		if !isTokenByte(id[i]) {
			return ErrInvalidRequest.Withf("%s may contain only A-Z a-z 0-9 _ -", what)
		}
	}
	return nil
}

// Check implements PROTOCOL 4.2.
func (r *RenewRequest) Check() error { return CheckID(r.SessionID, "sessionID") }

// Check implements PROTOCOL 4.3.
func (r *LogoutRequest) Check() error {
	if r.All {
		if r.SessionID != "" {
			return ErrInvalidRequest.With("give sessionID or all, not both")
		}
		if r.Final {
			return ErrInvalidRequest.With("give final with sessionID only: what all ends is ended for good")
		}
		return nil
	}
	if r.SessionID == "" {
		return ErrInvalidRequest.With("give sessionID or all")
	}
	return CheckID(r.SessionID, "sessionID")
}

// Check implements PROTOCOL 4.4; maxText is the limit in force for the custom
// status, in bytes.
func (r *SetRequest) Check(maxText int) error {
	if r.CustomStatus == nil && r.Availability == nil {
		return ErrInvalidRequest.With("give customStatus or availability")
	}
	if r.CustomStatus != nil {
		if n := len(*r.CustomStatus); n > maxText {
			return ErrCustomStatusTooLong.Withf("the custom status has %d bytes, at most %d are allowed", n, maxText)
		}
		if err := checkText(*r.CustomStatus, ErrInvalidRequest, "customStatus"); err != nil {
			return err
		}
	}
	if r.ExpiresInSeconds != nil {
		if r.CustomStatus == nil || *r.CustomStatus == "" {
			return ErrInvalidRequest.With("expiresInSeconds goes with a customStatus")
		}
		if err := checkExpiry(*r.ExpiresInSeconds, "expiresInSeconds"); err != nil {
			return err
		}
	}
	if r.Availability != nil {
		if err := r.Availability.Check(); err != nil {
			return err
		}
	}
	if r.AvailabilityExpiresInSeconds != nil {
		if r.Availability == nil {
			return ErrInvalidRequest.With("availabilityExpiresInSeconds goes with an availability")
		}
		if err := checkExpiry(*r.AvailabilityExpiresInSeconds, "availabilityExpiresInSeconds"); err != nil {
			return err
		}
	}
	if r.SessionID != "" {
		return CheckID(r.SessionID, "sessionID")
	}
	return nil
}

func checkExpiry(seconds int64, what string) error {
	if seconds < 1 || seconds > int64(MaxExpiry/time.Second) {
		return ErrInvalidRequest.Withf("%s must be 1 to %d", what, int64(MaxExpiry/time.Second))
	}
	return nil
}

// Check implements PROTOCOL 4.5: the request as a whole. What is wrong with
// one ID goes into the failureUserList of the reply.
func (r *GetRequest) Check() error {
	switch n := len(r.UserIDList); {
	case n == 0:
		return ErrInvalidRequest.With("userIDList is missing or empty")
	case n > MaxUsersPerGet:
		return ErrTooManyUsers.Withf("userIDList has %d IDs, at most %d are allowed", n, MaxUsersPerGet)
	}
	return nil
}
