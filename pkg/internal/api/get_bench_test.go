package api_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"testing"

	"presence/pkg/internal/api"
	"presence/pkg/internal/entry"
	"presence/pkg/internal/state"
	"presence/pkg/protocol"
)

// BenchmarkGet is all that presenced does for a get of a hundred of many users: it decodes the
// request, looks the users up and encodes the reply. The users are drawn from all.
func BenchmarkGet(b *testing.B) {
	for _, users := range []int{32_768, 1_000_000} {
		b.Run(fmt.Sprint(users), func(b *testing.B) { benchmarkGet(b, users) })
	}
}

func benchmarkGet(b *testing.B, users int) {
	get := getter(b, users)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		get(i)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*benchEach), "ns/user")
}

// benchEach is how many users a get of the benchmark asks for.
const benchEach = 100

// getter returns what makes one of many gets.
func getter(b *testing.B, users int) func(i int) {
	q := api.Queries{State: benchState(b, users)}
	ids := rand.New(rand.NewPCG(1, 2)).Perm(users)
	bodies := make([][]byte, users/benchEach)
	for i := range bodies {
		r := protocol.GetRequest{}
		for _, n := range ids[i*benchEach : (i+1)*benchEach] {
			r.UserIDList = append(r.UserIDList, benchUser(n))
		}
		bodies[i], _ = json.Marshal(r)
	}
	var buffer []byte
	return func(i int) {
		var r protocol.GetRequest
		if err := protocol.Unmarshal(bodies[i%len(bodies)], &r); err != nil {
			b.Fatal(err)
		}
		buffer = q.Get(buffer[:0], &r)
	}
}

func benchUser(n int) string { return fmt.Sprintf("user-%07d", n) }

// benchState is a state of users with a session and a text each.
func benchState(b *testing.B, users int) *state.State {
	s := state.New()
	const perEntry = 4000
	sequence := uint64(0)
	apply := func(command func(n int) entry.Command) {
		for i := 0; i < users; i += perEntry {
			sequence++
			e := entry.Entry{Header: entry.Header{Epoch: "E1", Instance: "A", Sequence: sequence, LeaseClock: s.LeaseClock(), AnnouncedThrough: s.Position(), MaxFormat: entry.Format}}
			for n := i; n < min(i+perEntry, users); n++ {
				e.Commands = append(e.Commands, command(n))
			}
			if _, err := s.Apply(&e, s.Position()+1, 1_700_000_000_000, false); err != nil {
				b.Fatal(err)
			}
		}
	}
	apply(func(n int) entry.Command {
		return entry.Command{Kind: entry.Login, User: benchUser(n), Session: fmt.Sprintf("0b6b0c5a-5b0e-4d5f-9d0a-%012d", n), Platform: "web", TTL: 3_600_000}
	})
	apply(func(n int) entry.Command {
		return entry.Command{Kind: entry.Set, User: benchUser(n), Text: fmt.Sprintf("in a meeting %07d", n)}
	})
	return s
}
