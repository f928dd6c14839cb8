package verify

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"presence/pkg/internal/state"
	"presence/pkg/protocol"
	"presence/pkg/service/servicetest"

	"github.com/nats-io/nats.go"
)

// TestFindUsers_SmallAnswers: an instance whose answers must be small is asked for pages that fit,
// and to explain fewer users at once. A user who does not fit alone is named all the same.
// White-box: it takes long to make a wrong instance with so many users.
func TestFindUsers_SmallAnswers(t *testing.T) {
	t.Parallel()
	const id, users, fit, large = "w", 9, 2, "user-4"
	nc := servicetest.StartNATS(t).Connect(t)
	v := &verification{cfg: Config{Clients: nc, Timeout: 30 * time.Second, Progress: func(string) {}}, subjects: protocol.NewSubjects("")}
	v.report, v.replay = &Report{}, &replay{cfg: &v.cfg, state: state.New()}
	refused := 0
	instance := func(r *protocol.InstanceRequest) (*protocol.InstanceReply, error) {
		if r.Limit > fit || len(r.UserIDList) > fit || slices.Contains(r.UserIDList, large) {
			refused++
			return nil, protocol.ErrRequestTooLarge
		}
		reply := &protocol.InstanceReply{Writer: id, Explained: make([]protocol.ExplainReply, len(r.UserIDList))}
		for i := r.From; i < min(r.From+r.Limit, users); i++ {
			reply.Page = append(reply.Page, protocol.UserDigest{UserID: fmt.Sprintf("user-%d", i), Digest: "wrong"})
		}
		if next := r.From + r.Limit; r.Limit > 0 && next < users {
			reply.Next = next
		}
		return reply, nil
	}
	if _, err := nc.Subscribe(v.subjects.Instance(id), func(m *nats.Msg) {
		var r protocol.InstanceRequest
		_ = json.Unmarshal(m.Data, &r)
		out := nats.NewMsg(m.Reply)
		reply, err := instance(&r)
		if err != nil {
			out.Header.Set(protocol.ErrorHeader, "request_too_large")
			out.Data, _ = json.Marshal(err)
		} else {
			out.Data, _ = json.Marshal(reply)
		}
		_ = m.RespondMsg(out)
	}); err != nil {
		t.Fatal(err)
	}
	if err := v.findUsers(t.Context(), id); err != nil {
		t.Fatalf("findUsers: %v", err)
	}
	seen := map[string]string{}
	for _, d := range v.report.Differences {
		seen[d.UserID] = d.What
	}
	if len(seen) != users || len(v.report.Differences) != users || !strings.Contains(seen[large], "too much for one answer") {
		t.Errorf("findUsers: got %q, want %d users, and that there is too much of %s", seen, users, large)
	}
	if refused > 30 {
		t.Errorf("the instance refused %d requests, want few", refused)
	}
}
