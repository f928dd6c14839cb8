package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/urfave/cli/v3"

	"presence/cmd/presencectl/load"
	"presence/pkg/protocol"
)

const (
	// benchCallers prepare users and erase them.
	benchCallers = 64
	// prepareWithin and eraseWithin bound that.
	prepareWithin, eraseWithin = 2 * time.Minute, 2 * time.Minute
	// textFor is how long a text of a measurement lives if nobody erases its user.
	textFor = time.Hour
	// leastText is the shortest text: a number that differs from call to call.
	leastText = 8
)

// benchUsers are users that nobody else has: 64 random bits are in their names.
type benchUsers struct {
	subjects protocol.Subjects
	name     string // which all their IDs begin with
	n        int
	known    int // as many, the first ones, the service may know
}

func newBenchUsers(prefix string, n int) *benchUsers {
	random := make([]byte, 8)
	_, _ = rand.Read(random) // it never fails
	return &benchUsers{subjects: protocol.NewSubjects(prefix), name: fmt.Sprintf("bench-%x-", random), n: n}
}

func (u *benchUsers) id(n int) string { return fmt.Sprint(u.name, n%u.n) }

// An operation is what is measured.
type operation struct {
	name string
	// request is the request of a call.
	request func(n int) (subject string, body []byte, err error)
}

// call makes the request of a call.
func (o *operation) call(nc *nats.Conn) func(context.Context, int) error {
	return func(ctx context.Context, n int) error {
		_, err := o.ask(ctx, nc, n)
		return err
	}
}

// ask makes the request of a call once. It is no request of client.Client, which would make it
// again where the service refuses it as overloaded.
func (o *operation) ask(ctx context.Context, nc *nats.Conn, n int) (*nats.Msg, error) {
	subject, body, err := o.request(n)
	if err != nil {
		return nil, err
	}
	return askOnce(ctx, nc, subject, body)
}

func askOnce(ctx context.Context, nc *nats.Conn, subject string, body []byte) (*nats.Msg, error) {
	msg, err := nc.RequestWithContext(ctx, subject, body)
	if err != nil {
		return nil, err
	}
	if msg.Header.Get(protocol.ErrorCodeHeader) == "" {
		return msg, nil
	}
	e := new(protocol.Error)
	if json.Unmarshal(msg.Data, e) != nil || e.Name == "" { // of NATS micro
		e = protocol.ErrInternal.With(msg.Header.Get(protocol.ErrorHeader))
	}
	return nil, e
}

// noAnswer is the name of a request without an answer in time.
const noAnswer = "no answer"

// errorName is the name under which a failure is counted.
func errorName(err error) string {
	if e, ok := errors.AsType[*protocol.Error](err); ok {
		return e.Name
	}
	switch {
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, nats.ErrTimeout):
		return noAnswer
	case errors.Is(err, nats.ErrNoResponders):
		return "nobody answers"
	}
	return plain(err)
}

func setOperation(cmd *cli.Command, u *benchUsers) *operation { return u.set(cmd.Int("size")) }

// set sets the text of one user after the other. Each text is another one: to set the same text
// again changes nothing.
func (u *benchUsers) set(size int) *operation {
	filler := strings.Repeat("x", size-leastText)
	return &operation{name: "set", request: func(n int) (string, []byte, error) {
		text := fmt.Sprintf("%08d%s", n%100_000_000, filler)
		body, err := protocol.Marshal(protocol.SetRequest{CustomStatus: &text, ExpiresInSeconds: protocol.Ptr(int64(textFor / time.Second))})
		if err != nil {
			return "", nil, err
		}
		subject, err := u.subjects.Set(u.id(n))
		return subject, body, err
	}}
}

func getOperation(cmd *cli.Command, u *benchUsers) *operation { return u.get(cmd.Int("batch")) }

// mostBodies bounds how many requests are made before they are sent.
const mostBodies = 1000

// get asks for as many users as a batch has. To make such a request takes longer than to send it,
// so they are made before.
func (u *benchUsers) get(batch int) *operation {
	bodies := make([][]byte, min(u.n/batch, mostBodies))
	for n := range bodies {
		r := protocol.GetRequest{UserIDList: make([]string, batch)}
		for i := range r.UserIDList {
			r.UserIDList[i] = u.id(n*batch + i)
		}
		body, err := protocol.Marshal(r)
		if err != nil {
			panic(err) // of texts made here
		}
		bodies[n] = body
	}
	return &operation{name: "get", request: func(n int) (string, []byte, error) { return u.subjects.Get(), bodies[n%len(bodies)], nil }}
}

// prepare gives every user a text, so that all calls of a measurement find the same. To get
// statuses it takes no users, so who may not make any measures with users that nobody knows.
func (b *bench) prepare(ctx context.Context) error {
	set := b.users.set(max(b.size, leastText))
	// A single one first: if the service refuses it, there is nothing to erase.
	err := b.side.try(ctx, func(ctx context.Context) error { return b.within(set.call(b.side.Conn))(ctx, 0) })
	switch {
	case errors.Is(err, nats.ErrPermissionViolation) && b.operation.name == "get":
		b.say("this NATS user may not set texts: the users asked for are unknown to the service, and its answers are short")
		return nil
	case err != nil:
		if errorName(err) == noAnswer {
			b.users.known = 1
		}
		return err
	}
	b.users.known = b.users.n
	return b.forAll(ctx, "preparing users", prepareWithin, set.call(b.nc))
}

// forAll makes a call for each user that the service may know. The first error ends it.
func (b *bench) forAll(ctx context.Context, what string, within time.Duration, call func(context.Context, int) error) error {
	n := b.users.known
	all, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	r := b.measure(all, load.Plan{Callers: min(benchCallers, n), For: within, Calls: n}, what, func(ctx context.Context, n int) error {
		err := call(ctx, n)
		if err != nil {
			fail(err)
		}
		return err
	})
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case all.Err() != nil:
		return &failure{fmt.Errorf("%s: %d of %d are done: %w", what, r.Calls, n, b.reason(nil, context.Cause(all)))}
	case r.Calls < int64(n):
		return &failure{fmt.Errorf("%s: %d of %d are done within %s", what, r.Calls, n, rounded(within))}
	}
	return nil
}

// erase erases one user, over the second connection: there a refusal does not end the command.
func (b *bench) erase(ctx context.Context, n int) error {
	body, err := protocol.Marshal(protocol.EraseRequest{UserID: b.users.id(n)})
	if err != nil {
		return err
	}
	_, err = askOnce(ctx, b.side.Conn, b.users.subjects.Erase(), body)
	return err
}

// mayErase tries it with a user that does not exist yet.
func (b *bench) mayErase(ctx context.Context) bool {
	err := b.side.try(ctx, func(ctx context.Context) error { return b.within(b.erase)(ctx, 0) })
	return !errors.Is(err, nats.ErrPermissionViolation)
}

// leaveUsers erases the users and says so, also after an interrupt. A second interrupt ends the
// process. It reports whether none is left that should not be.
func (b *bench) leaveUsers(ctx context.Context, erases bool) bool {
	who := fmt.Sprintf("%s named %s…", count(b.users.known, "user"), b.users.name)
	switch {
	case b.users.known == 0:
		return true
	case !erases:
		b.say("left behind %s: this NATS user may not erase. Their texts go after %s, and they are forgotten after the service's --retention", who, rounded(textFor))
		return true
	case ctx.Err() != nil:
		b.newLine()
		b.say("erasing %s", who)
	}
	if err := b.forAll(context.WithoutCancel(ctx), "erasing users", eraseWithin, b.erase); err != nil {
		b.say("not all is erased of %s, whose texts go after %s: %v", who, rounded(textFor), err)
		return false
	}
	b.say("erased %s", who)
	return true
}
