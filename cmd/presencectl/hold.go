package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"presence/pkg/client"
	"presence/pkg/protocol"
)

// How often the service is asked for the session. The client keeps the session alive by
// itself, and hears at once when it was kicked or replaced. That it was logged out
// elsewhere or lost it may learn only with the next renewal, which is too late for
// somebody at a terminal.
const (
	checkCertain = 3 * time.Second // jittered
	checkDoubt   = 500 * time.Millisecond
	checkTimeout = 2 * time.Second
	// toldWithin is how long after its end a session waits for the reason.
	toldWithin = time.Second
)

// errEnded says that a session has ended, so there is nothing to log out.
var errEnded = errors.New("the session has ended")

// holder keeps an eye on a session.
type holder struct {
	*conn
	s      *client.Session
	device string // of the session
	// since and epoch are of the latest answer that had the session.
	since uint64
	epoch string
	doubt bool
}

// begin waits until the service shows the session, and prints it.
func (h *holder) begin(ctx context.Context) error {
	for {
		own, err := h.s.Status(ctx)
		if err != nil {
			return err
		}
		if o := find(own, h.s.ID()); o != nil {
			h.since, h.epoch = own.Revision, own.Epoch
			return h.show(ctx, own, o)
		}
		// The instance that answered is behind the one that logged in.
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func (h *holder) show(ctx context.Context, own protocol.OwnStatusReply, o *protocol.Session) error {
	standing, err := h.standing(ctx, own.Status)
	if err != nil {
		return err
	}
	h.say("logged in %s: %s, ttl %ds%s", h.s.UserID(), describe(*o), o.TTLSeconds, grace(*o))
	h.say("%s is %s (^C logs out)", h.s.UserID(), standing)
	if !h.json {
		return nil
	}
	return writeJSON(h.stdout, struct {
		SessionID string `json:"sessionID"`
		protocol.OwnStatusReply
	}{h.s.ID(), own})
}

// standing is the user's status and, for an invisible user, what everybody else sees. That has to
// be asked for: it is OFFLINE or UNLOGINED, as it was when the user became invisible.
func (h *holder) standing(ctx context.Context, own protocol.Status) (string, error) {
	if own.Availability != protocol.Invisible {
		return own.StatusType.String(), nil
	}
	r, err := h.GetUserStatus(ctx, []string{h.s.UserID()})
	if err != nil || len(r.SuccessUserList) == 0 {
		return "", err
	}
	return fmt.Sprintf("%v invisible, others see %v", own.StatusType, r.SuccessUserList[0].StatusType), nil
}

// hold waits until ctx or the session ends. It says when it becomes doubtful that the
// session is live, and when that is certain again.
func (h *holder) hold(ctx context.Context) error {
	states := make(chan client.State, 1)
	over, cancel := context.WithCancel(ctx)
	defer cancel() // a callback that blocked would keep the client from closing
	defer h.OnState(func(s client.State) {
		select {
		case states <- s:
		case <-over.Done():
		}
	})()
	for {
		wait := checkDoubt
		if !h.doubt {
			wait = checkCertain/2 + rand.N(checkCertain/2)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-h.s.Done():
			return fmt.Errorf("%w: %w", errEnded, h.s.Err())
		case state := <-states:
			if state.Reason == client.Disconnected {
				h.doubts("lost the connection to " + h.server)
			}
		case <-time.After(wait):
			if err := h.check(ctx); err != nil {
				return err
			}
		}
	}
}

// check asks the service for the session. It returns an error if the session has ended.
func (h *holder) check(ctx context.Context) error {
	within, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	own, err := h.s.Status(within)
	if ctx.Err() != nil || h.s.Err() != nil {
		return nil
	}
	if err != nil {
		h.doubts(h.explain(ctx, err).Error())
		return nil
	}
	o := find(own, h.s.ID())
	switch {
	case o != nil && o.Live:
		h.certain(own)
	case o != nil:
		h.doubts("the session is lost")
	case own.Epoch == h.epoch && own.Revision >= h.since:
		return h.gone(ctx, own)
	default: // an instance that is behind, or a new journal
		h.doubts("the service does not know the session")
	}
	return nil
}

func (h *holder) doubts(why string) {
	if !h.doubt {
		h.say("%s (trying again)", why)
	}
	h.doubt = true
}

func (h *holder) certain(own protocol.OwnStatusReply) {
	h.since, h.epoch = own.Revision, own.Epoch
	if h.doubt {
		h.say("the session is live, %s is %s", h.s.UserID(), shown(own.Status))
	}
	h.doubt = false
}

// gone is called when the service no longer has the session. If it was kicked or replaced,
// that news may still be on its way to the client. Otherwise somebody has logged it out:
// then gone stops the client, which would log in again.
func (h *holder) gone(ctx context.Context, own protocol.OwnStatusReply) error {
	select {
	case <-h.s.Done():
		return fmt.Errorf("%w: %w", errEnded, h.s.Err())
	case <-ctx.Done():
		return nil
	case <-time.After(toldWithin):
	}
	within, cancel := context.WithTimeout(ctx, h.timeout)
	defer cancel()
	_ = h.s.Close(within) // there is nothing to log out
	for _, o := range own.Sessions {
		if h.device != "" && o.Device == h.device {
			return fmt.Errorf("%w: %w", errEnded, protocol.ErrSessionReplaced.Withf("the session was replaced by %s, a later login of the same device", o.SessionID))
		}
	}
	return &failure{fmt.Errorf("%w: it was logged out elsewhere", errEnded)}
}

// find returns the session with an ID, nil for none.
func find(own protocol.OwnStatusReply, id string) *protocol.Session {
	for i := range own.Sessions {
		if own.Sessions[i].SessionID == id {
			return &own.Sessions[i]
		}
	}
	return nil
}

// grace says how long a session outlives its connection. It is empty for a session that is bound
// to none, and where a service of an earlier version does not tell.
func grace(s protocol.Session) string {
	if s.Connection == nil || s.GraceSeconds == 0 {
		return ""
	}
	return ", grace " + exactly(s.GraceSeconds)
}

// describe writes what tells a session from the user's others.
func describe(s protocol.Session) string {
	text := fmt.Sprintf("session %s, platform %s", s.SessionID, s.Platform)
	if s.Device != "" {
		text += fmt.Sprintf(", device %q", s.Device)
	}
	if !s.Live {
		text += ", lost"
	}
	return text
}
