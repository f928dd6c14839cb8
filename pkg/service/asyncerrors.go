package service

import (
	"context"
	"errors"
	"reflect"
	"sync"
	"time"

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
	hearers map[*hearer]struct{}
	told    error // the last one that the hearers were told of
}

// hearer is told of errors of a connection, on nats.go's goroutine for callbacks: it must not wait.
type hearer struct {
	tell func(sub *nats.Subscription, err error)
}

// hearErrors has tell told of errors of a connection until stop is called.
func hearErrors(nc *nats.Conn, tell func(*nats.Subscription, error)) (stop func()) {
	errorHooks.Lock()
	defer errorHooks.Unlock()
	h := errorHooks.of[nc]
	if h == nil {
		h = &errorHook{before: nc.ErrorHandler(), hearers: make(map[*hearer]struct{}), told: nc.LastError()}
		errorHooks.of[nc] = h
		nc.SetErrorHandler(h.tell)
	}
	x := &hearer{tell}
	h.hearers[x] = struct{}{}
	return func() {
		errorHooks.Lock()
		defer errorHooks.Unlock()
		delete(h.hearers, x)
		if len(h.hearers) == 0 {
			delete(errorHooks.of, nc)
			if isHook(nc.ErrorHandler()) {
				nc.SetErrorHandler(h.before)
			}
		}
	}
}

// awaitTold waits until hearers were told of what the broker has refused by now. nats.go has read
// that before the answer to a PING that was sent later, and may tell it after that answer.
func awaitTold(ctx context.Context, nc *nats.Conn) {
	last := nc.LastError()
	if !errors.Is(last, nats.ErrPermissionViolation) || toldLast(nc) == last {
		return
	}
	told := make(chan struct{})
	var once sync.Once
	defer hearErrors(nc, func(_ *nats.Subscription, err error) {
		if err == last {
			once.Do(func() { close(told) })
		}
	})()
	if toldLast(nc) == last { // meanwhile
		return
	}
	timer := time.NewTimer(toldWithin)
	defer timer.Stop()
	select {
	case <-told:
	case <-ctx.Done():
	case <-timer.C:
	}
}

// toldWithin bounds awaitTold. It takes that long only where somebody's handler waits, or where
// very many errors come.
const toldWithin = time.Second

// toldLast returns the error that hearers of a connection were told of last.
func toldLast(nc *nats.Conn) error {
	errorHooks.Lock()
	defer errorHooks.Unlock()
	if h := errorHooks.of[nc]; h != nil {
		return h.told
	}
	return nil
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
	hearers := make([]*hearer, 0, len(h.hearers))
	for x := range h.hearers {
		hearers = append(hearers, x)
	}
	errorHooks.Unlock()
	for _, x := range hearers {
		x.tell(sub, err)
	}
	errorHooks.Lock()
	h.told = err
	errorHooks.Unlock()
	if h.before != nil {
		h.before(nc, sub, err)
	}
}
