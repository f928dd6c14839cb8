package service

import (
	"reflect"
	"sync"

	"github.com/nats-io/nats.go"
)

// errorHooks tells listeners of the errors that nats.go reports of their connections. nats.go
// has one error handler for a connection. Somebody else may have set one, and several services
// may share the connection. So the first listener of a connection wraps the handler that it
// finds, and the last one to stop puts that handler back. It does not if somebody has set
// another handler meanwhile. That one may call the hook, which then only calls the handler that
// it wraps. nats.go cannot compare and set in one step: a handler that is set at that very
// moment is lost.
var errorHooks = struct {
	sync.Mutex
	of map[*nats.Conn]*errorHook
}{of: make(map[*nats.Conn]*errorHook)}

type errorHook struct {
	before  nats.ErrHandler
	hearers map[*listener]struct{}
}

// hearErrors has reported called with the errors of the connection until stop is called. It
// runs on nats.go's goroutine for callbacks, so it must not wait.
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

// hookCode is the address of the code of errorHook.tell. Functions cannot be compared, but their
// code can.
var hookCode = reflect.ValueOf((&errorHook{}).tell).Pointer()

// isHook reports whether an error handler is a hook's.
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
