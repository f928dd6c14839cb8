package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"presence/pkg/protocol"
)

const (
	// snapshotCallers each set a text every snapshotEvery, even if the set before is
	// still under way. That loads a fraction of a core.
	snapshotCallers = 16
	snapshotEvery   = 10 * time.Millisecond
	// snapshotEntries is after how many entries a snapshot is due. With this load that
	// is each time that presenced looks, about every 2 s. It is rare while the users
	// log in, hundreds in an entry.
	snapshotEntries = "1000"
	// snapshotWithin bounds the wait for one snapshot.
	snapshotWithin = time.Minute
)

// snapshotMeasure is how much longer changes take while the state is stored. A presenced
// of its own stores it every few seconds, and logs from when to when. In the end it is
// started again on its last snapshot.
var snapshotMeasure = measure{
	name: "snapshot", title: fmt.Sprintf("sets while the state is stored, %s/s at fixed times, each from when it was due",
		count(int(snapshotCallers*time.Second/snapshotEvery))),
	slow: true,
	alone: func(ctx context.Context, b *bench) ([]row, error) {
		t, err := b.start(b.presenced, "interval", "--snapshot-entries", snapshotEntries)
		if err != nil {
			return nil, err
		}
		if err := loginAll(ctx, t, userID, b.opts.users); err != nil {
			return nil, err
		}
		if err := awaitAnnounced(ctx, t.conns[0]); err != nil {
			return nil, err
		}
		sets, snapshots, err := b.setOverSnapshots(ctx, t, (b.opts.rounds+1)/2, snapshotWithin)
		if err != nil {
			return nil, err
		}
		during, quiet := split(sets, snapshots)
		rows, err := snapshotRows(b.opts.users, snapshots, during, quiet)
		if err != nil {
			return nil, err
		}
		b.stop(t)
		again, err := b.measureRestart(t.dir, "restart to ready, behind the last snapshot")
		return append(rows, again), err
	},
}

// setOverSnapshots sets texts until n snapshots were taken, each within a time. No other can be
// under way at the end, because two are more than 2 s apart.
func (b *bench) setOverSnapshots(ctx context.Context, t *target, n int, within time.Duration) (sets, snapshots []span, err error) {
	before := len(tookSnapshots(t.Stderr()))
	deadline := time.Now().Add(time.Duration(n) * within)
	for turn := 0; len(snapshots) < n; turn++ {
		if time.Now().After(deadline) {
			return nil, nil, errNoSnapshot
		}
		more, err := callPaced(ctx, snapshotCallers, snapshotEvery, time.Second, func(caller, i int) error {
			user := userID((i*snapshotCallers + caller) % b.opts.users)
			return request(t.conn(caller), userSubject(user, protocol.OpSet), setBody(turn*1_000_003+i))
		})
		if err != nil {
			return nil, nil, err
		}
		sets = append(sets, more...)
		snapshots = tookSnapshots(t.Stderr())[before:]
	}
	return sets, snapshots, nil
}

// split divides calls into those that were under way during one of the spans and the
// others. It returns how long they took, sorted.
func split(calls, spans []span) (during, quiet []time.Duration) {
	for _, c := range calls {
		if slices.ContainsFunc(spans, c.overlaps) {
			during = append(during, c.took())
		} else {
			quiet = append(quiet, c.took())
		}
	}
	slices.Sort(during)
	slices.Sort(quiet)
	return during, quiet
}

func snapshotRows(users int, snapshots []span, during, quiet []time.Duration) ([]row, error) {
	if len(during) == 0 || len(quiet) == 0 {
		return nil, errors.New("there was always or never a snapshot under way")
	}
	var took []time.Duration
	for _, s := range snapshots {
		took = append(took, s.took())
	}
	longer := percentile(during, 99) - percentile(quiet, 99)
	line := func(name string, calls []time.Duration) row {
		return row{Name: name, P50: percentile(calls, 50), P99: percentile(calls, 99),
			Text: fmt.Sprintf("%s sets, longest %s", count(len(calls)), micros(calls[len(calls)-1]))}
	}
	return []row{
		{Name: fmt.Sprintf("a snapshot of %s users", count(users)), Value: median(took).Seconds(),
			Text: fmt.Sprintf("median %s of %d", median(took).Round(time.Millisecond), len(took))},
		line("set, no snapshot under way", quiet),
		line("set, while a snapshot is taken", during),
		{Name: "p99 longer by", Text: longer.Round(10 * time.Microsecond).String(), Value: longer.Seconds(), Goal: "≤ 20 ms at 1,000,000"},
	}, nil
}

var errNoSnapshot = errors.New("presenced takes no snapshots, or does not log them")
