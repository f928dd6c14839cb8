package client

import (
	"context"

	"github.com/nats-io/nats.go"

	"presence/pkg/protocol"
)

// traceKey is the key of a trace in a context.
type traceKey struct{}

// WithTraceParent returns a context whose requests belong to a trace, as the W3C writes it:
//
//	ctx = client.WithTraceParent(ctx, "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
//	err = session.SetSelfStatus(ctx, "in a meeting")
//
// The events of what they change name the trace, too (PROTOCOL 5.1). What is no trace is not sent.
// Requests that the client makes by itself, such as renewals, have none.
func WithTraceParent(ctx context.Context, trace string) context.Context {
	return context.WithValue(ctx, traceKey{}, trace)
}

// newRequest makes the message of a request, with the trace of its context.
func newRequest(ctx context.Context, subject string, body []byte) *nats.Msg {
	m := &nats.Msg{Subject: subject, Data: body}
	if trace, _ := ctx.Value(traceKey{}).(string); protocol.IsTraceParent(trace) {
		m.Header = nats.Header{protocol.TraceHeader: {trace}}
	}
	return m
}
