package service_test

import (
	"testing"

	"github.com/nats-io/nats.go"

	"presence/pkg/broker"
	"presence/pkg/protocol"
	"presence/pkg/service/internal/journal"
	"presence/pkg/service/servicetest"
)

// TestG10_InstanceFails: the journal has an entry that an instance cannot apply. The instance ends,
// and answers everybody who waits, whatever they wait for.
func TestG10_InstanceFails(t *testing.T) {
	t.Parallel()
	kit := servicetest.StartOverNATS(t)
	nc, i := kit.Connect(t), kit.Instances[0]
	now := revision(t, nc)
	waiting := map[string]*nats.Subscription{
		"for a revision": askLater(t, nc, protocol.GetRequest{UserIDList: []string{"a"}, Epoch: now.Epoch, MinRevision: now.Revision + 1<<30}),
	}
	// These wait for a worker that goes on when the instance is about to end. What they ask
	// for may be done, or not.
	releases := []func(){i.Service.Occupy("alice"), i.Service.OccupyOrders()}
	may := map[string]*nats.Subscription{}
	for what, subject := range map[string]string{"for contacts": to(t, "alice", protocol.OpContacts), "for the order of users": subjects.List()} {
		replies, err := nc.SubscribeSync(nc.NewInbox())
		if err == nil {
			err = nc.PublishRequest(subject, replies.Subject, []byte("{}"))
		}
		if err != nil {
			t.Fatal(err)
		}
		may[what] = replies
	}
	revision(t, nc)
	journalOf := kit.ConnectAs(t, broker.Journal)
	if err := journalOf.Publish(journal.DefaultStream+".entries", []byte("\x01garbage")); err != nil {
		t.Fatal(err)
	}
	awaitHealth(t, i.Service, "stopping")
	for _, release := range releases {
		release()
	}
	<-i.Done()
	if i.Err() == nil {
		t.Error("Run: got nil, want an error")
	}
	for what, replies := range waiting {
		m, err := replies.NextMsg(waitFor)
		if err != nil || m.Header.Get(protocol.ErrorCodeHeader) != "503" {
			t.Errorf("who waits %s: got %v, %v, want 503", what, m, err)
		}
	}
	for what, replies := range may {
		if _, err := replies.NextMsg(waitFor); err != nil {
			t.Errorf("who waits %s: %v, want an answer", what, err)
		}
	}
	if n := i.Service.Figures().Waiting; n != 0 {
		t.Errorf("%d callers are counted as waiting", n)
	}
}
