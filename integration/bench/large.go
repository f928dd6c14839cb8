package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"presence/pkg/protocol"
)

const (
	largeGateways = 8
	largeOps      = protocol.MaxOpsPerApply
	// largeEntries is after how many entries a snapshot is due. The sets of the load make some
	// hundred entries a second, so one is due within minutes.
	largeEntries = "20000"
	// largeSnapshot bounds the wait for a snapshot, largeVerify the verification.
	largeSnapshot, largeVerify = 10 * time.Minute, 20 * time.Minute
	// sayEvery is how often it says how many users there are, because it takes minutes.
	sayEvery = 20 * time.Second
)

// largeMeasure is about one presenced with very many users. Gateways log them in, so that it
// takes minutes and not an hour. Then come its memory, sets while a snapshot is taken, presencectl
// verify, and a restart.
var largeMeasure = measure{
	name: "large", title: "one presenced with very many users, each with a session of a gateway", named: true,
	alone: func(ctx context.Context, b *bench) (rows []row, err error) {
		dir, err := b.tempDir("large")
		if err != nil {
			return nil, err
		}
		t, err := b.startOn(dir, b.presenced, []string{"GODEBUG=gctrace=1"}, slices.Concat(withFigures,
			[]string{"--sync", "interval", "--snapshot-entries", largeEntries})...)
		if err != nil {
			return nil, err
		}
		defer b.stop(t)
		for _, step := range []func(context.Context, *target) ([]row, error){b.largeLogins, b.largeSets, b.largeVerify} {
			more, err := step(ctx, t)
			if err != nil {
				return nil, err
			}
			rows = append(rows, more...)
		}
		b.stop(t)
		again, err := b.measureRestart(dir, "restart to ready, behind the last snapshot")
		again.Goal = "≤ 15 s at 10,000,000"
		return append(rows, again), err
	},
}

// largeLogins logs all users in and measures the memory that they take.
func (b *bench) largeLogins(ctx context.Context, t *target) ([]row, error) {
	users := b.opts.users
	idle, err := t.memoryAfter(ctx, time.Now(), idleAfter)
	if err != nil {
		return nil, err
	}
	begun := time.Now()
	if err := b.loginByGateways(ctx, t, users); err != nil {
		return nil, err
	}
	ended := time.Now()
	atOnce := t.residentBytes()
	if err := awaitAnnounced(ctx, t.conns[0]); err != nil {
		return nil, err
	}
	after, err := t.memoryAfter(ctx, ended, residentAfter)
	if err != nil {
		return nil, err
	}
	rows := []row{{Name: fmt.Sprintf("%s users: logins by %d gateways, %d in a request", count(users), largeGateways, largeOps),
		Rate: float64(users) / ended.Sub(begun).Seconds()}}
	for _, r := range memoryRows(users, idle, after, atOnce) {
		if strings.HasSuffix(r.Name, ": resident") {
			r.Goal = "≤ 5 GB at 10,000,000"
		}
		rows = append(rows, r)
	}
	return rows, nil
}

func (b *bench) loginByGateways(ctx context.Context, t *target, users int) error {
	gateways := make([]*gateway, largeGateways)
	for i := range gateways {
		var err error
		if gateways[i], err = openGateway(t.conn(i), fmt.Sprint("large", i)); err != nil {
			return err
		}
	}
	var mu sync.Mutex
	done, said := 0, time.Now()
	_, err := callEach(ctx, largeGateways, largeGateways, func(_, i int) error {
		for first := i * largeOps; first < users && ctx.Err() == nil; first += largeGateways * largeOps {
			n := min(largeOps, users-first)
			if err := gateways[i].apply(n, func(k int) protocol.Op {
				return protocol.Op{Op: protocol.OpKindLogin, UserID: userID(first + k), SessionID: uuid.NewString(), Platform: "web"}
			}); err != nil {
				return err
			}
			mu.Lock()
			if done += n; time.Since(said) > sayEvery {
				said = time.Now()
				b.logf("%s of %s users are logged in", count(done), count(users))
			}
			mu.Unlock()
		}
		return nil
	})
	return err
}

// largeSets sets texts until a snapshot was taken.
func (b *bench) largeSets(ctx context.Context, t *target) ([]row, error) {
	sets, snapshots, err := b.setOverSnapshots(ctx, t, 1, largeSnapshot)
	if err != nil {
		return nil, err
	}
	during, quiet := split(sets, snapshots)
	rows, err := snapshotRows(b.opts.users, snapshots, during, quiet)
	if err != nil {
		return nil, err
	}
	rank := len(during) - len(during)/1000 - 1
	return append(rows, row{Name: "set, p99.9 while a snapshot is taken", Value: during[rank].Seconds(), Text: micros(during[rank]),
		Goal: "≤ 100 ms at 10,000,000"}), nil
}

// largeVerify has presencectl verify the service.
func (b *bench) largeVerify(ctx context.Context, t *target) ([]row, error) {
	program := filepath.Join(b.dir, "presencectl")
	if out, err := exec.CommandContext(ctx, "go", "build", "-o", program, "presence/cmd/presencectl").CombinedOutput(); err != nil {
		return nil, fmt.Errorf("building presencectl: %w\n%s", err, out)
	}
	ctx, cancel := context.WithTimeout(ctx, largeVerify)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, "verify", "--data", t.dir, "--timeout", "1m")
	cmd.Env = append(os.Environ(), "NATS_URL="+t.url)
	begun := time.Now()
	out, err := cmd.CombinedOutput()
	took := time.Since(begun)
	if _, failed := errors.AsType[*exec.ExitError](err); failed {
		b.logf("presencectl verify: %v\n%s", err, out)
		return []row{{Name: "presencectl verify", Text: "fails", Goal: "passes"}}, nil
	}
	return []row{{Name: "presencectl verify", Value: took.Seconds(), Text: "passes, in " + took.Round(100*time.Millisecond).String(), Goal: "passes"}}, err
}
