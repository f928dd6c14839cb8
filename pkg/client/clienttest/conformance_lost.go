package clienttest

import (
	"errors"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"presence/pkg/protocol"
)

// testLost loses sessions in each way in which a session can be lost without a logout. It lets time
// pass once for all of them, because the real service takes that time.
func testLost(p *probe) {
	silent, closed, nowhere := newProbe(p.T, p.target, "lost-silent"), newProbe(p.T, p.target, "lost-closed"), newProbe(p.T, p.target, "lost-nowhere")
	held, heldClosed := newProbe(p.T, p.target, "lost-held"), newProbe(p.T, p.target, "lost-held-closed")
	old := p.target.Connect(p.T)
	on := connectionOf(p.T, old)

	silent.change(protocol.OpSet, text("goes with the session"))
	silent.heard("UNLOGINED goes with the session set")
	silent.change(protocol.OpLogin, loginReq{SessionID: "s1", TTLSeconds: 5})
	closed.change(protocol.OpLogin, loginReq{SessionID: "s1", TTLSeconds: 600, Connection: on})
	nowhere.change(protocol.OpLogin, loginReq{SessionID: "s1", TTLSeconds: 600, Connection: &protocol.Connection{ServerID: on.ServerID, ClientID: 1 << 40}})
	// These two chose a grace that is not over when the others' is.
	patient, heldPatient := newProbe(p.T, p.target, "lost-patient"), newProbe(p.T, p.target, "lost-held-patient")
	patient.grace(loginReq{SessionID: "s1", Connection: on, GraceSeconds: 60}, 120)
	gp := heldPatient.open("gw7", "p1")
	gp.apply(op(protocol.OpKindLogin, "s1"))
	r := must[protocol.LeaseReply](p, gp.subject(protocol.OpOpen), protocol.OpenRequest{Process: "p1", Connection: on, GraceSeconds: 20})
	if r.GraceSeconds != 20 || r.TTLSeconds != 80 {
		p.Errorf("open with a grace: %+v", r)
	}
	g, gc := held.open("gw5", "p1"), heldClosed.open("gw6", "p1")
	g.apply(op(protocol.OpKindLogin, "s1"))
	gc.apply(op(protocol.OpKindLogin, "s1"))
	must[protocol.LeaseReply](p, g.subject(protocol.OpOpen), protocol.OpenRequest{Process: "p1", TTLSeconds: 5})
	must[protocol.LeaseReply](p, gc.subject(protocol.OpOpen), protocol.OpenRequest{Process: "p1", TTLSeconds: 600, Connection: on})
	// A login on another connection in time: nothing is lost.
	p.change(protocol.OpLogin, loginReq{SessionID: "s1", TTLSeconds: 600, Connection: on})
	p.change(protocol.OpLogin, loginReq{SessionID: "s1", TTLSeconds: 600, Connection: connectionOf(p.T, p.nc)})
	old.Close()
	p.target.Pass(7 * time.Second)

	for _, x := range []*probe{silent, closed, nowhere, held, heldClosed} {
		online := "ONLINE login"
		if x == silent {
			online = "ONLINE goes with the session login"
		}
		x.heard(online)
		x.heard("OFFLINE lost")
	}
	p.heard("ONLINE login")
	for _, x := range []*probe{p, patient, heldPatient} {
		x.shows("ONLINE")
	}
	for _, x := range []*probe{closed, nowhere, held, heldClosed} {
		x.wantSessions("s1 lost")
		x.refused(protocol.OpRenew, renewReq{SessionID: "s1"}, protocol.ErrSessionNotFound)
	}
	for _, x := range []*gateway{g, gc} {
		if _, err := ask[protocol.LeaseReply](p, x.subject(protocol.OpRenew), protocol.LeaseRequest{Process: "p1"}); !errors.Is(err, protocol.ErrLeaseNotFound) {
			p.Errorf("renew of the lost lease of %s: got %v", x.id, err)
		}
	}
	silent.change(protocol.OpRenew, renewReq{SessionID: "s1"}) // it was only late
	silent.heard("ONLINE login")
	closed.change(protocol.OpLogin, loginReq{SessionID: "s1"})
	closed.heard("ONLINE login")
}

// grace logs in with a grace, and checks what the reply and the session say of it.
func (p *probe) grace(r loginReq, ttlSeconds int64) {
	p.Helper()
	want := float64(r.GraceSeconds)
	if reply := must[protocol.LoginReply](p, p.about(protocol.OpLogin), r); reply.GraceSeconds != want || reply.TTLSeconds != ttlSeconds {
		p.Errorf("login with a grace: %+v", reply)
	}
	own := must[protocol.OwnStatusReply](p, p.about(protocol.OpStatus), struct{}{})
	if len(own.Sessions) != 1 || own.Sessions[0].GraceSeconds != want {
		p.Errorf("the session says %+v", own.Sessions)
	}
}

// connectionOf names a connection as a login does.
func connectionOf(t *testing.T, nc *nats.Conn) *protocol.Connection {
	t.Helper()
	id, err := nc.GetClientID()
	if err != nil {
		t.Fatal(err)
	}
	return &protocol.Connection{ServerID: nc.ConnectedServerId(), ClientID: id}
}
