package main

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"presence/pkg/protocol"
)

const (
	// floodCommand, as the first argument, makes this program one user or gateway
	// that sends as fast as it can.
	floodCommand = "flood"
	floodUser    = "user"
	floodGateway = "gateway"

	// floodOps are the ops of each of the gateway's requests.
	floodOps = 200
	// floodAtMost bounds a flood that nobody ends.
	floodAtMost = time.Minute
	// floodSilence is after how long without an answer a flood gives those missing up.
	floodSilence = 300 * time.Millisecond
)

// floodMeasure is what a polite caller notices of one user or gateway that sends as
// fast as it can and waits for nothing. The flood is a process of its own, the
// limits are presenced's defaults.
var floodMeasure = measure{
	name: "flood", title: "a polite caller, set and get in turn, beside a flood", slow: true,
	alone: func(ctx context.Context, b *bench) ([]row, error) {
		t, err := b.startAlone(ctx, "flood", nil, "--gateway-ops", "0")
		if err != nil {
			return nil, err
		}
		defer t.close()
		f := &floods{t: t, beside: []string{"", floodUser, floodGateway}}
		var variants []variant
		for i, kind := range f.beside {
			variants = append(variants, variant{name: cmp.Or(kind, "nobody"), server: t, run: func(ctx context.Context, d time.Duration) (sample, error) {
				return f.politely(ctx, i, d/2)
			}})
		}
		if _, err := b.interleave(ctx, variants); err != nil {
			return nil, err
		}
		return f.rows(), nil
	},
}

// floods are what a polite caller measured, by what there was beside it.
type floods struct {
	t       *target
	beside  []string
	asked   int
	rounds  [3][]politeRound
	outcome [3]outcome
}

// politeRound is how long it took, of sets and of gets.
type politeRound struct{ set, get sample }

// politely sets and gets in turn, beside a flood of the i-th kind.
func (f *floods) politely(ctx context.Context, i int, d time.Duration) (sample, error) {
	stop := func() (outcome, error) { return outcome{}, nil }
	if kind := f.beside[i]; kind != "" {
		var err error
		if stop, err = startFlood(ctx, f.t.url, kind); err != nil {
			return sample{}, err
		}
	}
	var took [2][]time.Duration
	all, err := callFor(ctx, 1, d, func(_, k int) error {
		f.asked++
		user, begun := fmt.Sprint("polite-", f.asked%politeUsers), time.Now()
		var err error
		if k%2 == 0 {
			err = request(f.t.conns[0], userSubject(user, protocol.OpSet), setBody(f.asked))
		} else {
			err = request(f.t.conns[0], subjects.Get(), mustMarshal(protocol.GetRequest{UserIDList: []string{user}}))
		}
		took[k%2] = append(took[k%2], time.Since(begun))
		return err
	})
	flood, stopErr := stop()
	if err := errors.Join(err, stopErr); err != nil {
		return sample{}, err
	}
	var r politeRound
	for k, s := range []*sample{&r.set, &r.get} {
		slices.Sort(took[k])
		*s = sample{count: len(took[k]), p50: percentile(took[k], 50), p99: percentile(took[k], 99)}
	}
	f.rounds[i] = append(f.rounds[i], r)
	f.outcome[i].add(&flood)
	return all, nil
}

// rows leaves out the first round, which warms up.
func (f *floods) rows() (rows []row) {
	for _, what := range []struct {
		name string
		of   func(politeRound) sample
	}{{"set", func(r politeRound) sample { return r.set }}, {"get", func(r politeRound) sample { return r.get }}} {
		var quiet50, quiet99 []float64
		for i, kind := range f.beside {
			var p50, p99 []float64
			for _, r := range f.rounds[i][1:] {
				p50, p99 = append(p50, float64(what.of(r).p50)), append(p99, float64(what.of(r).p99))
			}
			if i == 0 {
				quiet50, quiet99 = p50, p99
			}
			r := row{Name: what.name + ", beside " + cmp.Or(kind, "nobody"), P50: time.Duration(median(p50)), P99: time.Duration(median(p99))}
			if i > 0 {
				r.Value = medianRatio(p99, quiet99)
				r.Text = fmt.Sprintf("p50 %.1f ×, p99 %.1f × quiet", medianRatio(p50, quiet50), r.Value)
			}
			rows = append(rows, r)
		}
	}
	for i, kind := range f.beside[1:] {
		o := f.outcome[i+1]
		rows = append(rows, row{Name: "what became of the " + kind + "'s requests", Value: float64(o.Sent),
			Text: fmt.Sprintf("%s: %s done, %s refused, %s not answered", count(o.Sent), count(o.Done), count(o.refused()), count(o.Unanswered))})
	}
	return rows
}

// startFlood starts a flood and returns when it is under way. stop ends it and says
// what became of it.
func startFlood(ctx context.Context, url, kind string) (stop func() (outcome, error), err error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, self, floodCommand, url, kind)
	cmd.SysProcAttr, cmd.Stderr = dieWithParent(), os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	said := bufio.NewReader(stdout)
	stop = func() (o outcome, err error) {
		stdin.Close()
		err = json.NewDecoder(said).Decode(&o)
		return o, errors.Join(err, cmd.Wait())
	}
	if _, err := said.ReadString('\n'); err != nil {
		_, stopErr := stop()
		return nil, fmt.Errorf("a flood did not begin: %w", errors.Join(err, stopErr))
	}
	return stop, nil
}

// runFlood floods until stdin closes, and prints what became of it.
func runFlood(args []string, stdin io.Reader, stdout io.Writer) error {
	if len(args) != 2 {
		return errors.New("it takes a URL and a kind")
	}
	nc, err := nats.Connect(args[0], nats.NoReconnect())
	if err != nil {
		return err
	}
	defer nc.Close()
	s := &storm{message: func(_, i int) (string, []byte) { return userSubject("flooder", protocol.OpSet), setBody(i) }}
	if args[1] == floodGateway {
		if s, err = gatewayFlood(nc); err != nil {
			return err
		}
	}
	s.silence = floodSilence
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		_, _ = io.Copy(io.Discard, stdin)
		cancel()
	}()
	fmt.Fprintln(stdout, "flooding")
	out, err := s.run(ctx, []*nats.Conn{nc}, floodAtMost)
	if err != nil {
		return err
	}
	return json.NewEncoder(stdout).Encode(out)
}

// gatewayFlood is a gateway that goes on with the next request as soon as one is
// done, and repeats that until it is.
func gatewayFlood(nc *nats.Conn) (*storm, error) {
	g, err := openGateway(nc, "flooder")
	if err != nil {
		return nil, err
	}
	subject, err := subjects.Gateway(g.id, protocol.OpApply)
	if err != nil {
		return nil, err
	}
	var ops [2][]byte // in turn, so that each changes something
	for k := range ops {
		list := make([]protocol.Op, floodOps)
		for i := range list {
			text := fmt.Sprint("text ", k)
			list[i] = protocol.Op{Op: protocol.OpKindSet, UserID: fmt.Sprint("flooded-", i), CustomStatus: &text}
		}
		ops[k] = mustMarshal(list)
	}
	var mu sync.Mutex
	seqs := []int{} // by request
	next := 1
	return &storm{
		message: func(_, i int) (string, []byte) {
			mu.Lock()
			defer mu.Unlock()
			seqs = append(seqs, next)
			return subject, fmt.Appendf(nil, `{"process":%q,"seq":%d,"ops":%s}`, g.process, next, ops[next%2])
		},
		done: func(_, i int) {
			mu.Lock()
			defer mu.Unlock()
			next = max(next, seqs[i]+1)
		},
	}, nil
}
