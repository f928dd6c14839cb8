package service

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
)

const (
	// retrySubscription is the pause between two attempts to get a subscription that
	// the broker refuses.
	retrySubscription = 5 * time.Second
	// refusalWithin bounds the wait for nats.go to hand on a refusal that it has
	// already read from the broker.
	refusalWithin = 100 * time.Millisecond
	// limitWithin is that wait where the refusal names no subject.
	limitWithin = 50 * time.Millisecond
	// roundPause is the least pause between two rounds that find out which subscriptions
	// a limit refuses. Each makes all of them anew, the healthy ones too.
	roundPause = time.Second
	// deafEvery is how often an instance that takes no requests, and that no other runs
	// beside, starts the amnesty anew, which lasts 30 s: renewals reach nobody.
	deafEvery = 20 * time.Second
	// subscribeWithin bounds the wait for the broker to have taken subscriptions.
	subscribeWithin = 5 * time.Second
)

// listener holds the subscriptions of an instance on the connection for requests:
// those of its endpoints, and those of discovery.
//
// The broker can refuse a subscription when it is made, and can take one away later,
// when permissions are narrowed by a reload. nats.go does not make it again when the
// permission is back. So the listener hears what the broker refuses, says so, and
// tries again until all subscriptions are there.
//
// While the connection for answers is gone it has no subscriptions for requests, so
// that the broker gives the requests to other instances. Those of discovery stay:
// their answers leave by the connection for requests.
type listener struct {
	service *Service
	nc      *nats.Conn
	wake    chan struct{}

	heard   atomic.Uint64 // refusals
	limited atomic.Uint64 // refusals for a limit; they do not name the subject
	suspect atomic.Bool   // one came, and it is unknown which subscription is missing
	trying  atomic.Bool   // subscribeEach waits for such a refusal, and provokes it

	// work is held while subscriptions are made and given up. It guards left: none is
	// made any more. leave ends stopping first, so that work ends early.
	work     sync.Mutex
	left     bool
	roundAt  time.Time // when the last round over all subscriptions began
	deafAt   time.Time // when an amnesty was last started because no requests are taken
	stopping context.Context
	stop     context.CancelFunc

	ears []*ear

	draining atomic.Int64 // subscriptions that are given up and not gone yet
	ghosts   atomic.Bool  // one of them was made again by a reconnect

	mu        sync.Mutex           // guards what follows, and what changes of ears
	leaving   []*nats.Subscription // that are being drained
	suspended bool                 // no requests are taken: there is no way for answers
}

// ear is one subscription of a listener.
type ear struct {
	subject, queue string
	endpoint       *endpoint // nil of discovery
	handle         nats.MsgHandler

	sub     *nats.Subscription // nil while there is none
	unsure  bool               // the broker has not confirmed it yet
	refused error              // why the broker does not have it
	told    bool               // the log says that it is refused, and not yet that it is accepted
}

// there reports whether the broker has confirmed the subscription. The listener's mu is held.
func (x *ear) there() bool { return x.sub != nil && !x.unsure && x.refused == nil && !x.told }

// Reasons of a refusal, for people.
var (
	errNotPermitted = errors.New("the NATS user may not subscribe to it")
	errLimit        = errors.New("a limit on subscriptions is reached")
)

func newListener(s *Service) *listener {
	l := &listener{service: s, nc: s.cfg.Clients, wake: make(chan struct{}, 1)}
	l.stopping, l.stop = context.WithCancel(context.Background())
	for _, e := range s.endpoints {
		l.ears = append(l.ears, &ear{subject: e.subject, queue: e.queue(), endpoint: e, handle: e.receive})
	}
	l.ears = append(l.ears, s.discovery()...)
	return l
}

// run keeps the subscriptions as they should be until ctx is done. It calls ready
// once, when all are there for the first time.
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

// adjust makes what subscriptions are missing, or gives up those for requests. While
// the connection for requests is lost there is nothing to do: nothing arrives, and
// nats.go makes its subscriptions again.
func (l *listener) adjust(ctx context.Context) {
	l.work.Lock()
	defer l.work.Unlock()
	if l.left || !l.nc.IsConnected() {
		return
	}
	if !l.service.replies.up.Load() {
		l.suspend()
		if l.service.alone() && time.Since(l.deafAt) >= deafEvery {
			l.deafAt = time.Now()
			l.service.reportDeaf()
		}
		l.subscribe(ctx, l.missing(func(x *ear) bool { return x.endpoint == nil }))
		return
	}
	l.resume()
	if !l.suspect.Load() {
		l.subscribe(ctx, l.missing(func(*ear) bool { return true }))
	}
	if l.suspect.Load() && time.Since(l.roundAt) >= roundPause { // else run looks again by itself
		l.roundAt = time.Now()
		l.subscribeEach(ctx, l.ears)
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
	for _, x := range l.ears {
		if x.endpoint != nil {
			l.drop(x)
		}
	}
}

// resume has requests taken again. Where no other instance took them meanwhile, leases
// were not extended (G6).
func (l *listener) resume() {
	l.mu.Lock()
	was := l.suspended
	l.suspended = false
	l.mu.Unlock()
	if was {
		l.service.log.Info("the connection for answers is back: requests are taken again, and nobody is dropped for a while")
		l.service.reportDeaf()
	}
}

// drop gives up a subscription; what the broker has already sent is still handled.
// mu is held.
func (l *listener) drop(x *ear) {
	if x.sub == nil {
		return
	}
	l.leaving = slices.DeleteFunc(l.leaving, func(sub *nats.Subscription) bool { return !sub.IsValid() })
	before := l.nc.Stats().Reconnects
	l.draining.Add(1)
	x.sub.SetClosedHandler(func(string) { l.drained(before) })
	if err := x.sub.Drain(); err == nil {
		l.leaving = append(l.leaving, x.sub)
	} else {
		l.draining.Add(-1)
		x.sub.SetClosedHandler(nil)
	}
	x.sub = nil
}

// drained is told that a subscription which was given up is gone. nats.go makes one that
// is not gone yet again at a reconnect, and never tells the broker that it has gone
// since: the broker would give it its share of the requests for ever. Another reconnect
// leaves it out.
func (l *listener) drained(reconnectsBefore uint64) {
	if l.nc.Stats().Reconnects != reconnectsBefore {
		l.ghosts.Store(true)
	}
	if l.draining.Add(-1) == 0 && l.ghosts.Swap(false) && l.nc.IsConnected() {
		l.service.log.Warn("subscriptions that are given up were made again by a reconnect: reconnecting without them")
		_ = l.nc.ForceReconnect() // which fails where it is closed, and then they are gone too
	}
}

// missing returns those of some ears that have no subscription, or a refused one, or one that the
// broker has not confirmed.
func (l *listener) missing(of func(*ear) bool) (list []*ear) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, x := range l.ears {
		if of(x) && !x.there() {
			list = append(list, x)
		}
	}
	return list
}

// subscribe makes subscriptions and waits until the broker has taken or refused
// them. Where some were refused before, each is made alone: a limit then shows which
// one it refuses.
func (l *listener) subscribe(ctx context.Context, list []*ear) {
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
		return // nobody knows what the broker has taken: missing has them made once more
	}
	if l.nc.LastError() != before {
		await(ctx, refusalWithin, func() bool { return l.heard.Load() != heard })
	}
	l.confirmed(list)
}

// subscribeEach makes subscriptions anew, one after the other, and finds out which
// of them a limit refuses.
func (l *listener) subscribeEach(ctx context.Context, list []*ear) {
	l.trying.Store(true)
	defer l.trying.Store(false)
	for _, x := range list {
		limited := l.limited.Load()
		l.make(x)
		if l.flush(ctx) != nil {
			return // the connection is lost, or it ends: another round will come
		}
		if await(ctx, limitWithin, func() bool { return l.limited.Load() != limited }) {
			l.refuse(x, errLimit)
		}
	}
	l.suspect.Store(false) // it is known now
	l.confirmed(list)
}

// make makes one subscription in the place of the one before.
func (l *listener) make(x *ear) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.drop(x)
	x.refused = nil
	sub, err := l.nc.QueueSubscribe(x.subject, x.queue, x.handle)
	if err == nil && x.endpoint != nil {
		err = sub.SetPendingLimits(nats.DefaultSubPendingMsgsLimit, l.service.cfg.Limits.PendingBytes)
	}
	if err != nil {
		x.refused = err
		return
	}
	x.sub, x.unsure = sub, true
}

func (l *listener) flush(ctx context.Context) error {
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

// confirmed is told that the broker has taken or refused some subscriptions. It says which are
// accepted again. Requests that extend leases may have been missed meanwhile (G6).
func (l *listener) confirmed(list []*ear) {
	leases := false
	l.mu.Lock()
	for _, x := range list {
		x.unsure = false
		if x.told && x.refused == nil && x.sub != nil {
			x.told = false
			leases = leases || x.endpoint != nil && x.endpoint.leases
			l.service.log.Info("the NATS server accepts the subscription again", "subject", x.subject)
		}
	}
	l.mu.Unlock()
	if leases {
		l.service.reportDeaf()
	}
}

// refuse notes that the broker does not have a subscription.
func (l *listener) refuse(x *ear, why error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	x.refused = why
	if !x.told {
		x.told = true
		l.service.log.Error("the NATS server refuses a subscription: what is sent there does not reach this instance", "subject", x.subject, "err", why)
	}
}

// refusedText reads from the broker's text which subscription it does not have. nats.go
// does not tell: with a queue group and after a reload it does not know.
var refusedText = regexp.MustCompile(`(?i)violation for subscription to "([^"]+)"(?: using queue "([^"]+)")?`)

// reported is told what nats.go reports of the connection. It does not wait.
func (l *listener) reported(sub *nats.Subscription, err error) {
	switch {
	case errors.Is(err, nats.ErrSlowConsumer):
		l.lost(sub, err)
	case errors.Is(err, nats.ErrPermissionViolation):
		m := refusedText.FindStringSubmatch(err.Error())
		if m == nil {
			return
		}
		for _, x := range l.ears {
			if x.subject == m[1] && x.queue == m[2] {
				l.refuse(x, errNotPermitted)
			}
		}
		l.heard.Add(1)
	case errors.Is(err, nats.ErrMaxSubscriptionsExceeded):
		l.limited.Add(1)
		l.suspect.Store(true)
		l.heard.Add(1)
		if !l.trying.Load() { // or each attempt would call for the next one
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

// lost is told that messages of a subscription were dropped: more of them waited
// than may.
func (l *listener) lost(sub *nats.Subscription, err error) {
	l.mu.Lock()
	var of *ear
	for _, x := range l.ears {
		if x.sub != nil && x.sub == sub {
			of = x
		}
	}
	l.mu.Unlock()
	if of == nil {
		return
	}
	l.service.log.Error("requests were lost", "subject", of.subject, "err", err)
	if of.endpoint != nil && of.endpoint.leases {
		l.service.reportDeaf()
	}
}

// trouble returns why not every request reaches this instance, in one line.
func (l *listener) trouble() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	var subjects []string
	var why error
	for _, x := range l.ears {
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
	for _, x := range l.ears {
		if x.sub == nil || x.unsure {
			return errors.New("starting: subscribing to requests")
		}
	}
	return nil
}

// maxNamed bounds how many refused subjects are named.
const maxNamed = 3

// errSuspect is said until it is known which subscriptions a limit refuses.
var errSuspect = fmt.Errorf("the NATS server refuses a subscription: %w", errLimit)

// errNoAnswers says why an instance takes no requests.
var errNoAnswers = errors.New("the connection for answers is lost: no requests are taken")

// reachable reports whether requests that open or extend leases reach this instance.
// While they do not, it must not let lease time go by (G6).
func (l *listener) reachable() bool {
	if !l.service.replies.requestsUp.Load() {
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, x := range l.ears {
		if x.endpoint != nil && x.endpoint.leases && !x.there() {
			return false
		}
	}
	return true
}

// leave gives up all subscriptions for good. It does not wait for what the broker
// has already sent: see arriving.
func (l *listener) leave() {
	l.stop()
	l.work.Lock()
	defer l.work.Unlock()
	l.left = true
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, x := range l.ears {
		l.drop(x)
	}
}

// arriving reports whether the broker may still send requests, or some that it sent
// are not handled. Only the listener's own subscriptions count.
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
