package api

import (
	"fmt"

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

// Get answers a get (PROTOCOL 4.5), as JSON that it appends to b. It takes IDs that come twice, and
// IDs that are not valid, out of the request. That may have protocol.MaxUsersPerGet IDs.
func (q Queries) Get(b []byte, r *protocol.GetRequest) []byte {
	reply := protocol.GetReply{FailureUserList: []protocol.UserFailure{}, Stale: q.Stale}
	reply.Revision, reply.Epoch, reply.AsOf = q.asOf()
	valid := r.UserIDList[:0]
	for _, id := range distinct(r.UserIDList) {
		if err := protocol.CheckUserID(id); err != nil {
			reply.FailureUserList = append(reply.FailureUserList, protocol.Failure(id, err))
		} else {
			valid = append(valid, id)
		}
	}
	r.UserIDList = valid
	return protocol.AppendGetReply(b, &reply, q.State.Statuses(valid, r.Detail))
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
