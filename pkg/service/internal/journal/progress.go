package journal

import (
	"context"
	"fmt"
	"time"

	"github.com/dustin/go-humanize"
)

// Progress says how far a journal is, for people who wait for it.
type Progress struct {
	// Phase is PhaseRestoring, PhaseCatchingUp or PhaseFollowing. Done of Total are users in the
	// first phase, entries in the second.
	Phase       string
	Done, Total uint64
	// Snapshot is the position of the last snapshot, SnapshotBytes its size, SnapshotAt when it
	// was stored. All are 0 if there is none.
	Snapshot, SnapshotBytes uint64
	SnapshotAt              time.Time

	from uint64 // the position behind which it catches up
}

// The phases of a journal, in their order.
const (
	PhaseRestoring  = "restoring"
	PhaseCatchingUp = "catching up"
	PhaseFollowing  = "following"
)

// String returns the progress for people, such as
//
//	restoring: 45 % of 1,200,000 users
func (p Progress) String() string {
	if p.Total == 0 || p.Phase == PhaseFollowing {
		return p.Phase
	}
	what := "users"
	if p.Phase == PhaseCatchingUp {
		what = "entries"
	}
	return fmt.Sprintf("%s: %d %% of %s %s", p.Phase, min(100*p.Done/p.Total, 100), humanize.Comma(int64(p.Total)), what)
}

// restoring notes how many of the users are restored.
func (j *Journal[W]) restoring(done, total int) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.progress = Progress{Phase: PhaseRestoring, Done: uint64(done), Total: uint64(total)}
}

// catchingUpFrom notes where catching up begins.
func (j *Journal[W]) catchingUpFrom(position uint64) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.progress = Progress{Phase: PhaseCatchingUp, from: position}
}

// catchingUp notes how far catching up is.
func (j *Journal[W]) catchingUp(applied, target uint64) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.progress.Done, j.progress.Total = applied-j.progress.from, target-j.progress.from
}

// Progress returns how far the journal is.
func (j *Journal[W]) Progress() Progress {
	caughtUp := j.isCaughtUp()
	j.mu.Lock()
	defer j.mu.Unlock()
	p := j.progress
	if caughtUp && !j.lastAt.IsZero() {
		p.Phase, p.Done, p.Total = PhaseFollowing, 0, 0
	}
	p.Snapshot, p.SnapshotBytes, p.SnapshotAt = j.snapshot.position, j.snapshot.bytes, j.snapshot.at
	return p
}

// Follows reports whether the state was caught up with the journal. The instance may have been cut
// off from the journal since.
func (j *Journal[W]) Follows() bool { return j.Progress().Phase == PhaseFollowing }

// progressEvery is how often the progress is logged.
const progressEvery = 2 * time.Second

// reportProgress logs the progress for as long as the journal is not followed.
func (j *Journal[W]) reportProgress(ctx context.Context) error {
	ticker := time.NewTicker(j.progressEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		if p := j.Progress(); p.Phase != PhaseFollowing {
			j.cfg.Logger.Info("not ready yet: " + p.String())
		}
	}
}
