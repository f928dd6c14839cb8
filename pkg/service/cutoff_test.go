package service_test

import (
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"presence/pkg/protocol"
	"presence/pkg/service"
	"presence/pkg/service/servicetest"
)

// TestG12_ContactsWhereCutOff: the connection to the journal's account is up, but nothing that is
// sent on it arrives. As soon as the instance says that it is stale, it refuses requests for
// contacts at once. No caller waits as long as for a bucket that has no leader for a moment.
func TestG12_ContactsWhereCutOff(t *testing.T) {
	t.Parallel()
	s, v := servicetest.StartNATS(t, `ping_interval: "1m"`), &valve{} // it would take a stuck client for dead
	journal, err := nats.Connect(s.URLAs(servicetest.JournalUser), nats.SetCustomDialer(v))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(journal.Close)
	s.StartInstance(t, func(c *service.Config) { c.Journal = journal })
	nc := s.Connect(t)
	contactsOf(t, nc, "alice", protocol.ContactsRequest{Add: []string{"bob"}})

	v.open.Lock()
	defer v.open.Unlock()
	servicetest.Eventually(t, waitFor, "the instance to say that it is stale", func() bool { return revision(t, nc).Stale })
	begun := time.Now()
	refused(t, nc, to(t, "alice", protocol.OpContacts), protocol.ContactsRequest{}, protocol.ErrUnavailable)
	refused(t, nc, to(t, "alice", protocol.OpContacts), protocol.ContactsRequest{Add: []string{"carol"}}, protocol.ErrUnavailable)
	refused(t, nc, subjects.Erase(), protocol.UserRequest{UserID: "alice"}, protocol.ErrUnavailable)
	if took := time.Since(begun); took > protocol.OutcomeWithin/2 {
		t.Errorf("to be refused took %v, want it at once", took)
	}
}
