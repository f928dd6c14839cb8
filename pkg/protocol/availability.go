package protocol

// Availability says how a user wants to be reached while ONLINE (PROTOCOL 3).
type Availability string

// The values. A Status leaves out Available. Only the owner's view has Invisible.
const (
	Available Availability = "available"
	Away      Availability = "away"
	Busy      Availability = "busy"
	DND       Availability = "dnd"
	Invisible Availability = "invisible"
)

// Check returns ErrInvalidRequest unless a is one of the values.
func (a Availability) Check() error {
	switch a {
	case Available, Away, Busy, DND, Invisible:
		return nil
	}
	return ErrInvalidRequest.Withf("availability must be available, away, busy, dnd or invisible, not %q", string(a))
}

// AvailabilitySettings are what a user has set, which may differ from what is shown:
// a lasting value, and perhaps an override of it for some time (PROTOCOL 3).
type AvailabilitySettings struct {
	Lasting Availability `json:"lasting"`
	// Override is in force until OverrideExpiresAt; left out for none.
	Override          Availability `json:"override,omitempty"`
	OverrideExpiresAt Time         `json:"overrideExpiresAt,omitzero"`
}
