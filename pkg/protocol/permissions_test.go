package protocol_test

import (
	"errors"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"presence/pkg/protocol"
)

// The table of PROTOCOL 9 and Permissions are the same.
func TestPermissionsAreThoseOfTheContract(t *testing.T) {
	text, err := os.ReadFile("PROTOCOL.md")
	if err != nil {
		t.Fatal(err)
	}
	s := protocol.NewSubjects("")
	_, section, _ := strings.Cut(string(text), "## 9. Permissions")
	for who, r := range map[string]protocol.Role{
		"a user `alice`": protocol.RoleUser, "a gateway `gw1`": protocol.RoleGateway, "a reading service `dash`": protocol.RoleReader,
		"an operator `op`": protocol.RoleOperator, "presenced, clients' account": protocol.RoleService, "presenced, system account": protocol.RoleSystem,
	} {
		_, row, found := strings.Cut(section, "\n| "+who+" |")
		row, _, _ = strings.Cut(row, "\n")
		columns := strings.Split(row, "|")
		if !found || len(columns) != 3 {
			t.Errorf("PROTOCOL 9 has no row %q", who)
			continue
		}
		name := ""
		if m := quoted.FindStringSubmatch(who); m != nil {
			name = m[1]
		}
		p := s.Permissions(r, name)
		for i, got := range [][]string{p.Publish.Allow, p.Subscribe.Allow} {
			if want := subjectsIn(columns[i]); !slices.Equal(got, want) {
				t.Errorf("%s: got %q, want as in PROTOCOL 9: %q", who, got, want)
			}
		}
		wantDeny := strings.Contains(columns[1], "in no queue group")
		if (len(p.Subscribe.Deny) > 0) != wantDeny || len(p.Publish.Deny) > 0 {
			t.Errorf("%s: denied are %q and %q", who, p.Publish.Deny, p.Subscribe.Deny)
		}
	}
}

// What PROTOCOL 9 says of the journal's account is what Permissions have.
func TestJournalPermissionsAreThoseOfTheContract(t *testing.T) {
	text, err := os.ReadFile("PROTOCOL.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(text), "In the journal's account, where nobody else is")
	section, _, _ = strings.Cut(section, "\n\n")
	streams := []string{"PRESENCE_JOURNAL", "OBJ_PRESENCE_SNAPSHOTS", "KV_PRESENCE_CONTACTS"}
	var want []string
	for _, m := range quoted.FindAllStringSubmatch(section, -1) {
		subject := m[1]
		if !strings.Contains(subject+".", ".S.") {
			if subject != "S" && !slices.Contains(streams, subject) {
				want = append(want, subject)
			}
			continue
		}
		for _, s := range streams {
			want = append(want, strings.TrimSuffix(strings.Replace(subject+".", ".S.", "."+s+".", 1), "."))
		}
	}
	p := protocol.NewSubjects("").Permissions(protocol.RoleJournal, "")
	got := slices.Sorted(slices.Values(p.Publish.Allow))
	if slices.Sort(want); !slices.Equal(got, want) {
		t.Errorf("got %q, want as in PROTOCOL 9: %q", got, want)
	}
}

var quoted = regexp.MustCompile("`([^`]+)`")

// subjectsIn returns the subjects of a column with their prefix.
func subjectsIn(column string) (list []string) {
	for _, m := range quoted.FindAllStringSubmatch(column, -1) {
		subject := m[1]
		if !strings.HasPrefix(subject, "_") && !strings.HasPrefix(subject, "$") {
			subject = protocol.DefaultPrefix + "." + subject
		}
		list = append(list, subject)
	}
	return list
}

// No name that somebody chose may be more than one, and none may be another's.
func TestRoleName(t *testing.T) {
	for _, c := range []struct {
		role     protocol.Role
		id, name string
		err      error
	}{
		{protocol.RoleUser, "alice@example.com", "alice=40example=2Ecom", nil},
		{protocol.RoleUser, "*", "=2A", nil},
		{protocol.RoleUser, ">", "=3E", nil},
		{protocol.RoleUser, "{{name()}}", "=7B=7Bname=28=29=7D=7D", nil},
		{protocol.RoleUser, "", "", protocol.ErrInvalidUserID},
		{protocol.RoleGateway, "gw-1", "gw-1", nil},
		{protocol.RoleGateway, "*", "", protocol.ErrInvalidRequest},
		{protocol.RoleReader, ">", "", protocol.ErrInvalidRequest},
		{protocol.RoleOperator, "a.b", "", protocol.ErrInvalidRequest},
		{protocol.RoleGateway, "=2A", "", protocol.ErrInvalidRequest},
		{protocol.RoleOperator, "", "", protocol.ErrInvalidRequest},
	} {
		name, err := c.role.Name(c.id)
		if !errors.Is(err, c.err) || (err == nil) != (c.err == nil) || err == nil && name != c.name {
			t.Errorf("%s %q: got %q, %v, want %q, %v", c.role, c.id, name, err, c.name, c.err)
		}
	}
}

// Nobody reads another's inbox: neither who has the same name in another role,
// nor who is called as a role is.
func TestInboxesAreApart(t *testing.T) {
	names := []string{"alice", "user", "gateway", "reader", "operator", "presenced"}
	seen := map[string]string{protocol.RoleService.InboxPrefix(""): "presenced"}
	for _, r := range protocol.ClientRoles {
		for _, name := range names {
			inbox := r.InboxPrefix(name) + "."
			for other, who := range seen {
				if strings.HasPrefix(inbox, other+".") || strings.HasPrefix(other+".", inbox) {
					t.Errorf("the inboxes of %s %s and of %s are %s> and %s.>", r, name, who, inbox, other)
				}
			}
			seen[r.InboxPrefix(name)] = string(r) + " " + name
		}
	}
}

// A role that nobody knows may do nothing.
func TestUnknownRole(t *testing.T) {
	p := protocol.NewSubjects("").Permissions("nobody", "x")
	if !slices.Equal(p.Publish.Deny, []string{">"}) || !slices.Equal(p.Subscribe.Deny, []string{">"}) {
		t.Errorf("got %+v, want that all is denied", p)
	}
}
