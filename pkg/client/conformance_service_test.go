package client_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"presence/pkg/client"
	"presence/pkg/protocol"
	"presence/pkg/service/servicetest"
)

// serviceCase is a case of service.json.
type serviceCase struct {
	Name  string
	Steps []serviceStep
}

type serviceStep struct {
	Client  string
	Restart bool

	Call             string
	User             client.ConformanceText
	Users            userIDs
	SessionID        string
	Device           string
	Text             client.ConformanceText
	ExpiresInSeconds int
	Availability     protocol.Availability

	// The outcome of a call.
	Error    string
	Statuses map[string]shown
	Failures int

	Sees, Own map[string]shown
	Never     map[string][]protocol.StatusType
	Live      bool
	Ends      string
}

// shown is what a case says of a status.
type shown struct {
	StatusType   protocol.StatusType
	CustomStatus string
	Availability protocol.Availability
}

func shownOf(s protocol.Status) shown { return shown{s.StatusType, s.CustomStatus, s.Availability} }

// userIDs are a list of texts, or the object that stands for it.
type userIDs []string

func (l *userIDs) UnmarshalJSON(body []byte) error {
	if body[0] == '{' {
		var long struct {
			List, Series string
			Times        int
		}
		err := json.Unmarshal(body, &long)
		for i := range long.Times {
			id := long.List
			if long.Series != "" {
				id = fmt.Sprint(long.Series, i)
			}
			*l = append(*l, id)
		}
		return err
	}
	var list []client.ConformanceText
	err := json.Unmarshal(body, &list)
	for _, id := range list {
		*l = append(*l, string(id))
	}
	return err
}

// caseClient is one of the clients of a case.
type caseClient struct {
	*testing.T
	c        *client.Client
	sessions map[string]*client.Session

	mu   sync.Mutex
	told map[string][]protocol.Status
	own  map[string]protocol.Status
}

func newCaseClient(t *testing.T, kit *servicetest.Kit) *caseClient {
	c, _ := dial(t, kit)
	cc := &caseClient{T: t, c: c, sessions: map[string]*client.Session{}, told: map[string][]protocol.Status{}, own: map[string]protocol.Status{}}
	c.OnUserStatusUpdated(func(list []protocol.Status) {
		cc.mu.Lock()
		defer cc.mu.Unlock()
		for _, s := range list {
			cc.told[s.UserID] = append(cc.told[s.UserID], s)
		}
	})
	c.OnOwnChanged(func(own client.Own) {
		cc.mu.Lock()
		defer cc.mu.Unlock()
		cc.own[own.UserID] = own.Status
	})
	return cc
}

func TestConformance_Service(t *testing.T) {
	for _, c := range client.ConformanceList[[]serviceCase](t, "service.json") {
		t.Run(c.Name, func(t *testing.T) {
			kit := servicetest.StartOverNATS(t)
			clients := map[string]*caseClient{}
			for i, step := range c.Steps {
				if step.Restart {
					kit.Restart(t)
					continue
				}
				if clients[step.Client] == nil {
					clients[step.Client] = newCaseClient(t, kit)
				}
				if clients[step.Client].step(&step); t.Failed() {
					t.Fatalf("at step %d", i)
				}
			}
			for _, cc := range clients { // before the service
				must(t, cc.c.Close())
			}
		})
	}
}

func (cc *caseClient) step(step *serviceStep) {
	switch {
	case step.Call != "":
		cc.check(step)
	case step.Sees != nil:
		for id, want := range step.Sees {
			eventually(cc.T, fmt.Sprintf("%s is seen as %+v", id, want), func() bool {
				s, watched := cc.c.Watched(id)
				return watched && shownOf(s) == want
			})
		}
	case step.Own != nil:
		for id, want := range step.Own {
			eventually(cc.T, fmt.Sprintf("%s is told as %+v", id, want), func() bool {
				cc.mu.Lock()
				defer cc.mu.Unlock()
				return shownOf(cc.own[id]) == want
			})
		}
	case step.Never != nil:
		cc.mu.Lock()
		defer cc.mu.Unlock()
		for id, types := range step.Never {
			if slices.ContainsFunc(cc.told[id], func(s protocol.Status) bool { return slices.Contains(types, s.StatusType) }) {
				cc.Errorf("told of %s: %+v", id, cc.told[id])
			}
		}
	case step.Live:
		eventually(cc.T, "live", func() bool { return cc.c.State().Live })
	case step.Ends != "":
		for _, s := range cc.sessions {
			select {
			case <-s.Done():
			case <-time.After(20 * time.Second):
				cc.Fatal("the session does not end")
			}
			if got := codeOf(s.Err()); got != step.Ends {
				cc.Errorf("the session ended with %q, want %q", got, step.Ends)
			}
		}
	default:
		cc.Fatalf("the step does nothing: %+v", step)
	}
}

// check makes a call and compares its outcome.
func (cc *caseClient) check(step *serviceStep) {
	r, err := cc.call(step)
	if err == nil && step.Error != "" || err != nil && codeOf(err) != step.Error {
		cc.Errorf("%+v: got %v, want %q", step, err, step.Error)
	}
	if len(r.FailureUserList) != step.Failures {
		cc.Errorf("%+v: failures %+v", step, r.FailureUserList)
	}
	for id, want := range step.Statuses {
		i := slices.IndexFunc(r.SuccessUserList, func(s protocol.Status) bool { return s.UserID == id })
		if i < 0 || shownOf(r.SuccessUserList[i]) != want {
			cc.Errorf("%s: got %+v, want %+v", id, r.SuccessUserList, want)
		}
	}
}

func (cc *caseClient) call(step *serviceStep) (r client.GetResult, err error) {
	ctx, user := testContext(cc.T), string(step.User)
	var expires []client.SetOption
	if step.ExpiresInSeconds > 0 {
		expires = append(expires, client.ExpiresIn(time.Duration(step.ExpiresInSeconds)*time.Second))
	}
	switch step.Call {
	case "get":
		return cc.c.GetUserStatus(ctx, step.Users, client.Fresh())
	case "subscribe":
		r.FailureUserList, err = cc.c.SubscribeUserStatus(ctx, step.Users)
	case "login":
		var s *client.Session
		if s, err = cc.c.Login(ctx, user, client.LoginOptions{SessionID: step.SessionID, Device: step.Device}); err == nil {
			cc.sessions[user] = s
		}
	case "logout":
		err = cc.sessions[user].Close(ctx)
	case "logout-final":
		err = cc.c.LogoutFinal(ctx, user, step.SessionID)
	case "logout-all":
		err = cc.c.LogoutAll(ctx, user)
	case "set":
		_, err = cc.sessions[user].SetSelfStatus(ctx, string(step.Text), expires...)
	case "availability":
		_, err = cc.sessions[user].SetAvailability(ctx, step.Availability)
	default:
		cc.Fatalf("there is no call %q", step.Call)
	}
	return r, err
}
