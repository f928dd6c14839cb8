package clienttest

import (
	"time"

	"github.com/nats-io/nats.go"

	"presence/pkg/protocol"
)

// testTraces: the trace of a request is in its reply and in the events of what it changed. Everybody
// hears none with OFFLINE, or it would give away who becomes invisible.
func testTraces(p *probe) {
	const parent = "-b7ad6b7169203331-01"
	trace := func(digit string) string { return "00-0af7651916cd43dd8448eb211c80319" + digit + parent }
	p.traced(protocol.OpLogin, loginReq{SessionID: "s1"}, trace("1"), trace("1"), "ONLINE login")
	p.traced(protocol.OpSet, text("a"), trace("2"), trace("2"), "ONLINE a set")
	p.traced(protocol.OpSet, text("b"), "", "", "ONLINE b set")
	p.traced(protocol.OpSet, text("c"), trace("g"), "", "ONLINE c set") // no trace: g is no digit
	p.traced(protocol.OpSet, available(protocol.Invisible), trace("3"), "", "OFFLINE lost")
	p.traced(protocol.OpSet, available(protocol.Available), trace("4"), trace("4"), "ONLINE c login")

	// A refusal, too, and nobody hears of it.
	for _, body := range []string{"no JSON", `{"sessionID":"other","customStatus":"x"}`} {
		if reply := p.requestTraced(protocol.OpSet, []byte(body), trace("5")); reply.Header.Get(protocol.ErrorHeader) == "" || traceOf(reply) != trace("5") {
			p.Errorf("%s: the headers of the refusal are %v", body, reply.Header)
		}
	}
	p.traced(protocol.OpSet, text("d"), "", "", "ONLINE d set")
}

// traced makes a change with a trace. Its reply and the owner's event must have the trace if it is
// one, and the event for everybody public.
func (p *probe) traced(op string, body any, trace, public, event string) {
	p.Helper()
	data, err := protocol.Marshal(body)
	if err != nil {
		p.Fatal(err)
	}
	own := protocol.TraceParent(map[string][]string{protocol.TraceHeader: {trace}})
	if reply := p.requestTraced(op, data, trace); traceOf(reply) != own || reply.Header.Get(protocol.ErrorHeader) != "" {
		p.Errorf("%s with the trace %q: the headers of the reply are %v", op, trace, reply.Header)
	}
	for who, c := range map[string]struct {
		events <-chan *nats.Msg
		want   string
	}{"everybody": {p.public, public}, "the owner": {p.self, own}} {
		m := p.status(c.events)
		if traceOf(m) != c.want {
			p.Errorf("%s: %s hears %s with the trace %q, want %q", event, who, m.Data, traceOf(m), c.want)
		}
	}
}

// status returns the next event that has a status. Others may follow it, told with it.
func (p *probe) status(events <-chan *nats.Msg) *nats.Msg {
	p.Helper()
	for {
		select {
		case m := <-events:
			if e := (protocol.SelfEvent{}); protocol.Unmarshal(m.Data, &e) != nil || e.Type == "" || e.Type == protocol.SelfStatus {
				return m
			}
		case <-time.After(waitFor):
			p.Fatal("no event has come")
		}
	}
}

func (p *probe) requestTraced(op string, body []byte, trace string) *nats.Msg {
	p.Helper()
	m := &nats.Msg{Subject: p.about(op), Data: body}
	if trace != "" {
		m.Header = nats.Header{protocol.TraceHeader: {trace}}
	}
	reply, err := p.nc.RequestMsg(m, waitFor)
	if err != nil {
		p.Fatal(err)
	}
	return reply
}

// traceOf returns the trace that a message names.
func traceOf(m *nats.Msg) string { return protocol.TraceParent(m.Header) }
