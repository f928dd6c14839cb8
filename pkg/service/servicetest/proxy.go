package servicetest

import (
	"net"
	"sync"
	"testing"
)

// Proxy forwards TCP connections until they are cut or frozen.
type Proxy struct {
	listener net.Listener
	target   string
	gate     sync.RWMutex // held for reading while something is forwarded
	pumps    sync.WaitGroup

	mu   sync.Mutex
	cut  bool
	open map[net.Conn]bool
}

// StartProxy forwards to the server of a NATS URL.
func StartProxy(t testing.TB, url string) *Proxy {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &Proxy{listener: listener, target: url[len("nats://"):], open: map[net.Conn]bool{}}
	p.pumps.Go(p.accept)
	t.Cleanup(func() {
		listener.Close()
		p.Cut()
		p.pumps.Wait()
	})
	return p
}

// URL is that of the server, through the proxy.
func (p *Proxy) URL() string { return "nats://" + p.listener.Addr().String() }

// Cut closes all connections, and all later ones as soon as they are made.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cut = true
	for c := range p.open {
		c.Close()
	}
}

// Mend ends what Cut began.
func (p *Proxy) Mend() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cut = false
}

// Freeze holds back what is sent, and leaves the connections open: so does a network that loses
// packets. Thaw ends it.
func (p *Proxy) Freeze() { p.gate.Lock() }
func (p *Proxy) Thaw()   { p.gate.Unlock() }

func (p *Proxy) accept() {
	for {
		from, err := p.listener.Accept()
		if err != nil {
			return
		}
		to, err := net.Dial("tcp", p.target)
		if err != nil || !p.keep(from, to) {
			from.Close()
			if err == nil {
				to.Close()
			}
			continue
		}
		p.pumps.Go(func() { p.pump(from, to) })
		p.pumps.Go(func() { p.pump(to, from) })
	}
}

func (p *Proxy) keep(conns ...net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range conns {
		p.open[c] = !p.cut
	}
	return !p.cut
}

func (p *Proxy) pump(from, to net.Conn) {
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		if err == nil {
			p.gate.RLock()
			_, err = to.Write(buf[:n])
			p.gate.RUnlock()
		}
		if err != nil {
			from.Close()
			to.Close()
			return
		}
	}
}
