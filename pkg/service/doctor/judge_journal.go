package doctor

import (
	"fmt"
	"strings"
	"time"

	"github.com/dustin/go-humanize"

	"presence/pkg/protocol"
)

// judgeSnapshot looks at the newest snapshot that an instance knows of: all see the same store.
func (s *served) judgeSnapshot() Check {
	told := s.told()
	if len(told) == 0 {
		return needs("journal.snapshot", newerVersion)
	}
	var newest *protocol.SnapshotVitals
	var stream *protocol.JournalVitals
	for _, i := range told {
		if x := i.Vitals.Snapshot; x != nil && (newest == nil || x.AgeSeconds < newest.AgeSeconds) {
			newest = x
		}
		if x := i.Vitals.Journal; x != nil && (stream == nil || x.Last > stream.Last) {
			stream = x
		}
	}
	c := Check{Name: "journal.snapshot", Result: OK, Found: "there is no snapshot yet"}
	size := ""
	entries := uint64(0)
	if stream != nil && stream.Last >= stream.First {
		entries = stream.Last - stream.First + 1
		size = fmt.Sprintf("; the journal has %s entries, %s", humanize.Comma(int64(entries)), humanize.IBytes(stream.Bytes))
	}
	if newest != nil {
		age := time.Duration(newest.AgeSeconds * float64(time.Second)).Round(time.Second)
		c.Found = fmt.Sprintf("the newest snapshot is %s old, of position %d", span(age), newest.Position)
		if age > oldSnapshot {
			c.Result = Warn
		}
	} else if entries > longJournal {
		c.Result = Warn
	}
	c.Found += size
	if c.Result == Warn {
		c.Means, c.Do = "snapshots fail, so the journal grows and a start takes ever longer; an idle service takes one in 18 h", "read the log of each instance for the reason"
	}
	return c
}

// judgeSync says whether a change is on the disk when it is acknowledged, as far as instances know.
func (s *served) judgeSync() Check {
	c := Check{Name: "journal.sync", Result: OK, Found: "every change is on the disk before it is acknowledged"}
	known, replicas := false, 0
	var lazy []string
	for _, i := range s.told() {
		if i.Vitals.Journal != nil {
			replicas = max(replicas, i.Vitals.Journal.Replicas)
		}
		if x := i.Vitals.Server; x != nil {
			known = true
			if !x.SyncAlways {
				lazy = append(lazy, i.name())
			}
		}
	}
	switch {
	case !known:
		return needs("journal.sync", "--system-creds, see servers.sync: no instance has its NATS server inside")
	case len(lazy) > 0 && replicas > 1:
		c.Found = fmt.Sprintf("the servers leave flushing to the operating system; %d replicas hold each change (%s)", replicas, strings.Join(lazy, ", "))
	case len(lazy) > 0:
		c.Result, c.Found = Warn, fmt.Sprintf("the operating system flushes the journal (%s)", strings.Join(lazy, ", "))
		c.Means, c.Do = "a power loss may cost the last minutes", "presenced --sync always, or in the file jetstream { sync_interval: always }"
	}
	return c
}
