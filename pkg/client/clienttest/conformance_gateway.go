package clienttest

import (
	"errors"
	"fmt"
	"slices"

	"presence/pkg/protocol"
)

// gateway is a gateway's lease.
type gateway struct {
	*probe
	id, process string
	seq         uint64
}

func (p *probe) open(id, process string) *gateway {
	p.Helper()
	g := &gateway{p, id, process, 0}
	if r := must[protocol.LeaseReply](p, g.subject(protocol.OpOpen), protocol.OpenRequest{Process: process}); r.TTLSeconds != 30 || r.Seq != 0 || r.Window != protocol.ApplyWindow || r.Epoch == "" {
		p.Errorf("open: %+v", r)
	}
	return g
}

func (g *gateway) subject(op string) string {
	subject, err := g.subjects.Gateway(g.id, op)
	if err != nil {
		g.Fatal(err)
	}
	return subject
}

// apply does ops of the probe's user, and returns the errors of those that failed.
func (g *gateway) apply(ops ...protocol.Op) (failed []string) {
	g.Helper()
	for i := range ops {
		ops[i].UserID = g.user
	}
	g.seq++
	r := must[protocol.ApplyReply](g.probe, g.subject(protocol.OpApply), protocol.ApplyRequest{Process: g.process, Seq: g.seq, Ops: ops})
	if r.Applied+len(r.Failures) != len(ops) || r.Revision == 0 || r.Epoch == "" || r.Failures == nil {
		g.Errorf("apply of %d ops: %+v", len(ops), r)
	}
	for _, f := range r.Failures {
		failed = append(failed, fmt.Sprint(f.Index, " ", f.Name))
	}
	return failed
}

func op(kind, session string) protocol.Op { return protocol.Op{Op: kind, SessionID: session} }

func testGateways(p *probe) {
	g := p.open("gw1", "p1")
	failed := g.apply(op(protocol.OpKindLogin, "s1"), op(protocol.OpKindIdle, "s2"), op(protocol.OpKindLogin, ""),
		protocol.Op{Op: protocol.OpKindSet, CustomStatus: protocol.Ptr("hello"), Availability: protocol.Ptr(protocol.Busy)}, op("jump", "s1"))
	if !slices.Equal(failed, []string{"1 session_not_found", "2 invalid_request", "4 invalid_request"}) {
		p.Errorf("failures %q", failed)
	}
	var ev protocol.Event // as one change, whose cause is that of one of its ops
	p.next(p.public, &ev)
	if p.revision = ev.Revision; show(ev.Status) != "ONLINE busy hello" || ev.PreviousRevision != 0 {
		p.Errorf("event %+v", ev)
	}
	for range 2 {
		p.next(p.self, &protocol.SelfEvent{})
	}
	own := must[protocol.OwnStatusReply](p, p.about(protocol.OpStatus), struct{}{})
	if own.Sessions[0].Gateway != "gw1" || own.Sessions[0].Platform != "unknown" || own.Status.Revision != ev.Revision {
		p.Errorf("status: %+v", own)
	}
	g.apply(op(protocol.OpKindLost, "s1"))
	p.heard("OFFLINE lost", "OFFLINE lost")
	// A lost session is held by nobody.
	failed = g.apply(op(protocol.OpKindLost, "s1"), op(protocol.OpKindIdle, "s1"), op(protocol.OpKindLogout, "s1"))
	if !slices.Equal(failed, []string{"0 session_not_found", "1 session_not_found", "2 session_not_found"}) {
		p.Errorf("ops on a lost session: %q", failed)
	}
	if own := must[protocol.OwnStatusReply](p, p.about(protocol.OpStatus), struct{}{}); own.Sessions[0].Gateway != "" || own.Sessions[0].Live {
		p.Errorf("a lost session of a gateway: %+v", own.Sessions)
	}
	p.refused(protocol.OpRenew, renewReq{SessionID: "s1"}, protocol.ErrSessionNotFound)
	g.apply(op(protocol.OpKindLogin, "s1"))
	p.heard("ONLINE busy login", "ONLINE busy login")

	// To repeat one of the last requests does nothing. Any other than the next is refused, also
	// another one with the same seq.
	g.seq--
	g.apply(op(protocol.OpKindLogin, "s1"))
	for _, tt := range []struct {
		process string
		seq     uint64
		want    *protocol.Error
	}{{"p1", g.seq - 1, protocol.ErrOutOfOrder}, {"p1", g.seq + 2, protocol.ErrOutOfOrder}, {"p2", 1, protocol.ErrLeaseNotFound}, {"p1", 0, protocol.ErrOutOfOrder}, {"p1", g.seq, protocol.ErrOutOfOrder}} {
		if _, err := ask[protocol.ApplyReply](p, g.subject(protocol.OpApply), protocol.ApplyRequest{Process: tt.process, Seq: tt.seq, Ops: []protocol.Op{{Op: protocol.OpKindLogout, UserID: p.user, SessionID: "s1"}}}); !errors.Is(err, tt.want) {
			p.Errorf("apply of seq %d by %s after %d: got %v, want %v", tt.seq, tt.process, g.seq, err, tt.want.Name)
		}
	}
	if r := must[protocol.LeaseReply](p, g.subject(protocol.OpOpen), protocol.OpenRequest{Process: "p1"}); r.Seq != g.seq {
		p.Errorf("open: %+v, want seq %d", r, g.seq)
	}
	must[protocol.LeaseReply](p, g.subject(protocol.OpRenew), protocol.LeaseRequest{Process: "p1"})
	must[protocol.LeaseReply](p, g.subject(protocol.OpClose), protocol.CloseRequest{Process: "p1"})
	p.heard("OFFLINE lost", "OFFLINE lost")
	if own := must[protocol.OwnStatusReply](p, p.about(protocol.OpStatus), struct{}{}); own.Sessions[0].Gateway != "" || own.Sessions[0].Live {
		p.Errorf("a session whose gateway's lease has ended: %+v", own.Sessions)
	}
	p.refused(protocol.OpRenew, renewReq{SessionID: "s1"}, protocol.ErrSessionNotFound)
	must[protocol.LeaseReply](p, g.subject(protocol.OpClose), protocol.CloseRequest{Process: "p1"})
	if _, err := ask[protocol.LeaseReply](p, g.subject(protocol.OpRenew), protocol.LeaseRequest{Process: "p1"}); !errors.Is(err, protocol.ErrLeaseNotFound) {
		p.Errorf("renew once closed: %v", err)
	}
}

// Several applies may be under way. Each of the last ones is answered again, and done once. What has
// overtaken the one before it does nothing.
func testWindow(p *probe) {
	g := p.open("gw4", "p1")
	subject := g.subject(protocol.OpApply)
	set := func(seq uint64, text string) (protocol.ApplyReply, error) {
		return ask[protocol.ApplyReply](p, subject, protocol.ApplyRequest{Process: "p1", Seq: seq,
			Ops: []protocol.Op{{Op: protocol.OpKindSet, UserID: p.user, CustomStatus: &text}, {Op: protocol.OpKindLost, UserID: p.user, SessionID: "s9"}}})
	}
	const last = protocol.ApplyWindow + 2
	var replies [last + 1]protocol.ApplyReply
	for seq := uint64(1); seq <= last; seq++ {
		if _, err := set(seq+1, "overtook"); !errors.Is(err, protocol.ErrOutOfOrder) {
			p.Errorf("apply of seq %d before %d: got %v", seq+1, seq, err)
		}
		reply, err := set(seq, fmt.Sprint(seq))
		if err != nil || reply.Applied != 1 || len(reply.Failures) != 1 {
			p.Fatalf("apply of seq %d: %+v, %v", seq, reply, err)
		}
		replies[seq] = reply
	}
	for seq := uint64(last); seq > 0; seq-- {
		remembered := seq+protocol.ApplyWindow > last
		reply, err := set(seq, fmt.Sprint(seq))
		switch {
		case remembered && (err != nil || fmt.Sprint(reply) != fmt.Sprint(replies[seq])):
			p.Errorf("seq %d repeated: %+v, %v, want %+v", seq, reply, err, replies[seq])
		case !remembered && !errors.Is(err, protocol.ErrOutOfOrder):
			p.Errorf("seq %d repeated after %d: %+v, %v", seq, last, reply, err)
		}
		if _, err := set(seq, "other"); !errors.Is(err, protocol.ErrOutOfOrder) {
			p.Errorf("another body of seq %d: %v", seq, err)
		}
	}
	p.shows(fmt.Sprint("UNLOGINED ", last))
	if r := must[protocol.LeaseReply](p, g.subject(protocol.OpOpen), protocol.OpenRequest{Process: "p1"}); r.Seq != last {
		p.Errorf("open: %+v, want seq %d", r, last)
	}
	must[protocol.LeaseReply](p, g.subject(protocol.OpClose), protocol.CloseRequest{Process: "p1"})
	if _, err := set(last, fmt.Sprint(last)); !errors.Is(err, protocol.ErrLeaseNotFound) {
		p.Errorf("apply once closed: %v", err)
	}
}

// A gateway that acts for a kicked session learns that it does not hold it any more. To log out a
// kicked session as the user is no error (PROTOCOL 4.3).
func testKicked(p *probe) {
	g := p.open("gw3", "p1")
	g.apply(op(protocol.OpKindLogin, "s1"), op(protocol.OpKindLogin, "s2"))
	must[protocol.KickReply](p, p.subjects.Kick(), protocol.KickRequest{UserID: p.user})
	failed := g.apply(op(protocol.OpKindIdle, "s1"), op(protocol.OpKindLost, "s1"), op(protocol.OpKindLogout, "s1"), op(protocol.OpKindLogin, "s1"))
	if !slices.Equal(failed, []string{"0 session_not_found", "1 session_not_found", "2 session_not_found", "3 session_replaced"}) {
		p.Errorf("ops on a kicked session: %q", failed)
	}
	p.change(protocol.OpLogout, logoutReq{SessionID: "s1"})
	p.refused(protocol.OpRenew, renewReq{SessionID: "s1"}, protocol.ErrSessionReplaced)
	p.refused(protocol.OpLogin, loginReq{SessionID: "s1"}, protocol.ErrSessionReplaced)
	p.shows("UNLOGINED")
}

func testHandover(p *probe) {
	g, g2 := p.open("gw1", "p1"), p.open("gw2", "p2")
	g.apply(op(protocol.OpKindLogin, "s1"))
	p.heard("ONLINE login", "ONLINE login")
	g2.apply(op(protocol.OpKindLogin, "s1"))
	if failed := g.apply(op(protocol.OpKindLost, "s1"), op(protocol.OpKindLogout, "s1")); len(failed) != 2 {
		p.Errorf("ops on another's session: %q", failed)
	}
	must[protocol.LeaseReply](p, g.subject(protocol.OpClose), protocol.CloseRequest{Process: "p1", Logout: true})
	p.shows("ONLINE")
	must[protocol.LeaseReply](p, g2.subject(protocol.OpClose), protocol.CloseRequest{Process: "p2", Logout: true})
	p.heard("UNLOGINED logout", "UNLOGINED logout")
}
