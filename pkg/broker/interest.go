package broker

import (
	"fmt"

	"github.com/nats-io/nats-server/v2/server"
)

// Interested reports whether a message on a subject of the clients' account reaches anybody, or
// may do so. A subscription counts from before the server reads what its client sent next. Any
// goroutine may call it.
func (b *Broker) Interested(subject string) bool {
	clients := b.clients.Load()
	return clients == nil || clients.SubscriptionInterest(subject)
}

// noteClients has Interested look at the subscriptions of the clients' account.
func (b *Broker) noteClients() error {
	account, err := b.server.LookupAccount(b.names.clients)
	if err != nil {
		return fmt.Errorf("the clients' account %s: %w", b.names.clients, err)
	}
	b.clients.Store(account)
	return nil
}

// knowsInterest reports whether the server of a file knows at once who subscribes. Servers hear of
// subscriptions on others of their cluster later, or not at all. A mapping makes another subject
// of a message's, and an operator may add one at any time.
func (f *file) knowsInterest() bool {
	others := f.clustered() || f.opts.Gateway.Port != 0 || f.opts.LeafNode.Port != 0 || len(f.opts.LeafNode.Remotes) > 0
	return !others && !f.operator() && !f.hasMappings(f.names.clients)
}

func (f *file) hasMappings(account string) bool {
	if account == server.DEFAULT_GLOBAL_ACCOUNT && (lookup(f.text, "mappings") != nil || lookup(f.text, "maps") != nil) {
		return true
	}
	settings, _ := f.accounts[account].(map[string]any)
	return lookup(settings, "mappings") != nil || lookup(settings, "maps") != nil
}
