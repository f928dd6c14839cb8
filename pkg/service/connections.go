package service

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"

	"presence/pkg/internal/entry"
	"presence/pkg/protocol"
	"presence/pkg/service/internal/sysevent"
)

// connectionWatch learns from the broker which of the clients' connections
// closed, and has it appended to the journal. It tells at once what leases would
// find out later; leases cover what it misses.
//
//	$SYS.ACCOUNT.<account>.DISCONNECT   one connection closed
//	$SYS.SERVER.<id>.LAMEDUCK           the last report of a server that shuts down
//	$SYS.REQ.SERVER.<id>.CONNZ          which ones a server has, asked when reports were missed,
//	                                    and of connections that nobody knows, see strangers
//	$SYS.REQ.SERVER.PING                which servers answer
//
// A server that crashes reports nothing of its clients, and one that does not
// answer proves nothing.
type connectionWatch struct {
	service *Service
	sub     *nats.Subscription
	lame    *nats.Subscription
	pongs   *nats.Subscription
}

// watchConnections begins to listen. Without a system account nothing is heard.
func (s *Service) watchConnections() (*connectionWatch, error) {
	w := &connectionWatch{service: s}
	system := s.cfg.System
	if system == nil {
		s.log.Warn("no system account: a session ends by its TTL, not when its connection closes")
		return w, nil
	}
	subject := "$SYS.ACCOUNT." + s.cfg.ClientsAccount + ".DISCONNECT"
	sub, err := system.QueueSubscribe(subject, protocol.ServiceName, func(m *nats.Msg) {
		if err := s.connectionClosed(m.Data); err != nil {
			s.log.Warn("a report of a closed connection was not understood", "err", err)
		}
	})
	if err == nil {
		err = system.FlushTimeout(openTimeout)
	}
	if err != nil {
		return nil, fmt.Errorf("listening for closed connections: %w", err)
	}
	w.sub = sub
	if err := w.watchServers(); err != nil {
		w.stop()
		return nil, err
	}
	return w, nil
}

// run compares what is bound with what is connected whenever reports may have
// been missed: at the start, after a reconnect of the system connection, and
// when some were dropped. It ends with ctx, and with the listening.
func (w *connectionWatch) run(ctx context.Context) {
	if w.sub == nil {
		return
	}
	defer w.stop()
	system := w.service.cfg.System
	reconnects := system.StatusChanged(nats.CONNECTED)
	defer system.RemoveStatusListener(reconnects)
	drops := w.sub.StatusChanged(nats.SubscriptionSlowConsumer)
	for {
		if err := w.reconcile(ctx); err != nil && ctx.Err() == nil {
			w.service.log.Warn("connections could not be compared with the broker's; leases cover it", "err", err)
		}
		select {
		case <-ctx.Done():
			return
		case _, ok := <-reconnects:
			if !ok {
				return
			}
			w.ping()
		case _, ok := <-drops:
			if !ok {
				return
			}
		}
	}
}

func (w *connectionWatch) stop() {
	for _, sub := range []*nats.Subscription{w.sub, w.lame, w.pongs} {
		if sub != nil {
			_ = sub.Unsubscribe() // what drained, or went with its connection, is not there
		}
	}
}

// drain takes no more reports: the broker gives them to other instances. The
// channel is closed when the last one taken is in the journal's queue.
func (w *connectionWatch) drain() <-chan struct{} {
	drained := make(chan struct{})
	if w.sub == nil {
		close(drained)
		return drained
	}
	w.sub.SetClosedHandler(func(string) { close(drained) })
	if err := w.sub.Drain(); err != nil {
		w.service.log.Warn("closing connections are not reported any more", "err", err)
	}
	return drained
}

// connectionClosed has one report appended.
func (s *Service) connectionClosed(data []byte) error {
	server, client, err := sysevent.Closed(data)
	if err != nil {
		return err
	}
	return s.reportClosed(server, client)
}

func (s *Service) reportClosed(server string, client uint64) error {
	return s.journal.Report(entry.Command{Kind: entry.Closed, Server: server, Client: client})
}

const (
	// sweeps is how many times a connection must be missing. One would do, see
	// sweep; two forgive what was not thought of.
	// The second is of all accounts: a client of another one may use the service too.
	sweeps = 2
	// connzPage is how many connections a server is asked for at once, some
	// 2 MiB; connzOverlap how many of them are asked for again with the next.
	connzPage    = 4096
	connzOverlap = 512
	// connzTimeout bounds the wait for one page.
	connzTimeout = 5 * time.Second
)

// reconcile reports the connections that leases are bound to and that their
// server no longer has. The bound ones are looked up before the server is
// asked: one that is bound later is not missed.
func (w *connectionWatch) reconcile(ctx context.Context) error {
	s := w.service
	s.mu.RLock()
	bound := s.state.Bound()
	s.mu.RUnlock()
	var failed error
	for server, clients := range bound {
		missing, err := w.missing(ctx, server, clients)
		if isSilence(err) {
			continue // it is gone, or of another cluster: that proves nothing
		}
		if err != nil {
			failed = err
			continue
		}
		for _, client := range missing {
			if err := s.reportClosed(server, client); err != nil {
				return err
			}
		}
		if len(missing) > 0 {
			s.log.Info("connections closed while nobody listened", "server", server, "closed", len(missing), "bound", len(clients))
		}
	}
	return failed
}

// isSilence reports whether nobody answered.
func isSilence(err error) bool {
	return errors.Is(err, nats.ErrNoResponders) || errors.Is(err, nats.ErrTimeout) || errors.Is(err, context.DeadlineExceeded)
}

// missing returns those of a server's clients that it does not have. It changes
// clients.
func (w *connectionWatch) missing(ctx context.Context, server string, clients []uint64) ([]uint64, error) {
	for i := range sweeps {
		account := w.service.cfg.ClientsAccount
		if i > 0 {
			account = ""
		}
		have, err := w.sweep(ctx, server, account)
		if err != nil {
			return nil, err
		}
		kept := clients[:0]
		for _, c := range clients {
			if _, ok := have[c]; !ok {
				kept = append(kept, c)
			}
		}
		if clients = kept; len(clients) == 0 {
			break
		}
	}
	return clients, nil
}

// errShifted says that so many connections closed between two pages that some
// in between may have been left out.
var errShifted = errors.New("the list of connections changed too fast")

// sweep returns all connections that a server has, of an account or of all. It builds its list anew for
// each page, so one that closes meanwhile moves those behind it. They are in
// the order of their IDs: where a page begins no later than the one before
// ended, nothing was left out.
func (w *connectionWatch) sweep(ctx context.Context, server, account string) (map[uint64]struct{}, error) {
	have := make(map[uint64]struct{})
	last := uint64(0)
	for offset := 0; ; {
		page, err := w.connz(ctx, server, connzRequest{Account: account, Sort: "cid", Limit: connzPage, Offset: offset})
		if err != nil {
			return nil, err
		}
		if offset > 0 && (len(page) == 0 || page[0] > last) {
			return nil, errShifted
		}
		for _, id := range page {
			have[id] = struct{}{}
			last = id
		}
		if len(page) < connzPage {
			return have, nil
		}
		offset += connzPage - connzOverlap
	}
}

// connzRequest is what a server is asked: a page of all its connections, or one.
type connzRequest struct {
	Account string `json:"acc,omitempty"` // empty: of all
	Sort    string `json:"sort,omitempty"`
	Limit   int    `json:"limit,omitempty"`
	Offset  int    `json:"offset,omitempty"`
	Client  uint64 `json:"cid,omitempty"`
}

// connz asks a server for connections that are open. An answer proves that it
// answers.
func (w *connectionWatch) connz(ctx context.Context, server string, r connzRequest) ([]uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, connzTimeout)
	defer cancel()
	ask, err := json.Marshal(r)
	if err != nil {
		return nil, err
	}
	m, err := w.service.cfg.System.RequestWithContext(ctx, "$SYS.REQ.SERVER."+server+".CONNZ", ask)
	if err != nil {
		return nil, err
	}
	ids, err := sysevent.Connections(m.Data, server)
	if err == nil {
		w.service.servers.answered(server)
	}
	return ids, err
}
