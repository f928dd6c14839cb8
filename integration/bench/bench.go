package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"presence/pkg/protocol"
	"presence/pkg/service/servicetest"
)

const (
	// connections that the callers share, for each server.
	connections = 4
	// callersUsers is how many users the callers change. Each caller goes round its
	// share of them, so that changes of one user do not queue behind each other. There
	// are so many that none is over its rate: presenced has its default limits, such as
	// 4 changes of a user in a second.
	callersUsers = 1 << 15
	maxCallers   = 4096
	// requestTimeout is far more than any request takes, so that a lost one
	// fails the run instead of skewing it.
	requestTimeout = 20 * time.Second
)

var subjects = protocol.NewSubjects("")

// target is a server under measurement and the load's connections to it.
type target struct {
	*servicetest.Process
	url        string
	peers      []*target     // other processes of the same service; the connections are spread over all
	brokers    []*target     // NATS servers outside; their processor time counts too
	readyAfter time.Duration // from its start until it said where it listens
	conns      []*nats.Conn
	js         []jetstream.JetStream // one for each connection
	dir        string
}

// conn returns the connection of a caller.
func (t *target) conn(caller int) *nats.Conn { return t.conns[caller%len(t.conns)] }

func (t *target) disconnect() {
	for _, nc := range t.conns {
		nc.Close()
	}
}

// close kills a server whose store is no longer needed.
func (b *bench) close(t *target) {
	t.disconnect()
	t.Kill(b.program)
	for _, p := range t.peers {
		p.Kill(b.program)
	}
}

// stop ends a server gracefully, so that another one can go on with its store.
func (b *bench) stop(t *target) {
	t.disconnect()
	t.Stop(b.program)
}

// bench holds what the measures share.
type bench struct {
	opts      options
	progress  io.Writer
	dir       string // temporary; everything on disk is below it
	presenced string
	program   *program

	// By how the journal or the stream is synced.
	interval, always       *target // presenced
	refInterval, refAlways *target // the reference; refInterval is also "raw"

	// With -against, instead of these four.
	against string // the short name of the other commit
	theirs  string // its program
}

// newBench starts the servers that several measures share, if one of those is chosen, and
// logs in the callers' users. On an error it leaves nothing behind.
func newBench(ctx context.Context, opts options, progress io.Writer) (*bench, error) {
	dir, err := os.MkdirTemp(opts.dir, "presence-bench-")
	if err != nil {
		return nil, err
	}
	b := &bench{opts: opts, progress: progress, dir: dir, presenced: opts.presenced}
	b.program = &program{b: b, ctx: ctx}
	if err := b.prepare(ctx); err != nil {
		b.end()
		return nil, err
	}
	return b, nil
}

// end ends all servers and removes what they stored.
func (b *bench) end() {
	b.program.end()
	if err := os.RemoveAll(b.dir); err != nil {
		fmt.Fprintln(b.progress, "bench:", err)
	}
}

func (b *bench) prepare(ctx context.Context) (err error) {
	defer recovered(&err)
	if b.presenced == "" {
		b.logf("building presenced")
		b.presenced = filepath.Join(b.dir, "presenced")
		cmd := exec.CommandContext(ctx, "go", "build", "-o", b.presenced, "presence/cmd/presenced")
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("building presenced: %w\n%s", err, out)
		}
	}
	if b.opts.against != "" {
		return b.prepareAgainst(ctx)
	}
	if !slices.ContainsFunc(b.opts.chosen(), func(m measure) bool { return m.alone == nil || m.shared }) {
		return nil
	}
	b.logf("starting the servers in %s", b.dir)
	for sync, ts := range map[string][]**target{"interval": {&b.interval, &b.refInterval}, "always": {&b.always, &b.refAlways}} {
		if *ts[0], err = b.start(b.presenced, sync); err != nil {
			return err
		}
		if *ts[1], err = b.startRaw(sync); err != nil {
			return err
		}
	}
	b.logf("logging in %d users", callersUsers)
	return b.prepareUsers(ctx)
}

// start starts a program that is presenced on an empty directory, and connects to it.
func (b *bench) start(program, sync string, more ...string) (*target, error) {
	dir, err := b.tempDir("data")
	if err != nil {
		return nil, err
	}
	return b.startOn(dir, program, nil, append([]string{"--sync", sync}, more...)...)
}

// startRaw starts a reference on an empty directory and connects to it.
func (b *bench) startRaw(sync string) (*target, error) {
	dir, err := b.tempDir("raw")
	if err != nil {
		return nil, err
	}
	t, err := b.startReference(dir, "--sync", sync)
	if err != nil {
		return nil, err
	}
	t.awaitReference(b)
	return t, t.connect()
}

// startOn starts a program that is presenced on a directory, and connects to it. It has
// the default limits, but none for a gateway: one gateway of the load does the work of
// many.
func (b *bench) startOn(dir, program string, env []string, args ...string) (*target, error) {
	env = append([]string{"PRESENCED_USER_CHANGES=0"}, env...)
	args = append([]string{"--listen", "127.0.0.1:0", "--data", dir, "--gateway-ops", "-1"}, args...)
	d := servicetest.StartProgram(b.program, program, env, args...)
	t := &target{Process: &d.Process, url: d.URL, readyAfter: d.ReadyAfter, dir: dir}
	return t, t.connect()
}

// remove kills a server and removes what it has stored.
func (b *bench) remove(t *target) {
	b.close(t)
	if err := os.RemoveAll(t.dir); err != nil {
		b.logf("%v", err)
	}
}

func (b *bench) tempDir(name string) (string, error) { return os.MkdirTemp(b.dir, name+"-") }

func (t *target) connect() error {
	for range connections {
		nc, err := t.connectOne()
		if err != nil {
			return err
		}
		js, err := jetstream.New(nc)
		if err != nil {
			return err
		}
		t.js = append(t.js, js)
	}
	return nil
}

// connectOne makes one connection more.
func (t *target) connectOne() (*nats.Conn, error) {
	url := t.url
	if i := len(t.conns) % (1 + len(t.peers)); i > 0 {
		url = t.peers[i-1].url
	}
	nc, err := nats.Connect(url, nats.Name("bench"), nats.NoReconnect())
	if err != nil {
		return nil, fmt.Errorf("connecting to %s: %w", url, err)
	}
	t.conns = append(t.conns, nc)
	return nc, nil
}

// prepareUsers logs in the callers' users, and has the raw responder send
// bodies of the sizes that presenced sends.
func (b *bench) prepareUsers(ctx context.Context) error {
	if err := b.populate(ctx, b.interval, b.always); err != nil {
		return err
	}
	return canBodies(b.interval, b.refInterval, b.refAlways)
}

// populate logs in the callers' users.
func (b *bench) populate(ctx context.Context, targets ...*target) error {
	const users = callersUsers
	for _, t := range targets {
		if err := loginAll(ctx, t, userID, users); err != nil {
			return err
		}
		// Each gets a text, for get to return.
		if _, err := callEach(ctx, b.opts.callers, users, func(caller, i int) error {
			return request(t.conn(caller), setSubject(i), setBody(i))
		}); err != nil {
			return err
		}
	}
	return nil
}

// canBodies copies the bodies of one set's reply and event and of a get's reply from a
// presenced to references. Of a cluster each server gets them: a server prefers its own
// responder, and each has a connection.
func canBodies(from *target, to ...*target) error {
	nc := from.conns[0]
	event, err := subjects.Event(userID(0))
	if err != nil {
		return err
	}
	// The user may have the text already, and to set it again would send no event.
	if err := request(nc, setSubject(0), setBody(0)); err != nil {
		return err
	}
	sub, err := nc.SubscribeSync(event)
	if err != nil {
		return err
	}
	defer sub.Unsubscribe()
	canned := map[string][]byte{}
	if canned[refReply], err = requestBody(nc, setSubject(0), setBody(1)); err != nil {
		return err
	}
	m, err := sub.NextMsg(requestTimeout)
	if err != nil {
		return fmt.Errorf("waiting for an event on %s: %w", event, err)
	}
	canned[refEvent] = m.Data
	if canned[refGetReply], err = requestBody(nc, subjects.Get(), getBody(0, usersPerGet)); err != nil {
		return err
	}
	for name, body := range canned {
		for _, t := range to {
			for _, nc := range t.conns {
				if err := request(nc, refCanned+name, body); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

func (b *bench) logf(format string, args ...any) {
	fmt.Fprintf(b.progress, "bench: "+format+"\n", args...)
}
