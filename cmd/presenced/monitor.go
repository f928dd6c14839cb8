package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"strings"
	"sync"
	"time"

	"presence/cmd/presenced/internal/dashboard"
	"presence/cmd/presenced/internal/demo"
	"presence/pkg/broker"
	"presence/pkg/service"

	"github.com/coreos/go-systemd/v22/daemon"
	"golang.org/x/sync/errgroup"
)

// Limits of the HTTP server.
const (
	httpTimeout   = 10 * time.Second // of a request and of its answer
	maxHTTPHeader = 8 << 10
	// statusEvery is how often systemd is told what changed.
	statusEvery = 2 * time.Second
)

// monitor tells the state of the daemon from its start to its end: by HTTP, if --http has
// an address for it, and to systemd.
//
//	/healthz     200: the process is there and answers
//	/readyz      200, or 503 with the reason in one line
//	/metrics     figures in Prometheus' text format, see metrics.go
//	/dashboard/  a page that shows them over the last hour
//	/demo/       the demo page, with --demo
//
// Nothing that it shows names a user.
type monitor struct {
	log      *slog.Logger
	listener net.Listener // nil without --http
	host     string       // the name of this instance
	demo     *demo.Page   // nil without --demo
	pprof    bool         // --pprof

	mu      sync.Mutex
	phase   string           // while there is no service
	service *service.Service // the one that runs
	trouble func() string    // which of its connections are lost and why; empty for none
	broker  *broker.Broker   // the server inside; nil: there is none
}

// newMonitor opens the address, so that an address in use is an error before anything is
// started.
func newMonitor(address string, log *slog.Logger) (*monitor, error) {
	m := &monitor{log: log, phase: "starting"}
	if address == "" {
		return m, nil
	}
	var err error
	if m.listener, err = net.Listen("tcp", address); err != nil {
		return nil, fmt.Errorf("--http: %w", err)
	}
	return m, nil
}

// url is where the monitor answers, if it does.
func (m *monitor) url() string { return "http://" + m.listener.Addr().String() }

// dashboard is the address of the dashboard; empty without --http.
func (m *monitor) dashboard() string {
	if m.listener == nil {
		return ""
	}
	return m.url() + dashboard.Path
}

// run answers until ctx is done.
func (m *monitor) run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { m.tellSystemd(ctx); return nil })
	if m.listener != nil {
		page := dashboard.New(m.look)
		g.Go(func() error { page.Run(ctx); return nil })
		server := &http.Server{
			Handler:           m.handler(page),
			ReadHeaderTimeout: httpTimeout, ReadTimeout: httpTimeout, WriteTimeout: httpTimeout, IdleTimeout: time.Minute,
			MaxHeaderBytes: maxHTTPHeader,
			ErrorLog:       slog.NewLogLogger(m.log.Handler(), slog.LevelDebug),
		}
		g.Go(func() error {
			if err := server.Serve(m.listener); !errors.Is(err, http.ErrServerClosed) {
				return fmt.Errorf("--http: %w", err)
			}
			return nil
		})
		g.Go(func() error {
			<-ctx.Done()
			return server.Close() // it may cut an answer short: the process ends
		})
	}
	return g.Wait()
}

// starting says what is waited for while there is no service.
func (m *monitor) starting(phase string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.phase, m.service, m.trouble, m.broker = phase, nil, nil, nil
}

// serving says which service runs; trouble says which of its connections are lost. inside is the
// server inside; nil: there is none.
func (m *monitor) serving(s *service.Service, trouble func() string, inside *broker.Broker) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.service, m.trouble, m.broker = s, trouble, inside
}

// server returns the figures of the server inside; nil: there is none.
func (m *monitor) server() *broker.Figures {
	m.mu.Lock()
	b := m.broker
	m.mu.Unlock()
	if b == nil {
		return nil
	}
	f := b.Figures()
	return &f
}

// health returns why the daemon is not ready, and the service, nil while there is
// none.
func (m *monitor) health() (*service.Service, error) {
	m.mu.Lock()
	s, phase := m.service, m.phase
	m.mu.Unlock()
	if s == nil {
		return nil, errors.New(phase)
	}
	err, beside := s.Health(), m.beside()
	if err != nil && beside != "" && !strings.Contains(err.Error(), beside) {
		err = fmt.Errorf("%w (%s)", err, beside)
	}
	return s, err
}

// beside says what does not work beside what the service's health is about: which connections are
// lost and why, and what the NATS server refuses. It is empty for nothing.
func (m *monitor) beside() string {
	m.mu.Lock()
	s, trouble := m.service, m.trouble
	m.mu.Unlock()
	var what []string
	if trouble != nil {
		if lost := trouble(); lost != "" {
			what = append(what, lost)
		}
	}
	if s != nil {
		if err := s.Impaired(); err != nil {
			what = append(what, err.Error())
		}
	}
	return strings.Join(what, "; ")
}

// look tells the dashboard how the daemon is doing.
func (m *monitor) look() dashboard.State {
	s, err := m.health()
	state := dashboard.State{At: time.Now(), Host: m.host, Version: versionText(), NotReady: err, Beside: m.beside()}
	if s != nil {
		f := s.Figures()
		state.Figures = &f
	}
	if f := m.server(); f != nil {
		state.Inside, state.Connections, state.SlowConsumers = true, f.Connections, f.SlowConsumers
	}
	return state
}

func (m *monitor) handler(page http.Handler) http.Handler {
	mux := http.NewServeMux()
	text := func(pattern string, answer func(w http.ResponseWriter)) {
		mux.HandleFunc("GET "+pattern, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/plain; charset=utf-8")
			w.Header().Set("Cache-Control", "no-store")
			answer(w)
		})
	}
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) {
		if strings.Contains(r.Header.Get("Accept"), "text/html") { // a browser
			http.Redirect(w, r, dashboard.Path, http.StatusFound)
			return
		}
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		fmt.Fprintf(w, "presenced %s\n\n/healthz     is it alive?\n/readyz      should it get requests? if not, why?\n"+
			"/metrics     figures, in Prometheus' text format\n/dashboard/  the last hour, for a browser\n", versionText())
	})
	if address, ok := m.listener.Addr().(*net.TCPAddr); ok && address.IP.IsLoopback() {
		page = byLoopback(page)
	}
	mux.Handle("GET "+dashboard.Path, page)
	if m.demo != nil {
		mux.Handle("GET "+demo.Path, m.demo)
	}
	if m.pprof {
		mux.Handle("GET /debug/pprof/", profiles())
	}
	text("/healthz", func(w http.ResponseWriter) { fmt.Fprintln(w, "alive") })
	text("/readyz", func(w http.ResponseWriter) {
		if _, err := m.health(); err != nil {
			w.WriteHeader(http.StatusServiceUnavailable)
			fmt.Fprintln(w, err)
			return
		}
		if beside := m.beside(); beside != "" {
			fmt.Fprintf(w, "ready, but %s\n", beside)
			return
		}
		fmt.Fprintln(w, "ready")
	})
	text("/metrics", func(w http.ResponseWriter) {
		s, err := m.health()
		w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
		writeMetrics(w, m.host, s, m.server(), err == nil, time.Now())
	})
	return mux
}

// profiles serves what net/http/pprof does.
func profiles() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	return byLoopback(mux)
}

// byLoopback lets only requests pass that name loopback. A page that somebody on this machine looks
// at can make its own name stand for loopback, and read what it loads from there (DNS rebinding).
func byLoopback(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host, _, err := net.SplitHostPort(r.Host)
		if err != nil {
			host = strings.Trim(r.Host, "[]")
		}
		if !broker.IsLoopback(strings.ToLower(host)) {
			http.Error(w, "ask for it by a loopback address", http.StatusForbidden)
			return
		}
		h.ServeHTTP(w, r)
	})
}

// tellSystemd makes "systemctl status" show why the daemon is not ready. It makes systemd
// wait for a start as long as that makes progress. If the unit has WatchdogSec=, it tells the
// watchdog that the service is alive.
func (m *monitor) tellSystemd(ctx context.Context) {
	watched, err := daemon.SdWatchdogEnabled(false)
	if err != nil {
		m.log.Warn("systemd's watchdog cannot be served", "err", err)
	}
	every := statusEvery
	if watched > 0 {
		every = min(every, watched/2)
	}
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	told := ""
	for {
		// It takes the locks of state and journal. If one of them is stuck, so is this, and the
		// watchdog hears nothing more.
		_, err := m.health()
		if watched > 0 {
			notify(m.log, daemon.SdNotifyWatchdog)
		}
		status := "ready"
		if err != nil {
			status = err.Error()
		}
		if status != told {
			notify(m.log, fmt.Sprintf("STATUS=%s\nEXTEND_TIMEOUT_USEC=%d", status, extendBy.Microseconds()))
			told = status
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// extendBy is how much longer systemd waits each time that a start has made progress.
const extendBy = 30 * time.Second
