package service

import (
	"sync"
	"time"

	"presence/pkg/internal/refusal"
)

const (
	// publishRetry is the pause before a message that the broker refused is tried again. It
	// doubles up to publishRetryMost.
	publishRetry     = time.Second
	publishRetryMost = 10 * time.Second
)

// attempt finds out whether the broker takes messages on a subject. The broker drops a message
// that the connection's user may not publish. It says so by an error, and publishing succeeds.
// One goroutine at a time may use it.
type attempt struct {
	mu      sync.Mutex // guards the rest
	subject string     // of the attempt that is made; empty for none
	refused bool
}

// reported is told what the broker refuses. It does not wait.
func (a *attempt) reported(r refusal.Refusal) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.refused = a.refused || r.Publish && r.Subject == a.subject
}

// accepted has a message published on a subject, and reports whether the broker took it. arrived
// waits until the broker has it, and reported was called where the broker has refused it. The error
// is that of one of them.
func (a *attempt) accepted(subject string, publish, arrived func() error) (bool, error) {
	a.begin(subject)
	defer a.begin("")
	if err := publish(); err != nil {
		return false, err
	}
	if err := arrived(); err != nil {
		return false, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return !a.refused, nil
}

func (a *attempt) begin(subject string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.subject, a.refused = subject, false
}
