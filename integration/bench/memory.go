package main

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// memoryMeasure is the memory of a presenced whose users have one session each, and how
// long it takes to start again on the journal of their logins. A presenced of its own
// traces its garbage collector. A collection's live bytes are the heap that the users
// need. Resident memory depends on when the last collection was.
var memoryMeasure = measure{
	name: "memory", title: "one session for each user, not bound to a connection",
	alone: func(ctx context.Context, b *bench) ([]row, error) {
		dir, err := b.tempDir("memory")
		if err != nil {
			return nil, err
		}
		rows, err := b.measureHeap(ctx, dir)
		if err != nil {
			return nil, err
		}
		again, err := b.measureRestart(dir, "restart to ready, behind the logins")
		return append(rows, again), err
	},
}

// measureHeap logs the users in at a presenced on an empty directory.
func (b *bench) measureHeap(ctx context.Context, dir string) ([]row, error) {
	t, err := b.startOn(dir, b.presenced, []string{"GODEBUG=gctrace=1"}, neverSnapshot...)
	if err != nil {
		return nil, err
	}
	defer b.stop(t)
	idle := t.residentBytes()
	liveIdle, err := t.collect(ctx)
	if err != nil {
		return nil, err
	}
	begun := time.Now()
	if err := loginAll(ctx, t, userID, b.opts.users); err != nil {
		return nil, err
	}
	took := time.Since(begun)
	// Changes that are not yet known to be announced take memory too, for some seconds.
	if err := awaitAnnounced(ctx, t.conns[0]); err != nil {
		return nil, err
	}
	resident := t.residentBytes()
	live, err := t.collect(ctx)
	if err != nil {
		return nil, err
	}
	rows := []row{
		{Name: fmt.Sprintf("logins, sync interval, %d callers", loginCallers), Rate: float64(b.opts.users) / took.Seconds()},
		b.perUser("live heap after "+count(b.opts.users)+" logins, all announced", liveIdle, live, "≤ 400 bytes/user, at 1,000,000"),
	}
	if resident > 0 {
		rows = append(rows, b.perUser("resident then", idle, resident, ""))
	}
	return rows, nil
}

func (b *bench) perUser(name string, before, after uint64, goal string) row {
	each := (float64(after) - float64(before)) / float64(b.opts.users)
	return row{Name: name, Goal: goal, Value: each,
		Text: fmt.Sprintf("%.0f bytes/user (%d MB, %d MB before)", each, after>>20, before>>20)}
}

const (
	// collectCallers is small: what is allocated during a collection counts as live.
	collectCallers = 2
	collectWithin  = 20 * time.Second
)

// collect makes the process answer queries until its garbage collector has run twice,
// because one run may have been under way, and returns the live bytes.
func (t *target) collect(ctx context.Context) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, collectWithin)
	defer cancel()
	body := getBody(0, 100)
	first, _ := collections(t.Stderr())
	for {
		if _, err := callFor(ctx, collectCallers, 50*time.Millisecond, func(caller, _ int) error {
			return request(t.conn(caller), subjects.Get(), body)
		}); err != nil {
			if errors.Is(err, context.DeadlineExceeded) {
				return 0, errors.New("the garbage collector did not run, or did not say so")
			}
			return 0, err
		}
		if n, live := collections(t.Stderr()); n >= first+2 {
			return live, nil
		}
	}
}
