package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

const (
	// memoryUsers is the size that is always measured; fewer where -users says so.
	memoryUsers = 100_000
	// idleAfter lets the process settle before its own memory is measured.
	idleAfter = 2 * time.Second
	// residentAfter is how long after the last login its memory is measured. By then the
	// NATS server has dropped its caches of what was written, after 10 s.
	residentAfter = 12 * time.Second
)

// memoryMeasure is the memory of a presenced whose users have one session each, and how
// long it takes to start again on the journal of their logins. Each size has a presenced
// of its own.
//
// Resident memory is what the operating system counts. It is more than what is alive:
// the collector lets the heap grow before it runs, and the runtime keeps free pages. A
// presenced traces its collector, and the live bytes of a collection are the heap that
// is needed.
var memoryMeasure = measure{
	name: "memory", title: fmt.Sprintf("growth for each user with one session, not bound to a connection; resident as the operating system counts, idle %v after the start, then %v after the logins",
		idleAfter, residentAfter),
	alone: func(ctx context.Context, b *bench) (rows []row, err error) {
		for _, users := range memorySizes(b.opts.users) {
			more, err := b.measureMemory(ctx, users)
			if err != nil {
				return nil, err
			}
			rows = append(rows, more...)
		}
		return rows, nil
	},
}

func memorySizes(users int) []int {
	if users > memoryUsers {
		return []int{memoryUsers, users}
	}
	return []int{users}
}

func (b *bench) measureMemory(ctx context.Context, users int) ([]row, error) {
	dir, err := b.tempDir("memory")
	if err != nil {
		return nil, err
	}
	rows, err := b.measureLogins(ctx, dir, users)
	if err != nil {
		return nil, err
	}
	again, err := b.measureRestart(dir, count(users)+" users: restart to ready, behind the logins")
	return append(rows, again), err
}

// measureLogins logs the users in at a presenced on an empty directory.
func (b *bench) measureLogins(ctx context.Context, dir string, users int) ([]row, error) {
	t, err := b.startOn(dir, b.presenced, []string{"GODEBUG=gctrace=1"}, slices.Concat(withFigures, neverSnapshot)...)
	if err != nil {
		return nil, err
	}
	defer b.stop(t)
	idle, err := t.memoryAfter(ctx, time.Now(), idleAfter)
	if err != nil {
		return nil, err
	}
	begun := time.Now()
	if err := loginAll(ctx, t, userID, users); err != nil {
		return nil, err
	}
	ended := time.Now()
	atOnce := t.residentBytes()
	// Changes that are not yet known to be announced take memory too, for some seconds.
	if err := awaitAnnounced(ctx, t.conns[0]); err != nil {
		return nil, err
	}
	after, err := t.memoryAfter(ctx, ended, residentAfter)
	if err != nil {
		return nil, err
	}
	rows := []row{{
		Name: fmt.Sprintf("%s users: logins, sync interval, %d callers", count(users), loginCallers),
		Rate: float64(users) / ended.Sub(begun).Seconds(),
	}}
	return append(rows, memoryRows(users, idle, after, atOnce)...), nil
}

// memory is what a process has at one moment, in bytes.
type memory struct {
	resident float64 // 0 on other systems than Linux
	parts    []float64
}

// memoryParts are what resident memory is made of. The figures of presenced give them.
var memoryParts = []struct {
	name string
	of   func(figure func(string) float64, live float64) float64
}{
	{"live heap", func(_ func(string) float64, live float64) float64 { return live }},
	{"heap that the next collection frees", func(figure func(string) float64, live float64) float64 {
		return figure("go_memstats_heap_alloc_bytes") - live
	}},
	{"unused room between objects of the heap", func(figure func(string) float64, _ float64) float64 {
		return figure("go_memstats_heap_inuse_bytes") - figure("go_memstats_heap_alloc_bytes")
	}},
	{"free pages, not returned", func(figure func(string) float64, _ float64) float64 {
		return figure("go_memstats_heap_idle_bytes") - figure("go_memstats_heap_released_bytes")
	}},
	{"stacks", func(figure func(string) float64, _ float64) float64 { return figure("go_memstats_stack_sys_bytes") }},
	{"the Go runtime's own", func(figure func(string) float64, _ float64) (sum float64) {
		for _, name := range []string{"mspan", "mcache", "buck_hash", "gc", "other"} {
			sum += figure("go_memstats_" + name + "_sys_bytes")
		}
		return sum
	}},
	{"program and other files", func(figure func(string) float64, _ float64) float64 {
		return figure("process_resident_memory_file_bytes")
	}},
}

// memoryAfter measures the process so long after a moment. First comes the resident
// memory, because to collect garbage changes it.
func (t *target) memoryAfter(ctx context.Context, since time.Time, d time.Duration) (m memory, err error) {
	select {
	case <-time.After(time.Until(since.Add(d))):
	case <-ctx.Done():
		return m, ctx.Err()
	}
	m.resident = float64(t.residentBytes())
	text, err := t.figures()
	if err != nil {
		return m, err
	}
	live, err := t.collect(ctx)
	if err != nil {
		return m, err
	}
	for _, part := range memoryParts {
		m.parts = append(m.parts, part.of(func(name string) float64 {
			value, ok := findFigure(text, name)
			if !ok && m.resident > 0 {
				err = fmt.Errorf("presenced serves no figure %s", name)
			}
			return value
		}, float64(live)))
	}
	return m, err
}

// memoryRows say how each part has grown. Without resident memory there is only the live
// heap.
func memoryRows(users int, idle, after memory, atOnce uint64) []row {
	line := func(name string, before, now float64, goal string) row {
		each := (now - before) / float64(users)
		return row{Name: count(users) + " users: " + name, Goal: goal, Value: each,
			Text: fmt.Sprintf("%.0f bytes/user (%.1f MB, idle %.1f MB)", each, now/(1<<20), before/(1<<20))}
	}
	live := line(memoryParts[0].name, idle.parts[0], after.parts[0], "≤ 200 bytes/user, at 1,000,000")
	if after.resident == 0 {
		return []row{live}
	}
	rows := []row{
		line("resident", idle.resident, after.resident, "≤ 450 bytes/user"),
		line("resident, right after the logins", idle.resident, float64(atOnce), ""),
		live,
	}
	restBefore, rest := idle.resident-idle.parts[0], after.resident-after.parts[0]
	for i, part := range memoryParts[1:] {
		before, now := idle.parts[1+i], after.parts[1+i]
		restBefore, rest = restBefore-before, rest-now
		rows = append(rows, line("of that "+part.name, before, now, ""))
	}
	// Negative where the runtime has memory that it has not touched yet.
	return append(rows, line("of that neither", restBefore, rest, ""))
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
