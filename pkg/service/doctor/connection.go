package doctor

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"presence/pkg/internal/refusal"
	"presence/pkg/protocol"
)

const (
	slowRoundTrip = 250 * time.Millisecond
	// A certificate should be renewed before so much of its life is left.
	expiresSoon = 14 * 24 * time.Hour
)

// asker asks over one connection in the clients' account.
type asker struct {
	nc       *nats.Conn
	subjects protocol.Subjects

	mu      sync.Mutex
	refused map[string]chan struct{} // closed when the server has refused to publish on the subject
	// noAnswers is the subject for answers, if the server refused the subscription to it.
	noAnswers string
	// noSubscription are the other subjects that may not be subscribed to.
	noSubscription map[string]bool
}

func newAsker(nc *nats.Conn, prefix string) *asker {
	if prefix == "" {
		prefix = protocol.DefaultPrefix
	}
	a := &asker{nc: nc, subjects: protocol.NewSubjects(prefix), refused: map[string]chan struct{}{}, noSubscription: map[string]bool{}}
	answers := refusal.Answers(nc)
	nc.SetErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
		r, ok := refusal.Read(err)
		if !ok {
			return
		}
		a.mu.Lock()
		defer a.mu.Unlock()
		switch {
		case r.Publish:
			closeOnce(a.refusal(r.Subject))
		case r.Subject == answers:
			a.noAnswers = r.Subject
		default:
			a.noSubscription[r.Subject] = true
		}
	})
	return a
}

// refusal returns the channel of a subject. The caller holds mu.
func (a *asker) refusal(subject string) chan struct{} {
	if a.refused[subject] == nil {
		a.refused[subject] = make(chan struct{})
	}
	return a.refused[subject]
}

func closeOnce(c chan struct{}) {
	select {
	case <-c:
	default:
		close(c)
	}
}

// Why a request has no answer.
var (
	errRefused = errors.New("the NATS server does not let this user publish there")
	errNobody  = errors.New("nobody subscribes to it")
	errSilent  = errors.New("no answer within " + answerWithin.String())
	errDeaf    = errors.New("this user may not subscribe to where answers arrive")
)

// request asks, and waits for answerWithin at most. The error is one of those above, that of the
// reply, or that of the context if it is done.
func (a *asker) request(whole context.Context, subject string, body, reply any) error {
	ctx, cancel := context.WithTimeout(whole, answerWithin)
	defer cancel()
	a.mu.Lock()
	refused := a.refusal(subject)
	a.mu.Unlock()
	stop := make(chan struct{})
	defer close(stop)
	go func() {
		select {
		case <-refused:
			cancel()
		case <-stop:
		}
	}()
	data, err := protocol.Marshal(body)
	if err != nil {
		return err
	}
	m, err := a.nc.RequestWithContext(ctx, subject, data)
	select {
	case <-refused:
		return errRefused
	default:
	}
	switch {
	case errors.Is(err, nats.ErrNoResponders):
		return errNobody
	case err != nil && whole.Err() != nil:
		return whole.Err()
	case err != nil && ctx.Err() != nil && a.isDeaf():
		return errDeaf
	case err != nil && ctx.Err() != nil:
		return errSilent
	case err != nil:
		return err
	}
	return read(m, reply)
}

// isDeaf reports whether answers cannot arrive.
func (a *asker) isDeaf() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.noAnswers != ""
}

// read reads a reply. If it is an error reply, it returns the error.
func read(m *nats.Msg, reply any) error {
	if m.Header.Get(protocol.ErrorHeader) != "" {
		e := new(protocol.Error)
		if err := protocol.Unmarshal(m.Data, e); err != nil || e.Name == "" {
			return errors.New(m.Header.Get(protocol.ErrorHeader))
		}
		return e
	}
	if reply == nil {
		return nil
	}
	if err := protocol.Unmarshal(m.Data, reply); err != nil {
		return fmt.Errorf("the answer cannot be read: %w", err)
	}
	return nil
}

// lookAtConnection looks at the connection itself.
func (a *asker) lookAtConnection(ctx context.Context, f *findings) {
	at := shownURL(a.nc.ConnectedUrl())
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	begun := time.Now()
	if err := a.nc.FlushWithContext(ctx); err != nil {
		f.failed("connection.server", &Problem{Found: fmt.Sprintf("connected to %s, which does not answer a PING within %v", at, answerWithin),
			Means: "the server or the network between hangs", Do: "look at that server and its log"})
	} else {
		f.add(judgeRoundTrip(at, a.nc.ConnectedServerVersion(), time.Since(begun)))
	}
	state, err := a.nc.TLSConnectionState()
	if err != nil {
		f.add(judgePlain(a.nc.ConnectedUrl()))
		return
	}
	f.add(judgeTLS(&state, time.Now()))
}

func judgeRoundTrip(at, version string, took time.Duration) Check {
	c := Check{Name: "connection.server", Result: OK, Found: fmt.Sprintf("connected to %s, NATS server %s, %s there and back", at, version, shown(took))}
	if took > slowRoundTrip {
		c.Result, c.Means, c.Do = Warn, "every request takes at least that long", "run this nearer to the server, or look at the network between"
	}
	return c
}

func judgePlain(server string) Check {
	c := Check{Name: "connection.tls", Result: OK, Found: "not encrypted, on this machine"}
	if u, err := url.Parse(server); err == nil {
		if u.Scheme == "wss" { // the library does not show the certificate
			c.Found = "encrypted (wss); its certificate was not looked at"
			return c
		}
		if ip := net.ParseIP(u.Hostname()); u.Hostname() != "localhost" && (ip == nil || !ip.IsLoopback()) {
			c.Result, c.Found = Warn, "not encrypted"
			c.Means, c.Do = "whoever is on the network between can read passwords and statuses", "give the NATS server a tls block (docs/security.md)"
		}
	}
	return c
}

func judgeTLS(state *tls.ConnectionState, now time.Time) Check {
	c := Check{Name: "connection.tls", Result: OK}
	version := tls.VersionName(state.Version)
	if len(state.PeerCertificates) == 0 {
		c.Found = version
		return c
	}
	end := state.PeerCertificates[0].NotAfter
	c.Found = fmt.Sprintf("%s, the server's certificate is valid until %s (%s)", version, end.Format(time.DateOnly), days(end.Sub(now)))
	switch {
	case now.After(end):
		c.Result, c.Found = Fail, fmt.Sprintf("the server's certificate expired on %s", end.Format(time.DateOnly))
		c.Means, c.Do = "clients that check it cannot connect", "renew it, and reload the NATS server (nats-server --signal reload)"
	case end.Sub(now) < expiresSoon:
		c.Result, c.Means, c.Do = Warn, "after that no client can connect", "renew it, and reload the NATS server (nats-server --signal reload)"
	}
	return c
}

// shownURL is a URL without its user and password.
func shownURL(s string) string {
	u, err := url.Parse(s)
	if err != nil {
		return "the server"
	}
	u.User = nil
	return u.String()
}

// shown is a short time for people.
func shown(d time.Duration) string {
	if d < 10*time.Millisecond {
		return fmt.Sprintf("%.1f ms", float64(d)/float64(time.Millisecond))
	}
	if d < time.Second {
		return fmt.Sprintf("%d ms", d.Milliseconds())
	}
	return d.Round(100 * time.Millisecond).String()
}

func days(d time.Duration) string {
	if d < 48*time.Hour {
		return fmt.Sprintf("%d hours", int(d.Hours()))
	}
	return fmt.Sprintf("%d days", int(d.Hours()/24))
}
