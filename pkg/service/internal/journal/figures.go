package journal

import "presence/pkg/service/internal/histogram"

// Latencies returns the times from publishing an entry to its acknowledgement, of those that were
// acknowledged, and the times that Apply took.
func (j *Journal[W]) Latencies() (appended, applied histogram.Snapshot) {
	return j.appended.Snapshot(), j.applies.Snapshot()
}

// Remembered adds to a map how much is remembered, by names.
func (j *Journal[W]) Remembered(to map[string]int) {
	j.mu.Lock()
	defer j.mu.Unlock()
	to["journal-marks"], to["journal-renewals"], to["journal-reports"] = len(j.marks), len(j.pending.renewed), len(j.pending.reports)
}
