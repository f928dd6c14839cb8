package differential

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
func (u *user) chosen() entry.Availability {
	if u.override != entry.Keep {
		return u.override
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
func (u *user) availability(t protocol.StatusType) entry.Availability {
	switch chosen := u.chosen(); {
	case t != protocol.Online:
		return entry.Keep
	case chosen != entry.Available:
		return chosen
	case u.isIdle():
		return entry.Away
	}
	return entry.Available
}

// isIdle reports whether all live sessions of an ONLINE user are idle.
func (u *user) isIdle() bool {
	for x := u.sessions; x != nil; x = x.next {
		if x.live && !x.idle {
			return false
		}
	}
	return true
}

// wire returns what a status carries of an availability.
func wire(a entry.Availability) protocol.Availability {
	if a <= entry.Available {
		return ""
	}
	return availabilities[a]
}

// settings are what the user has set, whatever is shown.
func (u *user) settings() protocol.AvailabilitySettings {
	s := protocol.AvailabilitySettings{Lasting: availabilities[u.lasting]}
	if u.override != entry.Keep {
		s.Override, s.OverrideExpiresAt = availabilities[u.override], protocol.Time(u.overrideUntil)
	}
	return s
}

// setChosen notes what is chosen. The user is being changed.
func (u *user) setChosen(lasting, override entry.Availability, until int64) {
	u.lasting, u.override = lasting, override
	if until != u.overrideUntil {
		u.needRare().overrideUntil = until
	}
}

// setAvailability sets the lasting value, which ends an override, or with a
// lifetime the override (PROTOCOL 4.4). The user is being changed.
func (s *State) setAvailability(u *user, a entry.Availability, lifetime int64) {
	lasting, override, until := a, entry.Keep, int64(0)
	if lifetime > 0 {
		lasting, override, until = u.lasting, a, s.clock.wall+lifetime
	}
	if lasting == u.lasting && override == u.override && until == u.overrideUntil {
		return
	}
	u.setChosen(lasting, override, until)
	s.tell(u, partSettings)
}
