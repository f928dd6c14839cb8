package main

import (
	"context"
	"encoding/json"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"presence/pkg/protocol"
)

const (
	renewSessions = 20_000
	// renewBatch is the number of renewals in a batch. Only the last asks for a reply,
	// which says that all of them were handled: on one connection, requests to one
	// endpoint are handled in order.
	renewBatch = 1000
	// renewWindow is how many batches are under way on a connection.
	renewWindow = 4
)

var renewMeasure = measure{
	name: "renew", title: "renewals without a reply", unit: "/s",
	variants: func(ctx context.Context, b *bench, done func(func())) ([]variant, error) {
		sessions, err := loginRenewing(ctx, b.interval)
		if err != nil {
			return nil, err
		}
		raw, ours := make([]message, len(sessions)), renewals(sessions)
		for i, s := range sessions {
			raw[i] = message{renewSubject(s.user), s.renewBody()}
		}
		return []variant{
			{name: "raw: publishes, received and dropped", server: b.refInterval, run: func(ctx context.Context, d time.Duration) (sample, error) {
				return streamFor(ctx, b.refInterval, raw, d)
			}},
			{name: "renew, sync interval, applied", goal: "≥ 0.67 × raw, ≥ 180,000/s", server: b.interval, run: func(ctx context.Context, d time.Duration) (sample, error) {
				return renewFor(ctx, b.interval, ours, d)
			}},
		}, nil
	},
}

// loginRenewing logs in the users whose sessions are renewed.
func loginRenewing(ctx context.Context, t *target) ([]session, error) {
	return loginSessions(ctx, t, func(i int) string { return fmt.Sprintf("renewing-%05d", i) }, renewSessions)
}

func renewals(sessions []session) []message {
	list := make([]message, len(sessions))
	for i, s := range sessions {
		list[i] = message{userSubject(s.user, protocol.OpRenew), s.renewBody()}
	}
	return list
}

// renewFor counts the renewals that the service has done, not those that were sent.
func renewFor(ctx context.Context, t *target, renewals []message, d time.Duration) (sample, error) {
	before, err := renewStats(t.conns[0])
	if err != nil {
		return sample{}, err
	}
	s, err := streamFor(ctx, t, renewals, d)
	if err != nil {
		return s, err
	}
	after, err := renewStats(t.conns[0])
	if err != nil {
		return s, err
	}
	if lost := s.count - int(after.Requests-before.Requests); lost > 0 {
		return s, fmt.Errorf("%d of %d renewals did not arrive", lost, s.count)
	}
	if refused := after.Errors - before.Errors; refused > 0 {
		return s, fmt.Errorf("%d of %d renewals were refused", refused, s.count)
	}
	return s, nil
}

// endpointStats is what $SRV.STATS says of an endpoint, as far as it is read.
type endpointStats struct {
	Requests uint64 `json:"requests"`
	Errors   uint64 `json:"errors"`
}

func renewStats(nc *nats.Conn) (endpointStats, error) {
	body, err := requestBody(nc, "$SRV.STATS."+protocol.ServiceName, nil)
	if err != nil {
		return endpointStats{}, err
	}
	var stats struct {
		Endpoints []struct {
			Name string        `json:"name"`
			Data endpointStats `json:"data"`
		} `json:"endpoints"`
	}
	if err := json.Unmarshal(body, &stats); err != nil {
		return endpointStats{}, err
	}
	for _, e := range stats.Endpoints {
		if e.Name == protocol.OpRenew {
			return e.Data, nil
		}
	}
	return endpointStats{}, fmt.Errorf("the service has no endpoint %q", protocol.OpRenew)
}

type message struct {
	subject string
	body    []byte
}

// streamFor publishes messages on all connections until the time is over, on each a share
// of its own, and counts those that were handled.
func streamFor(ctx context.Context, t *target, messages []message, d time.Duration) (sample, error) {
	share := len(messages) / len(t.conns)
	var handled atomic.Int64
	elapsed, err := callEach(ctx, len(t.conns), len(t.conns), func(_, i int) error {
		n, err := streamOn(ctx, t.conns[i], messages[i*share:(i+1)*share], d)
		handled.Add(int64(n))
		return err
	})
	return sample{count: int(handled.Load()), elapsed: elapsed}, err
}

func streamOn(ctx context.Context, nc *nats.Conn, messages []message, d time.Duration) (handled int, err error) {
	inbox := nc.NewInbox()
	replies, err := nc.SubscribeSync(inbox)
	if err != nil {
		return 0, err
	}
	defer replies.Unsubscribe()
	waitOne := func() error {
		m, err := replies.NextMsg(requestTimeout)
		if err != nil {
			return err
		}
		handled += renewBatch
		return refusal(m)
	}
	open, next := 0, 0
	for begun := time.Now(); time.Since(begun) < d && ctx.Err() == nil; open++ {
		if open == renewWindow {
			if err := waitOne(); err != nil {
				return handled, err
			}
			open--
		}
		for i := range renewBatch {
			m := messages[next]
			next = (next + 1) % len(messages)
			if i < renewBatch-1 {
				err = nc.Publish(m.subject, m.body)
			} else {
				err = nc.PublishRequest(m.subject, inbox, m.body)
			}
			if err != nil {
				return handled, err
			}
		}
	}
	for range open {
		if err := waitOne(); err != nil {
			return handled, err
		}
	}
	return handled, ctx.Err()
}
