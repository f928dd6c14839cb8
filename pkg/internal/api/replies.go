package api

import (
	"presence/pkg/internal/entry"
	"presence/pkg/internal/state"
	"presence/pkg/protocol"
)

// Replies answer changes. Its fields are what a reply says beside the command's result.
type Replies struct {
	Epoch  string
	Params entry.Params // the rules in force
}

// RepliesOf answers changes of a state.
func RepliesOf(s *state.State) Replies { return Replies{Epoch: s.Epoch(), Params: s.Params()} }

func (a Replies) graceSeconds() float64 { return float64(a.Params.Grace) / 1000 }

// Login answers a login.
func (a Replies) Login(r *state.Result) protocol.LoginReply {
	return protocol.LoginReply{
		SessionID: r.Session, TTLSeconds: r.TTL / 1000, GraceSeconds: a.graceSeconds(), Replaced: r.Replaced,
		Status: r.Status, Revision: r.Revision, Epoch: a.Epoch,
	}
}

// Change answers a renew, a logout and a set.
func (a Replies) Change(r *state.Result) *protocol.ChangeReply {
	return &protocol.ChangeReply{Status: r.Status, Revision: r.Revision, Epoch: a.Epoch}
}

// Lease answers a gateway's open, renew and close.
func (a Replies) Lease(r *state.Result) protocol.LeaseReply {
	return protocol.LeaseReply{TTLSeconds: r.TTL / 1000, GraceSeconds: a.graceSeconds(), Seq: r.Seq, Revision: r.Revision, Epoch: a.Epoch}
}

// Ended answers a kick and an erase.
func (a Replies) Ended(r *state.Result) *protocol.KickReply {
	return &protocol.KickReply{Ended: list(r.Ended), Revision: r.Revision, Epoch: a.Epoch}
}

// list returns a list that is not null on the wire.
func list[T any](l []T) []T {
	if l == nil {
		return []T{}
	}
	return l
}
