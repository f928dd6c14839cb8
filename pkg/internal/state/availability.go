package state

import (
	"presence/pkg/internal/entry"
	"presence/pkg/protocol"
)

// availabilities are the names of entry.Availability on the wire.
var availabilities = [...]protocol.Availability{
	entry.Available: protocol.Available,
	entry.Away:      protocol.Away,
	entry.Busy:      protocol.Busy,
	entry.DND:       protocol.DND,
	entry.Invisible: protocol.Invisible,
}

// chosen is the availability that is in force by the user's wish.
func (s *State) chosen(u *user) entry.Availability {
	if override := s.rare(u).override; override != entry.Keep {
		return override
	}
	return u.lasting
}

// availability is the one shown to the owner (PROTOCOL 3): the first line that
// holds. Everybody else sees the same, unless it is Invisible, see hidden.
//
//	not ONLINE                    none (Keep)
//	an override is in force       the override, below in the place of the lasting value
//	it is not Available           the lasting value
//	every live session is idle    Away
//	otherwise                     Available
func (s *State) availability(u *user) entry.Availability {
	switch chosen := s.chosen(u); {
	case !u.online():
		return entry.Keep
	case chosen != entry.Available:
		return chosen
	case u.presence == idle:
		return entry.Away
	}
	return entry.Available
}

// wire returns what a status carries of an availability.
func wire(a entry.Availability) protocol.Availability {
	if a <= entry.Available {
		return ""
	}
	return availabilities[a]
}

// settings are what the user has set, whatever is shown.
func (s *State) settings(u *user) protocol.AvailabilitySettings {
	set := protocol.AvailabilitySettings{Lasting: availabilities[u.lasting]}
	if r := s.rare(u); r.override != entry.Keep {
		set.Override, set.OverrideExpiresAt = availabilities[r.override], protocol.Time(r.overrideUntil)
	}
	return set
}

// setChosen notes what is chosen. The user is being changed.
func (s *State) setChosen(u *user, lasting, override entry.Availability, until int64) {
	u.lasting = lasting
	if r := s.rare(u); r.override != override || r.overrideUntil != until {
		rare := s.needRare(u)
		rare.override, rare.overrideUntil = override, until
	}
}

// setAvailability sets the lasting value, which ends an override, or with a
// lifetime the override (PROTOCOL 4.4). The user is being changed.
func (s *State) setAvailability(u *user, a entry.Availability, lifetime int64) {
	lasting, override, until := a, entry.Keep, int64(0)
	if lifetime > 0 {
		lasting, override, until = u.lasting, a, s.clock.wall+lifetime
	}
	if r := s.rare(u); lasting == u.lasting && override == r.override && until == r.overrideUntil {
		return
	}
	s.setChosen(u, lasting, override, until)
	s.tell(u, partSettings)
}
