package service_test

import (
	"testing"
	"time"

	"presence/pkg/protocol"
	"presence/pkg/service/servicetest"
)

// TestStop_AnswersWhoWaits: a query that waits for a revision is answered when
// the instance stops.
func TestStop_AnswersWhoWaits(t *testing.T) {
	kit := servicetest.Start(t)
	nc := kit.Connect(t)
	var now protocol.GetReply
	if err := request(t, nc, protocol.NewSubjects("").Get(), protocol.GetRequest{UserIDList: []string{"a"}}, &now); err != nil {
		t.Fatal(err)
	}
	body, err := protocol.Marshal(protocol.GetRequest{UserIDList: []string{"a"}, Epoch: now.Epoch, MinRevision: now.Revision + 1<<30})
	if err != nil {
		t.Fatal(err)
	}
	replies, err := nc.SubscribeSync(nc.NewInbox())
	if err != nil {
		t.Fatal(err)
	}
	if err := nc.PublishRequest(protocol.NewSubjects("").Get(), replies.Subject, body); err != nil {
		t.Fatal(err)
	}
	// Of the same connection and endpoint: when it is answered, the first waits.
	if err := request(t, nc, protocol.NewSubjects("").Get(), protocol.GetRequest{UserIDList: []string{"a"}}, &now); err != nil {
		t.Fatal(err)
	}
	kit.Instances[0].Stop(t)
	m, err := replies.NextMsg(10 * time.Second)
	if err != nil || m.Header.Get(protocol.ErrorCodeHeader) != "503" {
		t.Errorf("got %v, %v, want %v", m, err, protocol.ErrUnavailable)
	}
}
