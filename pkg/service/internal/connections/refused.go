package connections

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"presence/pkg/internal/refusal"
)

const (
	// retryEvery is the least pause between two attempts to make a subscription that the broker
	// refuses. Meanwhile the servers are asked for their connections as often. If that takes
	// long, the pause is longer: see askShare.
	retryEvery = 5 * time.Second
	// refusalWithin bounds the wait for nats.go to report a refusal that it has already read from
	// the broker.
	refusalWithin = 100 * time.Millisecond
)

// subscription is a subscription of a watcher.
type subscription struct {
	subject, queue string
	handle         nats.MsgHandler

	// The watcher's mu guards the rest.
	sub      *nats.Subscription // nil while there is none
	refused  error              // why the broker does not have it
	refusals int                // how often a refusal was reported
}

// Reasons of a refusal, for people.
var (
	errNotPermitted = errors.New("the NATS user may not subscribe to it")
	errLimit        = errors.New("a limit on subscriptions is reached")
)

// subscribe makes subscriptions, and waits until the broker has taken or refused them.
func (w *Watcher) subscribe(list ...*subscription) error {
	for _, x := range list {
		if err := w.make(x); err != nil {
			return err
		}
	}
	return w.cfg.System.FlushTimeout(listenWithin)
}

// make makes a subscription anew. One goroutine at a time may call it. It uses the connection
// without holding mu, because a connection that is stuck keeps it waiting.
func (w *Watcher) make(x *subscription) error {
	w.mu.Lock()
	old, left := x.sub, w.left
	w.mu.Unlock()
	if left {
		return nil
	}
	if old != nil {
		_ = old.Unsubscribe() // it fails if the connection is closed
	}
	sub, err := w.cfg.System.QueueSubscribe(x.subject, x.queue, x.handle)
	if err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.left {
		_ = sub.Unsubscribe()
		return nil
	}
	x.sub = sub
	if x == &w.closed {
		w.drops = sub.StatusChanged(nats.SubscriptionSlowConsumer)
	}
	return nil
}

// stop gives up all subscriptions.
func (w *Watcher) stop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.left = true
	for _, x := range w.all() {
		if x.sub != nil {
			_ = x.sub.Unsubscribe() // it fails if the subscription is gone already
		}
	}
}

func (w *Watcher) all() []*subscription { return []*subscription{&w.closed, &w.lame, &w.pongs} }

// Reported must be called with each error that nats.go reports of the system connection. It does
// not wait.
func (w *Watcher) Reported(err error) {
	r, denied := refusal.Read(err)
	limit := errors.Is(err, nats.ErrMaxSubscriptionsExceeded) // it names no subject
	if !limit && (!denied || r.Publish) {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, x := range w.all() {
		switch {
		case x.sub == nil:
		case limit:
			w.refuse(x, errLimit)
		case x.subject == r.Subject && x.queue == r.Queue:
			w.refuse(x, errNotPermitted)
		}
	}
}

// refuse notes that the broker may not have a subscription. The caller holds mu.
func (w *Watcher) refuse(x *subscription, why error) {
	if x.refused == nil {
		w.log.Error("the NATS server refuses a subscription in the system account: closed connections are noticed late", "subject", x.subject, "err", why)
		select {
		case w.wake <- struct{}{}:
		default:
		}
	}
	x.refused = why
	x.refusals++
}

// renew makes the subscriptions anew that the broker refused. Then it asks all servers to answer.
func (w *Watcher) renew(ctx context.Context) {
	refusals := make(map[*subscription]int)
	w.mu.Lock()
	for _, x := range w.all() {
		if x.refused != nil {
			refusals[x] = x.refusals
		}
	}
	w.mu.Unlock()
	before := w.cfg.System.LastError()
	for x := range refusals {
		if w.make(x) != nil {
			return // the connection is closed
		}
	}
	within, cancel := context.WithTimeout(ctx, retryEvery)
	defer cancel()
	if w.cfg.System.FlushWithContext(within) != nil {
		return
	}
	if last := w.cfg.System.LastError(); last != before || errors.Is(last, nats.ErrMaxSubscriptionsExceeded) {
		pause(ctx, refusalWithin)
	}
	w.mu.Lock()
	for x, n := range refusals {
		if x.refusals == n {
			x.refused = nil
			w.log.Info("the NATS server accepts the subscription again", "subject", x.subject)
		}
	}
	w.mu.Unlock()
	w.ping()
}

func (w *Watcher) whyRefused(x *subscription) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return x.refused
}

// Trouble returns an error of one line that names the subscriptions that the broker refuses. nil:
// it refuses none.
func (w *Watcher) Trouble() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	var subjects []string
	var why error
	for _, x := range w.all() {
		if x.refused != nil {
			subjects, why = append(subjects, x.subject), x.refused
		}
	}
	if why == nil {
		return nil
	}
	return fmt.Errorf("closed connections are noticed late: the NATS server refuses the subscription to %s in the system account: %w", strings.Join(subjects, ", "), why)
}
