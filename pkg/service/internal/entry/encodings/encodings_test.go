package encodings

import (
	"fmt"
	"testing"

	"github.com/google/uuid"

	"presence/pkg/service/internal/entry"
)

// workloads are entries as a busy service packs them, and an idle one's.
var workloads = []struct {
	name string
	e    *entry.Entry
}{
	{"128 sets", packed(128, 0, func(i int) entry.Command {
		return entry.Command{Kind: entry.Set, User: user(i), Text: fmt.Sprintf("in a meeting %07d", i)}
	})},
	{"128 logins", packed(128, 0, func(i int) entry.Command {
		return entry.Command{Kind: entry.Login, User: user(i), Session: uuid.NewString(), Device: uuid.NewString(),
			Platform: "android", TTL: 120_000, Server: "NCXU3YLRW7NPS6JGVTJ7SNSVP3QOWBNCMTZLY2HAHZJRCXGK7CZ4CLQB", Client: uint64(1000 + i)}
	})},
	{"4000 renewals", packed(0, 4000, nil)},
	{"idle tick", packed(0, 0, nil)},
}

func user(i int) string { return fmt.Sprintf("user-%07d", i) }

func packed(commands, renewed int, command func(int) entry.Command) *entry.Entry {
	e := &entry.Entry{Header: entry.Header{
		Epoch: uuid.NewString(), Writer: uuid.NewString(),
		Sequence: 123_456, LeaseClock: 86_400_000, Flushed: 120_000,
	}}
	for i := range commands {
		e.Commands = append(e.Commands, command(i))
	}
	for i := range renewed {
		e.Renewed = append(e.Renewed, uint32(i*7919%100_000)) // of 100,000 leases
	}
	return e
}

// TestRoundTrip guards against comparing encodings that lose something.
func TestRoundTrip(t *testing.T) {
	for _, w := range workloads {
		for _, c := range codecs {
			codec := c.make(w.e)
			data, err := codec.encode()
			if err != nil {
				t.Fatalf("%s, %s: %v", w.name, c.name, err)
			}
			if err := codec.decode(data); err != nil {
				t.Fatalf("%s, %s: %v", w.name, c.name, err)
			}
			commands, renewed, last := codec.decoded()
			want := lastUser(w.e.Commands, func(c *entry.Command) string { return c.User })
			if commands != len(w.e.Commands) || renewed != len(w.e.Renewed) || last != want {
				t.Errorf("%s, %s: got %d commands, the last of %q, and %d renewals; want %d, %q, %d",
					w.name, c.name, commands, last, renewed, len(w.e.Commands), want, len(w.e.Renewed))
			}
		}
	}
}

func BenchmarkEncode(b *testing.B) {
	each(b, func(b *testing.B, c codec, _ []byte) {
		for b.Loop() {
			if _, err := c.encode(); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkDecode(b *testing.B) {
	each(b, func(b *testing.B, c codec, data []byte) {
		for b.Loop() {
			if err := c.decode(data); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func each(b *testing.B, run func(*testing.B, codec, []byte)) {
	for _, w := range workloads {
		for _, c := range codecs {
			b.Run(w.name+"/"+c.name, func(b *testing.B) {
				codec := c.make(w.e)
				data, err := codec.encode()
				if err != nil {
					b.Fatal(err)
				}
				b.ReportAllocs()
				run(b, codec, data)
				b.ReportMetric(float64(len(data)), "bytes")
			})
		}
	}
}
