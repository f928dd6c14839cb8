package admission

import "sync"

// pending counts requests of which only a few may wait for their answer: applies, by the gateway's
// ID, and reads of contacts, by their subject. The zero value counts none.
type pending struct {
	mu      sync.Mutex
	waiting map[string]int
}

// take counts a request, unless as many wait already. It reports whether it did.
func (p *pending) take(t *Ticket, key string, most int) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.waiting[key] >= most {
		return false
	}
	if p.waiting == nil {
		p.waiting = make(map[string]int)
	}
	p.waiting[key]++
	t.pending = key
	return true
}

// release ends what take began. Without that it does nothing.
func (p *pending) release(t *Ticket) {
	if t.pending == "" {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.waiting[t.pending]--; p.waiting[t.pending] == 0 {
		delete(p.waiting, t.pending)
	}
	t.pending = ""
}

// keys returns for how many keys a request waits.
func (p *pending) keys() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.waiting)
}
