package entry_test

import (
	"errors"
	"log/slog"
	"reflect"
	"strings"
	"testing"

	"presence/pkg/internal/entry"
)

func sample() *entry.Entry {
	return &entry.Entry{
		Header:  entry.Header{Epoch: "E1", Instance: "W1", Sequence: 7, LeaseClock: 12_345, AnnouncedThrough: 99},
		Renewed: []uint32{1, 2, 1 << 30},
		Commands: []entry.Command{
			{Kind: entry.Login, User: "alice", Session: "s1", Device: "pixel", Platform: "android", TTL: 30_000, Grace: 20_000, Idle: true, Server: "N1", Client: 12},
			{Kind: entry.Set, User: "bob", Text: "hi", Expires: 1000, IfRevision: 1 << 52, CheckRevision: true},
			{Kind: entry.Configure, Params: &entry.Params{Grace: 5000, Retention: 1, Persistent: true, Sessions: 40, MaxGrace: 300_000}},
		},
	}
}

func TestEntry_RoundTrip(t *testing.T) {
	want := sample()
	data, err := entry.Append(nil, want)
	if err != nil {
		t.Fatal(err)
	}
	// Decode reuses the slices: what a field held before must not show through.
	got := &entry.Entry{Renewed: []uint32{9}, Commands: []entry.Command{
		{Text: "stale", All: true}, {User: "stale", Session: "stale", Params: &entry.Params{}}, {User: "stale"}}}
	if err := entry.Decode(data, got); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestEntry_Refused(t *testing.T) {
	good, err := entry.Append(nil, sample())
	if err != nil {
		t.Fatal(err)
	}
	var e entry.Entry
	var newer *entry.NewerFormatError
	if err := entry.Decode(append([]byte{entry.Format + 1}, good[1:]...), &e); !errors.As(err, &newer) {
		t.Errorf("a newer format: got %v", err)
	}
	for name, data := range map[string][]byte{
		"nothing": nil, "format 0": {0}, "cut": good[:len(good)-1], "left over": append(good[:len(good):len(good)], 0),
		"text": []byte(`{"a":1}`), "spaces": []byte("  "),
	} {
		if err := entry.Decode(data, &e); !errors.Is(err, entry.ErrDamaged) {
			t.Errorf("%s: got %v, want %v", name, err, entry.ErrDamaged)
		}
	}
}

// FuzzDecode: whatever the bytes, Decode neither panics nor accepts what Append
// would not write back the same way.
func FuzzDecode(f *testing.F) {
	good, err := entry.Append(nil, sample())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte{entry.Format})
	f.Add([]byte{entry.Format, 0x93, 0x95})
	f.Fuzz(func(t *testing.T, data []byte) {
		var e, again entry.Entry
		if entry.Decode(data, &e) != nil {
			return
		}
		out, err := entry.Append(nil, &e)
		if err != nil {
			t.Fatalf("accepted, but not encoded: %v", err)
		}
		if err := entry.Decode(out, &again); err != nil || !reflect.DeepEqual(e, again) {
			t.Fatalf("got %+v, want %+v (%v)", again, e, err)
		}
	})
}

func TestParams_Logged(t *testing.T) {
	var b strings.Builder
	slog.New(slog.NewTextHandler(&b, nil)).Info("rules", "from", entry.Params{Grace: 5000, Retention: 60_000})
	if want := "from.grace=5s from.retention=1m0s from.persistent=false from.sessions=32 from.maxGrace=1m0s\n"; !strings.HasSuffix(b.String(), want) {
		t.Errorf("got %q, want it to end with %q", b.String(), want)
	}
}

// TestParams_Short: Short and Complete are each other's inverse, and a rule that has its default is
// not encoded: an earlier version does not know it.
func TestParams_Short(t *testing.T) {
	old := entry.Params{Grace: 5000, Retention: 1}
	if got := old.Complete().Short(); got != old {
		t.Errorf("all defaults: got %+v, want %+v", got, old)
	}
	for _, p := range []entry.Params{{Sessions: 40}, {MaxGrace: 300_000}} {
		if got := p.Complete().Short(); got != p {
			t.Errorf("got %+v, want %+v", got, p)
		}
		if p.Format() == old.Format() {
			t.Errorf("%+v needs no newer format", p)
		}
	}
}

// TestAppend_OldestFormat: an entry says that it is of a later format only where an
// earlier version would misunderstand it.
func TestAppend_OldestFormat(t *testing.T) {
	for _, c := range []struct {
		command entry.Command
		want    byte
	}{
		{entry.Command{Kind: entry.Closed, Server: "N1", Client: 7}, 1},
		{entry.Command{Kind: entry.Configure, Params: &entry.Params{Sessions: 1}}, 2},
		{entry.Command{Kind: entry.Unbind, Server: "N1", Client: 7}, 3},
		{entry.Command{Kind: entry.LameDuck, Server: "N1"}, 3},
		{entry.Command{Kind: entry.Login, Grace: 20_000}, 1}, // means nothing below format 4
		{entry.Command{Kind: entry.Configure, Params: &entry.Params{MaxGrace: entry.DefaultMaxGrace}}, 1},
		{entry.Command{Kind: entry.Configure, Params: &entry.Params{MaxGrace: 300_000}}, 4},
		{entry.Command{Kind: entry.SetFormat, Seq: 2}, 1},
		{entry.Command{Kind: entry.SetFormat, Seq: 3}, 3}, // or an earlier version takes it for in force
		{entry.Command{Kind: entry.SetFormat, Seq: 4}, 4},
	} {
		data, err := entry.Append(nil, &entry.Entry{Commands: []entry.Command{c.command}})
		if err != nil || data[0] != c.want {
			t.Errorf("kind %d: got format %d, %v, want %d", c.command.Kind, data[0], err, c.want)
		}
	}
}
