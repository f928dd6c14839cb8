package journal

import "context"

// Supersede has two snapshots stored as of the position or later. Then the earlier snapshots are
// removed, and the journal entries once they are older than Config.Keep. It does not wait: maintain
// does it within some seconds, and tries again if it fails. If the instance ends before that, it is
// not done.
func (j *Journal[W]) Supersede(position uint64) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.superseded = max(j.superseded, position)
}

// supersede stores the next of the snapshots that Supersede asks for.
func (j *Journal[W]) supersede(ctx context.Context) error {
	j.mu.Lock()
	position := j.superseded
	j.mu.Unlock()
	if position == 0 {
		return nil
	}
	list, err := j.store.list(ctx)
	if err != nil {
		return err
	}
	if len(list) < keptSnapshots || list[keptSnapshots-1].position < position {
		_, err = j.storeSnapshot(ctx)
		return err
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.superseded == position {
		j.superseded = 0
	}
	return nil
}
