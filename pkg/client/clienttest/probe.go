package clienttest

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"presence/pkg/protocol"
)

// probe makes the requests of one user and hears the user's events.
type probe struct {
	*testing.T
	target       Target
	nc           *nats.Conn
	subjects     protocol.Subjects
	user         string
	public, self chan *nats.Msg
	revision     uint64          // of the last public event
	ended        map[string]bool // own events that were heard
	own          protocol.Status
}

func newProbe(t *testing.T, s Target, user string) *probe {
	t.Helper()
	p := &probe{T: t, target: s, nc: s.Connect(t), subjects: protocol.NewSubjects(""), user: user,
		public: make(chan *nats.Msg, 100), self: make(chan *nats.Msg, 100), ended: map[string]bool{}}
	event, _ := p.subjects.Event(user)
	self, _ := p.subjects.Self(user)
	for subject, ch := range map[string]chan *nats.Msg{event: p.public, self: p.self} {
		if _, err := p.nc.ChanSubscribe(subject, ch); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.nc.Flush(); err != nil {
		t.Fatal(err)
	}
	return p
}

// ask makes a request and returns the reply, or its error.
func ask[T any](p *probe, subject string, body any) (T, error) {
	p.Helper()
	var reply T
	data, err := protocol.Marshal(body)
	if raw, ok := body.(string); ok {
		data, err = []byte(raw), nil
	}
	if err != nil {
		p.Fatal(err)
	}
	m, err := p.nc.Request(subject, data, waitFor)
	if err != nil {
		p.Fatalf("%s: %v", subject, err)
	}
	if m.Header.Get(protocol.ErrorCodeHeader) != "" {
		e := new(protocol.Error)
		if err := protocol.Unmarshal(m.Data, e); err != nil || fmt.Sprint(e.Code) != m.Header.Get(protocol.ErrorCodeHeader) {
			p.Fatalf("%s: the error %s, %v", subject, m.Data, err)
		}
		return reply, e
	}
	if err := protocol.Unmarshal(m.Data, &reply); err != nil {
		p.Fatalf("%s: %s: %v", subject, m.Data, err)
	}
	return reply, nil
}

// about is the subject of a request about the probe's user.
func (p *probe) about(op string) string {
	subject, err := p.subjects.User(p.user, op)
	if err != nil {
		p.Fatal(err)
	}
	return subject
}

// must makes a request that has to succeed, and returns the reply.
func must[T any](p *probe, subject string, body any) T {
	p.Helper()
	reply, err := ask[T](p, subject, body)
	if err != nil {
		p.Fatalf("%s: %v", subject, err)
	}
	return reply
}

// change makes a request about the user that has to succeed, and keeps the owner's view.
func (p *probe) change(op string, body any) {
	p.Helper()
	p.own = must[protocol.ChangeReply](p, p.about(op), body).Status
}

// refused makes a request about the user that has to fail.
func (p *probe) refused(op string, body any, want *protocol.Error) {
	p.Helper()
	if _, err := ask[protocol.ChangeReply](p, p.about(op), body); !errors.Is(err, want) {
		p.Errorf("%s %v: got %v, want %v", op, body, err, want.Name)
	}
}

// heard waits for events: the public one, unless public is empty, and those for the user's
// own devices. Any other event before them is an error.
func (p *probe) heard(public string, self ...string) {
	p.Helper()
	if public != "" {
		var ev protocol.Event
		p.next(p.public, &ev)
		if ev.UserID != p.user || ev.Epoch == "" || ev.Revision <= p.revision || ev.PreviousRevision != p.revision || ev.UpdatedAt == 0 {
			p.Errorf("the event %+v came after revision %d", ev, p.revision)
		}
		p.revision = ev.Revision
		if got := show(ev.Status) + " " + string(ev.Cause); got != public {
			p.Errorf("event: got %q, want %q", got, public)
		}
	}
	var got []string
	for len(got) < len(self) {
		var ev protocol.SelfEvent
		p.next(p.self, &ev)
		if e := showSelf(&ev); ev.Type != protocol.SelfKicked || !p.ended[e] { // that may come twice
			p.ended[e] = true
			got = append(got, e)
		}
	}
	slices.Sort(got) // the events of one change come in any order
	slices.Sort(self)
	if !slices.Equal(got, self) {
		p.Errorf("own events: got %q, want %q", got, self)
	}
}

func (p *probe) next(ch chan *nats.Msg, event any) {
	p.Helper()
	select {
	case m := <-ch:
		if err := protocol.Unmarshal(m.Data, event); err != nil {
			p.Fatalf("%s: %s: %v", m.Subject, m.Data, err)
		}
	case <-time.After(waitFor):
		p.Fatalf("no event within %v", waitFor)
	}
}

// shows asks for what everybody sees.
func (p *probe) shows(want string) {
	p.Helper()
	if got := show(p.get(p.user).SuccessUserList[0]); got != want {
		p.Errorf("everybody sees %q, want %q", got, want)
	}
}

func (p *probe) get(ids ...string) protocol.GetReply {
	p.Helper()
	return must[protocol.GetReply](p, p.subjects.Get(), protocol.GetRequest{UserIDList: ids, Fresh: true, Detail: true})
}

// sees compares the owner's view in the last reply.
func (p *probe) sees(want string) {
	p.Helper()
	if got := show(p.own); got != want {
		p.Errorf("the owner sees %q, want %q", got, want)
	}
}

// show is a status as "ONLINE busy text".
func show(s protocol.Status) string {
	b := s.StatusType.String()
	for _, more := range []string{string(s.Availability), s.CustomStatus} {
		if more != "" {
			b += " " + more
		}
	}
	if (s.LastSeenAt != 0) == (s.StatusType == protocol.Online) && s.StatusType != protocol.Unlogined {
		b += " last seen " + s.LastSeenAt.String()
	}
	return b
}

func showSelf(ev *protocol.SelfEvent) string {
	switch ev.Type {
	case protocol.SelfStatus:
		return show(*ev.Status) + " " + string(ev.Cause)
	case protocol.SelfAvailability:
		return strings.TrimSpace(fmt.Sprint(ev.Availability.Lasting, " ", ev.Availability.Override))
	case protocol.SelfSessions:
		return "sessions " + showSessions(ev.Sessions)
	case protocol.SelfKicked:
		return fmt.Sprint(ev.SessionID, " ", ev.Reason)
	case protocol.SelfContacts:
		return fmt.Sprint("contacts +", ev.Added, " -", ev.Removed)
	}
	return ev.Type
}

func showSessions(list []protocol.Session) string {
	var all []string
	for _, x := range list {
		s := x.SessionID
		if x.Idle {
			s += " idle"
		}
		if !x.Live {
			s += " lost"
		}
		all = append(all, s)
	}
	return strings.Join(all, ", ")
}

func (p *probe) wantSessions(want string) {
	p.Helper()
	own := must[protocol.OwnStatusReply](p, p.about(protocol.OpStatus), struct{}{})
	if got := showSessions(own.Sessions); got != want {
		p.Errorf("sessions: got %q, want %q", got, want)
	}
}

type (
	loginReq  = protocol.LoginRequest
	renewReq  = protocol.RenewRequest
	logoutReq = protocol.LogoutRequest
	setReq    = protocol.SetRequest
)

func text(s string) setReq                     { return setReq{CustomStatus: &s} }
func available(a protocol.Availability) setReq { return setReq{Availability: &a} }
