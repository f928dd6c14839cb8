package client

import (
	"context"
	"sync"
)

// endedSessions wait for the callback GatewayOptions.OnSessionEnded. There are at most as
// many as were held when leases were lost.
type endedSessions struct {
	wake chan struct{} // holds one

	mu   sync.Mutex
	list []endedSession
}

type endedSession struct {
	userID, sessionID string
	err               error
}

func (e *endedSessions) init() { e.wake = make(chan struct{}, 1) }

func (e *endedSessions) add(userID, sessionID string, err error) {
	e.mu.Lock()
	e.list = append(e.list, endedSession{userID, sessionID, err})
	e.mu.Unlock()
	notify(e.wake)
}

// tell calls f, unless it is nil, until ctx ends.
func (e *endedSessions) tell(ctx context.Context, f func(userID, sessionID string, err error)) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-e.wake:
		}
		e.mu.Lock()
		list := e.list
		e.list = nil
		e.mu.Unlock()
		for _, s := range list {
			if f != nil && ctx.Err() == nil {
				f(s.userID, s.sessionID, s.err)
			}
		}
	}
}
