package connections

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/nats-io/nats.go"

	"presence/pkg/service/internal/sysevent"
)

const (
	// sweeps is how many times a connection must be missing. The first sweep is of the clients'
	// account. The second is of all accounts, because a client of another account may use the
	// service too.
	sweeps = 2
	// connzPage is how many connections a server is asked for at once, some 2 MiB.
	connzPage = 4096
	// connzOverlap is how many connections of a page are asked for again with the next page.
	connzOverlap = 512
	// connzTimeout bounds the wait for one page.
	connzTimeout = 5 * time.Second
)

// compare reports the connections that leases are bound to and that their server does not have any
// more. It learns what is bound before it asks the server. LookUp covers what is bound later.
func (w *Watcher) compare(ctx context.Context) error {
	var failed error
	for server, clients := range w.cfg.Leases.Bound() {
		missing, err := w.missing(ctx, server, clients)
		if isSilence(err) {
			continue // the server is gone, or is of another cluster: that proves nothing
		}
		if err != nil {
			failed = err
			continue
		}
		for _, client := range missing {
			if err := w.cfg.Leases.Missing(server, client); err != nil {
				return err
			}
		}
		if len(missing) > 0 {
			w.log.Info("closed connections were found whose reports were missed", "server", server, "closed", len(missing), "bound", len(clients))
		}
	}
	return failed
}

// isSilence reports whether nobody answered.
func isSilence(err error) bool {
	return errors.Is(err, nats.ErrNoResponders) || errors.Is(err, nats.ErrTimeout) || errors.Is(err, context.DeadlineExceeded)
}

// missing returns the clients that a server does not have, out of some. It changes clients.
func (w *Watcher) missing(ctx context.Context, server string, clients []uint64) ([]uint64, error) {
	for i := range sweeps {
		account := w.cfg.Account
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

// errShifted says that so many connections closed between two pages that the pages may not have
// shown all.
var errShifted = errors.New("the list of connections changed too fast")

// sweep returns all connections that a server has, of one account or of all. The server builds its
// list anew for each page, in the order of the IDs. A connection that closes meanwhile moves those
// behind it, perhaps onto the page before. So the pages overlap: if a page begins no later than
// the one before ended, nothing was left out.
func (w *Watcher) sweep(ctx context.Context, server, account string) (map[uint64]struct{}, error) {
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

// connz asks a server for open connections, and notes that the server answers.
func (w *Watcher) connz(ctx context.Context, server string, r connzRequest) ([]uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, connzTimeout)
	defer cancel()
	ask, err := json.Marshal(r)
	if err != nil {
		return nil, err
	}
	m, err := w.cfg.System.RequestWithContext(ctx, "$SYS.REQ.SERVER."+server+".CONNZ", ask)
	if err != nil {
		return nil, err
	}
	ids, err := sysevent.Connections(m.Data, server)
	if err == nil {
		w.servers.answered(server)
	}
	return ids, err
}
