package service_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"presence/pkg/internal/entry"
	"presence/pkg/internal/state"
	"presence/pkg/protocol"
	"presence/pkg/service"
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

// TestG14_DigestsDiffer: one of three instances has another state than the journal says. The
// digests in the journal show that, and it builds its state anew. The others may have to build
// theirs once to find out that they are right.
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

// logged is a log that can be read while it is written.
type logged struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// TestG14_DisputeIsSaidOnce: an instance that knows that others are wrong logs that once for each
// of them, and not for each of their entries.
func TestG14_DisputeIsSaidOnce(t *testing.T) {
	t.Parallel()
	var log logged
	kit := servicetest.Start(t, servicetest.WithService(func(c *service.Config) { c.Logger = slog.New(slog.NewTextHandler(&log, nil)) }))
	s, nc := kit.Instances[0].Service, kit.Connect(t)
	for position, i := uint64(0), 0; position < state.DigestEvery; i++ {
		must[protocol.ChangeReply](t, nc, to(t, "alice", protocol.OpSet), text(fmt.Sprint(i)))
		position, _ = s.Digest()
	}
	copied, err := s.Copy()
	if err != nil {
		t.Fatal(err)
	}
	wrong := entry.Header{Epoch: copied.Epoch(), DigestAt: state.DigestEvery, Digest: 1}
	if err := s.Compare(&wrong); err == nil {
		t.Error("a digest that differs: got nil, want to build the state anew")
	}
	for i := range 1000 {
		wrong.Instance = fmt.Sprint("writer", i%2)
		if err := s.Compare(&wrong); err != nil {
			t.Fatal(err)
		}
	}
	if n := strings.Count(log.String(), "that one must be wrong"); n != 2 {
		t.Errorf("said %d times of two that they are wrong", n)
	}
	if n := s.Figures().Mismatches; n != 1001 {
		t.Errorf("%d mismatches are counted of 1001", n)
	}
}
