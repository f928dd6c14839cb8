package service

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"presence/pkg/internal/refusal"
)

const (
	// retrySubscription is the pause between two attempts to make a subscription that the
	// broker refuses.
	retrySubscription = 5 * time.Second
	// refusalWithin bounds the wait for nats.go to report a refusal that it has already read
	// from the broker.
	refusalWithin = 100 * time.Millisecond
	// limitWithin is the same bound for a refusal that names no subject.
	limitWithin = 50 * time.Millisecond
	// roundPause is the least pause between two rounds that find out which subscriptions a
	// limit refuses. Each round makes all subscriptions anew, also those that work.
	roundPause = time.Second
	// requestsLostEvery is how often the only instance reports lost requests while it takes
	// none. Each report starts an amnesty of 30 s: meanwhile no renewal reaches anybody.
	requestsLostEvery = 20 * time.Second
	// subscribeWithin bounds the wait for the broker to have taken subscriptions.
	subscribeWithin = 5 * time.Second
)

// listener holds the subscriptions of an instance on the connection for requests:
// those of its endpoints, and those of discovery.
//
// The broker can refuse a subscription when it is made. It can also take one away later, when
// a reload narrows the permissions. nats.go does not make that one again when the permission is
// back. So the listener hears of each refusal, reports it, and tries again until all
// subscriptions are there.
//
// While the connection for answers is lost, the listener has no subscriptions for requests. So
// the broker gives the requests to other instances. The subscriptions of discovery stay: their
// answers leave by the connection for requests.
//
// Service.serve owns its goroutine, run. nats.go calls reported and the handlers.
type listener struct {
	service *Service
	nc      *nats.Conn
	wake    chan struct{}

	heard   atomic.Uint64 // counts refusals
	limited atomic.Uint64 // counts refusals for a limit; they do not name the subject
	suspect atomic.Bool   // after such a refusal: it is unknown which subscription is missing
	trying  atomic.Bool   // subscribeEach is at work: it waits for such refusals

	// work is held while subscriptions are made and given up. It guards what follows. leave
	// ends stopping first, so that whoever holds work soon lets it go.
	work           sync.Mutex
	left           bool      // no subscription is made any more
	roundAt        time.Time // when the last round over all subscriptions began
	requestsLostAt time.Time // when lost requests were last reported because none are taken
	stopping       context.Context
	stop           context.CancelFunc

	subscriptions []*subscription

	draining atomic.Int64 // counts subscriptions that are given up and not gone yet
	revived  atomic.Bool  // a reconnect made one of them again

	mu        sync.Mutex           // guards what follows, and what changes of subscriptions
	leaving   []*nats.Subscription // those that are being drained
	suspended bool                 // no requests are taken: the connection for answers is lost
}

// subscription is one subscription of a listener.
type subscription struct {
	subject, queue string
	endpoint       *endpoint // nil: it is one of discovery
	handle         nats.MsgHandler

	nats    *nats.Subscription // nil while there is none
	unsure  bool               // the broker has not confirmed it yet
	refused error              // why the broker does not have it; nil: it has
	logged  bool               // the log says that it is refused, and not yet that it is accepted
}

// there reports whether the broker has confirmed the subscription. The caller holds the
// listener's mu.
func (x *subscription) there() bool {
	return x.nats != nil && !x.unsure && x.refused == nil && !x.logged
}

// Reasons of a refusal, for people.
var (
	errNotPermitted = errors.New("the NATS user may not subscribe to it")
	errLimit        = errors.New("a limit on subscriptions is reached")
)

func newListener(s *Service) *listener {
	l := &listener{service: s, nc: s.cfg.Clients, wake: make(chan struct{}, 1)}
	l.stopping, l.stop = context.WithCancel(context.Background())
	for _, e := range s.endpoints {
		l.subscriptions = append(l.subscriptions, &subscription{subject: e.subject, queue: e.queue(), endpoint: e, handle: e.receive})
	}
	l.subscriptions = append(l.subscriptions, s.discovery()...)
	return l
}

// run keeps the subscriptions as they should be until ctx is done. It calls ready once, when
// all subscriptions are there for the first time.
func (l *listener) run(ctx context.Context, ready func()) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(l.stopping, cancel)()
	requests := l.nc.StatusChanged()
	defer l.nc.RemoveStatusListener(requests)
	ticker := time.NewTicker(retrySubscription)
	defer ticker.Stop()
	for {
		l.adjust(ctx)
		if ready != nil && l.trouble() == nil {
			ready()
			ready = nil
		}
		select {
		case <-ctx.Done():
			return
		case <-l.wake:
		case <-ticker.C:
		case <-requests:
		}
	}
}

// adjust makes the subscriptions that are missing, or gives up those for requests. While the
// connection for requests is lost it does nothing: nothing arrives, and nats.go makes the
// subscriptions again when the connection is back.
func (l *listener) adjust(ctx context.Context) {
	l.work.Lock()
	defer l.work.Unlock()
	if l.left || !l.nc.IsConnected() {
		return
	}
	if !l.service.replies.answersUp.Load() {
		l.suspend()
		if l.service.alone() && time.Since(l.requestsLostAt) >= requestsLostEvery {
			l.requestsLostAt = time.Now()
			l.service.reportRequestsLost()
		}
		l.subscribe(ctx, l.missing(func(x *subscription) bool { return x.endpoint == nil }))
		return
	}
	l.resume()
	if !l.suspect.Load() {
		l.subscribe(ctx, l.missing(func(*subscription) bool { return true }))
	}
	if l.suspect.Load() && time.Since(l.roundAt) >= roundPause { // else run looks again by itself
		l.roundAt = time.Now()
		l.subscribeEach(ctx, l.subscriptions)
	}
}

// suspend gives up the subscriptions for requests.
func (l *listener) suspend() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.suspended {
		l.service.log.Warn("the connection for answers is lost: no requests are taken until it is back")
	}
	l.suspended = true
	for _, x := range l.subscriptions {
		if x.endpoint != nil {
			l.drop(x)
		}
	}
}

// resume has requests taken again. Perhaps no other instance took them meanwhile, and no lease
// was extended (G6).
func (l *listener) resume() {
	l.mu.Lock()
	was := l.suspended
	l.suspended = false
	l.mu.Unlock()
	if was {
		l.service.log.Info("the connection for answers is back: requests are taken again, and nobody is dropped for a while")
		l.service.reportRequestsLost()
	}
}

// drop gives up a subscription. What the broker has already sent is still handled. The caller
// holds mu.
func (l *listener) drop(x *subscription) {
	if x.nats == nil {
		return
	}
	l.leaving = slices.DeleteFunc(l.leaving, func(sub *nats.Subscription) bool { return !sub.IsValid() })
	before := l.nc.Stats().Reconnects
	l.draining.Add(1)
	x.nats.SetClosedHandler(func(string) { l.drained(before) })
	if err := x.nats.Drain(); err == nil {
		l.leaving = append(l.leaving, x.nats)
	} else {
		l.draining.Add(-1)
		x.nats.SetClosedHandler(nil)
	}
	x.nats = nil
}

// drained is called when a subscription that was given up is gone. There may have been a
// reconnect in between: then nats.go made the subscription again, and does not tell the broker
// that it is gone now. The broker would give it a share of the requests for ever. After another
// reconnect the broker does not have it.
func (l *listener) drained(reconnectsBefore uint64) {
	if l.nc.Stats().Reconnects != reconnectsBefore {
		l.revived.Store(true)
	}
	if l.draining.Add(-1) == 0 && l.revived.Swap(false) && l.nc.IsConnected() {
		l.service.log.Warn("a reconnect made subscriptions again that were given up: reconnecting without them")
		_ = l.nc.ForceReconnect() // it fails on a closed connection, which has none of them
	}
}

// missing returns the subscriptions, out of some, that the broker does not have, or has not
// confirmed.
func (l *listener) missing(of func(*subscription) bool) (list []*subscription) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, x := range l.subscriptions {
		if of(x) && !x.there() {
			list = append(list, x)
		}
	}
	return list
}

// subscribe makes subscriptions and waits until the broker has taken or refused them. If a
// limit refused one before, it makes them one by one to find out which one that is.
func (l *listener) subscribe(ctx context.Context, list []*subscription) {
	if len(list) == 0 {
		return
	}
	l.mu.Lock()
	again := false
	for _, x := range list {
		again = again || errors.Is(x.refused, errLimit)
	}
	l.mu.Unlock()
	if again {
		l.subscribeEach(ctx, list)
		return
	}
	before, heard := l.nc.LastError(), l.heard.Load()
	for _, x := range list {
		l.make(x)
	}
	if l.flush(ctx) != nil {
		return // they stay unsure, and are made once more
	}
	if l.nc.LastError() != before {
		await(ctx, refusalWithin, func() bool { return l.heard.Load() != heard })
	}
	l.confirmed(list)
}

// subscribeEach makes subscriptions anew, one after the other, and so finds out which of them a
// limit refuses.
func (l *listener) subscribeEach(ctx context.Context, list []*subscription) {
	l.trying.Store(true)
	defer l.trying.Store(false)
	for _, x := range list {
		limited := l.limited.Load()
		l.make(x)
		if l.flush(ctx) != nil {
			return // the connection is lost, or ctx is done: another round will come
		}
		if await(ctx, limitWithin, func() bool { return l.limited.Load() != limited }) {
			l.refuse(x, errLimit)
		}
	}
	l.suspect.Store(false) // it is known now
	l.confirmed(list)
}

// make makes a subscription anew.
func (l *listener) make(x *subscription) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.drop(x)
	x.refused = nil
	sub, err := l.nc.QueueSubscribe(x.subject, x.queue, x.handle)
	if err == nil && x.endpoint != nil {
		err = sub.SetPendingLimits(nats.DefaultSubPendingMsgsLimit, l.service.limits.Load().PendingBytes)
	}
	if err != nil {
		x.refused = err
		return
	}
	x.nats, x.unsure = sub, true
}

// setPending bounds what may have arrived and not been looked at, of each subscription.
func (l *listener) setPending(bytes int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, x := range l.subscriptions {
		if x.endpoint != nil && x.nats != nil {
			_ = x.nats.SetPendingLimits(nats.DefaultSubPendingMsgsLimit, bytes) // it fails if it has ended, and make makes another
		}
	}
}

// flush waits for the broker to have taken what was sent to it. It fails when ctx is done, also if
// the broker answers at that moment: a caller who gives up learns nothing from it.
func (l *listener) flush(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, subscribeWithin)
	defer cancel()
	return l.nc.FlushWithContext(ctx)
}

// await waits until a condition holds, and reports whether it does in time.
func await(ctx context.Context, within time.Duration, holds func() bool) bool {
	for end := time.Now().Add(within); !holds(); {
		if ctx.Err() != nil || time.Now().After(end) {
			return false
		}
		time.Sleep(time.Millisecond)
	}
	return true
}

// confirmed is called when the broker has taken or refused some subscriptions. It logs which
// ones are accepted again. Requests that extend leases may have been missed meanwhile (G6).
func (l *listener) confirmed(list []*subscription) {
	leases := false
	l.mu.Lock()
	for _, x := range list {
		x.unsure = false
		if x.logged && x.refused == nil && x.nats != nil {
			x.logged = false
			leases = leases || x.endpoint != nil && x.endpoint.leases
			l.service.log.Info("the NATS server accepts the subscription again", "subject", x.subject)
		}
	}
	l.mu.Unlock()
	if leases {
		l.service.reportRequestsLost()
	}
}

// refuse notes that the broker does not have a subscription.
func (l *listener) refuse(x *subscription, why error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	x.refused = why
	if !x.logged {
		x.logged = true
		l.service.log.Error("the NATS server refuses a subscription: what is sent there does not reach this instance", "subject", x.subject, "err", why)
	}
}

// reported is called with each error that nats.go reports of the connection. It does not wait.
func (l *listener) reported(sub *nats.Subscription, err error) {
	switch {
	case errors.Is(err, nats.ErrSlowConsumer):
		l.lost(sub, err)
	case errors.Is(err, nats.ErrPermissionViolation):
		// Which subscription it is nats.go does not tell: with a queue group, and after a
		// reload, it does not know.
		r, ok := refusal.Read(err)
		if !ok || r.Publish {
			return
		}
		for _, x := range l.subscriptions {
			if x.subject == r.Subject && x.queue == r.Queue {
				l.refuse(x, errNotPermitted)
			}
		}
		l.heard.Add(1)
	case errors.Is(err, nats.ErrMaxSubscriptionsExceeded):
		l.limited.Add(1)
		l.suspect.Store(true)
		l.heard.Add(1)
		if !l.trying.Load() { // else each attempt would start the next one
			l.kick()
		}
	}
}

// kick has the listener look at once.
func (l *listener) kick() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// lost is called when nats.go dropped messages of a subscription because too many waited.
func (l *listener) lost(sub *nats.Subscription, err error) {
	l.mu.Lock()
	var of *subscription
	for _, x := range l.subscriptions {
		if x.nats != nil && x.nats == sub {
			of = x
		}
	}
	l.mu.Unlock()
	if of == nil {
		return
	}
	l.service.log.Error("requests were lost", "subject", of.subject, "err", err)
	if of.endpoint != nil && of.endpoint.leases {
		l.service.reportRequestsLost()
	}
}

// trouble returns an error of one line while not every request reaches this instance.
func (l *listener) trouble() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	var subjects []string
	var why error
	for _, x := range l.subscriptions {
		if x.refused != nil {
			subjects, why = append(subjects, x.subject), x.refused
		}
	}
	switch n := len(subjects); {
	case n > maxNamed:
		subjects = append(subjects[:maxNamed], fmt.Sprintf("and %d more", n-maxNamed))
		fallthrough
	case n > 0:
		return fmt.Errorf("the NATS server refuses the subscription to %s: %w", strings.Join(subjects, ", "), why)
	case l.suspended:
		return errNoAnswers
	case l.suspect.Load():
		return errSuspect
	}
	for _, x := range l.subscriptions {
		if x.nats == nil || x.unsure {
			return errors.New("starting: subscribing to requests")
		}
	}
	return nil
}

// maxNamed bounds how many refused subjects are named.
const maxNamed = 3

// errSuspect is the error until it is known which subscription a limit refuses.
var errSuspect = fmt.Errorf("the NATS server refuses a subscription: %w", errLimit)

// errNoAnswers says why an instance takes no requests.
var errNoAnswers = errors.New("the connection for answers is lost: no requests are taken")

// reachable reports whether the requests that open or extend leases reach this instance. While
// they do not, the instance must not let lease time pass (G6).
func (l *listener) reachable() bool {
	if !l.service.replies.requestsUp.Load() {
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, x := range l.subscriptions {
		if x.endpoint != nil && x.endpoint.leases && !x.there() {
			return false
		}
	}
	return true
}

// leave gives up all subscriptions for good. It does not wait for requests that the broker has
// already sent: arriving tells whether there are any.
func (l *listener) leave() {
	l.stop()
	l.work.Lock()
	defer l.work.Unlock()
	l.left = true
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, x := range l.subscriptions {
		l.drop(x)
	}
}

// arriving reports whether the broker may still send requests, or some that it sent are not
// handled yet. Only the listener's own subscriptions count.
func (l *listener) arriving() bool {
	if !l.nc.IsConnected() {
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, sub := range l.leaving {
		if sub.IsValid() {
			return true
		}
	}
	return false
}
