package main

import (
	"fmt"
	"slices"
)

// neverSnapshot makes presenced take no snapshot after a number of entries. One may still
// be due by the entries' bytes, as with the logins of a million users.
var neverSnapshot = []string{"--sync", "interval", "--snapshot-entries", "1000000000"}

// measureRestart starts presenced on the store of another one, which SIGTERM has stopped,
// and says how much there was to read.
func (b *bench) measureRestart(dir, name string) (row, error) {
	t, err := b.startOn(dir, b.presenced, nil, slices.Concat(withFigures, neverSnapshot)...)
	if err != nil {
		return row{}, err
	}
	defer b.close(t)
	entries, err := t.figure("presence_journal_applied_total")
	if err != nil {
		return row{}, err
	}
	snapshot, err := t.figure("presence_snapshot_bytes")
	if err != nil {
		return row{}, err
	}
	text := fmt.Sprintf("%s: %s entries", micros(t.readyAfter), count(int(entries)))
	if snapshot > 0 {
		text += fmt.Sprintf(" behind a snapshot of %.1f MB", snapshot/(1<<20))
	}
	return row{Name: name, Text: text, Value: t.readyAfter.Seconds(), Goal: "≤ 0.5 s at 100,000, ≤ 3 s at 1,000,000"}, nil
}
