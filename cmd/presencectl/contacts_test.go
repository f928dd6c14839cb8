package main

import (
	"testing"

	"presence/pkg/protocol"
	"presence/pkg/service/servicetest"
)

func TestContacts(t *testing.T) {
	t.Parallel()
	url := servicetest.Start(t).URL()
	run := func(stdout, stderr string, args ...string) {
		t.Helper()
		c := ctl(t, append([]string{"contacts", "-s", url}, args...)...).want(t, exitDone, "presencectl: "+stderr+"; the service's friend notifications are off")
		if got := c.stdout.String(); got != stdout {
			t.Errorf("contacts %v: got %q, want %q", args, got, stdout)
		}
	}
	run("", "0 contacts", "list", "alice")
	run("bob\ncarol\n", "2 contacts", "add", "alice", "carol", "bob")
	run("bob\n", "1 contact", "remove", "alice", "carol", "nobody")
	run("dave\n", "1 contact", "replace", "alice", "dave")
	run("dave\n", "1 contact", "list", "alice")
	r := decode[protocol.ContactsReply](t, ctl(t, "contacts", "list", "alice", "--json", "-s", url).want(t, exitDone, ""))
	if len(r.Contacts) != 1 || r.Version == 0 {
		t.Errorf("contacts --json: got %+v", r)
	}
	run("", "0 contacts", "replace", "alice")
	ctl(t, "contacts", "add", "alice", "", "-s", url).want(t, exitFailed, "presencectl: the user ID is empty (invalid_user_id)")
}

func TestWatchContacts(t *testing.T) {
	t.Parallel()
	url := servicetest.Start(t).URL()
	ctl(t, "watch", "--contacts-of", "alice", "-s", url).want(t, exitFailed, "presencectl: alice has no contacts (presencectl contacts add)")
	ctl(t, "contacts", "add", "alice", "bob", "-s", url).want(t, exitDone, "presencectl: 1 contact…")
	c := watching(t, "--contacts-of", "alice", "-s", url)
	c.prints(t, "bob  UNLOGINED")
	login(t, url, "bob")
	c.prints(t, "bob  ONLINE")
}
