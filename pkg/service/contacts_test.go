package service_test

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"presence/pkg/protocol"
	"presence/pkg/service"
	"presence/pkg/service/internal/contacts"
	"presence/pkg/service/servicetest"
)

func contactsOf(t testing.TB, nc *nats.Conn, user string, r protocol.ContactsRequest) protocol.ContactsReply {
	t.Helper()
	return must[protocol.ContactsReply](t, nc, to(t, user, protocol.OpContacts), r)
}

// selfContacts returns the events about contacts that a subscription to self.<user> has received.
func selfContacts(t testing.TB, sub *nats.Subscription) (events []protocol.SelfEvent) {
	t.Helper()
	for {
		m, err := sub.NextMsg(0)
		if err != nil {
			return events
		}
		var e protocol.SelfEvent
		if err := json.Unmarshal(m.Data, &e); err != nil {
			t.Fatalf("event %s: %v", m.Data, err)
		}
		if e.Type == protocol.SelfContacts && e.Version != 0 && !strings.Contains(string(m.Data), `"previousVersion":`) {
			t.Errorf("event %s: it names no previousVersion, which may be 0", m.Data)
		}
		if e.Type == protocol.SelfContacts {
			events = append(events, e)
		}
	}
}

// TestContacts: each request changes the contacts as it should, and devices are told so.
func TestContacts(t *testing.T) {
	kit := servicetest.Start(t, servicetest.WithService(func(c *service.Config) { c.FriendNotifications = true }))
	nc := kit.Connect(t)
	self, err := nc.SubscribeSync("presence.v1.self.alice")
	if err != nil {
		t.Fatal(err)
	}
	var version uint64
	var told []protocol.SelfEvent
	replace := func(ids ...string) protocol.ContactsRequest {
		ids = append([]string{}, ids...) // nil would be null, which stands for left out
		return protocol.ContactsRequest{Replace: &ids}
	}
	for _, step := range []struct {
		request              protocol.ContactsRequest
		want, added, removed string
	}{
		{protocol.ContactsRequest{}, "", "", ""},
		{protocol.ContactsRequest{Remove: []string{"bob"}}, "", "", ""},
		{replace(), "", "", ""},
		{protocol.ContactsRequest{Add: []string{"carol", "bob", "carol"}}, "bob carol", "bob carol", ""},
		{protocol.ContactsRequest{}, "bob carol", "", ""},
		{protocol.ContactsRequest{Add: []string{"bob"}, Remove: []string{"nobody"}}, "bob carol", "", ""},
		{protocol.ContactsRequest{Add: []string{"dave", "erin"}, Remove: []string{"bob", "erin"}}, "carol dave", "dave", "bob"},
		{replace("é", "dave", "alice@example.com", "alice"), "alice alice@example.com dave é", "alice alice@example.com é", "carol"},
		{replace("alice", "dave", "é", "alice@example.com"), "alice alice@example.com dave é", "", ""},
		{replace(), "", "", "alice alice@example.com dave é"},
	} {
		got := contactsOf(t, nc, "alice", step.request)
		if got.Contacts == nil || strings.Join(got.Contacts, " ") != step.want || !got.FriendNotifications {
			t.Errorf("%+v: got %+v, want %q", step.request, got, step.want)
		}
		if step.added+step.removed != "" {
			if got.Version <= version {
				t.Errorf("%+v: the version went from %d to %d", step.request, version, got.Version)
			}
			servicetest.Eventually(t, waitFor, "the event", func() bool { told = selfContacts(t, self); return len(told) > 0 })
			e := told[0]
			if len(told) != 1 || strings.Join(e.Added, " ") != step.added || strings.Join(e.Removed, " ") != step.removed || e.Version != got.Version || e.PreviousVersion != version {
				t.Errorf("%+v: told %+v, want %q added, %q removed, from %d to %d", step.request, told, step.added, step.removed, version, got.Version)
			}
			version = got.Version
		} else if got.Version != version {
			t.Errorf("%+v changed nothing, but the version, from %d to %d", step.request, version, got.Version)
		}
	}
	if told := selfContacts(t, self); len(told) > 0 {
		t.Errorf("told of what changed nothing: %+v", told)
	}
	if got := contactsOf(t, nc, "bob", protocol.ContactsRequest{}); len(got.Contacts) != 0 || got.Version != 0 {
		t.Errorf("bob's contacts: got %+v, want none: they go one way", got)
	}
}

// TestContacts_Limits: 2,000 contacts with the longest IDs fit into a reply, and one more is
// refused. An event that would be too large has no list of contacts, rather than a part of it.
func TestContacts_Limits(t *testing.T) {
	kit := servicetest.Start(t)
	nc := kit.Connect(t)
	self, err := nc.SubscribeSync("presence.v1.self.alice")
	if err != nil {
		t.Fatal(err)
	}
	ids := func(first int) (list []string) {
		for i := range protocol.MaxContacts {
			list = append(list, fmt.Sprintf("%04d%s", first+i, strings.Repeat(`\`, protocol.MaxUserIDBytes-4)))
		}
		return list
	}
	old, new := ids(0), ids(5000)
	before := contactsOf(t, nc, "alice", protocol.ContactsRequest{Add: old})
	if len(before.Contacts) != protocol.MaxContacts || before.FriendNotifications {
		t.Fatalf("got %d contacts, friend notifications %t", len(before.Contacts), before.FriendNotifications)
	}
	refused(t, nc, to(t, "alice", protocol.OpContacts), protocol.ContactsRequest{Add: []string{"one more"}}, protocol.ErrRequestTooLarge)
	after := contactsOf(t, nc, "alice", protocol.ContactsRequest{Add: []string{"one more"}, Remove: old[:1]})
	if len(after.Contacts) != protocol.MaxContacts {
		t.Errorf("one more in the place of one: got %d contacts", len(after.Contacts))
	}
	all := contactsOf(t, nc, "alice", protocol.ContactsRequest{Replace: &new})
	var told []protocol.SelfEvent
	servicetest.Eventually(t, waitFor, "three events", func() bool { told = append(told, selfContacts(t, self)...); return len(told) == 3 })
	if e := told[2]; e.Added != nil || e.Removed != nil || e.Version != all.Version || e.PreviousVersion != all.Version {
		t.Errorf("the exchange of all contacts: told %d added, %d removed, versions %d to %d, want none, and %d twice", len(e.Added), len(e.Removed), e.PreviousVersion, e.Version, all.Version)
	}
}

// TestContacts_Read: if it is not known what changed, devices are told to read the contacts. If
// nothing changed, they are told nothing.
func TestContacts_Read(t *testing.T) {
	t.Parallel()
	kit := servicetest.Start(t)
	nc := kit.Connect(t)
	self, err := nc.SubscribeSync("presence.v1.self.alice")
	if err == nil {
		err = nc.Flush()
	}
	if err != nil {
		t.Fatal(err)
	}
	s := kit.Instances[0].Service
	s.TellContacts("alice", &contacts.Changed{List: contacts.List{Version: 6}, Previous: 6})
	s.TellContacts("alice", &contacts.Changed{List: contacts.List{Version: 7}, Previous: 7, Read: true})
	m, err := self.NextMsg(waitFor)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := string(m.Data), `{"type":"contacts","version":7,"previousVersion":7}`; got != want {
		t.Errorf("told %s, want %s", got, want)
	}
}

// TestContacts_TwoInstances: contacts are changed by two instances at once, while one stops and
// another one starts. No change is lost, and the events tell of each change once.
func TestContacts_TwoInstances(t *testing.T) {
	t.Parallel()
	const devices, each = 6, 25
	kit := servicetest.Start(t)
	second := kit.AddInstance(t)
	watcher := kit.Connect(t)
	self, err := watcher.SubscribeSync("presence.v1.self.alice")
	if err != nil {
		t.Fatal(err)
	}
	if err := watcher.Flush(); err != nil {
		t.Fatal(err)
	}
	var changing sync.WaitGroup
	for d := range devices {
		nc := kit.Connect(t)
		changing.Go(func() {
			for i := range each {
				id := fmt.Sprintf("friend-%d-%d", d, i)
				r := protocol.ContactsRequest{Add: []string{id, fmt.Sprint("temporary-", d)}}
				if i%2 == 1 {
					r = protocol.ContactsRequest{Add: []string{id}, Remove: []string{fmt.Sprint("temporary-", d)}}
				}
				var reply protocol.ContactsReply
				if err := request(t, nc, to(t, "alice", protocol.OpContacts), r, &reply); err != nil {
					t.Errorf("%s: %v", id, err)
				} else if !slices.Contains(reply.Contacts, id) {
					t.Errorf("%s is not in the answer to its own change", id)
				}
			}
		})
	}
	second.Stop(t)
	kit.AddInstance(t)
	changing.Wait()
	got := contactsOf(t, watcher, "alice", protocol.ContactsRequest{})
	for d := range devices {
		for i := range each {
			if id := fmt.Sprintf("friend-%d-%d", d, i); !slices.Contains(got.Contacts, id) {
				t.Errorf("%s is lost", id)
			}
		}
	}
	followed := followContacts(t, self, got.Version)
	if !slices.Equal(followed, got.Contacts) {
		t.Errorf("by the events the contacts are\n%q, by the answer\n%q", followed, got.Contacts)
	}
}

// followContacts applies all events of a user up to a version, in the order of the versions, and
// returns the contacts.
func followContacts(t testing.TB, self *nats.Subscription, version uint64) []string {
	t.Helper()
	next := map[uint64]protocol.SelfEvent{}
	have, at := map[string]bool{}, uint64(0)
	servicetest.Eventually(t, waitFor, "the events up to the last version", func() bool {
		for _, e := range selfContacts(t, self) {
			if _, twice := next[e.PreviousVersion]; twice {
				t.Errorf("two events of what changed since version %d", e.PreviousVersion)
			}
			next[e.PreviousVersion] = e
		}
		for e, ok := next[at]; ok; e, ok = next[at] {
			for _, id := range e.Added {
				have[id] = true
			}
			for _, id := range e.Removed {
				delete(have, id)
			}
			at = e.Version
		}
		return at == version
	})
	var list []string
	for id := range have {
		list = append(list, id)
	}
	slices.Sort(list)
	return list
}

// TestErase: nothing is left of an erased user, nor of the contacts. Anybody may have that user ID
// afterwards, and erasing it twice is no error.
func TestErase(t *testing.T) {
	kit := servicetest.Start(t)
	nc := kit.Connect(t)
	self, err := nc.SubscribeSync("presence.v1.self.alice")
	if err != nil {
		t.Fatal(err)
	}
	status, err := nc.SubscribeSync("presence.v1.status.alice")
	if err != nil {
		t.Fatal(err)
	}
	login(t, nc, "alice", protocol.LoginRequest{SessionID: "s1"})
	before := contactsOf(t, nc, "alice", protocol.ContactsRequest{Add: []string{"bob"}})
	contactsOf(t, nc, "bob", protocol.ContactsRequest{Add: []string{"alice"}})

	got := must[protocol.KickReply](t, nc, subjects.Erase(), protocol.UserRequest{UserID: "alice"})
	if !reflect.DeepEqual(got.Ended, []string{"s1"}) || got.Revision == 0 || got.Epoch == "" {
		t.Errorf("erase: got %+v", got)
	}
	waitForMessage(t, status, `"statusType":3`, `"cause":"erased"`)
	waitForMessage(t, self, `"type":"contacts"`, `"removed":["bob"]`, fmt.Sprintf(`"previousVersion":%d`, before.Version))
	waitForMessage(t, self, `"type":"kicked"`, `"sessionID":"s1"`, `"reason":"erased"`)
	if got := contactsOf(t, nc, "alice", protocol.ContactsRequest{}); len(got.Contacts) != 0 || got.Version != 0 {
		t.Errorf("contacts of the erased: got %+v", got)
	}
	js, err := jetstream.New(kit.Instances[0].Journal)
	if err != nil {
		t.Fatal(err)
	}
	stream, err := js.Stream(t.Context(), "KV_PRESENCE_CONTACTS")
	if err != nil {
		t.Fatal(err)
	}
	info, err := stream.Info(t.Context(), jetstream.WithSubjectFilter(">"))
	if err != nil || !reflect.DeepEqual(info.State.Subjects, map[string]uint64{"$KV.PRESENCE_CONTACTS.bob": 1}) {
		t.Errorf("the bucket holds %v, want bob's contacts alone: %v", info.State.Subjects, err)
	}
	if got := must[protocol.KickReply](t, nc, subjects.Erase(), protocol.UserRequest{UserID: "alice"}); got.Ended == nil {
		t.Errorf("erasing again: got %+v", got)
	}
	if again := contactsOf(t, nc, "alice", protocol.ContactsRequest{Add: []string{"carol"}}); again.Version <= before.Version || !reflect.DeepEqual(again.Contacts, []string{"carol"}) {
		t.Errorf("contacts after the erasure: got %+v, want carol at a version above %d", again, before.Version)
	}
	// An erased user who announced it is forgotten.
	servicetest.Eventually(t, waitFor, "alice to be forgotten", func() bool { return get(t, nc, "alice")[0].Revision == 0 })
}

// TestContacts_CutOff: while the journal's account cannot be reached, requests for contacts are
// refused at once, and nothing is erased in part.
func TestContacts_CutOff(t *testing.T) {
	kit := servicetest.Start(t)
	nc := kit.Connect(t)
	login(t, nc, "alice", protocol.LoginRequest{SessionID: "s1", TTLSeconds: 3600})
	want := contactsOf(t, nc, "alice", protocol.ContactsRequest{Add: []string{"bob"}})
	begun := time.Now()
	kit.Instances[0].Journal.Close()
	refused(t, nc, to(t, "alice", protocol.OpContacts), protocol.ContactsRequest{}, protocol.ErrUnavailable)
	refused(t, nc, to(t, "alice", protocol.OpContacts), protocol.ContactsRequest{Add: []string{"carol"}}, protocol.ErrUnavailable)
	refused(t, nc, subjects.Erase(), protocol.UserRequest{UserID: "alice"}, protocol.ErrUnavailable)
	if took := time.Since(begun); took > 15*time.Second {
		t.Errorf("being refused took %v", took)
	}
	kit.AddInstance(t)
	servicetest.Eventually(t, waitFor, "another instance to answer", func() bool {
		var got protocol.ContactsReply
		err := request(t, nc, to(t, "alice", protocol.OpContacts), protocol.ContactsRequest{}, &got)
		return err == nil && reflect.DeepEqual(got, want)
	})
}

// TestContacts_ReplyCannotBeSent: the connection for answers is closed for good while requests
// wait. Then long answers are not sent. A client that only read may try again. One that changed
// something gets outcome_unknown.
func TestContacts_ReplyCannotBeSent(t *testing.T) {
	t.Parallel()
	kit := servicetest.StartOverNATS(t)
	nc, i := kit.Connect(t), kit.Instances[0]
	var ids []string
	for k := range 60 {
		ids = append(ids, fmt.Sprintf("%03d%s", k, strings.Repeat("x", 120)))
	}
	contactsOf(t, nc, "alice", protocol.ContactsRequest{Add: ids})
	release := i.Service.Occupy("alice")
	replies, err := nc.SubscribeSync(nc.NewInbox())
	if err != nil {
		t.Fatal(err)
	}
	for _, body := range []string{`{}`, `{"add":["bob"]}`} {
		if err := nc.PublishRequest(to(t, "alice", protocol.OpContacts), replies.Subject, []byte(body)); err != nil {
			t.Fatal(err)
		}
	}
	revision(t, nc) // so they are at the instance
	i.Answers.Close()
	awaitHealth(t, i.Service, "the connection for answers is lost")
	release()
	for _, want := range []*protocol.Error{protocol.ErrUnavailable, protocol.ErrOutcomeUnknown} { // in the order of arrival
		m, err := replies.NextMsg(waitFor)
		if err != nil {
			t.Fatal(err)
		}
		if got := m.Header.Get(protocol.ErrorHeader); !strings.HasPrefix(got, want.Name+":") {
			t.Errorf("got %q, want %s", got, want.Name)
		}
	}
}
