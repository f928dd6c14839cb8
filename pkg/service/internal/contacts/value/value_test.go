package value_test

import (
	"bytes"
	"slices"
	"testing"

	"presence/pkg/protocol"
	"presence/pkg/service/internal/contacts/value"
)

// FuzzDecode: whatever is in the bucket, it is refused, or contacts that are stored
// as they were read and can be changed.
func FuzzDecode(f *testing.F) {
	for _, s := range []string{
		`["bob","carol"]`, `[]`, `["alice@example.com","\u00fc"]`, ` [ "a" , "b" ] `, `["<&>"]`, `null`, `[null]`, `["b","a"]`, `["a","a"]`, `[""]`, `["\u0000"]`, `["\ud800"]`,
		`{"a":1}`, `["a"`, `["a"]x`, ``, "[\"\xff\"]",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		users, err := value.Decode(data)
		if err != nil {
			return
		}
		stored, err := value.Encode(users)
		if err != nil {
			t.Fatalf("%q cannot be stored: %v", users, err)
		}
		again, err := value.Decode(stored)
		if err != nil || !slices.Equal(again, users) || again == nil {
			t.Fatalf("%q was stored as %s and read as %q, %v", users, stored, again, err)
		}
		if same, err := value.Encode(again); err != nil || !bytes.Equal(same, stored) {
			t.Errorf("%s was stored as %s, %v", stored, same, err)
		}
		edit(t, users)
	})
}

// edit checks that contacts can be replaced by themselves, added to and emptied.
func edit(t *testing.T, users []string) {
	if want, added, removed := value.Edit(users, &protocol.ContactsRequest{Replace: &users}); !slices.Equal(want, users) || len(added)+len(removed) > 0 {
		t.Errorf("%q replaced by themselves: %q, added %q, removed %q", users, want, added, removed)
	}
	want, added, removed := value.Edit(users, &protocol.ContactsRequest{Add: []string{"mallory"}, Remove: users})
	if known := slices.Contains(users, "mallory"); known != (len(want) == 0) || !known && !slices.Equal(added, want) || !slices.Equal(removed, users) {
		t.Errorf("%q, all removed and mallory added: %q, added %q, removed %q", users, want, added, removed)
	}
}

// TestDecode_Refuses: what would make a wrong list by the next change.
func TestDecode_Refuses(t *testing.T) {
	for _, s := range []string{`null`, `[null]`, `["b","a"]`, `["a","a"]`, `[""]`, `["\u0000"]`, `{"a":1}`, `["a"`, `["a"]x`, ``, "[\"\xff\"]"} {
		if users, err := value.Decode([]byte(s)); err == nil {
			t.Errorf("Decode(%q): got %q, want an error", s, users)
		}
	}
}
