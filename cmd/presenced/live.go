package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"presence/pkg/broker"
	"presence/pkg/service"
)

// live is the configuration in force. A SIGHUP changes what of it can change. Its methods are safe
// for concurrent use.
type live struct {
	args  []string // of the command line, which is read again with the file of --env-file
	level slog.LevelVar
	ready chan struct{} // closed when a service has been ready

	mu      sync.Mutex // guards what follows
	cfg     config
	service *service.Service // the one that runs, nil while there is none
	broker  *broker.Broker   // nil while there is none inside
	once    sync.Once        // closes ready
}

func newLive(args []string, cfg config) *live {
	l := &live{args: args, cfg: cfg, ready: make(chan struct{})}
	l.level.Set(cfg.level)
	return l
}

func (l *live) config() config {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.cfg
}

// begun says that the epoch of --new-epoch has begun: the next service begins none.
func (l *live) begun() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cfg.settings.NewEpoch = false
}

// start makes a service of the configuration. complete adds what is not in it.
func (l *live) start(complete func(*service.Config)) (*service.Service, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := l.cfg.service()
	complete(&c)
	s, err := service.New(c)
	l.service = s
	return s, err
}

// inside says which server a reload is about.
func (l *live) inside(b *broker.Broker) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.broker = b
}

// isReady is called each time that a service is ready.
func (l *live) isReady() { l.once.Do(func() { close(l.ready) }) }

// reloadPause is the least time between two reloads. Signals that come meanwhile are one.
const reloadPause = time.Second

// handleHangups reloads at each SIGHUP until ctx is done. hangups has room for one: two that wait
// would do the same. A signal that comes before presenced is ready waits until it is.
func (l *live) handleHangups(ctx context.Context, hangups <-chan os.Signal, log *slog.Logger) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-hangups:
		}
		select {
		case <-l.ready:
		default:
			log.Info("SIGHUP: the configuration is read again as soon as presenced is ready")
		}
		select {
		case <-ctx.Done():
			return
		case <-l.ready:
		}
		notifyReloading(log)
		l.reload(ctx, log)
		notify(log, "READY=1")
		select {
		case <-ctx.Done():
			return
		case <-time.After(reloadPause):
		}
	}
}

// catchHangups keeps SIGHUP from ending the process, as it does by default.
func catchHangups() (hangups chan os.Signal, stop func()) {
	hangups = make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP)
	return hangups, func() { signal.Stop(hangups) }
}

// reload reads the files of --env-file and --nats-config again. If one of them is wrong nothing
// changes. The log says what has changed, and what would need a restart.
func (l *live) reload(ctx context.Context, log *slog.Logger) {
	next, err := parse(ctx, l.args, io.Discard, io.Discard)
	if err != nil {
		log.Error("SIGHUP: nothing has changed, because the configuration is wrong", "err", err)
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	var read []string
	if l.broker != nil && l.cfg.natsConfig != "" {
		if err := l.broker.Reload(); err != nil {
			log.Error("SIGHUP: nothing has changed", "err", err)
			return
		}
		read = append(read, l.cfg.natsConfig)
	}
	if l.cfg.envFile != "" {
		read = append(read, l.cfg.envFile)
	}
	before := l.cfg.level
	changed, restart := l.cfg.take(next)
	l.level.Set(min(before, l.cfg.level)) // so that either of the levels shows what has changed
	defer l.level.Set(l.cfg.level)
	if l.service != nil {
		if err := l.service.Reload(l.cfg.service()); err != nil { // parse has checked it
			log.Error("SIGHUP: the service refuses the limits", "err", err)
		}
	}
	if len(read) == 0 {
		log.Warn("SIGHUP: there is nothing to read again: neither --env-file nor --nats-config was given")
		return
	}
	about := []any{"read", strings.Join(read, ", ")}
	if len(changed) > 0 {
		about = append(about, "changed", strings.Join(changed, ", "))
	}
	log.Info("SIGHUP: the configuration is read again", about...)
	if len(restart) > 0 {
		log.Warn("SIGHUP: these need a restart", "options", strings.Join(restart, ", "))
	}
	for _, x := range next.unheeded {
		log.Warn("SIGHUP: a line of the file changes nothing", "line", x)
	}
}

// take takes over what can change while presenced runs. It returns what has changed, and what
// would need a restart, as texts for people. The latter stays as it is.
func (c *config) take(next *config) (changed, restart []string) {
	for i, now := range next.options {
		was := &c.options[i]
		switch {
		case now.value == was.value:
			was.source = now.source
		case !canChange(now.name):
			restart = append(restart, "--"+now.name)
		default:
			changed = append(changed, fmt.Sprintf("%s %s -> %s", now.name, shown(was.value), shown(now.value)))
			*was = now
		}
	}
	c.logLevel, c.level = next.logLevel, next.level
	s, n := &c.settings, &next.settings
	s.Limits, s.Grace, s.MaxGrace, s.Retention, s.CustomStatusPolicy = n.Limits, n.Grace, n.MaxGrace, n.Retention, n.CustomStatusPolicy
	return changed, restart
}

func shown(value string) string {
	if value == "" {
		return `""`
	}
	return value
}

// canChange says that an option can change while presenced runs: the log level, the rules, and all
// limits.
func canChange(option string) bool {
	var l service.Limits
	return slices.Contains([]string{"log-level", "grace", "max-grace", "retention", "custom-status-policy"}, option) ||
		slices.ContainsFunc(l.List(), func(x service.Limit) bool { return x.Name == option })
}

// allow lets web pages of more origins connect.
func (l *live) allow(origins []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cfg.origins = slices.Concat(origins, l.cfg.origins)
}
