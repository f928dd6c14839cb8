package service

import (
	"context"
	"errors"
	"math"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
)

// replies chooses the connection that answers leave by.
//
// While both connections are on the same server, answers leave by the connection for answers.
// Otherwise, and while that connection is lost, they leave by the connection for requests. The
// request came by that server, so it knows the inbox that the answer goes to. Another server of
// the cluster may hear of a new inbox later than of the answer, and would drop the answer.
//
// Only run asks the connections for their status. A connection that is stuck while it publishes
// or reconnects does not answer, and keeps the asking goroutine waiting.
type replies struct {
	clients, answers *nats.Conn
	way              atomic.Pointer[way]
	// requestsUp and answersUp say whether the connection for requests, and the one for
	// answers, is connected.
	requestsUp, answersUp atomic.Bool
}

// way is a connection by which answers leave. max is how many bytes are safe to send there.
// payload is how many bytes the server takes as far as is known. server is the name of the server
// that requests come from.
type way struct {
	nc           *nats.Conn
	max, payload int
	server       string
}

// safeBytes fits into any max_payload. It bounds answers when the connection for answers was
// closed for good. Perhaps an answer was larger than the server takes by now. Another one of
// that size must not close the connection for requests too.
const safeBytes = 4 << 10

// errUnsafe says that a message is larger than what is safe to send now.
var errUnsafe = errors.New("the message may be larger than the server takes")

func newReplies(clients, answers *nats.Conn) *replies {
	r := &replies{clients: clients, answers: answers}
	r.choose()
	return r
}

// chooseEvery is how often run looks by itself. When a connection's status changes many times
// at once, nats.go may not report every change.
const chooseEvery = time.Second

// run looks at the connections until ctx is done. It calls changed when the connection for
// answers is lost or back.
func (r *replies) run(ctx context.Context, changed func()) {
	requests := r.clients.StatusChanged()
	defer r.clients.RemoveStatusListener(requests)
	answers := r.answers.StatusChanged()
	defer r.answers.RemoveStatusListener(answers)
	ticker := time.NewTicker(chooseEvery)
	defer ticker.Stop()
	for {
		was := r.answersUp.Load()
		r.choose()
		if was != r.answersUp.Load() {
			changed()
		}
		select {
		case <-ctx.Done():
			return
		case status := <-requests:
			if status != nats.CONNECTED {
				r.requestsUp.Store(false) // before it is asked, which may take long
			}
		case status := <-answers:
			if status != nats.CONNECTED {
				r.answersUp.Store(false)
				changed()
			}
		case <-ticker.C:
		}
	}
}

// choose chooses the connection by the status of both.
func (r *replies) choose() {
	r.requestsUp.Store(r.clients.IsConnected())
	r.answersUp.Store(r.answers.IsConnected())
	now := &way{nc: r.clients, max: math.MaxInt, payload: int(min(r.clients.MaxPayload(), r.answers.MaxPayload())), server: r.clients.ConnectedServerName()}
	switch {
	case r.answers.IsClosed():
		now.max = safeBytes
	case r.together():
		now.nc = r.answers
	}
	if old := r.way.Load(); old == nil || *old != *now {
		r.way.Store(now)
	}
}

// payload returns how many bytes a message in the clients' account may have.
func (r *replies) payload() int { return r.way.Load().payload }

// server returns the name of the server that requests come from; empty while there is none.
func (r *replies) server() string { return r.way.Load().server }

// together reports whether both connections are on the same server.
func (r *replies) together() bool {
	id := r.clients.ConnectedServerId() // "" while it is not connected
	return id != "" && id == r.answers.ConnectedServerId()
}

// send publishes an answer. If the connection for answers has just been lost, the answer leaves
// by the other one.
func (r *replies) send(m *nats.Msg) error {
	w := r.way.Load()
	if len(m.Data) > w.max {
		return errUnsafe
	}
	err := w.nc.PublishMsg(m)
	if err == nil || w.nc == r.clients || errors.Is(err, nats.ErrMaxPayload) {
		return err
	}
	if r.answers.IsClosed() && len(m.Data) > safeBytes {
		return errUnsafe
	}
	return r.clients.PublishMsg(m)
}
