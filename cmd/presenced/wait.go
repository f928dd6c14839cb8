package main

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"presence/pkg/broker"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// If the servers of a cluster are inside their presenced, the first one has no JetStream
// until a majority of them runs (all of them, in a new cluster). It cannot create the
// journal until there are as many as the journal has replicas. Somebody has to start them,
// so presenced waits without limit.
const (
	// probeEvery is the pause between two looks.
	probeEvery = 250 * time.Millisecond
	// probeWithin bounds the first wait for JetStream's answer. It doubles up to
	// probeAtMost. Nobody answers while there is no leader, and an answer can be lost if
	// a server has only just connected.
	probeWithin = 500 * time.Millisecond
	probeAtMost = 4 * time.Second
	// sayFirst and sayEvery are when it logs what it waits for. A cluster that runs
	// elects its leader before the first.
	sayFirst = 3 * time.Second
	sayEvery = 10 * time.Second
)

// clustered says that the server inside is one of a cluster.
func (c *connections) clustered() bool {
	return c.broker != nil && c.broker.Cluster().Clustered
}

// waitForCluster waits until the journal can be opened, or ctx is done. It returns at once
// unless the server inside is one of a cluster.
func waitForCluster(ctx context.Context, c *connections, replicas int, m *monitor, log *slog.Logger) error {
	if !c.clustered() {
		return nil
	}
	js, err := jetstream.New(c.journal)
	if err != nil {
		return err
	}
	begun, said := time.Now(), time.Time{}
	for within := probeWithin; ; {
		probing, cancel := context.WithTimeout(ctx, within)
		lacks, args := c.lacks(probing, js, replicas)
		if probing.Err() != nil {
			within = min(2*within, probeAtMost)
		}
		cancel()
		if err := ctx.Err(); err != nil {
			return err
		}
		waited := time.Since(begun)
		if lacks == "" {
			if !said.IsZero() {
				log.Info("the cluster is ready", "waited", waited.Round(time.Second))
			}
			return nil
		}
		m.starting("waiting for " + lacks)
		if waited >= sayFirst && time.Since(said) >= sayEvery {
			said = time.Now()
			log.Info("waiting for "+lacks, args...)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case err := <-c.failed:
			return brokerFailed{err}
		case <-c.links.lost:
			return errors.New("a connection was closed for good: " + c.links.trouble())
		case <-time.After(probeEvery):
		}
	}
}

// lacks says what is missing to open the journal, with arguments for the log; empty if
// nothing is.
func (c *connections) lacks(ctx context.Context, js jetstream.JetStream, replicas int) (what string, args []any) {
	s := c.broker.Cluster()
	if s.Leader == "" {
		return leaderless(s), []any{"server", c.broker.Name(), "connected", s.Connected, "of", max(s.Size, s.Connected)}
	}
	_, err := js.Stream(ctx, journalStream)
	switch {
	case err == nil:
		return "", nil
	case !errors.Is(err, jetstream.ErrStreamNotFound):
		return "a majority of the servers that hold the journal", []any{"connected", s.Connected, "of", s.Size, "err", err}
	case s.Online < replicas:
		return "as many servers as the journal is to have replicas", []any{"servers", s.Online, "replicas", replicas}
	}
	return "", nil
}

// leaderless says why JetStream may have no leader.
func leaderless(s broker.ClusterState) string {
	if s.Connected <= s.Size/2 {
		return "a majority of the cluster's servers"
	}
	return "JetStream's leader; to elect the first one a new cluster needs all of its servers"
}

// notServed is the error of a service that ended before it was ready.
type notServed struct{ error }

func (e notServed) Unwrap() error { return e.error }

// noSuitablePeers is JetStream's error while the leader knows too few servers to put a
// stream on.
const noSuitablePeers jetstream.ErrorCode = 10005

// notYet says that the service ended because JetStream was not ready for it. Its leader
// changed after waitForCluster, or knows less than this server, or this server does not
// know yet of a stream that another presenced has just created.
func notYet(err error) bool {
	if _, ok := errors.AsType[notServed](err); !ok {
		return false
	}
	if api, ok := errors.AsType[*jetstream.APIError](err); ok {
		return api.Code == 503 || api.ErrorCode == noSuitablePeers || api.ErrorCode == jetstream.JSErrCodeStreamNotFound
	}
	return errors.Is(err, nats.ErrNoResponders) || errors.Is(err, nats.ErrTimeout) || errors.Is(err, context.DeadlineExceeded)
}
