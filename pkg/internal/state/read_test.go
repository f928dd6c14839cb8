package state

import (
	"fmt"
	"reflect"
	"testing"

	"presence/pkg/internal/entry"
	"presence/pkg/protocol"
)

// TestStatuses: of many users asked for at once each gets the status that she has alone,
// whoever is asked for beside her.
func TestStatuses(t *testing.T) {
	m := newMachine(t).at(entry.Format)
	var users []string
	for i := range 120 {
		users = append(users, fmt.Sprint("u", i))
		login := fmt.Sprintf("login u%d s1 platform=web", i)
		switch i % 5 { // 0: never seen
		case 1:
			m.do(t, login)
		case 2:
			m.do(t, login, fmt.Sprintf("set u%d text=hello availability=invisible", i))
		case 3:
			m.do(t, login, fmt.Sprintf("logout u%d s1", i))
		case 4:
			m.do(t, fmt.Sprintf("set u%d text=hello", i))
		}
	}
	for n := range users {
		var got []protocol.Status
		for st := range m.s.Statuses(users[:n], true) {
			got = append(got, *st)
		}
		if len(got) != n {
			t.Fatalf("of %d users: got %d statuses", n, len(got))
		}
		for i, st := range got {
			if want := m.s.Status(users[i], true); !reflect.DeepEqual(st, want) {
				t.Fatalf("of %d users: %s is %+v, alone %+v", n, users[i], st, want)
			}
		}
	}
}
