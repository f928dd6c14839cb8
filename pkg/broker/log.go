package broker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"
)

// serverLog passes the log of nats-server on to slog. It never ends the process: Start
// returns the server's first fatal error.
//
// Clients can make the server log, by denied publishes for example. So it passes on at
// most linesPerSecond warnings and errors. The next line says how many were left out.
type serverLog struct {
	logger *slog.Logger
	failed chan error // gets the first error after which the server stores nothing more
	local  bool       // its WebSocket listener is on loopback

	mu      sync.Mutex
	started bool      // Start has asked for fatal messages
	first   error     // the first fatal message before that
	second  time.Time // when the running second began
	lines   int       // passed on in it
	leftOut int       // left out since the last one passed on
}

const linesPerSecond = 10

func newServerLog(logger *slog.Logger) *serverLog {
	return &serverLog{logger: logger.With("component", "nats-server"), failed: make(chan error, 1)}
}

// startError returns the first fatal error of the server's start. Later ones are logged
// as errors.
func (l *serverLog) startError() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.started = true
	return l.first
}

func (l *serverLog) Fatalf(format string, v ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.started:
		l.log(slog.LevelError, format, v)
	case l.first == nil:
		l.first = errors.New("the NATS server: " + fmt.Sprintf(format, v...))
	}
}

func (l *serverLog) Errorf(format string, v ...any) {
	level := slog.LevelError
	if strings.HasPrefix(format, routeError) {
		level = slog.LevelWarn
	}
	l.limited(level, format, v)
	if strings.Contains(format, writeError) {
		select {
		case l.failed <- fmt.Errorf("the NATS server stores nothing more: %s", fmt.Sprintf(format, v...)):
		default: // one is enough
		}
	}
}

// writeError is part of what the server logs when a write to a stream has failed. From
// then on it refuses all writes until it is started again. It reports that nowhere else.
const writeError = "critical write error"

// routeError begins what the server logs when it cannot reach another server of the
// cluster, as always when one is started before the other.
const routeError = "Error trying to connect to route"

// usual are the beginnings of warnings that come with an ordinary start or stop in a
// cluster. presenced itself says what it waits for.
var usual = []string{
	"Waiting for routing to be established", // twice a second while it is the only one
	"JetStream has not established contact with a meta leader",
	"JetStream is not current with the meta leader",
	"Metalayer blocking snapshot",
}

// noTLS begins the warning about a WebSocket listener without TLS.
const noTLS = "Websocket not configured with TLS"

func (l *serverLog) Warnf(format string, v ...any) {
	text := fmt.Sprintf(format, v...) // the format may be "%s"
	if l.local && strings.HasPrefix(text, noTLS) || slices.ContainsFunc(usual, func(begin string) bool { return strings.HasPrefix(text, begin) }) {
		l.log(slog.LevelDebug, format, v)
		return
	}
	l.limited(slog.LevelWarn, format, v)
}

// Noticef logs at the level debug: the server's notices about its start are of no
// interest to the operator of presenced.
func (l *serverLog) Noticef(format string, v ...any) { l.log(slog.LevelDebug, format, v) }

// Debugf and Tracef are never called: the server is told that they are off.
func (l *serverLog) Debugf(string, ...any) {}
func (l *serverLog) Tracef(string, ...any) {}

func (l *serverLog) limited(level slog.Level, format string, v []any) {
	l.mu.Lock()
	if now := time.Now(); now.Sub(l.second) >= time.Second {
		l.second, l.lines = now, 0
	}
	if l.lines++; l.lines > linesPerSecond {
		l.leftOut++
		l.mu.Unlock()
		return
	}
	leftOut := l.leftOut
	l.leftOut = 0
	l.mu.Unlock()

	if leftOut > 0 {
		l.log(level, format, v, "leftOut", leftOut)
		return
	}
	l.log(level, format, v)
}

func (l *serverLog) log(level slog.Level, format string, v []any, args ...any) {
	if ctx := context.Background(); l.logger.Enabled(ctx, level) {
		l.logger.Log(ctx, level, fmt.Sprintf(format, v...), args...)
	}
}
