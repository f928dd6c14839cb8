package client

import (
	"maps"
	"reflect"
	"runtime"
	"slices"
	"sync"
	"weak"

	"github.com/nats-io/nats.go"
)

// hub passes on to all Clients of a *nats.Conn what nats.go tells a single handler. It puts itself
// in front of the user's error handler, which is still called. There is one hub for each
// connection, as long as the connection exists. So the chain of handlers does not grow with every
// Client that comes and goes.
type hub struct {
	mu      sync.Mutex
	clients map[*Client]struct{}
	last    error // told last
}

// hubs has the hub of every connection that had a Client. It does not keep connections alive.
var hubs = struct {
	mu sync.Mutex
	of map[weak.Pointer[nats.Conn]]*hub
}{of: map[weak.Pointer[nats.Conn]]*hub{}}

func findHub(nc *nats.Conn) *hub {
	hubs.mu.Lock()
	defer hubs.mu.Unlock()
	return hubs.of[weak.Make(nc)]
}

// joinHub adds the Client to the hub of its connection.
func joinHub(nc *nats.Conn, c *Client) *hub {
	key := weak.Make(nc)
	hubs.mu.Lock()
	h := hubs.of[key]
	if h == nil {
		h = &hub{clients: map[*Client]struct{}{}, last: nc.LastError()}
		hubs.of[key] = h
		runtime.AddCleanup(nc, dropHub, key)
	}
	hubs.mu.Unlock()

	h.mu.Lock()
	h.clients[c] = struct{}{}
	h.mu.Unlock()
	h.listen(nc)
	return h
}

func dropHub(key weak.Pointer[nats.Conn]) {
	hubs.mu.Lock()
	defer hubs.mu.Unlock()
	delete(hubs.of, key)
}

func (h *hub) leave(c *Client) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.clients, c)
}

// told returns the last error that was passed on to the Clients.
func (h *hub) told() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.last
}

// each calls f for every Client, without the lock.
func (h *hub) each(f func(*Client)) {
	h.mu.Lock()
	clients := slices.Collect(maps.Keys(h.clients))
	h.mu.Unlock()
	for _, c := range clients {
		f(c)
	}
}

// listen puts the hub in front of the connection's error handler, unless it is there already. A
// Client calls it now and then, because somebody may have set another handler.
func (h *hub) listen(nc *nats.Conn) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if next := nc.ErrorHandler(); !isHandler(next) {
		nc.SetErrorHandler(h.handler(next))
	}
}

// handler passes an error on to the Clients, and then to the handler before it.
//
//go:noinline
func (h *hub) handler(next nats.ErrHandler) nats.ErrHandler {
	return func(nc *nats.Conn, sub *nats.Subscription, err error) {
		h.each(func(c *Client) { c.watch.connectionError(err) })
		h.mu.Lock()
		h.last = err
		h.mu.Unlock()
		if next != nil {
			next(nc, sub, err)
		}
	}
}

// handlerCode is the code that all handlers of hubs share.
var handlerCode = reflect.ValueOf((&hub{}).handler(nil)).Pointer()

// isHandler reports whether an error handler is a hub's.
func isHandler(f nats.ErrHandler) bool {
	return f != nil && reflect.ValueOf(f).Pointer() == handlerCode
}
