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
// That is the connection for answers while it is on the same server as the one for
// requests. Elsewhere, and while it is gone, answers leave by the connection for
// requests. The server there has heard of the inbox that an answer goes to, because
// the request came by it. Another server of the cluster may hear of a new inbox
// later than of the answer, and would drop it.
//
// Only run looks at the connections: a connection that is stuck while it publishes, or
// while it is being made again, keeps whoever asks for its status waiting.
type replies struct {
	clients, answers *nats.Conn
	way              atomic.Pointer[way]
	// requestsUp and up say that the connection for requests, and that for answers,
	// is connected.
	requestsUp, up atomic.Bool
}

// way is a connection for answers and how many bytes are safe to send there. payload is
// how many the server takes, by what it has told; it may tell a closed connection nothing.
type way struct {
	nc           *nats.Conn
	max, payload int
}

// safeBytes fits into any max_payload. Where the connection for answers was closed
// for good, perhaps because an answer was larger than the server takes by now, the
// next one of that size must not close the connection for requests too.
const safeBytes = 4 << 10

// errUnsafe says that a message is larger than what is safe to send now.
var errUnsafe = errors.New("the message may be larger than the server takes")

func newReplies(clients, answers *nats.Conn) *replies {
	r := &replies{clients: clients, answers: answers}
	r.choose()
	return r
}

// chooseEvery is how often run looks by itself. nats.go can leave out a change of a
// connection's status where many come at once.
const chooseEvery = time.Second

// run looks at the connections until ctx is done, and calls changed when that for
// answers came or went.
func (r *replies) run(ctx context.Context, changed func()) {
	requests := r.clients.StatusChanged()
	defer r.clients.RemoveStatusListener(requests)
	answers := r.answers.StatusChanged()
	defer r.answers.RemoveStatusListener(answers)
	ticker := time.NewTicker(chooseEvery)
	defer ticker.Stop()
	for {
		was := r.up.Load()
		r.choose()
		if was != r.up.Load() {
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
				r.up.Store(false)
				changed()
			}
		case <-ticker.C:
		}
	}
}

// choose looks where both connections are.
func (r *replies) choose() {
	r.requestsUp.Store(r.clients.IsConnected())
	r.up.Store(r.answers.IsConnected())
	now := &way{nc: r.clients, max: math.MaxInt, payload: int(min(r.clients.MaxPayload(), r.answers.MaxPayload()))}
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

// payload returns how many bytes a message may have in the clients' account.
func (r *replies) payload() int { return r.way.Load().payload }

// together reports whether both connections are on one server.
func (r *replies) together() bool {
	id := r.clients.ConnectedServerId() // "" while it is not connected
	return id != "" && id == r.answers.ConnectedServerId()
}

// send publishes an answer. Where the chosen connection has just been lost it takes
// the other.
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
