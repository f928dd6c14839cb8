package main

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"presence/pkg/protocol"
)

// detections is how many clients die of each cause.
const detections = 40

// detectionMeasure is the time from the last sign of life to the event at a
// watcher, beyond what the contract waits for (G5).
var detectionMeasure = measure{
	name: "detection", title: "time to OFFLINE, beyond the grace or the TTL", slow: true,
	alone: func(ctx context.Context, b *bench) ([]row, error) {
		t, err := b.startAlone(ctx, "detection", nil, "--grace", lossGrace.String())
		if err != nil {
			return nil, err
		}
		defer t.close()
		offline := newArrivals()
		if err := offline.watch(t); err != nil {
			return nil, err
		}
		since := make(map[string]time.Time)
		for i := range detections {
			closed, silent := fmt.Sprint("closed-", i), fmt.Sprint("silent-", i)
			nc, err := nats.Connect(t.url, nats.NoReconnect())
			if err != nil {
				return nil, err
			}
			clientID, err := nc.GetClientID()
			if err != nil {
				return nil, err
			}
			if err := request(nc, userSubject(closed, protocol.OpLogin), mustMarshal(protocol.LoginRequest{
				SessionID: "s", Connection: &protocol.Connection{ServerID: nc.ConnectedServerId(), ClientID: clientID}})); err != nil {
				return nil, err
			}
			if err := request(t.conns[1], userSubject(silent, protocol.OpLogin), mustMarshal(protocol.LoginRequest{
				SessionID: "s", TTLSeconds: int64(protocol.MinTTL / time.Second)})); err != nil {
				return nil, err
			}
			since[silent] = time.Now()
			nc.Close()
			since[closed] = time.Now()
			// Spread over the second between two entries of an idle journal.
			select {
			case <-time.After(time.Second / detections * 7):
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		}
		var closed, silent []time.Duration
		deadline := time.Now().Add(time.Minute)
		for user, begun := range since {
			at, err := offline.await(ctx, user, deadline)
			if err != nil {
				return nil, err
			}
			if user[0] == 'c' {
				closed = append(closed, at.Sub(begun)-lossGrace)
			} else {
				silent = append(silent, at.Sub(begun)-protocol.MinTTL)
			}
		}
		return []row{
			detectionRow("connection closed, beyond the grace", closed, "≤ 1 s"),
			detectionRow("silent, beyond the TTL", silent, "≤ 2 s"),
		}, nil
	},
}

// arrivals are when users were told to be OFFLINE.
type arrivals struct {
	mu   sync.Mutex
	at   map[string]time.Time
	more chan struct{} // holds one: something arrived
}

func newArrivals() *arrivals {
	return &arrivals{at: make(map[string]time.Time), more: make(chan struct{}, 1)}
}

func (a *arrivals) watch(t *target) error {
	nc, err := nats.Connect(t.url, nats.NoReconnect())
	if err != nil {
		return err
	}
	t.conns = append(t.conns, nc)
	if _, err := nc.Subscribe(subjects.AnyEvent(), a.take); err != nil {
		return err
	}
	return nc.Flush()
}

func (a *arrivals) take(m *nats.Msg) {
	now := time.Now()
	var e protocol.Event
	if json.Unmarshal(m.Data, &e) != nil || e.StatusType != protocol.Offline {
		return
	}
	a.mu.Lock()
	a.at[e.UserID] = now
	a.mu.Unlock()
	select {
	case a.more <- struct{}{}:
	default:
	}
}

func (a *arrivals) await(ctx context.Context, user string, deadline time.Time) (time.Time, error) {
	for {
		a.mu.Lock()
		at, ok := a.at[user]
		a.mu.Unlock()
		if ok {
			return at, nil
		}
		select {
		case <-a.more:
		case <-ctx.Done():
			return at, ctx.Err()
		case <-time.After(time.Until(deadline)):
			return at, fmt.Errorf("%s is dead and nobody was told", user)
		}
	}
}

func detectionRow(name string, took []time.Duration, goal string) row {
	slices.Sort(took)
	largest := took[len(took)-1]
	return row{
		Name: name, Goal: goal, Value: largest.Seconds(),
		Text: fmt.Sprintf("median %s, largest %s of %d", percentile(took, 50).Round(time.Millisecond), largest.Round(time.Millisecond), len(took)),
	}
}
