package client // white box: the decisions themselves, without NATS and time

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"

	"github.com/nats-io/nats.go"

	"presence/pkg/protocol"
)

// mergeCase is a case of merge.json.
type mergeCase struct {
	Name  string
	Steps []mergeStep
	Ends  map[string]*uint64
}

type mergeStep struct {
	Watch, Unwatch []string
	Begin          bool
	Event          *mergeEvent
	Snapshot       *mergeSnapshot
	WentBack       bool

	Tells, Fails []string
	Blind        bool
}

type mergeEvent struct {
	User, Subject, Epoch, Body string
	Revision, PreviousRevision uint64
}

type mergeSnapshot struct {
	Epoch    string
	Revision uint64
	Users    map[string]mergeStatus
	Failed   []string
	Begun    bool
}

// mergeStatus is a revision, or a revision and a text.
type mergeStatus struct {
	Revision uint64
	Text     string
}

func (s *mergeStatus) UnmarshalJSON(body []byte) error {
	if body[0] == '{' {
		type fields mergeStatus
		return json.Unmarshal(body, (*fields)(s))
	}
	return json.Unmarshal(body, &s.Revision)
}

func (s mergeStatus) of(userID string) protocol.Status {
	if s.Text == "" {
		s.Text = fmt.Sprint(s.Revision)
	}
	return protocol.Status{UserID: userID, StatusType: protocol.Online, CustomStatus: s.Text, Revision: s.Revision}
}

func epochOf(named string) string {
	if named == "" {
		return "e1"
	}
	return named
}

// merger is a Client without a connection, which can merge and nothing else.
type merger struct {
	*testing.T
	c     *Client
	begun string
}

func newMerger(t *testing.T) *merger {
	c := &Client{opts: Options{}.withDefaults(), subjects: protocol.NewSubjects(""), link: &link{nudged: make(chan struct{})}}
	c.watch = newWatch(c)
	c.OnUserStatusUpdated(func([]protocol.Status) {})
	return &merger{T: t, c: c}
}

func TestConformance_Merging(t *testing.T) {
	for _, c := range ConformanceList[[]mergeCase](t, "merge.json") {
		t.Run(c.Name, func(t *testing.T) {
			m := newMerger(t)
			for i, s := range c.Steps {
				m.step(i, s)
			}
			for id, want := range c.Ends {
				switch u := m.c.watch.users[id]; {
				case u == nil && want != nil || u != nil && want == nil:
					t.Errorf("in the end: %s is watched: %t", id, u != nil)
				case u != nil && u.status.Revision != *want:
					t.Errorf("in the end: %s has revision %d, want %d", id, u.status.Revision, *want)
				}
			}
		})
	}
}

// step does a step and compares its outcome.
func (m *merger) step(i int, s mergeStep) {
	w := m.c.watch
	losses := w.losses
	failed := m.do(s)
	var told []string
	for _, status := range w.delivery.statuses.take() {
		told = append(told, status.UserID)
	}
	slices.Sort(told)
	if blind := w.losses > losses; !slices.Equal(told, s.Tells) || !slices.Equal(failed, s.Fails) || blind != s.Blind {
		m.Errorf("step %d: told %q, failed %q, blind %t, want %+v", i, told, failed, blind, s)
	}
}

func (m *merger) do(s mergeStep) (failed []string) {
	w := m.c.watch
	switch {
	case s.Watch != nil:
		for _, id := range s.Watch {
			w.users[id] = &watched{id: id, subscribed: true}
		}
	case s.Unwatch != nil:
		w.remove(s.Unwatch)
	case s.Begin:
		m.begun = w.epoch
	case s.Event != nil:
		m.event(s.Event)
	case s.Snapshot != nil:
		return m.snapshot(s.Snapshot)
	case s.WentBack:
		m.c.own.seen.note(w.epoch, 0)
		m.c.wentBack(w.epoch, 0)
	default:
		m.Fatalf("the step does nothing: %+v", s)
	}
	return nil
}

func (m *merger) event(e *mergeEvent) {
	on := e.Subject
	if on == "" {
		on = e.User
	}
	subject, err := m.c.subjects.Event(on)
	if err != nil {
		m.Fatal(err)
	}
	body := []byte(e.Body)
	if e.Body == "" {
		body, _ = protocol.Marshal(&protocol.Event{Status: mergeStatus{Revision: e.Revision}.of(e.User),
			Epoch: epochOf(e.Epoch), PreviousRevision: e.PreviousRevision, Cause: protocol.CauseSet})
	}
	m.c.watch.event(&nats.Msg{Subject: subject, Data: body})
}

func (m *merger) snapshot(s *mergeSnapshot) []string {
	page := protocol.GetReply{Epoch: epochOf(s.Epoch), Revision: s.Revision}
	for id, status := range s.Users {
		page.SuccessUserList = append(page.SuccessUserList, status.of(id))
	}
	for _, id := range s.Failed {
		page.FailureUserList = append(page.FailureUserList, protocol.Failure(id, protocol.ErrInternal))
	}
	begun := noEpoch
	if s.Begun {
		begun = m.begun
	}
	return m.c.watch.applyWhole([]protocol.GetReply{page}, begun)
}
