package service

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"presence/pkg/internal/refusal"
)

const (
	// requesterRetry bounds the wait for an answer, and is the pause before the next question.
	requesterRetry = time.Second
	// requesterRest is the least pause between two reconnects for its sake. It doubles up to
	// requesterRestMost while they do not help.
	requesterRest     = 2 * time.Second
	requesterRestMost = 30 * time.Second
	// requesterWithin bounds the wait for the broker's answer, and for a reconnect.
	requesterWithin = 5 * time.Second
	// requesterShown is how long another refusal is told of after it came. What the service does
	// on these connections it does again before that.
	requesterShown = 30 * time.Second
)

// requester looks after the subscription by which nats.go hears the answers to all requests of a
// connection, be it the journal's or that in the system account.
//
// The broker can refuse it, and can take it away later, when permissions are narrowed by a
// reload. nats.go makes it once for a connection, and again after a reconnect only. So each
// request waits in vain from then on, also when the permission is back. The requester asks again
// and again whether the broker would take such a subscription. When it does the requester
// reconnects.
//
//	refused ─► a request ─► answered: all is well
//	                     └► a subscription of the same subject ─► refused: from the start, later
//	                                                           └► taken: reconnect
//
// A limit on subscriptions names none, so a request tells whether it is this one.
//
// Other refusals on the connection end by themselves, because what was refused is done again.
// The requester only remembers the last one, to tell people.
type requester struct {
	nc      *nats.Conn
	account string // for people
	ask     string // what is asked to find out whether answers are heard
	answers string // the subject on which nats.go hears them
	log     *slog.Logger
	wake    chan struct{}

	heard   atomic.Uint64 // refusals of the subscription
	limited atomic.Uint64 // refusals for a limit, which name no subscription

	mu      sync.Mutex // guards the rest
	suspect error      // why requests may get no answer; nil where nothing speaks for it
	refused error      // why they get none; nil where they do
	other   error      // what else was refused last, for people
	otherAt time.Time
}

func newRequester(nc *nats.Conn, account, ask string, log *slog.Logger) *requester {
	return &requester{nc: nc, account: account, ask: ask, answers: refusal.Answers(nc), log: log, wake: make(chan struct{}, 1)}
}

// reported is told what nats.go reports of the connection. It does not wait.
func (x *requester) reported(_ *nats.Subscription, err error) {
	if errors.Is(err, nats.ErrMaxSubscriptionsExceeded) {
		x.limited.Add(1)
		x.remember(fmt.Errorf("a subscription in the %s account: %w", x.account, errLimit))
		x.doubt(errLimit)
	}
	r, ok := refusal.Read(err)
	switch {
	case !ok:
	case !r.Publish && r.Subject == x.answers:
		x.heard.Add(1)
		x.refuse(errNotPermitted)
		x.doubt(errNotPermitted)
	case r.Publish:
		x.remember(fmt.Errorf("messages on %s in the %s account", shownSubject(r.Subject, x.subject()), x.account))
	default:
		x.remember(fmt.Errorf("the subscription to %s in the %s account", shownSubject(r.Subject, x.subject()), x.account))
	}
}

// remember remembers what was refused, for people.
func (x *requester) remember(what error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.other, x.otherAt = what, time.Now()
}

// subject is where answers arrive, for people.
func (x *requester) subject() string {
	tokens := strings.Split(x.answers, ".")
	return strings.Join(tokens[:len(tokens)-2], ".") + ".>"
}

// shownSubject shortens a subject to what permissions speak of. What follows can name a user.
func shownSubject(subject, inbox string) string {
	if strings.HasPrefix(subject, strings.TrimSuffix(inbox, ">")) {
		return inbox
	}
	keep := 5 // such as $JS.API.CONSUMER.CREATE.PRESENCE_JOURNAL, $SYS.REQ.SERVER.<id>.CONNZ
	if strings.HasPrefix(subject, "$KV.") || strings.HasPrefix(subject, "$O.") {
		keep = 2
	}
	tokens := strings.Split(subject, ".")
	if len(tokens) <= keep {
		return subject
	}
	return strings.Join(tokens[:keep], ".") + ".>"
}

// doubt has run find out whether answers are heard.
func (x *requester) doubt(why error) {
	x.mu.Lock()
	x.suspect = why
	x.mu.Unlock()
	select {
	case x.wake <- struct{}{}:
	default:
	}
}

// refuse notes that answers are not heard.
func (x *requester) refuse(why error) {
	x.mu.Lock()
	first := x.refused == nil
	x.refused = why
	x.mu.Unlock()
	if first {
		x.log.Error("the NATS server refuses the subscription by which answers are heard: requests wait in vain until it takes it", "account", x.account, "subject", x.subject(), "err", why)
	}
}

// well notes that answers are heard, as of so many refusals.
func (x *requester) well(refusals uint64) {
	x.mu.Lock()
	was := x.refused != nil
	if x.refusals() == refusals {
		x.suspect, x.refused = nil, nil
	}
	x.mu.Unlock()
	if was {
		x.log.Info("answers are heard again", "account", x.account)
	}
}

// refusals counts what speaks against it that answers are heard.
func (x *requester) refusals() uint64 { return x.heard.Load() + x.limited.Load() }

// doubted returns why answers may not be heard; nil where nothing speaks for it.
func (x *requester) doubted() error {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.suspect
}

// trouble says that answers are not heard and why; nil where they are.
func (x *requester) trouble() error {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.refused == nil {
		return nil
	}
	return fmt.Errorf("the NATS server refuses the subscription to %s in the %s account: %w", x.subject(), x.account, x.refused)
}

// refusal says what the broker has refused of late; nil for nothing.
func (x *requester) refusal() error {
	if err := x.trouble(); err != nil {
		return err
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.other == nil || time.Since(x.otherAt) > requesterShown {
		return nil
	}
	return fmt.Errorf("the NATS server refused %w (%v ago)", x.other, time.Since(x.otherAt).Round(time.Second))
}

// run sees to the subscription until ctx is done.
func (x *requester) run(ctx context.Context) {
	x.reported(nil, x.nc.LastError()) // it may have been refused before anybody listened
	rest := requesterRest
	for ctx.Err() == nil {
		why, refusals := x.doubted(), x.refusals()
		switch {
		case why == nil:
			rest = requesterRest
			select {
			case <-ctx.Done():
			case <-x.wake:
			}
			continue
		case !x.nc.IsConnected():
		case x.answered(ctx):
			x.well(refusals)
		default:
			x.refuse(why)
			if !x.allowed(ctx) {
				break
			}
			x.log.Warn("the NATS server takes the subscription by which answers are heard again: reconnecting", "account", x.account)
			if refusals = x.refusals(); x.reconnect(ctx) {
				x.well(refusals)
				break
			}
			sleepFor(ctx, rest)
			rest = min(2*rest, requesterRestMost)
		}
		sleepFor(ctx, requesterRetry)
	}
}

// answered reports whether a request is answered, be it by the broker that there is nobody.
func (x *requester) answered(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, requesterRetry)
	defer cancel()
	_, err := x.nc.RequestWithContext(ctx, x.ask, nil)
	return err == nil || errors.Is(err, nats.ErrNoResponders)
}

// allowed reports whether the broker takes a subscription to the subject of answers.
func (x *requester) allowed(ctx context.Context) bool {
	return x.taken(ctx, func() error {
		sub, err := x.nc.SubscribeSync(x.answers)
		if err == nil {
			defer func() { _ = sub.Unsubscribe() }() // which fails where the connection is lost, and then it is gone too
			err = x.flush(ctx)
		}
		return err
	})
}

// taken reports whether something is done, and the broker refuses nothing meanwhile.
func (x *requester) taken(ctx context.Context, do func() error) bool {
	refusals, limited := x.refusals(), x.limited.Load()
	if do() != nil {
		return false
	}
	awaitTold(ctx, x.nc)
	if errors.Is(x.nc.LastError(), nats.ErrMaxSubscriptionsExceeded) { // one is like the other
		await(ctx, limitWithin, func() bool { return x.limited.Load() != limited })
	}
	return x.refusals() == refusals
}

// reconnect has nats.go make the subscription again, and reports whether the broker takes it.
func (x *requester) reconnect(ctx context.Context) bool {
	return x.taken(ctx, func() error {
		before := x.nc.Stats().Reconnects
		if err := x.nc.ForceReconnect(); err != nil {
			return err
		}
		if !await(ctx, requesterWithin, func() bool { return x.nc.Stats().Reconnects != before && x.nc.IsConnected() }) {
			return nats.ErrTimeout
		}
		return x.flush(ctx)
	})
}

func (x *requester) flush(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, requesterWithin)
	defer cancel()
	return x.nc.FlushWithContext(ctx)
}

// sleepFor waits, or until ctx is done.
func sleepFor(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}
