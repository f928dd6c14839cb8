package main

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"presence/pkg/protocol"
)

// profileMeasure is where presenced's processor time goes: what share each part of it takes under
// each load, the NATS server inside included. It needs perf and Linux. -users is how many users
// there are; who is asked for, changed or watched is drawn from all.
var profileMeasure = measure{
	name: "profile", title: "shares of presenced's processor time, by perf", named: true,
	alone: func(ctx context.Context, b *bench) (rows []row, err error) {
		if _, err := exec.LookPath("perf"); err != nil {
			return nil, errors.New("the measure profile needs the program perf")
		}
		for _, sync := range []string{"interval", "always"} {
			more, err := b.profileLoads(ctx, sync)
			if err != nil {
				return nil, err
			}
			rows = append(rows, more...)
		}
		return rows, nil
	},
}

// profileLoads profiles a presenced under each load.
func (b *bench) profileLoads(ctx context.Context, sync string) (rows []row, err error) {
	t, err := b.start(b.presenced, sync, "--user-changes", "-1", "--user-renewals", "-1")
	if err != nil {
		return nil, err
	}
	defer b.remove(t)
	sessions, err := loginSessions(ctx, t, userID, b.opts.users)
	if err != nil {
		return nil, err
	}
	if err := awaitAnnounced(ctx, t.conns[0]); err != nil {
		return nil, err
	}
	for _, l := range b.profiledLoads(t, sync, sessions) {
		run, done, err := l.start(ctx)
		if err != nil {
			return nil, err
		}
		more, err := b.profile(ctx, t, l.name, l.each, run)
		done()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", l.name, err)
		}
		rows = append(rows, more...)
	}
	return rows, nil
}

// profiledLoad is a load under which presenced is profiled.
type profiledLoad struct {
	name  string
	each  int // what one call counts for
	start func(context.Context) (run runFunc, done func(), err error)
}

func (b *bench) profiledLoads(t *target, sync string, sessions []session) []profiledLoad {
	shuffle(sessions)
	plain := func(run runFunc) func(context.Context) (runFunc, func(), error) {
		return func(context.Context) (runFunc, func(), error) { return run, func() {}, nil }
	}
	c := &changer{callers: min(b.opts.callers, len(sessions)), users: len(sessions), share: 1}
	set := profiledLoad{"set, sync " + sync, 1, plain(c.requests(t, func(u int) string { return userSubject(sessions[u].user, protocol.OpSet) }))}
	if sync == "always" { // the others do not store anything
		return []profiledLoad{set}
	}
	n := min(usersPerGet, len(sessions))
	get := profiledLoad{fmt.Sprintf("get of %d, for each user", n), n, plain(queries(t, b.opts.callers, subjects.Get(), getBodiesOf(sessions, n)))}
	fan := profiledLoad{fmt.Sprintf("event to %d subscribers", subscribers), 1, func(ctx context.Context) (runFunc, func(), error) {
		f, err := newStatusFanout(ctx, t)
		if err != nil {
			return nil, nil, err
		}
		return f.run, f.close, nil
	}}
	gateway := profiledLoad{"set by gateway", 1, func(ctx context.Context) (runFunc, func(), error) {
		var ends []func()
		v, err := b.sharedGateway(ctx, t, func(end func()) { ends = append(ends, end) })
		return v.run, func() {
			for _, end := range ends {
				end()
			}
		}, err
	}}
	return []profiledLoad{get, set, gateway, fan}
}

// profileRate is how many samples perf takes in a second of processor time. It is no divisor of
// anything that happens regularly.
const profileRate = "997"

// profile records where presenced's processor time goes while it is under load.
func (b *bench) profile(ctx context.Context, t *target, name string, each int, run runFunc) ([]row, error) {
	v := variant{name: name, run: run, each: each, server: t}
	if _, err := v.measured(ctx, b.opts.time/4); err != nil { // to warm up
		return nil, err
	}
	file := filepath.Join(b.dir, "perf.data")
	record := exec.CommandContext(ctx, "perf", "record", "-q", "-F", profileRate, "--call-graph", "fp", "-p", fmt.Sprint(t.PID()), "-o", file,
		"--", "sleep", fmt.Sprint(b.opts.time.Seconds()))
	var said bytes.Buffer
	record.Stderr = &said
	if err := record.Start(); err != nil {
		return nil, err
	}
	s, err := v.measured(ctx, b.opts.time+time.Second)
	if err := errors.Join(err, record.Wait()); err != nil {
		return nil, fmt.Errorf("perf record: %w\n%s", err, said.Bytes())
	}
	out, err := exec.CommandContext(ctx, "perf", "script", "-i", file, "-F", "ip,sym").Output()
	if err != nil {
		return nil, fmt.Errorf("perf script: %w", err)
	}
	parts, samples := profileParts(bytes.NewReader(out))
	all := summary(v, []sample{s})
	rows := []row{{Name: name, Rate: all.Rate, CPU: all.CPU, Text: fmt.Sprintf("%s samples", count(samples))}}
	for _, p := range parts {
		share := float64(p.samples) / float64(samples)
		rows = append(rows, row{Name: "  " + p.name, CPU: time.Duration(share * float64(all.CPU)), Value: share, Text: fmt.Sprintf("%.1f %%", 100*share)})
	}
	return rows, nil
}

// profiled is a part of presenced with the samples that were taken there.
type profiled struct {
	name    string
	samples int
}

// profileParts reads what perf script prints: for each sample its stack, the innermost function
// first, and an empty line behind it.
func profileParts(script io.Reader) (parts []profiled, samples int) {
	by := make(map[string]int)
	var stack []string
	end := func() {
		if len(stack) > 0 {
			by[partOf(stack)]++
			samples++
		}
		stack = stack[:0]
	}
	for lines := bufio.NewScanner(script); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		switch {
		case len(fields) == 0:
			end()
		case len(fields) > 1:
			stack = append(stack, fields[1])
		}
	}
	end()
	for name, n := range by {
		parts = append(parts, profiled{name, n})
	}
	slices.SortFunc(parts, func(a, b profiled) int { return cmp.Or(b.samples-a.samples, cmp.Compare(a.name, b.name)) })
	return parts, samples
}

// partOf returns the part of presenced that a stack is in. It is that of the innermost function that
// belongs to one: so copying, allocating, and what the system does for a part, count for that part.
func partOf(stack []string) string {
	for _, f := range stack {
		switch {
		case strings.HasPrefix(f, "runtime.gcAssist"), strings.HasPrefix(f, "runtime.gcBgMarkWorker"), strings.HasPrefix(f, "runtime.bgsweep"),
			strings.HasPrefix(f, "runtime.bgscavenge"):
			return "Go: garbage collector"
		}
		for _, p := range profileTable {
			if strings.HasPrefix(f, p.prefix) && (p.with == "" || slices.ContainsFunc(stack, func(f string) bool { return strings.Contains(f, p.with) })) {
				return p.part
			}
		}
	}
	return "Go: scheduler, timers, and the rest"
}

// profileTable names the part that a function belongs to. The first line counts that fits.
var profileTable = []struct {
	prefix string // of the function
	with   string // some function of the stack has it; empty: whatever the stack is
	part   string
}{
	{"github.com/nats-io/nats-server/v2/server.(*fileStore)", "", partJetStream},
	{"github.com/nats-io/nats-server/v2/server.(*msgBlock)", "", partJetStream},
	{"github.com/nats-io/nats-server/v2/server.", ".(*stream).", partJetStream},
	{"github.com/nats-io/nats-server/v2/server.", ".(*consumer).", partJetStream},
	{"github.com/nats-io/nats-server/v2/", ".(*client).readLoop", "NATS server: reading, matching, delivery"},
	{"github.com/nats-io/nats-server/v2/", "", "NATS server: writing"},
	{"github.com/nats-io/nats%2ego", "", "NATS client library"}, // as linkers write it
	{"presence/pkg/protocol.", "protocol.Unmarshal", "service: decoding"},
	{"presence/pkg/protocol.", "protocol.Append", "service: encoding"},
	{"presence/pkg/protocol.", "protocol.Marshal", "service: encoding"},
	{"presence/pkg/internal/state", "", "state"},
	{"presence/pkg/internal/table", "", "state"},
	{"presence/pkg/internal/entry", "", "journal"},
	{"presence/pkg/service/internal/journal", "", "journal"},
	{"presence/pkg/internal/api", "", "service: from requests to commands, from results to replies"},
	{"presence/", "", "service: the rest"},
}

const partJetStream = "NATS server: JetStream"
