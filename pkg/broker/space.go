package broker

import (
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/nats-io/nats-server/v2/server"
)

const (
	// spaceEvery is how often spaceGuard looks at the free space of the disk.
	spaceEvery = 250 * time.Millisecond
	// maxReserve is how much of a disk is left free; of a small disk a twentieth is.
	maxReserve = 64 << 20
)

// spaceGuard keeps the journal's account from filling the disk. After a write that fails,
// nats-server stores nothing until it is started anew (see Failed), and it cannot start
// on a full disk. So while less than the reserve is free, the account may store no more
// than it has. What is published meanwhile is refused.
//
// A write can still fail if others fill the disk faster than the guard looks. There is no
// guard in a cluster, where an account's limits are for all servers together: the others
// go on without the one whose disk is full. There is none either if the server has an
// operator, whose JWTs set the limits of accounts.
type spaceGuard struct {
	dir    string
	logger *slog.Logger
	space  func(dir string) (free, size uint64, err error)
	stop   chan struct{}
	ended  chan struct{}

	mu      sync.Mutex // guards what follows
	account *server.Account
	low     bool
	normal  server.JetStreamAccountLimits // while low: what it is otherwise
	limited int64                         // while low: the MaxStore that it has
}

func startSpaceGuard(account *server.Account, dir string, logger *slog.Logger) *spaceGuard {
	g := &spaceGuard{account: account, dir: dir, logger: logger, space: diskSpace, stop: make(chan struct{}), ended: make(chan struct{})}
	go g.run()
	return g
}

// end ends it, once.
func (g *spaceGuard) end() {
	close(g.stop)
	<-g.ended
}

func (g *spaceGuard) run() {
	defer close(g.ended)
	ticker := time.NewTicker(spaceEvery)
	defer ticker.Stop()
	for failed := false; ; {
		err := g.look()
		if err != nil && !failed {
			g.logger.Warn("the free space of the disk is not guarded", "dir", g.dir, "err", err)
		}
		failed = err != nil
		select {
		case <-g.stop:
			return
		case <-ticker.C:
		}
	}
}

// look limits the account when less than the reserve is free. It lifts the limit when a
// quarter more than the reserve is free again.
func (g *spaceGuard) look() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	free, size, err := g.space(g.dir)
	if err != nil {
		return err
	}
	reserve := min(maxReserve, size/20)
	switch {
	case !g.low && free < reserve:
		usage := g.account.JetStreamUsage()
		if len(usage.Tiers) > 0 {
			return errors.New("the journal's account has limits for each number of replicas")
		}
		g.normal = usage.Limits
		limits := usage.Limits
		limits.MaxStore = int64(usage.Store)
		if err := g.limit(limits); err != nil {
			return err
		}
		g.low, g.limited = true, limits.MaxStore
		g.logger.Error("the disk is almost full: changes are refused until there is space",
			"dir", g.dir, "free", humanize.IBytes(free), "wanted", humanize.IBytes(reserve+reserve/4))
	case g.low && free >= reserve+reserve/4:
		if err := g.limit(g.normal); err != nil {
			return err
		}
		g.low = false
		g.logger.Info("there is space on the disk again", "dir", g.dir, "free", humanize.IBytes(free))
	}
	return nil
}

// reloaded says that the account's limits may be what its configuration says again.
func (g *spaceGuard) reloaded(account *server.Account) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.account = account
	if g.low && account.JetStreamUsage().Limits.MaxStore != g.limited {
		g.low = false // the next look limits it anew
	}
}

func (g *spaceGuard) limit(l server.JetStreamAccountLimits) error {
	return g.account.UpdateJetStreamLimits(map[string]server.JetStreamAccountLimits{"": l})
}
