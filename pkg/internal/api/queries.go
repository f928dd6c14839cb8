package api

import (
	"fmt"
	"slices"

	"presence/pkg/internal/state"
	"presence/pkg/protocol"
)

// Queries answer from a state. The caller holds the lock under which the state may be read. The
// caller also fills in what a reply says of the answering instance.
type Queries struct {
	State *state.State
	Stale bool // see PROTOCOL 8, G12
}

func (q Queries) asOf() (revision uint64, epoch string, at protocol.Time) {
	return q.State.Revision(), q.State.Epoch(), q.State.AsOf()
}

// Get fills in the reply to a get (PROTOCOL 4.5). The lists of the reply must be empty and not nil.
// asked must be an empty map: by it Get finds IDs that come twice. Get takes those, and IDs that are
// not valid, out of the request.
func (q Queries) Get(r *protocol.GetRequest, reply *protocol.GetReply, asked map[string]struct{}) {
	r.UserIDList = slices.DeleteFunc(r.UserIDList, func(id string) bool {
		before := len(asked)
		asked[id] = struct{}{}
		if len(asked) == before {
			return true
		}
		err := protocol.CheckUserID(id)
		if err != nil {
			reply.FailureUserList = append(reply.FailureUserList, protocol.Failure(id, err))
		}
		return err != nil
	})
	reply.SuccessUserList = q.State.Statuses(reply.SuccessUserList, r.UserIDList, r.Detail)
	reply.Revision, reply.Epoch, reply.AsOf = q.asOf()
	reply.Stale = q.Stale
}

// OwnStatus answers user.<user>.status (PROTOCOL 4.5).
func (q Queries) OwnStatus(user string) protocol.OwnStatusReply {
	reply := protocol.OwnStatusReply{Stale: q.Stale}
	reply.Status, reply.Availability, reply.Sessions = q.State.OwnStatus(user)
	reply.Revision, reply.Epoch, reply.AsOf = q.asOf()
	return reply
}

// Stats answers stats (PROTOCOL 4.8) for the instance with that ID. Limits and refusals are left out.
func (q Queries) Stats(instance string) *protocol.StatsReply {
	reply := &protocol.StatsReply{Leases: q.State.Leases(), Gateways: q.State.Gateways(), Instances: q.State.Instances(), Stale: q.Stale}
	reply.Users, reply.Sessions = q.State.Counts()
	if reply.Sessions == nil {
		reply.Sessions = map[string]int{}
	}
	for i := range reply.Instances {
		reply.Instances[i].Answering = reply.Instances[i].Writer == instance
	}
	reply.Revision, reply.Epoch, reply.AsOf = q.asOf()
	return reply
}

// List answers list (PROTOCOL 4.8) in at most so many bytes. The request must have a limit, and the
// users of the state must be in order.
func (q Queries) List(r *protocol.ListRequest, most int) *protocol.ListReply {
	reply := &protocol.ListReply{Users: make([]protocol.Status, 0, r.Limit), Stale: q.Stale}
	after, _ := protocol.DecodeToken(r.Cursor) // checked; empty for the first page
	last := q.State.List(after, r.StatusType, r.Limit, most, func(st protocol.Status) { reply.Users = append(reply.Users, st) })
	reply.Cursor, _ = protocol.EncodeToken(last)
	reply.Revision, reply.Epoch, reply.AsOf = q.asOf()
	return reply
}

// Explain answers explain (PROTOCOL 4.8).
func (q Queries) Explain(user string) *protocol.ExplainReply {
	reply := q.State.Explain(user)
	reply.Stale = q.Stale
	return &reply
}

// Describe fills in what an instance holds (PROTOCOL 4.9), with at most so many users on a page. It
// needs the lock of Apply, because digests are made in a buffer of the state.
func (q Queries) Describe(r *protocol.InstanceRequest, most int, reply *protocol.InstanceReply) {
	reply.Digest, reply.Facts, reply.Users = fmt.Sprintf("%016x", q.State.Digest()), q.State.Facts(), q.State.Users()
	if limit := min(r.Limit, most); limit > 0 {
		reply.Page, reply.Next = q.State.UserDigests(r.From, limit)
	}
	for _, id := range r.UserIDList {
		reply.Explained = append(reply.Explained, q.State.Explain(id))
	}
	reply.Revision, reply.Epoch, reply.AsOf = q.asOf()
	reply.Stale = q.Stale
}
