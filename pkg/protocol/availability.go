package protocol

// Availability is what users say of how they may be reached while they are
// ONLINE (PROTOCOL 3).
type Availability string

// The values. In a Status the first is left out, and Invisible is in the
// owner's view only.
const (
	Available Availability = "available"
	Away      Availability = "away"
	Busy      Availability = "busy"
	DND       Availability = "dnd"
	Invisible Availability = "invisible"
)

// Check reports whether a is one of the values: ErrInvalidRequest where not.
func (a Availability) Check() error {
	switch a {
	case Available, Away, Busy, DND, Invisible:
		return nil
	}
	return ErrInvalidRequest.Withf("availability must be available, away, busy, dnd or invisible, not %q", string(a))
}

// AvailabilitySettings are what a user has set, as opposed to what is shown: a
// lasting value, and perhaps a timed override of it (PROTOCOL 3).
type AvailabilitySettings struct {
	Lasting Availability `json:"lasting"`
	// Override is in force until OverrideExpiresAt; left out for none.
	Override          Availability `json:"override,omitempty"`
	OverrideExpiresAt Time         `json:"overrideExpiresAt,omitzero"`
}
