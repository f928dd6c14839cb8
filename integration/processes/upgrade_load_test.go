package processes

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"presence/integration/internal/wire"
	"presence/pkg/client"
	"presence/pkg/protocol"

	"github.com/nats-io/nats.go"
	"golang.org/x/sync/errgroup"
)

// What a rolling upgrade has to get through, beside what a rolling restart has.

// burst has ever more users set a text, many at once, while something happens. Each request is
// made once, and must be acknowledged.
func (l *steadyLoad) burst(t *testing.T, nc *nats.Conn, name string, happens func()) {
	t.Helper()
	stop := make(chan struct{})
	var callers errgroup.Group
	var sets atomic.Int64
	for c := range 16 {
		callers.Go(func() error {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return nil
				default:
				}
				text, user := "in a burst", fmt.Sprintf("burst-%s-%d-%d", name, c, i)
				done, err := wire.Ask[protocol.ChangeReply](nc, wire.To(protocol.OpSet, user), protocol.SetRequest{CustomStatus: &text})
				if err != nil {
					return fmt.Errorf("set of %s: %w", user, err)
				}
				l.note(done.Status)
				sets.Add(1)
			}
		})
	}
	within(wire.Soon, func() bool { return sets.Load() > 50 })
	happens()
	close(stop)
	if err := callers.Wait(); err != nil {
		t.Error(err)
	}
}

// contacts adds one of a user's contacts and removes it again.
func (l *steadyLoad) contacts(nc *nats.Conn, user string, pause time.Duration) {
	l.keep("contacts of "+user, 2*pause, func(i int) error {
		friend := fmt.Sprint("friend", i)
		for _, request := range []protocol.ContactsRequest{{Add: []string{friend}}, {Remove: []string{friend}}} {
			reply, err := wire.Ask[protocol.ContactsReply](nc, wire.To(protocol.OpContacts, user), request)
			if err != nil {
				return err
			}
			if slices.Contains(reply.Contacts, friend) != slices.Contains(request.Add, friend) {
				return fmt.Errorf("after %+v: got %q", request, reply.Contacts)
			}
		}
		return nil
	})
}

// expire has a user set something for a second, and waits until it is gone by itself.
func (l *steadyLoad) expire(nc *nats.Conn, user string, pause time.Duration) {
	l.keep("deadlines of "+user, pause, func(i int) error {
		text, busy, second := fmt.Sprint("for a moment ", i), protocol.Busy, protocol.Ptr[int64](1)
		request := protocol.SetRequest{CustomStatus: &text, ExpiresInSeconds: second}
		if i%2 == 1 {
			request = protocol.SetRequest{Availability: &busy, AvailabilityExpiresInSeconds: second}
		}
		done, err := wire.Ask[protocol.ChangeReply](nc, wire.To(protocol.OpSet, user), request)
		if err != nil {
			return err
		}
		l.note(done.Status)
		for end := time.Now().Add(wire.Soon); ; time.Sleep(pause) {
			reply, err := wire.Ask[protocol.GetReply](nc, wire.Subjects.Get(), protocol.GetRequest{UserIDList: []string{user}, Fresh: true})
			if err != nil {
				return err
			}
			got := reply.SuccessUserList[0]
			if got.CustomStatus == "" && got.Availability == "" {
				return nil
			}
			if time.Now().After(end) {
				return fmt.Errorf("it does not end: %+v", got)
			}
		}
	})
}

// setHidden has an invisible user set texts, which nobody else may notice (G9).
func (l *steadyLoad) setHidden(nc *nats.Conn, user string, pause time.Duration) {
	l.keep("texts of "+user, pause, func(i int) error {
		text := fmt.Sprint("unseen ", i)
		done, err := wire.Ask[protocol.ChangeReply](nc, wire.To(protocol.OpSet, user), protocol.SetRequest{CustomStatus: &text})
		if err == nil && done.Status.CustomStatus != text {
			err = fmt.Errorf("set %q: got %+v", text, done)
		}
		return err
	})
}

// setBySession logs a user in through a client, which sets texts in the session.
func (l *steadyLoad) setBySession(t *testing.T, c *client.Client, user string, pause time.Duration) {
	session := wire.LoginClient(t, c, user, client.LoginOptions{TTL: upgradeTTL})
	l.keep("a session's texts", pause, func(i int) error {
		status, err := session.SetSelfStatus(context.Background(), fmt.Sprint("in a session ", i))
		if err == nil {
			l.note(status)
		}
		return err
	})
}

// changeByGateway has a gateway set the texts of one user, and log another in and out.
func (l *steadyLoad) changeByGateway(gateway *client.Gateway, user, comer string, pause time.Duration) {
	l.keep("a gateway's changes of "+user, pause, func(i int) error {
		ctx := context.Background()
		if err := gateway.SetStatus(ctx, user, fmt.Sprint("by a gateway ", i), client.IfSession("s")); err != nil {
			return fmt.Errorf("setting a text: %w", err)
		}
		if err := gateway.Login(ctx, comer, "s", client.GatewayLogin{}); err != nil {
			return fmt.Errorf("logging %s in: %w", comer, err)
		}
		if err := gateway.Logout(ctx, comer, "s"); err != nil {
			return fmt.Errorf("logging %s out: %w", comer, err)
		}
		return nil
	})
}

// askAsOperator lists everybody, where those who stay must be ONLINE, and asks for more.
func (l *steadyLoad) askAsOperator(nc *nats.Conn, stay []string, pause time.Duration) {
	l.keep("an operator's questions", pause, func(int) error {
		online := map[string]bool{}
		for request, begun := (protocol.ListRequest{StatusType: protocol.Online, Limit: 100}), false; request.Cursor != "" || !begun; begun = true {
			reply, err := wire.Ask[protocol.ListReply](nc, wire.Subjects.List(), request)
			if err != nil {
				return fmt.Errorf("list: %w", err)
			}
			for _, s := range reply.Users {
				online[s.UserID] = true
			}
			request.Cursor = reply.Cursor
		}
		for _, user := range stay {
			if !online[user] {
				return fmt.Errorf("list: %s is not there", user)
			}
		}
		if _, err := wire.Ask[protocol.StatsReply](nc, wire.Subjects.Stats(), "{}"); err != nil {
			return fmt.Errorf("stats: %w", err)
		}
		explained, err := wire.Ask[protocol.ExplainReply](nc, wire.Subjects.Explain(), protocol.UserRequest{UserID: stay[0]})
		if err == nil && explained.Public.StatusType != protocol.Online {
			err = fmt.Errorf("got %+v", explained.Public)
		}
		if err != nil {
			return fmt.Errorf("explain: %w", err)
		}
		return nil
	})
}
