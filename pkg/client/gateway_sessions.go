package client

import (
	"strings"
	"unique"

	"presence/pkg/protocol"
)

// gatewaySessions are the sessions that a gateway's lease is known to hold, with what it
// takes to log them in again. The key of a session is its user, a zero byte, which no ID
// contains, and its ID. With a UUID a session takes about 140 bytes.
type gatewaySessions map[string]gatewaySession

type gatewaySession struct {
	device   string
	platform unique.Handle[string] // there are few
	idle     bool
}

func sessionKey(o *protocol.Op) string { return o.UserID + "\x00" + o.SessionID }

// note records that an op was done.
func (h gatewaySessions) note(o *protocol.Op) {
	switch o.Op {
	case protocol.OpKindLogin:
		h[sessionKey(o)] = gatewaySession{device: strings.Clone(o.Device), platform: unique.Make(o.Platform), idle: o.Idle}
	case protocol.OpKindLogout, protocol.OpKindLost:
		h.drop(o)
	case protocol.OpKindIdle:
		key := sessionKey(o)
		if s, ok := h[key]; ok {
			s.idle = o.Idle
			h[key] = s
		}
	}
}

// drop forgets the session that an op is about.
func (h gatewaySessions) drop(o *protocol.Op) { delete(h, sessionKey(o)) }

// login is the op that logs a session in again.
func (h gatewaySessions) login(key string) *gatewayOp {
	s := h[key]
	userID, sessionID, _ := strings.Cut(key, "\x00")
	return &gatewayOp{Op: protocol.Op{
		Op: protocol.OpKindLogin, UserID: userID, SessionID: sessionID,
		Device: s.device, Platform: s.platform.Value(), Idle: s.idle,
	}}
}
