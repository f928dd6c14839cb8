package protocol

import (
	"fmt"
	"strconv"
	"sync/atomic"
	"time"
)

// StatusType says whether a user can be reached (PROTOCOL 3).
type StatusType uint8

const (
	// Unknown: the service never sends it. A client library returns it for a watched
	// user while it has no copy that it can trust.
	Unknown StatusType = 0
	// Online: at least one session is live.
	Online StatusType = 1
	// Offline: no session is live, and at least one was lost without a logout.
	Offline StatusType = 2
	// Unlogined: there is no session at all.
	Unlogined StatusType = 3
)

var statusTypeNames = [...]string{"UNKNOWN", "ONLINE", "OFFLINE", "UNLOGINED"}

func (t StatusType) String() string {
	if int(t) < len(statusTypeNames) {
		return statusTypeNames[t]
	}
	return "StatusType(" + strconv.Itoa(int(t)) + ")"
}

// Cause says why a status changed (PROTOCOL 5).
type Cause string

const (
	CauseLogin   Cause = "login" // a session is live, or the user is no longer invisible
	CauseLogout  Cause = "logout"
	CauseLost    Cause = "lost"
	CauseSet     Cause = "set"
	CauseExpired Cause = "expired"
	CauseKicked  Cause = "kicked"
	CauseErased  Cause = "erased"
)

// Time is a moment in milliseconds since 1970 UTC; 0 means none. In JSON it is
// RFC 3339 in UTC with milliseconds. Times are for people. Order by revisions.
type Time int64

const timeLayout = "2006-01-02T15:04:05.000Z"

// TimeOf returns t cut to milliseconds.
func TimeOf(t time.Time) Time { return Time(t.UnixMilli()) }

// Time returns the moment as the standard library's type, in UTC.
func (t Time) Time() time.Time { return time.UnixMilli(int64(t)).UTC() }

func (t Time) String() string {
	if t == 0 {
		return ""
	}
	return t.Time().Format(timeLayout)
}

// AppendText implements encoding.TextAppender.
func (t Time) AppendText(b []byte) ([]byte, error) {
	day, ms := int64(t)/dayMillis, int(int64(t)%dayMillis)
	if ms < 0 { // before 1970
		day, ms = day-1, ms+dayMillis
	}
	date := dateOf(day)
	if date == nil {
		return t.Time().AppendFormat(b, timeLayout), nil
	}
	// AppendFormat would read the layout again each time.
	second, ms := ms/1000, ms%1000
	minute, second := second/60, second%60
	hour, minute := minute/60, minute%60
	hundreds, ms := ms/100, ms%100
	return append(append(b, date.text[:]...),
		tens(hour), ones(hour), ':', tens(minute), ones(minute), ':', tens(second), ones(second), '.',
		ones(hundreds), tens(ms), ones(ms), 'Z'), nil
}

const dayMillis = 24 * 60 * 60 * 1000

// date is how the times of a day begin. day counts from 1970.
type date struct {
	day  int64
	text [len("2006-01-02T")]byte
}

// dates are those that were needed last. Most times are of the last days, and to work a date out
// takes longer than to append the rest.
var dates [64]atomic.Pointer[date]

// dateOf returns the date of a day; nil where the year does not have four digits.
func dateOf(day int64) *date {
	place := &dates[uint64(day)%uint64(len(dates))]
	if d := place.Load(); d != nil && d.day == day {
		return d
	}
	at := Time(day * dayMillis).Time()
	if year := at.Year(); year < 0 || year > 9999 {
		return nil
	}
	d := &date{day: day}
	at.AppendFormat(d.text[:0], "2006-01-02T")
	place.Store(d)
	return d
}

// tens and ones are the digits of a number below 100.
func tens(n int) byte { return '0' + byte(uint(n)/10) }
func ones(n int) byte { return '0' + byte(uint(n)%10) }

// MarshalText implements encoding.TextMarshaler.
func (t Time) MarshalText() ([]byte, error) { return t.AppendText(nil) }

// UnmarshalText reads any RFC 3339 time and cuts it to milliseconds.
func (t *Time) UnmarshalText(b []byte) error {
	v, err := time.Parse(time.RFC3339Nano, string(b))
	if err != nil {
		return fmt.Errorf("a time must be RFC 3339: %w", err)
	}
	*t = TimeOf(v)
	return nil
}

// Status is what is shown of a user (PROTOCOL 2).
type Status struct {
	UserID     string     `json:"userID"`
	StatusType StatusType `json:"statusType"`
	// CustomStatus is the user's own text, empty for none.
	CustomStatus string `json:"customStatus"`
	// CustomStatusExpiresAt is left out where the text does not expire.
	CustomStatusExpiresAt Time `json:"customStatusExpiresAt,omitzero"`
	// Availability is left out while it is Available, and while the user is not ONLINE.
	Availability Availability `json:"availability,omitempty"`
	// LastSeenAt is when the user last stopped being ONLINE; left out while
	// ONLINE or never seen.
	LastSeenAt Time `json:"lastSeenAt,omitzero"`
	// Platforms of live sessions, sorted, each once; only with detail. A change of
	// them has no revision and is not announced.
	Platforms []string `json:"platforms,omitempty"`
	// Revision of the last visible change; 0: none known.
	Revision uint64 `json:"revision"`
	// UpdatedAt is when that change was committed, by the journal's clock;
	// left out while Revision is 0.
	UpdatedAt Time `json:"updatedAt,omitzero"`
}

// Event is published on status.<user> when the public view changes (PROTOCOL 5).
type Event struct {
	Status
	// Epoch names the journal; revisions of another epoch mean nothing.
	Epoch string `json:"epoch"`
	// PreviousRevision is the revision of the change before this one. A receiver that
	// knows another one has missed changes in between. This event has the whole status
	// all the same.
	PreviousRevision uint64 `json:"previousRevision"`
	Cause            Cause  `json:"cause"`
}

// Types of a SelfEvent. A receiver ignores others.
const (
	SelfStatus       = "status"       // Status, Cause
	SelfSessions     = "sessions"     // Sessions
	SelfAvailability = "availability" // Availability
	SelfKicked       = "kicked"       // SessionID, Reason
	SelfContacts     = "contacts"     // Added, Removed, Version, PreviousVersion
)

// SelfEvent is published on self.<user> for the user's own devices (PROTOCOL 5). The
// constants above say which fields each type has.
type SelfEvent struct {
	Type string `json:"type"`
	// Status is the owner's view.
	Status *Status `json:"status,omitempty"`
	Cause  Cause   `json:"cause,omitempty"`
	// Sessions are all of the user's, in the order of their logins.
	Sessions []Session `json:"sessions,omitempty"`
	// Availability are the settings. The event comes even if what is shown did not change.
	Availability *AvailabilitySettings `json:"availability,omitempty"`
	// SessionID names a session that was ended: its client must not log in
	// again by itself.
	SessionID string    `json:"sessionID,omitempty"`
	Reason    EndReason `json:"reason,omitempty"`
	// Added and Removed are what changed in the contacts from PreviousVersion to
	// Version. A receiver that knows another version asks for all contacts. Lists that
	// would not fit are left out; then PreviousVersion equals Version. Version is 0
	// after an erasure.
	Added           []string `json:"added,omitempty"`
	Removed         []string `json:"removed,omitempty"`
	Version         uint64   `json:"version,omitempty"`
	PreviousVersion uint64   `json:"previousVersion,omitempty"`
	// Revision orders the events of sessions and of availability: a later event has a
	// higher one. Events of contacts have none.
	Revision uint64 `json:"revision,omitempty"`
	Epoch    string `json:"epoch,omitempty"`
}
