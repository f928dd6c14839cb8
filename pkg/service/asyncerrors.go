package service

import (
	"reflect"
	"sync"

	"github.com/nats-io/nats.go"
)

// errorHooks tells services what nats.go reports of their connections. nats.go has
// one error handler for a connection, which may be somebody else's and may be used
// by several services: the first one wraps it, and the last one to end puts it back, unless
// somebody has set another one meanwhile. That one stays: it may call the service's, which
// then only calls the one before. nats.go cannot compare and set at once, so one that is set
// in the very moment in between is lost.
var errorHooks = struct {
	sync.Mutex
	of map[*nats.Conn]*errorHook
}{of: make(map[*nats.Conn]*errorHook)}

type errorHook struct {
	before  nats.ErrHandler
	hearers map[*listener]struct{}
}

// hearErrors has a listener told of errors of its connection until stop is called.
// It is told on nats.go's goroutine for callbacks, so it must not wait.
func (l *listener) hearErrors() (stop func()) {
	nc := l.nc
	errorHooks.Lock()
	defer errorHooks.Unlock()
	h := errorHooks.of[nc]
	if h == nil {
		h = &errorHook{before: nc.ErrorHandler(), hearers: make(map[*listener]struct{})}
		errorHooks.of[nc] = h
		nc.SetErrorHandler(h.tell)
	}
	h.hearers[l] = struct{}{}
	return func() {
		errorHooks.Lock()
		defer errorHooks.Unlock()
		delete(h.hearers, l)
		if len(h.hearers) == 0 {
			delete(errorHooks.of, nc)
			if isHook(nc.ErrorHandler()) {
				nc.SetErrorHandler(h.before)
			}
		}
	}
}

// hookCode is the code that tell of all hooks shares. A connection has one hook at most, but
// for those that were left in place behind another's handler.
var hookCode = reflect.ValueOf((&errorHook{}).tell).Pointer()

// isHook reports whether an error handler is a hook's. Functions cannot be compared, but their
// code can.
func isHook(f nats.ErrHandler) bool {
	return f != nil && reflect.ValueOf(f).Pointer() == hookCode
}

func (h *errorHook) tell(nc *nats.Conn, sub *nats.Subscription, err error) {
	errorHooks.Lock()
	hearers := make([]*listener, 0, len(h.hearers))
	for l := range h.hearers {
		hearers = append(hearers, l)
	}
	errorHooks.Unlock()
	for _, l := range hearers {
		l.reported(sub, err)
	}
	if h.before != nil {
		h.before(nc, sub, err)
	}
}
