package client_test

import (
	"errors"
	"slices"
	"testing"
	"time"

	"presence/pkg/client"
	"presence/pkg/client/clienttest"
	"presence/pkg/protocol"
)

// operated is a fake whose answers to operators' requests a test says, by their
// kinds.
type operated struct {
	*fake
	listed []protocol.ListRequest
}

func newOperated(t *testing.T, answers map[string]func(clienttest.Request) (any, error)) *operated {
	o := &operated{fake: newFake(t)}
	o.Intercept(func(r clienttest.Request, next func() (any, error)) (any, error) {
		if answer, ok := answers[r.Op]; ok {
			return answer(r)
		}
		return next()
	})
	return o
}

// pages answers list with pages of these users, by their cursors.
func (o *operated) pages(pages map[string]protocol.ListReply) func(clienttest.Request) (any, error) {
	return func(r clienttest.Request) (any, error) {
		var req protocol.ListRequest
		if err := r.Into(&req); err != nil {
			return nil, err
		}
		o.listed = append(o.listed, req)
		return pages[req.Cursor], nil
	}
}

func TestListPages(t *testing.T) {
	var o *operated
	pages := map[string]protocol.ListReply{
		"":  {Users: []protocol.Status{{UserID: "a"}, {UserID: "b"}}, Cursor: "b", Revision: 1},
		"b": {Cursor: "c", Revision: 2}, // an empty page is not the last
		"c": {Users: []protocol.Status{{UserID: "d"}}, Revision: 3, Stale: true},
	}
	o = newOperated(t, map[string]func(clienttest.Request) (any, error){
		"list": func(r clienttest.Request) (any, error) { return o.pages(pages)(r) },
	})
	c, _, _ := o.connect(client.Options{})

	var users []string
	var stale []bool
	list := c.List(testContext(t), protocol.ListRequest{StatusType: protocol.Online, Limit: 2})
	for range 2 { // a sequence can be gone through again, from its beginning
		users, stale = nil, nil
		for page, err := range list {
			if err != nil {
				t.Fatal(err)
			}
			for _, s := range page.Users {
				users = append(users, s.UserID)
			}
			stale = append(stale, page.Stale)
		}
	}
	if !slices.Equal(users, []string{"a", "b", "d"}) || !slices.Equal(stale, []bool{false, false, true}) {
		t.Errorf("List: got users %v of pages that are stale %v", users, stale)
	}
	for i, r := range o.listed {
		if want := (protocol.ListRequest{StatusType: protocol.Online, Limit: 2, Cursor: []string{"", "b", "c"}[i%3]}); r != want {
			t.Errorf("page %d was asked for with %+v, want %+v", i, r, want)
		}
	}

	for range list {
		break
	}
	if n := o.count("list"); n != 7 {
		t.Errorf("%d pages were asked for, want no more than the loop took", n)
	}
}

// A list that does not get on ends with an error, not never.
func TestListGoesOn(t *testing.T) {
	var o *operated
	o = newOperated(t, map[string]func(clienttest.Request) (any, error){
		"list": func(r clienttest.Request) (any, error) {
			return o.pages(map[string]protocol.ListReply{"": {Cursor: "b"}, "b": {Cursor: "a"}})(r)
		},
	})
	c, _, _ := o.connect(client.Options{})
	var errs []error
	for _, err := range c.List(testContext(t), protocol.ListRequest{}) {
		errs = append(errs, err)
	}
	if len(errs) != 2 || errs[0] != nil || !errors.Is(errs[1], protocol.ErrInternal) {
		t.Errorf("a cursor that goes back: got %v, want a page and internal", errs)
	}
}

func TestOperatorsQuestions(t *testing.T) {
	o := newOperated(t, map[string]func(clienttest.Request) (any, error){
		"stats": func(clienttest.Request) (any, error) {
			return protocol.StatsReply{Users: protocol.UserCounts{Online: 3}, Refusals: map[string]uint64{"invalid_request": 4}}, nil
		},
		"explain": func(r clienttest.Request) (any, error) {
			var req protocol.UserRequest
			err := r.Into(&req)
			return protocol.ExplainReply{Owner: protocol.Status{UserID: req.UserID}, Why: []string{"because"}}, err
		},
	})
	c, _, _ := o.connect(client.Options{})
	if r, err := c.Stats(testContext(t)); err != nil || r.Users.Online != 3 || r.Refusals["invalid_request"] != 4 {
		t.Errorf("Stats: got %+v, %v", r, err)
	}
	if r, err := c.Explain(testContext(t), "bob@example.com"); err != nil || r.Owner.UserID != "bob@example.com" || len(r.Why) != 1 {
		t.Errorf("Explain: got %+v, %v", r, err)
	}
}

func TestKickAndErase(t *testing.T) {
	type kicked struct{ subject, user, session string }
	var got []kicked
	answer := func(subject string) func(clienttest.Request) (any, error) {
		return func(r clienttest.Request) (any, error) {
			var req protocol.KickRequest
			if err := r.Into(&req); err != nil {
				return nil, err
			}
			got = append(got, kicked{subject, req.UserID, req.SessionID})
			return protocol.KickReply{Ended: []string{"s1"}, Revision: 7777, Epoch: "e1"}, nil
		}
	}
	o := newOperated(t, map[string]func(clienttest.Request) (any, error){
		"admin.kick": answer("kick"), "admin.erase": answer("erase"),
	})
	c, _, _ := o.connect(client.Options{})
	ctx := testContext(t)
	for i, call := range []func() (protocol.KickReply, error){
		func() (protocol.KickReply, error) { return c.Kick(ctx, "alice", "s1") },
		func() (protocol.KickReply, error) { return c.KickAll(ctx, "alice") },
		func() (protocol.KickReply, error) { return c.Erase(ctx, "alice") },
	} {
		if r, err := call(); err != nil || !slices.Equal(r.Ended, []string{"s1"}) {
			t.Errorf("call %d: got %+v, %v", i, r, err)
		}
	}
	if want := []kicked{{"kick", "alice", "s1"}, {"kick", "alice", ""}, {"erase", "alice", ""}}; !slices.Equal(got, want) {
		t.Errorf("asked: %+v, want %+v", got, want)
	}

	// A get that follows shows it.
	if _, err := c.GetUserStatus(ctx, []string{"alice"}); err != nil {
		t.Fatal(err)
	}
	if g := asked[protocol.GetRequest](o.fake, "get")[0]; g.MinRevision != 7777 || g.Epoch != "e1" {
		t.Errorf("a get after it was asked with minRevision %d of epoch %q, want 7777 of e1", g.MinRevision, g.Epoch)
	}
}

// What is not valid is refused before anybody is asked.
func TestOperatorsRequestsChecked(t *testing.T) {
	o := newOperated(t, nil) // who is asked does not answer
	c, _, _ := o.connect(client.Options{Timeout: time.Second})
	ctx := testContext(t)
	_, kickEmpty := c.Kick(ctx, "alice", "") // would be all
	_, kickBad := c.Kick(ctx, "alice", "a.b")
	_, kickNobody := c.KickAll(ctx, "")
	_, eraseNobody := c.Erase(ctx, "b\x01")
	_, explainNobody := c.Explain(ctx, "")
	var list error
	for _, list = range c.List(ctx, protocol.ListRequest{Limit: protocol.MaxUsersPerList + 1}) {
	}
	for what, err := range map[string]error{"Kick of no session": kickEmpty, "Kick": kickBad, "List": list} {
		if !errors.Is(err, protocol.ErrInvalidRequest) {
			t.Errorf("%s: got %v, want invalid_request", what, err)
		}
	}
	for what, err := range map[string]error{"KickAll": kickNobody, "Erase": eraseNobody, "Explain": explainNobody} {
		if !errors.Is(err, protocol.ErrInvalidUserID) {
			t.Errorf("%s: got %v, want invalid_user_id", what, err)
		}
	}
}

// What ends sessions is not done twice; questions are asked again.
func TestOperatorsRequestsWithoutAnswer(t *testing.T) {
	silent := func(clienttest.Request) (any, error) { return nil, clienttest.ErrNoAnswer }
	o := newOperated(t, map[string]func(clienttest.Request) (any, error){
		"admin.kick": silent, "admin.erase": silent, "stats": silent,
	})
	c, _, _ := o.connect(client.Options{Timeout: 100 * time.Millisecond})
	_, kicked := c.KickAll(testContext(t), "alice")
	_, erased := c.Erase(testContext(t), "alice")
	_, stats := c.Stats(testContext(t))
	if !errors.Is(kicked, protocol.ErrOutcomeUnknown) || !errors.Is(erased, protocol.ErrOutcomeUnknown) || errors.Is(stats, protocol.ErrOutcomeUnknown) || stats == nil {
		t.Errorf("without an answer: KickAll %v, Erase %v, Stats %v", kicked, erased, stats)
	}
	for subject, want := range map[string]int{"admin.kick": 1, "admin.erase": 1, "stats": 3} {
		if n := o.count(subject); n != want {
			t.Errorf("%s was asked %d times, want %d", subject, n, want)
		}
	}
}
