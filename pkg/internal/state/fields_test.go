package state

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"presence/pkg/internal/entry"
	"presence/pkg/protocol"
)

// recorded is a snapshot as records, without what can be derived from them.
type recorded struct {
	Format   uint8        // in force
	Params   entry.Params // from format 4 on
	Gateways []gatewayAll
	Users    []userAll
}

type gatewayAll struct {
	gatewayRecord
	More    gatewayMoreRecord
	Earlier earlierRecord // from format 5 on
}

type userAll struct {
	userRecord
	More userMoreRecord
}

// numbers is how many numbers of leases there are; those that no lease has are free.
const numbers = 16

// fullRecords have a value in each field that a user, a session and a gateway have in a format.
func fullRecords(format uint8) recorded {
	on := func(client uint64) bindingRecord {
		return bindingRecord{Server: "N1", Client: client, Closed: true, ClosedAt: 4_000}
	}
	r := recorded{Format: format}
	if format >= graceFormat {
		r.Params = entry.Params{Grace: 5_000, Retention: 60_000, Persistent: true, Sessions: 33, MaxGrace: 120_000}
	}
	for i, process := range []string{"p1", "p2"} {
		var g gatewayAll
		if format >= fencesFormat {
			g.More.Body = 77
		}
		g.gatewayRecord = gatewayRecord{Gateway: "g", Process: process, Number: uint32(i), Terms: 30_000, Deadline: 90_000, On: on(uint64(1 + i)),
			Seq: 5, Revision: 6, Applied: 7, Failures: []failureRecord{{Index: 1, User: "bob", Code: 2, Name: "not_found", Message: "no"}}}
		if format >= windowFormat {
			g.Earlier.Done = []doneRecord{
				{Body: 38, Revision: 4, Applied: 8, Failures: []failureRecord{{Index: 3, User: "eve", Code: 4, Name: "gone", Message: "no more"}}},
				{Body: 39, Revision: 5, Applied: 9},
			}
		}
		r.Gateways = append(r.Gateways, g)
	}
	u := userAll{userRecord: userRecord{
		ID: "alice", Text: "hello", TextUntil: 1_800_000_000_000, LastSeen: 11, IdleSince: 12, Revision: 13, Previous: 14, UpdatedAt: 15,
		Cause: uint8(bySet), Instance: 1, PendingAt: 16, PendingSince: 17, PendingParts: uint8(partOwner), Lasting: uint8(entry.Busy),
		Override: uint8(entry.Away), OverrideUntil: 1_900_000_000_000,
		Hidden: &hiddenRecord{StatusType: uint8(protocol.Offline), Text: "bye", TextUntil: 1_700_000_000_000, LastSeen: 18, Revision: 19, Previous: 20,
			UpdatedAt: 21, Cause: uint8(byLoss), Until: 22, IdleSince: 23, Ended: 24, Instance: 1, PendingAt: 25, PendingSince: 26},
		Sessions: []sessionRecord{
			{ID: "s1", Device: "pixel", Platform: "web", Number: 2, Terms: 20_000, Deadline: 27, Flags: 1, LoginAt: 28, LostAt: 29, On: on(9)},
			{ID: "0b6b0c5a-5b0e-4d5f-9d0a-0123456789ab", Device: "nokia", Platform: "ios", Number: 3, Terms: 20_000, Deadline: 30, Flags: 1,
				LoginAt: 31, LostAt: 32, Gateway: 1},
		},
	}}
	if format < fencesFormat {
		u.Replaced = []replacedRecord{{Session: "s0", Until: 33, Reason: uint8(wasKicked), Pending: true}}
	} else {
		u.PendingParts |= moreFollows
		u.More = userMoreRecord{Fence: 1, Fenced: 34, Tombstone: &tombstoneRecord{Revision: 35, Previous: 36, UpdatedAt: 37},
			Ends: []endRecord{{Session: "s0", Reason: uint8(wasKicked)}}}
	}
	if format >= graceFormat {
		r.Gateways[0].Terms, u.Sessions[0].Terms = uint32(makeTerms(30_000, 20_000)), uint32(makeTerms(20_000, 10_000))
	}
	r.Users = append(r.Users, u)
	return r
}

// write writes the snapshot.
func (r *recorded) write(digest uint64) []byte {
	used := map[uint32]bool{}
	for _, g := range r.Gateways {
		used[g.Number] = true
	}
	for _, u := range r.Users {
		for _, x := range u.Sessions {
			used[x.Number] = true
		}
	}
	h := headerRecord{Epoch: "E1", Generation: 1, Format: r.Format, Position: 100, Wall: 1_650_000_000_000, Lease: 5_000, Grace: 5_000, Retention: 60_000,
		Instances: []instanceRecord{{ID: "A", Sequence: 1}, {ID: "B", Sequence: 1}}, Numbers: numbers, Digest: digest,
		Gateways: len(r.Gateways), Freed: numbers - len(used), Users: len(r.Users)}
	ends := endsRecord{First: 1}
	if r.Format >= fencesFormat {
		ends.Fences = 2
	}
	b := must(h.MarshalMsg([]byte{max(r.Format, fencesFormat)}))
	b = must((&rulesRecord{Sessions: 32}).MarshalMsg(b))
	b = must((&linksRecord{}).MarshalMsg(b))
	b = must((&clockRecord{}).MarshalMsg(b))
	b = must(ends.MarshalMsg(b))
	if r.Format >= graceFormat {
		b = must(r.Params.MarshalMsg(b))
	}
	for _, g := range r.Gateways {
		b = must(g.More.MarshalMsg(must(g.gatewayRecord.MarshalMsg(b))))
		if r.Format >= windowFormat {
			b = must(g.Earlier.MarshalMsg(b))
		}
	}
	for n := range uint32(numbers) {
		if !used[n] {
			b = must((&freedRecord{Number: n}).MarshalMsg(b))
		}
	}
	for n := range uint32(ends.Fences) {
		b = must((&fenceRecord{Number: 1 + n, Until: 50, Key: [10]byte{byte(n)}}).MarshalMsg(b))
	}
	for _, u := range r.Users {
		b = must(u.userRecord.MarshalMsg(b))
		if u.PendingParts&moreFollows != 0 {
			b = must(u.More.MarshalMsg(b))
		}
	}
	return b
}

// restore restores the snapshot with the digest that its records have.
func (r *recorded) restore(t *testing.T) *State {
	t.Helper()
	b := r.write(0)
	x := restorer{s: New()}
	rest, err := x.begin(b[0], b[1:])
	if err == nil {
		err = x.records(rest)
	}
	if err != nil {
		t.Fatal(err)
	}
	x.finish() // only the digest is another one
	s, err := restore([][]byte{r.write(x.s.Digest())})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// readRecords restores nothing: it reads the records of a snapshot that a state wrote.
func readRecords(t *testing.T, s *State) (r recorded) {
	t.Helper()
	b := slices.Concat(blocksOf(t, s.BeginSnapshot(), nil)...)
	var h headerRecord
	read := func(x interface {
		UnmarshalMsg([]byte) ([]byte, error)
	}) {
		t.Helper()
		var err error
		if b, err = x.UnmarshalMsg(b); err != nil {
			t.Fatal(err)
		}
	}
	format := b[0]
	b = b[1:]
	read(&h)
	var ends endsRecord
	if format >= 2 {
		read(new(rulesRecord))
	}
	if format >= 3 {
		read(new(linksRecord))
		read(new(clockRecord))
		read(&ends)
	}
	if format >= graceFormat {
		read(&r.Params)
	}
	r.Format = h.Format
	for range h.Gateways {
		var g gatewayAll
		if read(&g.gatewayRecord); format >= 3 {
			read(&g.More)
		}
		if format >= windowFormat {
			read(&g.Earlier)
		}
		r.Gateways = append(r.Gateways, g)
	}
	for range h.Closed {
		read(new(closedRecord))
	}
	for range h.Freed {
		read(new(freedRecord))
	}
	for range ends.Names {
		read(new(nameRecord))
	}
	for range ends.Fences {
		read(new(fenceRecord))
	}
	for range h.Users {
		var u userAll
		if read(&u.userRecord); u.PendingParts&moreFollows != 0 {
			read(&u.More)
		}
		r.Users = append(r.Users, u)
	}
	if len(b) > 0 {
		t.Fatalf("%d bytes are left", len(b))
	}
	return r
}

// leaves calls visit for each field that has no fields of its own.
func leaves(v reflect.Value, path string, visit func(path string, v reflect.Value)) {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			leaves(v.Elem(), path, visit)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			f := v.Type().Field(i)
			name := path + "." + f.Name
			if f.Anonymous {
				name = path
			}
			leaves(v.Field(i), name, visit)
		}
	case reflect.Slice:
		for i := range v.Len() {
			leaves(v.Index(i), fmt.Sprintf("%s[%d]", path, i), visit)
		}
	default:
		visit(path, v)
	}
}

// change changes a field to another value that is valid.
func change(path string, v reflect.Value) {
	switch {
	case path == ".Gateways[0].Gateway":
		v.SetString("f") // it stays the first one
	case strings.HasSuffix(path, ".Flags"):
		v.SetUint(1 | 2) // idle
	case strings.HasSuffix(path, "].Number"):
		v.SetUint(numbers - 1)
	case strings.HasSuffix(path, ".PendingParts"):
		v.SetUint(v.Uint() ^ uint64(partSettings))
	case v.Kind() == reflect.String:
		v.SetString(v.String() + "x")
	case v.Kind() == reflect.Bool:
		v.SetBool(!v.Bool())
	case v.CanInt():
		v.SetInt(v.Int() + 1)
	case v.CanUint():
		v.SetUint(v.Uint() + 1)
	}
}

// inNoDigest are the fields that change no digest, and why. A field is named by the end of its
// path.
var inNoDigest = map[string]string{
	"Users[0].PendingAt":               "what is announced is no part of what instances agree on",
	"Users[0].PendingSince":            "the same",
	"Users[0].PendingParts":            "the same",
	"Hidden.PendingAt":                 "the same",
	"Hidden.PendingSince":              "the same",
	"Replaced[0].Pending":              "the same",
	"Tombstone.Revision":               "the same",
	"Tombstone.Previous":               "the same",
	"Tombstone.UpdatedAt":              "the same",
	"Ends[0].Session":                  "the same",
	"Ends[0].Reason":                   "the same",
	"Users[0].More.Fence":              "a local number; the fence itself is in the digest of fences",
	"Users[0].Sessions[0].On.Closed":   "it follows from the closed connections",
	"Users[0].Sessions[0].On.ClosedAt": "the same",
	"Failures[0].Index":                "only the count is in the digest: each follows from the entry",
	"Failures[0].User":                 "the same",
	"Failures[0].Code":                 "the same",
	"Failures[0].Name":                 "the same",
	"Failures[0].Message":              "the same",
}

// TestFields: each rule, and each field of the records of users, sessions and gateways, changes the
// digest and survives a snapshot. So a field that is added cannot be left out of either.
func TestFields(t *testing.T) {
	met := map[string]bool{}
	for _, format := range []uint8{2, 3, 4, 5} {
		base := fullRecords(format)
		state := base.restore(t)
		if got := readRecords(t, state); !reflect.DeepEqual(got, base) {
			t.Fatalf("format %d: written again:\n%+v, want\n%+v", format, got, base)
		}
		digest := state.Digest()
		var paths []string
		leaves(reflect.ValueOf(&base), "", func(path string, v reflect.Value) {
			if isLeftOut(path, format) {
				return
			}
			paths = append(paths, path)
			if v.IsZero() && mustHave(path) {
				t.Errorf("format %d: %s has no value", format, path)
			}
		})
		for _, path := range paths {
			changed := fullRecords(format)
			leaves(reflect.ValueOf(&changed), "", func(p string, v reflect.Value) {
				switch {
				case p == path:
					change(path, v)
				case p == path+"At": // of a connection that is not closed
					v.SetInt(0)
				case strings.HasSuffix(path, ".More.Gone") && strings.HasSuffix(p, ".Erased"): // it says more
					v.SetBool(true)
				}
			})
			s := changed.restore(t)
			if got := readRecords(t, s); !reflect.DeepEqual(got, changed) {
				t.Errorf("format %d: %s does not survive a snapshot: got\n%+v, want\n%+v", format, path, got, changed)
			}
			except := ""
			for end := range inNoDigest {
				if strings.HasSuffix(path, end) {
					except = end
					met[end] = true
				}
			}
			if same := s.Digest() == digest; same != (except != "") {
				t.Errorf("format %d: %s is changed and the digest is the same: %t", format, path, same)
			}
		}
	}
	for end := range inNoDigest {
		if !met[end] {
			t.Errorf("there is no field %s", end)
		}
	}
}

// isLeftOut reports whether fullRecords cannot have a value in a field.
func isLeftOut(path string, format uint8) bool {
	return path == ".Format" ||
		format < graceFormat && strings.HasPrefix(path, ".Params.") ||
		format < fencesFormat && strings.Contains(path, ".More.") ||
		format < windowFormat && strings.Contains(path, ".Earlier.") ||
		strings.HasSuffix(path, "Sessions[0].Gateway") || // bound to a connection instead
		strings.Contains(path, "Sessions[1].On.") // to a gateway instead
}

// mustHave reports whether fullRecords must have a value in a field. Of the others the value is
// that of the zero.
func mustHave(path string) bool {
	for _, end := range []string{"Gateways[0].Number", ".Erased", ".Hidden.Gone", ".More.Gone"} {
		if strings.HasSuffix(path, end) {
			return false
		}
	}
	return true
}
