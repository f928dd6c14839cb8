package main

import (
	"context"
	"fmt"
	"time"
)

const (
	// idleUsers are online; fewer where -users says so.
	idleUsers = 100_000
	// idleFor is how long nobody does anything. Processor time is known in steps of
	// clockTick, a thousandth of that.
	idleFor = 10 * time.Second
)

// idleMeasure is presenced's processor time while its users do nothing, not even renew.
// It goes to the NATS server inside, to ticks, digests and timers.
var idleMeasure = measure{
	name: "idle", title: "nobody does anything", slow: true,
	alone: func(ctx context.Context, b *bench) ([]row, error) {
		t, err := b.start(b.presenced, "interval")
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
