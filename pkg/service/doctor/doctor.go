// Package doctor looks for what is wrong with a presence service, from outside:
//
//	report := doctor.Run(ctx, doctor.Config{Clients: connect, Journal: reader})
//	for _, c := range report.Checks { … } // what was found, what it means, what to do
//
// It connects as an operator, tries a harmless request of each kind, and asks each instance how it
// is doing (PROTOCOL 4.9). With a connection to the journal's account it looks at the streams, too.
// With one to the system account it looks at the NATS servers. It changes nothing.
//
// Every check is in the report, also one that could not be made: it says what it needs. Whatever
// does not answer, Run returns within Within. The checks run at the same time where they can.
package doctor

import (
	"context"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
)

const (
	// Within is how long Run takes at most.
	Within = 9 * time.Second
	// connectWithin bounds the wait for one connection.
	connectWithin = 3 * time.Second
	// answerWithin bounds the wait for one answer.
	answerWithin = 2 * time.Second
)

// Connect makes a connection, in at most connectWithin or not at all. If it fails, the error is
// told as it is. Where it is a *Problem, that is what the check says.
type Connect func() (*nats.Conn, error)

// Config is what an examination needs.
type Config struct {
	// Clients connects as an operator in the clients' account, Journal as a user who may read
	// the streams, System as one of the system account. The last two may be nil. Run closes
	// what it has opened.
	Clients, Journal, System Connect
	// Prefix begins the subjects of the service. Default protocol.DefaultPrefix.
	Prefix string
	// Stream, Snapshots and Contacts are as in the service's configuration, and have the same
	// defaults.
	Stream, Snapshots, Contacts string
}

// Result is what a check came to.
type Result string

// The results.
const (
	OK         Result = "ok"
	Warn       Result = "warn"       // it works, and may not for long
	Fail       Result = "fail"       // something is wrong
	NotChecked Result = "notChecked" // Do says what it needs
)

// Check is one thing that was looked at.
type Check struct {
	// Name is stable: the group and what was looked at, such as "instance.clock".
	Name string `json:"name"`
	// Instance is the ID of the instance that the check is about, if it is about one.
	Instance string `json:"instance,omitempty"`
	Result   Result `json:"result"`
	// Found is what was found, Means why it matters, Do what to do. Each is for people.
	Found string `json:"found"`
	Means string `json:"means,omitempty"`
	Do    string `json:"do,omitempty"`
}

// Problem is an error that says what it means and what to do.
type Problem struct{ Found, Means, Do string }

func (p *Problem) Error() string { return p.Found }

// Report is what was found, in the order in which it is best read.
type Report struct {
	Checks []Check `json:"checks"`
}

// Count returns how many checks came to a result.
func (r *Report) Count(of Result) (n int) {
	for _, c := range r.Checks {
		if c.Result == of {
			n++
		}
	}
	return n
}

// Run examines a service.
func Run(ctx context.Context, cfg Config) *Report {
	ctx, cancel := context.WithTimeout(ctx, Within)
	defer cancel()
	x := &examination{cfg: cfg}
	x.run(ctx)
	return &Report{Checks: x.checks()}
}

// examination is one at work. Each part has findings of its own, so they need no lock.
type examination struct {
	cfg                                                        Config
	connection, permissions, service, journal, streams, server findings
}

// checks are all findings, in the order in which they are read.
func (x *examination) checks() (list []Check) {
	for _, f := range []*findings{&x.connection, &x.permissions, &x.service, &x.journal, &x.streams, &x.server} {
		list = append(list, f.list...)
	}
	return list
}

func (x *examination) run(ctx context.Context) {
	clients, err := dial(ctx, x.cfg.Clients)
	if err != nil {
		x.connection.failed("connection.server", err)
		x.connection.skip("connection.tls", "a connection")
		x.permissions.skip("permissions", "a connection")
		x.service.skip("service", "a connection")
		x.journal.skip("journal", "a connection")
		x.server.skip("servers", "a connection")
		return
	}
	defer clients.Close()
	c := newAsker(clients, x.cfg.Prefix)
	var parts sync.WaitGroup
	parts.Go(func() { c.lookAtConnection(ctx, &x.connection) })
	var found *served
	parts.Go(func() { c.lookAtPermissions(ctx, &x.permissions) })
	parts.Go(func() {
		found = c.ask(ctx)
		found.judge(&x.service, &x.journal)
	})
	parts.Go(func() { x.lookAtJournal(ctx) })
	parts.Go(func() { x.lookAtServers(ctx) })
	parts.Wait()
	if !found.tellsOfServers() && x.cfg.System == nil {
		x.server.skip("servers", "--system-creds or --system-url: no instance tells of a NATS server inside")
	}
}

// dial makes a connection, within connectWithin or not at all.
func dial(ctx context.Context, connect Connect) (*nats.Conn, error) {
	type result struct {
		nc  *nats.Conn
		err error
	}
	done := make(chan result)
	ctx, cancel := context.WithTimeout(ctx, connectWithin)
	defer cancel()
	go func() { // it cannot be interrupted: what comes too late is closed
		nc, err := connect()
		select {
		case done <- result{nc, err}:
		case <-ctx.Done():
			if nc != nil {
				nc.Close()
			}
		}
	}()
	select {
	case r := <-done:
		return r.nc, r.err
	case <-ctx.Done():
		return nil, &Problem{Found: "no connection within " + connectWithin.String(), Means: "a firewall swallows it, a name cannot be resolved, or the server hangs",
			Do: "check host and port of --server, and try again"}
	}
}

// findings are checks of one part.
type findings struct{ list []Check }

func (f *findings) add(c Check) { f.list = append(f.list, c) }

func (f *findings) ok(name, found string) { f.add(Check{Name: name, Result: OK, Found: found}) }

// skip says that something was not checked, and what it needs.
func (f *findings) skip(name, needs string) {
	f.add(Check{Name: name, Result: NotChecked, Found: "needs " + needs})
}

// failed says that a check failed by an error.
func (f *findings) failed(name string, err error) {
	c := Check{Name: name, Result: Fail, Found: err.Error()}
	if p, ok := err.(*Problem); ok {
		c.Means, c.Do = p.Means, p.Do
	}
	f.add(c)
}
