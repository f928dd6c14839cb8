package client

import "fmt"

// State says whether the client's copies of statuses can be trusted.
type State struct {
	// Live: they can. Otherwise the client is blind: it may have missed a change, and
	// Watched returns UNKNOWN.
	Live bool
	// Reason says why the client is blind.
	Reason Reason
	// Err is what failed (FetchFailed, Refused), or why the connection was closed (Closed).
	Err error
}

// Reason says why a client is blind.
type Reason int

const (
	// Disconnected: there is no connection to NATS.
	Disconnected Reason = iota + 1
	// Resyncing: the connection is back, everything is being fetched.
	Resyncing
	// Dropped: events were dropped, or could not be read; everything is being
	// fetched.
	Dropped
	// EpochChanged: the service has another journal, or its journal went back to an earlier state;
	// everything is being fetched.
	EpochChanged
	// FetchFailed: fetching failed and is tried again.
	FetchFailed
	// Closed: the connection or the client was closed. This is final.
	Closed
	// Refused: the broker refuses subscriptions to watched users, or has ended some. They are tried
	// again, and everything is fetched once per Options.Resync.
	Refused
)

var reasonNames = [...]string{"", "disconnected", "resyncing", "dropped messages", "the journal was replaced", "fetching failed", "closed", "subscriptions are refused"}

func (r Reason) String() string {
	if r < 0 || int(r) >= len(reasonNames) {
		return fmt.Sprintf("Reason(%d)", int(r))
	}
	return reasonNames[r]
}

func (s State) String() string {
	switch {
	case s.Live:
		return "live"
	case s.Err != nil:
		return fmt.Sprintf("blind: %v: %v", s.Reason, s.Err)
	}
	return "blind: " + s.Reason.String()
}
