package main

import (
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"presence/pkg/broker"
)

// TestResponder_SetDurably: what is answered is in the stream, and without a stream there
// is an error for an answer, and no event.
func TestResponder_SetDurably(t *testing.T) {
	s, err := broker.StartForeign("jetstream {}", "127.0.0.1:0", t.TempDir(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Shutdown()
	nc, err := s.ConnectPlain()
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	if err := addStream(js, 1); err != nil {
		t.Fatal(err)
	}
	if err := newResponder(nc, js).subscribe(); err != nil {
		t.Fatal(err)
	}
	events, err := nc.SubscribeSync(refStatus + "*")
	if err != nil {
		t.Fatal(err)
	}

	const body = `{"customStatus":"in a meeting"}`
	if err := request(nc, refDurable+"alice.set", []byte(body)); err != nil {
		t.Fatal(err)
	}
	stream, err := js.Stream(t.Context(), refStream)
	if err != nil {
		t.Fatal(err)
	}
	m, err := stream.GetLastMsgForSubject(t.Context(), refJS+"alice")
	if err != nil || string(m.Data) != body {
		t.Fatalf("after the answer the stream has %v, %v, want %s", m, err, body)
	}
	if m, err := events.NextMsg(requestTimeout); err != nil || m.Subject != refStatus+"alice" {
		t.Fatalf("got the event %v, %v, want one of alice", m, err)
	}

	if err := js.DeleteStream(t.Context(), refStream); err != nil {
		t.Fatal(err)
	}
	if err := request(nc, refDurable+"alice.set", []byte(body)); err == nil {
		t.Error("without a stream a change was answered as if it were stored")
	}
	if m, err := events.NextMsg(10 * time.Millisecond); err != nats.ErrTimeout {
		t.Errorf("without a stream: got the event %v, %v, want none", m, err)
	}
}
