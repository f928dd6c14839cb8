package service

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"presence/pkg/service/internal/journal"
)

// JournalCheck is what CheckJournal has found.
type JournalCheck struct {
	Exists         bool // otherwise an instance makes it
	Entries, Bytes uint64
	Replicas       int
	// Skew is how far the server's clock is ahead of this one; 0: not known. It is measured
	// to the half of a round trip.
	Skew time.Duration
}

// CheckJournal tells whether the journal's stream is as a service of this configuration needs it. It
// changes nothing. nc is a connection in the journal's account.
func CheckJournal(ctx context.Context, nc *nats.Conn, cfg Config) (c JournalCheck, err error) {
	if cfg, err = cfg.withDefaults(); err != nil {
		return c, err
	}
	js, err := jetstream.New(nc)
	if err != nil {
		return c, err
	}
	asked := time.Now()
	info, err := journal.Check(ctx, js, cfg.Stream, cfg.Replicas)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		_, err = js.AccountInfo(ctx) // whether one can be made
		if err != nil {
			return c, fmt.Errorf("asking for JetStream's account: %w", err)
		}
		return c, nil
	}
	if err != nil {
		return c, err
	}
	trip := time.Since(asked)
	c = JournalCheck{Exists: true, Entries: info.State.Msgs, Bytes: info.State.Bytes, Replicas: info.Config.Replicas}
	if !info.TimeStamp.IsZero() {
		c.Skew = info.TimeStamp.Sub(asked.Add(trip / 2))
	}
	return c, nil
}
