package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"

	"presence/cmd/presenced/internal/demo"
	"presence/cmd/presenced/internal/stdlog"
	"presence/pkg/service"

	"golang.org/x/sync/errgroup"
)

// serve runs the service and the monitor until ctx is done or one of them has to stop.
func serve(ctx context.Context, l *live, stdout, stderr io.Writer) error {
	hangups, ignore := catchHangups()
	defer ignore()
	cfg := l.config()
	log := cfg.logger(stderr, &l.level)
	if stderr == os.Stderr {
		stdlog.PassTo(log) // or the lines of libraries would not be JSON
	}
	m, err := newMonitor(cfg.http, log)
	if err != nil {
		return err
	}
	m.host, m.pprof = cfg.settings.Host, cfg.pprof
	if cfg.demo {
		m.demo = demo.New(m.listener.Addr(), cfg.settings.Prefix)
		l.allow(m.demo.Origins())
	}
	watching, stop := context.WithCancel(context.WithoutCancel(ctx)) // to the very end
	g, inner := errgroup.WithContext(ctx)
	g.Go(func() error { return m.run(watching) })
	g.Go(func() error { l.handleHangups(watching, hangups, log); return nil })
	g.Go(func() error { limitGrowth(watching); return nil })
	g.Go(func() error { giveBack(watching); return nil })
	g.Go(func() error {
		defer stop()
		return serveMonitored(inner, l, m, stdout, log)
	})
	return g.Wait()
}

func serveMonitored(ctx context.Context, l *live, m *monitor, stdout io.Writer, log *slog.Logger) error {
	m.starting("starting: the NATS server")
	nats, err := connect(l.config(), m, log)
	if err != nil {
		return err
	}
	defer nats.close()
	l.inside(nats.broker)
	if m.demo != nil {
		if err := m.demo.Serve(nats.ws); err != nil {
			return err
		}
	}
	return serveOn(ctx, l, nats, m, stdout, log)
}

// serveOn runs the service on connections. When one was closed for good, it makes all of
// them anew, and a new service, as after a restart of the process.
func serveOn(ctx context.Context, l *live, nats *connections, m *monitor, stdout io.Writer, log *slog.Logger) error {
	var pause time.Duration // before connections are made anew
	ready := false          // a service has been ready
	for begun := time.Now(); ; {
		made, served, cfg := time.Now(), false, l.config()
		err := waitForCluster(ctx, nats, cfg.settings.Replicas, m, log)
		if err == nil {
			served, err = serveOnce(ctx, l, nats, m, stdout, log)
		}
		ready = ready || served
		_, broken := errors.AsType[brokerFailed](err)
		switch {
		case errors.Is(err, context.Canceled) && ctx.Err() != nil:
			return nil // ended by a signal while it was starting
		case ctx.Err() == nil && !broken && (nats.closedForGood() || ready && errors.Is(err, service.ErrPayload)):
			if pause = max(againFirst, min(2*pause, againMost)); time.Since(made) > againWithin {
				pause = againFirst
			}
			if nats.again(ctx, cfg, cmp.Or(nats.links.trouble(), fmt.Sprint(err)), pause, m, log) != nil {
				return nil // ended by a signal
			}
			if served {
				l.begun()
			}
			continue
		case !nats.clustered() || !notYet(err):
			return err
		}
		log.Warn("the cluster is not ready after all; trying again", "err", err, "waited", time.Since(begun).Round(time.Second))
	}
}

// journalStream is the name of the journal's stream.
const journalStream = "PRESENCE_JOURNAL"

// serveOnce makes a service and runs it. It reports whether it was ready.
func serveOnce(ctx context.Context, l *live, nats *connections, m *monitor, stdout io.Writer, log *slog.Logger) (served bool, err error) {
	s, err := l.start(func(c *service.Config) {
		c.Clients, c.Answers, c.Journal, c.System = nats.clients, nats.answers, nats.journal, nats.system
		c.ClientsAccount, c.Head, c.Logger = nats.account, nats.headFile(), log
		c.Alone = nats.broker != nil && !nats.clustered()
		if nats.broker != nil {
			c.Heard, c.Server = nats.broker.Interested, nats.broker.Vitals
		}
	})
	if err != nil {
		return false, err
	}
	m.serving(s, nats.links.trouble, nats.broker)
	err = runService(ctx, s, nats, func() {
		served = true
		fmt.Fprint(stdout, welcome(l.config(), nats, m.demo, m.dashboard()))
		notify(log, "READY=1")
		l.isReady()
	}, func() { notify(log, "STOPPING=1") })
	if err != nil && !served {
		return false, notServed{nats.withoutJetStream(err)}
	}
	return served, err
}

// brokerFailed is the error of a server inside that cannot go on: the process must end and
// be started anew.
type brokerFailed struct{ error }

func (e brokerFailed) Unwrap() error { return e.error }

// runService runs the service until ctx is done, the server inside has failed (the error
// is brokerFailed), or a connection was closed for good. It calls ready when the service
// is ready, and stopping when ctx is done.
func runService(ctx context.Context, s *service.Service, nats *connections, ready, stopping func()) error {
	outer := ctx
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()

	var failure error
	serving, ended, failed := s.Ready(), ctx.Done(), nats.failed
	for {
		select {
		case <-serving:
			serving = nil
			ready()
		case failure = <-failed:
			failed = nil
			stop(service.ErrJournalLost)
		case <-nats.links.lost:
			if nats.journal.IsClosed() {
				stop(service.ErrJournalLost)
			}
			stop(nil)
		case <-ended:
			ended = nil
			if outer.Err() != nil {
				stopping()
			}
		case err := <-done:
			if failure != nil {
				return brokerFailed{failure}
			}
			return err
		}
	}
}
