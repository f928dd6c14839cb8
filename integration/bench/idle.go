package main

import (
	"context"
	"fmt"
	"time"
)

const (
	// idleUsers are online; fewer where -users says so.
	idleUsers = 100_000
	// idleFor is how long nobody does anything. presenced's computing is told in
	// steps of clockTick, a thousandth of it.
	idleFor = 10 * time.Second
)

// idleMeasure is what presenced computes while its users do nothing, not even
// renew: with the NATS server inside, its ticks, digests and timers.
var idleMeasure = measure{
	name: "idle", title: "nobody does anything", slow: true,
	alone: func(ctx context.Context, b *bench) ([]row, error) {
		t, err := b.startAlone("idle", nil)
		if err != nil {
			return nil, err
		}
		defer b.close(t)
		users := min(b.opts.users, idleUsers)
		if err := loginAll(ctx, t, userID, users); err != nil {
			return nil, err
		}
		if err := awaitAnnounced(ctx, t.conns[0]); err != nil {
			return nil, err
		}
		begun, cpu := time.Now(), t.cpuTime()
		select {
		case <-time.After(idleFor):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		share := float64(t.cpuTime()-cpu) / float64(time.Since(begun))
		return []row{{
			Name: fmt.Sprintf("%s users online, for %v", count(users), idleFor), Goal: "< 1 % of a core",
			Text: fmt.Sprintf("%.2f %% of a core", 100*share), Value: share,
		}}, nil
	},
}
