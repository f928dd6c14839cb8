package api

import (
	"cmp"
	"slices"

	"github.com/cespare/xxhash/v2"

	"presence/pkg/internal/entry"
	"presence/pkg/internal/state"
	"presence/pkg/protocol"
)

// Ops is what has to be remembered of an apply until its reply: the ops that are not valid, and the
// place of each other op in the request.
type Ops struct {
	refused []protocol.OpFailure
	index   []int // by the place in the command
}

// Apply does a gateway's ops (PROTOCOL 4.7). body is the request as it came. maxText is the limit
// in force for the custom status, in bytes. The command has only the ops that are valid. It must be
// applied even if no op is left, because it uses up its seq.
func Apply(gateway string, r *protocol.ApplyRequest, body []byte, maxText int) (entry.Command, *Ops) {
	c := entry.Command{
		Kind: entry.Apply, Gateway: gateway, Process: r.Process, Seq: r.Seq, Body: hash(body),
		Ops: make([]entry.Command, 0, len(r.Ops)),
	}
	ops := new(Ops)
	for i := range r.Ops {
		o := &r.Ops[i]
		if err := o.Check(maxText); err != nil {
			ops.refused = append(ops.refused, protocol.OpFailure{Index: i, UserFailure: protocol.Failure(o.UserID, err)})
			continue
		}
		c.Ops = append(c.Ops, op(o))
		ops.index = append(ops.index, i)
	}
	return c, ops
}

// hash tells one request's body from another. It is never 0.
func hash(body []byte) uint64 { return max(1, xxhash.Sum64(body)) }

// opKinds are the journal's kinds of the wire's ops.
var opKinds = map[string]entry.Kind{
	protocol.OpKindLogin:  entry.Login,
	protocol.OpKindLogout: entry.Logout,
	protocol.OpKindLost:   entry.Lost,
	protocol.OpKindIdle:   entry.Idle,
}

func op(o *protocol.Op) entry.Command {
	if o.Op == protocol.OpKindSet {
		return Set(o.UserID, o.Set())
	}
	c := entry.Command{Kind: opKinds[o.Op], User: o.UserID, Session: o.SessionID, Device: o.Device, Platform: o.Platform, Idle: o.Idle}
	if c.Kind == entry.Login {
		c.Platform = platform(o.Platform)
	}
	return c
}

// fewFailures is how many failures always fit into a reply, whatever they say: with the longest
// user IDs and messages they take half of it.
const fewFailures = 200

// Apply answers an apply in at most so many bytes.
func (a Replies) Apply(r *state.Result, ops *Ops, most int) (*protocol.ApplyReply, error) {
	reply := &protocol.ApplyReply{Applied: r.Gateway.Applied, Failures: []protocol.OpFailure{}, Revision: r.Gateway.Revision, Epoch: a.Epoch}
	for _, f := range r.Gateway.Failures {
		if f.Index < len(ops.index) { // it is more if the seq was used for another request before
			f.Index = ops.index[f.Index]
		}
		reply.Failures = append(reply.Failures, f)
	}
	reply.Failures = append(reply.Failures, ops.refused...)
	slices.SortFunc(reply.Failures, func(a, b protocol.OpFailure) int { return cmp.Compare(a.Index, b.Index) })
	if len(reply.Failures) > fewFailures || most < protocol.MaxBodyBytes {
		return reply, shorten(reply, most)
	}
	return reply, nil
}

// shorten makes a reply fit into so many bytes, because its change is committed by then. From the
// last failure on, the error's name replaces the message.
func shorten(reply *protocol.ApplyReply, most int) error {
	data, err := protocol.Marshal(reply)
	if err != nil {
		return err
	}
	size := len(data)
	for i := len(reply.Failures) - 1; i >= 0 && size > most; i-- {
		f := &reply.Failures[i]
		long, err := protocol.Marshal(f)
		if err != nil {
			return err
		}
		f.Message = f.Name
		short, err := protocol.Marshal(f)
		if err != nil {
			return err
		}
		size += len(short) - len(long)
	}
	return nil
}
