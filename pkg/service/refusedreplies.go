package service

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"

	"presence/pkg/internal/refusal"
)

// refusedReplies hears which answers the broker refuses on one of the connections that answers
// leave by. Requests are done then, and nobody learns it.
//
// Whoever asks chooses the reply subject, and may choose one that nobody may publish on. So a
// refusal alone proves nothing. A message is published beside the subject that was refused, where
// nobody listens. Only if the broker refuses that too, answers are lost. It is tried again until
// the broker takes it.
type refusedReplies struct {
	nc      *nats.Conn
	log     *slog.Logger
	wake    chan struct{} // a refusal is to be looked at; holds one
	attempt attempt       // of run

	mu      sync.Mutex // guards the rest
	heard   string     // the reply subject that was refused last and not looked at; empty for none
	refused string     // the subject of an attempt that the broker refused; empty for none
}

func newRefusedReplies(nc *nats.Conn, log *slog.Logger) *refusedReplies {
	return &refusedReplies{nc: nc, log: log, wake: make(chan struct{}, 1)}
}

// reported is told what the broker refuses. It does not wait.
func (x *refusedReplies) reported(r refusal.Refusal) {
	if !r.Publish || !isInbox(r.Subject) {
		return
	}
	x.attempt.reported(r)
	x.mu.Lock()
	x.heard = r.Subject
	x.mu.Unlock()
	select {
	case x.wake <- struct{}{}:
	default:
	}
}

// isInbox reports whether presenced may have to answer on a subject (PROTOCOL 9), and the broker
// can take messages there.
func isInbox(subject string) bool {
	tokens := strings.Split(subject, ".")
	for _, token := range tokens {
		if token == "" || token == "*" || token == ">" {
			return false
		}
	}
	return len(tokens) > 1 && (tokens[0] == "_INBOX" || tokens[0] == "_R_")
}

// beside returns a subject beside another, which nobody knows.
func beside(subject string) string {
	return subject[:strings.LastIndexByte(subject, '.')+1] + uuid.NewString()
}

// run looks at refusals until ctx is done.
func (x *refusedReplies) run(ctx context.Context) {
	pause := publishRetry
	for ctx.Err() == nil {
		subject := x.next()
		if subject == "" {
			pause = publishRetry
			select {
			case <-ctx.Done():
			case <-x.wake:
			}
			continue
		}
		try := beside(subject)
		taken, err := x.attempt.accepted(try, func() error { return x.nc.Publish(try, nil) }, func() error { return x.arrived(ctx) })
		if err == nil {
			x.note(try, taken)
		}
		sleepFor(ctx, pause) // also where it is taken: whoever asks can provoke the next one
		pause = min(2*pause, publishRetryMost)
	}
}

// arrived waits until the broker has what was published, and reported was called where the broker
// has refused it.
func (x *refusedReplies) arrived(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, repliesWithin)
	defer cancel()
	if err := x.nc.FlushWithContext(ctx); err != nil {
		return err
	}
	awaitTold(ctx, x.nc)
	return nil
}

// repliesWithin bounds the wait for the broker's answer.
const repliesWithin = 5 * time.Second

// next returns the subject to try beside; empty for none.
func (x *refusedReplies) next() string {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.refused != "" {
		return x.refused
	}
	subject := x.heard
	x.heard = ""
	return subject
}

// note remembers whether the broker takes answers.
func (x *refusedReplies) note(subject string, taken bool) {
	x.mu.Lock()
	was := x.refused != ""
	if x.refused = subject; taken {
		x.refused = ""
	}
	if x.heard == subject { // the attempt itself was refused
		x.heard = ""
	}
	x.mu.Unlock()
	switch {
	case !taken && !was:
		x.log.Error("the NATS server refuses answers: requests are done, and nobody learns it", "subject", shownInbox(subject))
	case taken && was:
		x.log.Info("the NATS server takes answers again", "subject", shownInbox(subject))
	}
}

// shownInbox is a reply subject as permissions have it.
func shownInbox(subject string) string {
	root, _, _ := strings.Cut(subject, ".")
	return root + ".>"
}

// trouble says that answers are lost; nil where they are not.
func (x *refusedReplies) trouble() error {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.refused == "" {
		return nil
	}
	return fmt.Errorf("the NATS server refuses answers: the NATS user may not publish them (%s)", shownInbox(x.refused))
}
