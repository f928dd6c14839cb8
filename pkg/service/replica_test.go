package service_test

import (
	"fmt"
	"testing"
	"time"

	"presence/pkg/protocol"
	"presence/pkg/service/servicetest"
)

func setText(t *testing.T, kit *servicetest.Kit, user, text string) {
	t.Helper()
	subject, err := subjects.User(user, protocol.OpSet)
	if err != nil {
		t.Fatal(err)
	}
	var reply protocol.ChangeReply
	if err := request(t, kit.Connect(t), subject, map[string]any{"customStatus": text}, &reply); err != nil {
		t.Fatal(err)
	}
}

// TestG14_DigestsDiffer: of three instances one has another state than the
// journal's. The digests in the journal show it, and it builds its state anew;
// the others may have to do so once to know that it is not they.
func TestG14_DigestsDiffer(t *testing.T) {
	kit := servicetest.Start(t)
	wrong := kit.Instances[0].Service
	kit.AddInstance(t)
	kit.AddInstance(t)
	copied, err := wrong.Copy()
	if err != nil {
		t.Fatal(err)
	}
	setText(t, kit, "alice", "hello")
	servicetest.Eventually(t, 10*time.Second, "the instance has applied it", func() bool {
		position, _ := wrong.Digest()
		return position > copied.Position()
	})
	if err := wrong.Diverge(copied); err != nil {
		t.Fatal(err)
	}

	nc := kit.Connect(t)
	subject, err := subjects.User("bob", protocol.OpSet)
	if err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(60 * time.Second)
	for i := 0; wrong.Rebuilt() == 0; i++ {
		if time.Now().After(deadline) {
			t.Fatal("the instance that differs did not build its state anew")
		}
		body := fmt.Appendf(nil, `{"customStatus":"%d"}`, i)
		if _, err := nc.Request(subject, body, 10*time.Second); err != nil {
			t.Fatal(err)
		}
	}
	servicetest.Eventually(t, 20*time.Second, "all instances hold the same state", func() bool {
		digests := map[uint64]map[uint64]bool{}
		for _, i := range kit.Instances {
			position, digest := i.Service.Digest()
			if digests[position] == nil {
				digests[position] = map[uint64]bool{}
			}
			digests[position][digest] = true
		}
		for _, d := range digests {
			return len(digests) == 1 && len(d) == 1
		}
		return false
	})
}
