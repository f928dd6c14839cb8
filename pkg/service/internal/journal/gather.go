package journal

import (
	"context"
	"runtime"
	"time"

	"presence/pkg/internal/entry"
)

const (
	// gatherTurns bounds how often other goroutines are let run before an entry is packed.
	gatherTurns = 8
	// gatherWithin bounds the wait for as many commands as gatherMany says. The timer may be late
	// by a millisecond.
	gatherWithin = 500 * time.Microsecond
	// An entry of fewer commands than gatherLeast says nothing of what comes next.
	gatherLeast = 32
)

// gather lets goroutines run that are about to submit, as long as more of them do, so that the
// entry has their commands too. It never sleeps: if no other goroutine can run, it returns at
// once. It also returns at once if an entry is full of commands. In an overload that is always
// so, and a turn of the others takes long.
func (j *Journal[W]) gather() {
	last := -1
	for range gatherTurns {
		j.mu.Lock()
		waiting, full := j.waiting, len(j.pending.commands) >= entry.MaxCommands
		j.mu.Unlock()
		if full || waiting == last {
			return
		}
		last = waiting
		runtime.Gosched()
	}
}

// gatherMany waits until three quarters as many commands wait as the last entry had. Under load that
// many callers have just got their answers, and most of them send their next request at once. An
// entry takes as long to make, store and read as about five commands, so fewer and larger entries
// are more throughput. Where callers are few or do not come back, it waits once or not at all.
func (j *Journal[W]) gatherMany(ctx context.Context) {
	many := j.lastCommands * 3 / 4
	if j.lastCommands < gatherLeast || !j.callAt(many) {
		return
	}
	defer j.callAt(0)
	timer := time.NewTimer(j.gatherWithin)
	defer timer.Stop()
	select {
	case <-j.wake: // there are that many, or something else wants an entry
	case <-timer.C:
	case <-ctx.Done():
	}
}

// callAt has admit wake the appending goroutine only when so many commands wait. It does nothing and
// reports false if they do already.
func (j *Journal[W]) callAt(many int) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	if many > 0 && len(j.pending.commands) >= many {
		return false
	}
	j.many = many
	return true
}
