package processes

import (
	"bufio"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"presence/integration/internal/wire"
	"presence/pkg/protocol"
	"presence/pkg/service/servicetest"

	"github.com/nats-io/nats.go"
)

var soakTime = flag.Duration("soak", 4*time.Second, "how long TestSoak lasts")

// consumption is what a process holds.
type consumption struct {
	rss        int // bytes
	files      int
	goroutines int
}

// consumes reads what a daemon holds, from the system and from its metrics.
func consumes(t testing.TB, d *servicetest.Daemon, metrics string) (c consumption) {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", d.PID()))
	if err != nil {
		t.Fatal(err)
	}
	c.rss = number(t, `VmRSS:\s+(\d+) kB`, string(status)) << 10
	files, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", d.PID()))
	if err != nil {
		t.Fatal(err)
	}
	c.files = len(files)
	r, err := http.Get(metrics)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	text, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	c.goroutines = number(t, `(?m)^go_goroutines (\d+)$`, string(text))
	http.DefaultClient.CloseIdleConnections()
	return c
}

func number(t testing.TB, expression, text string) int {
	t.Helper()
	m := regexp.MustCompile(expression).FindStringSubmatch(text)
	if m == nil {
		t.Fatalf("no %s in %q", expression, text)
	}
	n, err := strconv.Atoi(m[1])
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// soak is what is thrown at a daemon. Each thrower has a random source of its own.
type soak struct {
	t      *testing.T
	d      *servicetest.Daemon
	seed   uint64
	stop   chan struct{}
	wait   sync.WaitGroup
	mu     sync.Mutex
	thrown map[string]int
}

// every calls do again and again, with a breath in between, until the soak is over.
func (s *soak) every(pause time.Duration, what string, do func(*rand.Rand) error) {
	s.seed++
	rnd := rand.New(rand.NewPCG(s.seed, 1))
	s.wait.Go(func() {
		for {
			select {
			case <-s.stop:
				return
			case <-time.After(pause):
			}
			if err := do(rnd); err != nil {
				s.t.Errorf("%s: %v", what, err)
				return
			}
			s.mu.Lock()
			s.thrown[what]++
			s.mu.Unlock()
		}
	})
}

func randomBytes(rnd *rand.Rand, most int) []byte {
	b := make([]byte, rnd.IntN(most))
	for i := range b {
		b[i] = byte(rnd.Uint32())
	}
	return b
}

// soakSubject is one of all that a client may publish on, with any user and gateway.
func soakSubject(rnd *rand.Rand) string {
	user := []string{"noise1", "noise2", "=41", "a=2Eb", "x"}[rnd.IntN(5)]
	ops := []string{"login", "renew", "logout", "set", "status", "contacts"}
	switch rnd.IntN(4) {
	case 0:
		return wire.Subjects.Prefix() + ".gateway.noise." + []string{"open", "renew", "apply", "close"}[rnd.IntN(4)]
	case 1:
		return wire.Subjects.Prefix() + "." + []string{"get", "stats", "list", "explain", "admin.kick"}[rnd.IntN(5)]
	default:
		return wire.Subjects.Prefix() + ".user." + user + "." + ops[rnd.IntN(len(ops))]
	}
}

// soakBody is a request that is valid, nearly valid, or noise.
func soakBody(rnd *rand.Rand) []byte {
	bodies := []string{
		`{}`, `{"sessionID":"s%d"}`, `{"sessionID":"s","device":"d%d","ttlSeconds":5}`, `{"customStatus":"x%d"}`, `{"availability":"invisible"}`, `{"all":true}`,
		`{"userIDList":["noise1","noise%d"],"fresh":true}`, `{"userIDList":["noise1"],"minRevision":%d}`, `{"add":["friend%d"]}`, `{"replace":[]}`,
		`{"process":"p","ttlSeconds":5}`, `{"process":"p%d"}`, `{"process":"p","seq":%d,"ops":[{"op":"login","userID":"noise1","sessionID":"g"}]}`,
		`{"userID":"noise1"}`, `{"limit":%d}`, `{"cursor":"noise%d"}`, `{"sessionID":"s","idle":true}`, `{"sessionID":"s","connection":{"serverID":"N","clientID":%d}}`,
	}
	body := bodies[rnd.IntN(len(bodies))]
	if strings.Contains(body, "%d") {
		body = fmt.Sprintf(body, rnd.IntN(9))
	}
	switch b := []byte(body); rnd.IntN(4) {
	case 0:
		return randomBytes(rnd, 2000)
	case 1: // one byte of it is another
		b[rnd.IntN(len(b))] = byte(rnd.Uint32())
		return b
	default:
		return b
	}
}

// request sends anything to anywhere, with and without a reply subject, which may
// be one that must not be answered.
func (s *soak) request(nc *nats.Conn) func(*rand.Rand) error {
	return func(rnd *rand.Rand) error {
		for range 50 {
			subject, body := soakSubject(rnd), soakBody(rnd)
			reply := []string{"", nc.NewInbox(), wire.Subjects.Prefix() + ".user.victim.set", "$JS.API.INFO"}[rnd.IntN(4)]
			if err := nc.PublishMsg(&nats.Msg{Subject: subject, Reply: reply, Data: body}); err != nil {
				return err
			}
		}
		return nc.FlushTimeout(wire.Soon)
	}
}

// half opens a connection, says hello, says too little or nonsense, and goes
// without a word.
func (s *soak) half(rnd *rand.Rand) error {
	c, err := net.DialTimeout("tcp", strings.TrimPrefix(s.d.URL, "nats://"), wire.Soon)
	if err != nil {
		return err
	}
	defer c.Close()
	said := [][]byte{nil, []byte("CONNECT {}\r\n"), []byte("CONNECT {}\r\nPUB presence.v1.get 100\r\n{"), randomBytes(rnd, 4000), []byte("CONNECT {\"verbose\":")}
	if _, err := c.Write(said[rnd.IntN(len(said))]); err != nil {
		return nil // the server was quicker
	}
	time.Sleep(time.Duration(rnd.IntN(50)) * time.Millisecond)
	return nil
}

// slow subscribes to everything, asks for much, and reads nothing for a while.
func (s *soak) slow(rnd *rand.Rand) error {
	c, err := net.DialTimeout("tcp", strings.TrimPrefix(s.d.URL, "nats://"), wire.Soon)
	if err != nil {
		return err
	}
	defer c.Close()
	w := bufio.NewWriter(c)
	fmt.Fprintf(w, "CONNECT {\"verbose\":false}\r\nSUB %s.status.* 1\r\nSUB slow.* 2\r\n", wire.Subjects.Prefix())
	get := wire.Encode(protocol.GetRequest{UserIDList: wire.Names("noise", 200)})
	for i := range 200 {
		fmt.Fprintf(w, "PUB %s slow.%d %d\r\n%s\r\n", wire.Subjects.Get(), i, len(get), get)
	}
	if err := w.Flush(); err != nil {
		return nil // the server has had enough
	}
	time.Sleep(time.Duration(200+rnd.IntN(500)) * time.Millisecond)
	return nil
}

// TestSoak throws noise, random requests, half-open connections and slow readers
// at a daemon, for -soak. Those who behave are served meanwhile; afterwards the
// state is what was acknowledged to them, and the daemon holds no more files and
// goroutines than before, and no more memory than after the first half of it.
func TestSoak(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("it reads /proc")
	}
	t.Parallel()
	d := servicetest.StartDaemon(t, "--http", "127.0.0.1:0", "--user-changes", "20")
	metrics := monitorURL(t, d) + "/metrics"
	nc := d.Connect(t)
	s := &soak{t: t, d: d, stop: make(chan struct{}), thrown: map[string]int{}}
	s.seed, _ = seeded(t)

	var setters []*setter
	for i := range 20 { // each at a pace that is not limited
		set := &setter{user: fmt.Sprint("setter", i)}
		setters = append(setters, set)
		s.every(300*time.Millisecond, "set", func(*rand.Rand) error {
			_, refusal, wrong := set.set(nc)
			if refusal != nil && !errors.Is(refusal, protocol.ErrOverloaded) && !undecided(refusal) {
				return refusal
			}
			return wrong
		})
	}
	before := consumes(t, d, metrics) // with the connection of the setters
	var conns []*nats.Conn
	for range 3 {
		c := d.Connect(t)
		conns = append(conns, c)
		s.every(5*time.Millisecond, "50 requests", s.request(c))
	}
	for range 4 {
		s.every(10*time.Millisecond, "half-open connection", s.half)
		s.every(10*time.Millisecond, "slow reader", s.slow)
	}
	time.Sleep(*soakTime / 2) // the soak itself
	half := consumes(t, d, metrics)
	time.Sleep(*soakTime / 2)
	after := consumes(t, d, metrics)
	close(s.stop)
	s.wait.Wait()
	for _, c := range conns {
		c.Close()
	}
	t.Logf("thrown: %v; MiB: %d before, %d after half of it, %d in the end", s.thrown, before.rss>>20, half.rss>>20, after.rss>>20)

	select {
	case <-d.Exited():
		t.Fatalf("the daemon has ended:\n%s", d.Stderr())
	default:
	}
	for _, set := range setters {
		if set.n == 0 || set.acknowledged == "" {
			t.Errorf("%s was never acknowledged", set.user)
		}
		if err := set.shows(wire.Fresh(t, nc, set.user)[0]); err != nil {
			t.Error(err)
		}
	}
	if got := wire.Fresh(t, nc, "victim")[0]; got.Revision != 0 {
		t.Errorf("a reply became a request: %+v", got)
	}
	servicetest.Eventually(t, 2*wire.Soon, "files and goroutines to be given back", func() bool {
		now := consumes(t, d, metrics)
		return now.files <= before.files+2 && now.goroutines <= before.goroutines+5
	})
	// What grows with time, and not with what is there, would double.
	if limit := 2*half.rss + 64<<20; after.rss > limit {
		t.Errorf("%d MiB are held, after half of it %d were", after.rss>>20, half.rss>>20)
	}
	for line := range strings.Lines(d.Stderr()) {
		if strings.Contains(line, "panic") || strings.Contains(line, "level=ERROR") && !strings.Contains(line, "component=nats-server") {
			t.Errorf("the daemon's log has %s", line)
		}
	}
	d.Stop(t)
}
