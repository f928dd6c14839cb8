package service_test

import (
	"fmt"
	"strings"
	"testing"

	"presence/pkg/broker"
	"presence/pkg/protocol"
	"presence/pkg/service"
	"presence/pkg/service/servicetest"
	"presence/pkg/service/verify"
)

// TestG14_VerifyNamesTheInstance: one of two instances missed a change. A verification from outside
// says which one it is, at which position, and which user differs, in its state and in its answers.
func TestG14_VerifyNamesTheInstance(t *testing.T) {
	t.Parallel()
	kit := servicetest.Start(t)
	kit.AddInstance(t)
	wrong := kit.Instances[1].Service
	setText(t, kit, "alice", "before")
	setText(t, kit, "bob", "unchanged")
	copied, err := wrong.Copy()
	if err != nil {
		t.Fatal(err)
	}
	setText(t, kit, "alice", "after")
	servicetest.Eventually(t, soon, "the instance has applied it", func() bool {
		position, _ := wrong.Digest()
		return position > copied.Position()
	})
	if err := wrong.Diverge(copied); err != nil {
		t.Fatal(err)
	}

	report, err := verify.Run(t.Context(), verify.Config{Clients: kit.Connect(t), Journal: kit.ConnectAs(t, broker.Journal)})
	if err != nil {
		t.Fatal(err)
	}
	var same, differ []verify.Instance
	for _, i := range report.Instances {
		if i.Same {
			same = append(same, i)
		} else {
			differ = append(differ, i)
		}
	}
	if len(same) != 1 || len(differ) != 1 {
		t.Fatalf("Run: got the instances %+v, want one of two to differ: %+v", report.Instances, report.Differences)
	}
	named := false
	for _, d := range report.Differences {
		if d.Instance != differ[0].Writer && d.Instance != "" {
			t.Errorf("Run: got the difference %+v about another instance than %s", d, differ[0].Writer)
		}
		if d.UserID != "" && d.UserID != "alice" {
			t.Errorf("Run: got the difference %+v about another user than alice", d)
		}
		for _, f := range d.Fields {
			if d.UserID == "alice" && d.Instance != "" && f.Name == "public.customStatus" && f.Have == `"before"` && f.Journal == `"after"` && d.Position > 0 {
				named = true
			}
		}
	}
	if !named {
		t.Errorf("Run: got %+v, want alice's text named", report.Differences)
	}

	// It may be asked by name.
	subject := subjects.Instance(differ[0].Writer)
	var reply protocol.InstanceReply
	if err := request(t, kit.Connect(t), subject, protocol.InstanceRequest{Limit: 10}, &reply); err != nil {
		t.Fatal(err)
	}
	if len(reply.Page) != 2 || reply.Next != 0 || reply.Writer != differ[0].Writer || strings.Trim(reply.Digest, "0123456789abcdef") != "" {
		t.Errorf("admin.instance: got %+v, want both users on one page", reply)
	}
}

// TestG14_VerifyExplainsMany: explanations of users that do not fit into one reply are refused
// together, with a clear error. Each of them can be had alone.
func TestG14_VerifyExplainsMany(t *testing.T) {
	t.Parallel()
	const sessions = 64
	kit := servicetest.Start(t, servicetest.WithService(func(c *service.Config) { c.Limits.SessionsPerUser = sessions }))
	nc := kit.Connect(t)
	open, _ := subjects.Gateway("gw", protocol.OpOpen)
	apply, _ := subjects.Gateway("gw", protocol.OpApply)
	must[protocol.LeaseReply](t, nc, open, protocol.OpenRequest{Process: "p", TTLSeconds: 3600})
	var ids []string
	var logins, sets []protocol.Op
	for i := range verify.MaxUsers {
		id := fmt.Sprintf("user%02d", i)
		ids = append(ids, id)
		for k := range sessions {
			logins = append(logins, protocol.Op{Op: protocol.OpKindLogin, UserID: id, SessionID: fmt.Sprintf("%064d", k), Device: fmt.Sprintf("%02d", k) + strings.Repeat(`"`, protocol.MaxDeviceBytes-2)})
		}
		sets = append(sets, protocol.Op{Op: protocol.OpKindSet, UserID: id, CustomStatus: protocol.Ptr("x")})
	}
	must[protocol.ApplyReply](t, nc, apply, protocol.ApplyRequest{Process: "p", Seq: 1, Ops: logins})
	if err := request(t, nc, subjects.Instances(), protocol.InstanceRequest{UserIDList: ids}, nil); !is(err, protocol.ErrRequestTooLarge) {
		t.Errorf("all together: got %v", err)
	}

	wrong := kit.Instances[0].Service
	copied, err := wrong.Copy()
	if err != nil {
		t.Fatal(err)
	}
	must[protocol.ApplyReply](t, nc, apply, protocol.ApplyRequest{Process: "p", Seq: 2, Ops: sets})
	if err := wrong.Diverge(copied); err != nil {
		t.Fatal(err)
	}
	report, err := verify.Run(t.Context(), verify.Config{Clients: nc, Journal: kit.ConnectAs(t, broker.Journal)})
	if err != nil {
		t.Fatal(err)
	}
	named := map[string]bool{}
	for _, d := range report.Differences {
		if d.Instance != "" && d.UserID != "" && len(d.Fields) > 0 {
			named[d.UserID] = true
		}
	}
	if len(named) != len(ids) {
		t.Errorf("%d of %d users are named", len(named), len(ids))
	}
}

func TestG10_InstanceBadInput(t *testing.T) {
	t.Parallel()
	kit := servicetest.Start(t)
	nc := kit.Connect(t)
	many := make([]string, protocol.MaxExplained+1)
	for i := range many {
		many[i] = "u"
	}
	for _, c := range []struct {
		body any
		want *protocol.Error
	}{
		{map[string]any{"limit": protocol.MaxUsersPerInstancePage + 1}, protocol.ErrInvalidRequest},
		{map[string]any{"from": -1}, protocol.ErrInvalidRequest},
		{map[string]any{"userIDList": many}, protocol.ErrTooManyUsers},
		{map[string]any{"userIDList": []string{""}}, protocol.ErrInvalidUserID},
		{"text", protocol.ErrInvalidRequest},
	} {
		var reply protocol.InstanceReply
		if err := request(t, nc, subjects.Instances(), c.body, &reply); err == nil || err.Name != c.want.Name {
			t.Errorf("%v: got %v, want %v", c.body, err, c.want)
		}
	}
	var reply protocol.InstanceReply
	if err := request(t, nc, subjects.Instances(), protocol.InstanceRequest{From: 1 << 40, Limit: 1}, &reply); err != nil || len(reply.Page) != 0 || reply.Next != 0 {
		t.Errorf("a page beyond the end: got %+v, %v, want none", reply, err)
	}
}
