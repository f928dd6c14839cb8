package client_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"presence/pkg/client"
	"presence/pkg/client/clienttest"
	"presence/pkg/protocol"
)

// scriptCase is a case of script.json.
type scriptCase struct {
	Name  string
	Steps []scriptStep
}

type scriptStep struct {
	Serve     *served
	Answers   map[string][]scriptAnswer
	Call      *scriptCall
	Publish   *scriptEvent
	Asks      *scriptAsk
	Tells     map[string]uint64
	Told      map[string][]uint64
	Live      *bool
	Ends      string
	Wait      int
	Requested map[string]int

	// The outcome of a call.
	Error    string
	Statuses map[string]uint64
	Requests map[string]int
	TakesMs  int
}

type scriptCall struct {
	Op, User, SessionID, Text string
	Users, Add                []string
}

type scriptEvent struct {
	User, Subject, Self, Epoch, Body string
	Revision                         uint64
}

type scriptAsk struct {
	Op, SessionID, Epoch string
	Fresh                bool
	MinRevision          uint64
}

// scriptAnswer is "none", an error, a body, or what another state answers.
type scriptAnswer struct {
	None         bool
	Error, Body  string
	RetryAfterMs int64
	Serve        *served
}

func (a *scriptAnswer) UnmarshalJSON(body []byte) error {
	if string(body) == `"none"` {
		a.None = true
		return nil
	}
	type fields scriptAnswer
	return json.Unmarshal(body, (*fields)(a))
}

// served is the state that a scripted service answers from.
type served struct {
	Epoch    string
	Revision uint64
	Users    map[string]uint64
	Stale    bool
}

func (s *served) epoch() string {
	if s.Epoch == "" {
		return "e1"
	}
	return s.Epoch
}

func (s *served) status(userID string) protocol.Status {
	revision := s.Users[userID]
	status := protocol.Status{UserID: userID, StatusType: protocol.Online, CustomStatus: fmt.Sprint(revision), Revision: revision}
	if revision == 0 {
		status = protocol.Status{UserID: userID, StatusType: protocol.Unlogined}
	}
	return status
}

// scripted is a service that does what a case says.
type scripted struct {
	*testing.T
	nc       *nats.Conn
	subjects protocol.Subjects

	mu       sync.Mutex
	state    *served
	answers  map[string][]scriptAnswer
	requests []scriptAsk
	sessions []protocol.Session
}

func newScripted(t *testing.T, nc *nats.Conn, prefix string) *scripted {
	t.Helper()
	s := &scripted{T: t, nc: nc, subjects: protocol.NewSubjects(prefix), answers: map[string][]scriptAnswer{},
		state: &served{Revision: 10, Users: map[string]uint64{"u": 5}}}
	for _, subject := range []string{s.subjects.Get(), prefix + ".user.>"} {
		if _, err := nc.Subscribe(subject, s.handle); err != nil {
			t.Fatal(err)
		}
	}
	must(t, nc.Flush())
	return s
}

// handle answers a request.
func (s *scripted) handle(m *nats.Msg) {
	var ask struct {
		scriptAsk
		UserIDList           []string
		Add, Remove, Replace []string
		Connection           *protocol.Connection
	}
	if err := json.Unmarshal(m.Data, &ask); err != nil {
		s.Errorf("%s: %v", m.Subject, err)
	}
	ask.Op = m.Subject[strings.LastIndexByte(m.Subject, '.')+1:]
	if ask.Op == "contacts" && ask.Add == nil && ask.Remove == nil && ask.Replace == nil {
		ask.Op = "contacts-read"
	}
	userID, _ := s.subjects.ParseUser(m.Subject)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests = append(s.requests, ask.scriptAsk)
	var a scriptAnswer
	if list := s.answers[ask.Op]; len(list) > 0 {
		a, s.answers[ask.Op] = list[0], list[1:]
	}
	switch {
	case a.None:
		return
	case a.Error != "":
		s.refuse(m, &a)
		return
	case a.Body != "":
		must(s.T, m.Respond([]byte(a.Body)))
		return
	}
	if a.Serve == nil {
		a.Serve = s.state
	}
	if ask.Op == "login" {
		s.sessions = slices.DeleteFunc(s.sessions, func(x protocol.Session) bool { return x.SessionID == ask.SessionID })
		s.sessions = append(s.sessions, protocol.Session{SessionID: ask.SessionID, Platform: "web", Live: true, TTLSeconds: 120,
			GraceSeconds: 5, Bound: true, Connection: ask.Connection, LoginAt: 1})
	}
	body, err := protocol.Marshal(s.reply(ask.Op, userID, ask.SessionID, ask.UserIDList, a.Serve))
	must(s.T, err)
	must(s.T, m.Respond(body))
}

func (s *scripted) refuse(m *nats.Msg, a *scriptAnswer) {
	codes := map[string]int{"overloaded": 503, "unavailable": 503, "outcome_unknown": 504, "rate_limited": 429, "internal": 500,
		"session_replaced": 410, "too_many_sessions": 409, "revision_conflict": 409, "request_too_large": 413}
	e := protocol.Error{Code: codes[a.Error], Name: a.Error, Message: "as the script says", RetryAfterMs: a.RetryAfterMs}
	if e.Code == 0 {
		e.Code = 499
	}
	reply := nats.NewMsg("")
	reply.Header.Set(protocol.ErrorCodeHeader, fmt.Sprint(e.Code))
	reply.Header.Set(protocol.ErrorHeader, e.Error())
	reply.Data, _ = protocol.Marshal(&e)
	must(s.T, m.RespondMsg(reply))
}

// reply is what a state answers.
func (s *scripted) reply(op, userID, sessionID string, list []string, state *served) any {
	status, revision, epoch := state.status(userID), state.Revision, state.epoch()
	switch op {
	case "get":
		reply := protocol.GetReply{FailureUserList: []protocol.UserFailure{}, Revision: revision, Epoch: epoch, Stale: state.Stale}
		for _, id := range list {
			reply.SuccessUserList = append(reply.SuccessUserList, state.status(id))
		}
		return reply
	case "login":
		return protocol.LoginReply{SessionID: sessionID, TTLSeconds: 120, GraceSeconds: 5, Status: status, Revision: revision, Epoch: epoch}
	case "status":
		return protocol.OwnStatusReply{Status: status, Availability: protocol.AvailabilitySettings{Lasting: protocol.Available},
			Sessions: s.sessions, Revision: revision, Epoch: epoch}
	case "contacts", "contacts-read":
		return protocol.ContactsReply{Contacts: []string{}}
	}
	return protocol.ChangeReply{Status: status, Revision: revision, Epoch: epoch}
}

// count returns how many requests of a kind came after the first so many requests.
func (s *scripted) count(after int, op string) (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.requests[after:] {
		if r.Op == op {
			n++
		}
	}
	return n
}

func (s *scripted) seen() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.requests)
}

// asked reports whether a request came after the first so many that has what is wanted.
func (s *scripted) asked(after int, want *scriptAsk) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.ContainsFunc(s.requests[after:], func(r scriptAsk) bool {
		return r.Op == want.Op && (!want.Fresh || r.Fresh) && (want.SessionID == "" || r.SessionID == want.SessionID) &&
			(want.MinRevision == 0 || r.MinRevision == want.MinRevision && r.Epoch == want.Epoch)
	})
}

func (s *scripted) publish(e *scriptEvent) {
	on := e.User
	if e.Subject != "" {
		on = e.Subject
	}
	subject, err := s.subjects.Event(on)
	if e.Self != "" {
		subject, err = s.subjects.Self(e.Self)
	}
	must(s.T, err)
	body := []byte(e.Body)
	if e.Body == "" {
		state := served{Epoch: e.Epoch, Users: map[string]uint64{e.User: e.Revision}}
		body, err = protocol.Marshal(&protocol.Event{Status: state.status(e.User), Epoch: state.epoch(), Cause: protocol.CauseSet})
		must(s.T, err)
	}
	must(s.T, s.nc.Publish(subject, body))
}

// scriptedClient is a client of a scripted service, with what it has told.
type scriptedClient struct {
	*scripted
	c        *client.Client
	sessions map[string]*client.Session
	since    int // requests before the last event

	mu     sync.Mutex
	told   map[string][]uint64
	states []bool
}

func TestConformance_Script(t *testing.T) {
	service := clienttest.New(t, clienttest.Options{})
	for i, c := range client.ConformanceList[[]scriptCase](t, "script.json") {
		t.Run(c.Name, func(t *testing.T) {
			t.Parallel() // most of the time is waiting
			prefix := fmt.Sprintf("script.v%d", i)
			s := &scriptedClient{scripted: newScripted(t, service.Connect(), prefix), sessions: map[string]*client.Session{}, told: map[string][]uint64{}}
			defer s.nc.Close()
			nc := service.Connect()
			defer nc.Close()
			var err error
			s.c, err = client.New(nc, client.Options{Prefix: prefix, Timeout: 300 * time.Millisecond, Patience: 10 * time.Second})
			must(t, err)
			defer func() { must(t, s.c.Close()) }()
			s.c.OnUserStatusUpdated(s.tell)
			s.c.OnState(func(state client.State) {
				s.mu.Lock()
				defer s.mu.Unlock()
				s.states = append(s.states, state.Live)
			})
			for i, step := range c.Steps {
				if s.step(&step); t.Failed() {
					t.Fatalf("at step %d", i)
				}
			}
		})
	}
}

func (s *scriptedClient) tell(list []protocol.Status) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, status := range list {
		s.told[status.UserID] = append(s.told[status.UserID], status.Revision)
	}
}

func (s *scriptedClient) revisions(userID string) []uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.told[userID])
}

// was reports whether the client was told to be live or blind, and forgets the states before that.
func (s *scriptedClient) was(live bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := slices.Index(s.states, live)
	s.states = s.states[i+1:]
	return i >= 0
}

func (s *scriptedClient) step(step *scriptStep) {
	switch {
	case step.Serve != nil:
		s.scripted.mu.Lock()
		s.state = step.Serve
		s.scripted.mu.Unlock()
	case step.Answers != nil:
		s.scripted.mu.Lock()
		s.answers = step.Answers
		s.scripted.mu.Unlock()
	case step.Call != nil:
		s.check(step)
	case step.Publish != nil:
		s.since = s.seen()
		s.publish(step.Publish)
	case step.Asks != nil:
		eventually(s.T, fmt.Sprintf("asked %+v", step.Asks), func() bool { return s.asked(s.since, step.Asks) })
	case step.Tells != nil:
		for id, want := range step.Tells {
			eventually(s.T, fmt.Sprintf("told %s %d", id, want), func() bool {
				list := s.revisions(id)
				return len(list) > 0 && list[len(list)-1] == want
			})
		}
	case step.Told != nil:
		for id, want := range step.Told {
			if got := s.revisions(id); !slices.Equal(got, want) {
				s.Errorf("told of %s: %v, want %v", id, got, want)
			}
		}
	case step.Live != nil:
		eventually(s.T, fmt.Sprintf("live is %t", *step.Live), func() bool { return s.was(*step.Live) || *step.Live && s.c.State().Live })
	case step.Ends != "":
		for _, session := range s.sessions {
			<-session.Done()
			if got := codeOf(session.Err()); got != step.Ends {
				s.Errorf("the session ended with %q, want %q", got, step.Ends)
			}
		}
	case step.Wait > 0:
		time.Sleep(time.Duration(step.Wait) * time.Millisecond)
	case step.Requested != nil:
		for op, want := range step.Requested {
			if got := s.count(0, op); got != want {
				s.Errorf("%d requests %s, want %d", got, op, want)
			}
		}
	default:
		s.Fatalf("the step does nothing: %+v", step)
	}
}

// codeOf is the name that the list has for an error.
func codeOf(err error) string {
	if e, ok := errors.AsType[*protocol.Error](err); ok {
		return e.Name
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return "no_answer"
	}
	return fmt.Sprint(err)
}

// check makes a call and compares its outcome.
func (s *scriptedClient) check(step *scriptStep) {
	if step.Call.Op == "set" || step.Call.Op == "contacts" {
		s.login(step.Call.User)
	}
	before, begun := s.seen(), time.Now()
	statuses, err := s.call(step.Call)
	took := time.Since(begun)
	switch {
	case err == nil && step.Error != "" || err != nil && codeOf(err) != step.Error:
		s.Errorf("%+v: got %v, want %q", step.Call, err, step.Error)
	case took < time.Duration(step.TakesMs)*time.Millisecond:
		s.Errorf("%+v took %v", step.Call, took)
	}
	for op, want := range step.Requests {
		if got := s.count(before, op); got != want {
			s.Errorf("%+v made %d requests %s, want %d", step.Call, got, op, want)
		}
	}
	for id, want := range step.Statuses {
		i := slices.IndexFunc(statuses, func(x protocol.Status) bool { return x.UserID == id })
		if i < 0 || statuses[i].Revision != want {
			s.Errorf("%+v: got %+v, want revision %d of %s", step.Call, statuses, want, id)
		}
	}
}

// login logs a user in who has no session yet.
func (s *scriptedClient) login(userID string) {
	if s.sessions[userID] == nil {
		_, err := s.call(&scriptCall{Op: "login", User: userID, SessionID: "own"})
		must(s.T, err)
	}
}

func (s *scriptedClient) call(call *scriptCall) ([]protocol.Status, error) {
	ctx := context.Background()
	switch call.Op {
	case "get":
		r, err := s.c.GetUserStatus(ctx, call.Users)
		return r.SuccessUserList, err
	case "login":
		session, err := s.c.Login(ctx, call.User, client.LoginOptions{SessionID: call.SessionID})
		if err == nil {
			s.sessions[call.User] = session
		}
		return nil, err
	case "set":
		_, err := s.sessions[call.User].SetSelfStatus(ctx, call.Text)
		return nil, err
	case "contacts":
		_, err := s.c.AddContacts(ctx, call.User, call.Add...)
		return nil, err
	case "subscribe":
		_, err := s.c.SubscribeUserStatus(ctx, call.Users)
		return nil, err
	case "unsubscribe":
		_, err := s.c.UnsubscribeUserStatus(ctx, call.Users...)
		return nil, err
	}
	s.Fatalf("there is no call %q", call.Op)
	return nil, nil
}
