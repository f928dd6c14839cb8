package state

import (
	"fmt"
	"io"
	"runtime"
	"runtime/metrics"
	"testing"

	"presence/pkg/internal/entry"
)

// millionUsers is a state of a million users with a session each.
func millionUsers(b *testing.B) *State { return manyUsers(b, 1_000_000) }

func manyUsers(b testing.TB, users int) *State { return manyUsersOf(b, users).s }

func manyUsersOf(b testing.TB, users int) *machine {
	m := newMachine(b)
	const perEntry = 4000
	for i := 0; i < users; i += perEntry {
		e := entry.Entry{Header: m.header("A")}
		e.Header.AnnouncedThrough = m.s.Position()
		for k := i; k < i+perEntry; k++ {
			e.Commands = append(e.Commands, entry.Command{Kind: entry.Login, User: fmt.Sprintf("user-%d", k),
				Session: fmt.Sprintf("0b6b0c5a-5b0e-4d5f-9d0a-%012d", k), Platform: "web", TTL: 3_600_000})
		}
		if _, err := m.s.Apply(&e, m.s.Position()+1, m.now, false); err != nil {
			b.Fatal(err)
		}
	}
	return m
}

// BenchmarkSnapshot is the work of writing a million users down, without
// compression and storage.
func BenchmarkSnapshot(b *testing.B) {
	s := millionUsers(b)
	b.ResetTimer()
	size, block := 0, []byte(nil)
	for range b.N {
		x := s.BeginSnapshot()
		size = 0
		for more := true; more; {
			var err error
			if block, more, err = x.Next(block[:0]); err != nil {
				b.Fatal(err)
			}
			size += len(block)
		}
		x.End()
	}
	b.ReportMetric(float64(size)/1e6, "MB")
}

// BenchmarkRestore is the work of a start with a million users, without reading
// and decompression.
func BenchmarkRestore(b *testing.B) {
	blocks := blocksOf(b, millionUsers(b).BeginSnapshot(), nil)
	b.ResetTimer()
	for range b.N {
		left := blocks
		s, err := Restore(func() ([]byte, error) {
			if len(left) == 0 {
				return nil, io.EOF
			}
			block := left[0]
			left = left[1:]
			return block, nil
		}, nil)
		if err != nil || s.Users() != 1_000_000 {
			b.Fatal(err)
		}
	}
}

// BenchmarkApply is an entry of 128 sets of a million users, whose order in memory is another, as
// the service applies it, and what it has announced. It also says which share of the processor
// time the garbage collector takes.
func BenchmarkApply(b *testing.B) {
	const users, each = 1_000_000, 128
	m := newMachine(b)
	m.s = manyUsers(b, users)
	m.sequence["A"] = 1 << 32
	ids := make([]string, users)
	for i := range ids {
		ids[i] = fmt.Sprint("user-", i*7919%users)
	}
	texts := []string{"in a meeting", "out for lunch", "working from home"}
	cursor := Cursor{}
	runtime.GC()
	collecting, working := processorTime()
	next := 0
	for b.Loop() {
		e := entry.Entry{Header: m.header("A"), Commands: make([]entry.Command, 0, each)}
		e.Header.AnnouncedThrough = m.s.Position()
		for range each {
			e.Commands = append(e.Commands, entry.Command{Kind: entry.Set, User: ids[next%users], Text: texts[next%len(texts)]})
			next++
		}
		m.now += 4
		if _, err := m.s.Apply(&e, m.s.Position()+1, m.now, true); err != nil {
			b.Fatal(err)
		}
		cursor, _ = m.s.Pending("A", cursor, each, func(Announcement) {})
	}
	collected, worked := processorTime()
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*each), "ns/set")
	b.ReportMetric(100*(collected-collecting)/(worked-working), "%-collecting")
}

// processorTime returns the seconds that the garbage collector took, and all that worked.
func processorTime() (collecting, working float64) {
	list := []metrics.Sample{{Name: "/cpu/classes/gc/mark/assist:cpu-seconds"}, {Name: "/cpu/classes/gc/mark/dedicated:cpu-seconds"},
		{Name: "/cpu/classes/gc/pause:cpu-seconds"}, {Name: "/cpu/classes/user:cpu-seconds"}}
	metrics.Read(list)
	for _, m := range list[:3] {
		collecting += m.Value.Float64()
	}
	return collecting, collecting + list[3].Value.Float64()
}

// BenchmarkStatuses reads a hundred of many users, whose order in memory is another.
func BenchmarkStatuses(b *testing.B) {
	for _, users := range []int{40_000, 1_000_000} {
		b.Run(fmt.Sprint(users), func(b *testing.B) { benchmarkStatuses(b, users) })
	}
}

func benchmarkStatuses(b *testing.B, users int) {
	const each = 100
	s := manyUsers(b, users)
	lists := make([][]string, users/each)
	for i := range users {
		to := &lists[i/each]
		*to = append(*to, fmt.Sprintf("user-%d", i*7919%users))
	}
	revisions := uint64(0)
	for i := 0; b.Loop(); i++ {
		for st := range s.Statuses(lists[i%len(lists)], false) {
			revisions += st.Revision
		}
	}
}

// BenchmarkHeap is the live heap of a user with one session and nothing to be
// announced.
func BenchmarkHeap(b *testing.B) {
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	s := millionUsers(b)
	runtime.GC()
	runtime.ReadMemStats(&after)
	b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/float64(s.Users()), "B/user")
}
