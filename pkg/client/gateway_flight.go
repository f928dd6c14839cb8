package client

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"

	"presence/pkg/protocol"
)

// mostFlights bounds the apply requests that are under way at a time, whatever the service
// allows.
const mostFlights = 4

// trustAfter is how many requests in a row have to be answered before one more may be under way,
// after one has overtaken another. With several instances many do, and each costs a round trip.
// Then it is faster to have one under way. By trying that anew now and then little is lost.
const trustAfter = 256

// gatewayFlights are the apply requests of a lease that have no answer yet, in the order of
// their seq. The service does them in that order, however they arrive (PROTOCOL 4.7). A request
// that was answered before one that goes first stays in the list until that one is answered.
//
// They are sent and answered without waiting. So one goroutine has several under way, and they
// leave in their order. By nats.Conn.Request it would take several goroutines, whose requests
// leave in any order.
type gatewayFlights struct {
	list   []*gatewayPack
	spare  []*gatewayPack // to be used again
	window int            // how many the service allows
	limit  int            // how many are under way at most
	inRow  int            // answered since limit has changed

	// The answer to an attempt comes on the inbox with the attempt's number behind it.
	inbox    string
	answers  chan *nats.Msg
	sub      *nats.Subscription
	attempts uint64
}

// attempt is one time that a request was sent, until it is answered or given up.
type attempt struct {
	number   uint64          // 0: there is none
	conn     context.Context // that it went by
	deadline time.Time
	first    bool // all requests before it were answered when it was sent
}

// listen subscribes to the answers.
func (f *gatewayFlights) listen(nc *nats.Conn) (err error) {
	f.inbox, f.answers = nc.NewInbox()+".", make(chan *nats.Msg, 16*mostFlights)
	f.sub, err = nc.ChanSubscribe(f.inbox+"*", f.answers)
	return err
}

// stopListening ends the subscription. An error says that it ended with the connection.
func (f *gatewayFlights) stopListening() { _ = f.sub.Unsubscribe() }

// add returns an empty request behind all others.
func (f *gatewayFlights) add() *gatewayPack {
	p := new(gatewayPack)
	if n := len(f.spare); n > 0 {
		p, f.spare = f.spare[n-1], f.spare[:n-1]
	}
	f.list = append(f.list, p)
	return p
}

// remove takes the first n requests off the list.
func (f *gatewayFlights) remove(n int) {
	for _, p := range f.list[:n] {
		p.clear()
		if len(f.spare) < mostFlights {
			f.spare = append(f.spare, p)
		}
	}
	f.list = append(f.list[:0], f.list[n:]...)
}

// allow sets how many the service allows.
func (f *gatewayFlights) allow(window int) {
	f.window = min(max(window, 1), mostFlights)
	f.limit = f.window
}

// overtook notes that one has overtaken another, landed that one was answered.
func (f *gatewayFlights) overtook() { f.limit, f.inRow = 1, 0 }

func (f *gatewayFlights) landed() {
	if f.inRow++; f.inRow >= trustAfter && f.limit < f.window {
		f.limit, f.inRow = f.limit+1, 0
	}
}

// room reports whether another request may be made: not while one waits to be sent again.
func (f *gatewayFlights) room() bool {
	return len(f.list) < f.limit && !f.any(func(p *gatewayPack) bool { return !p.answered && !p.underWay() })
}

// due returns the request to be sent now, nil for none.
func (f *gatewayFlights) due() *gatewayPack {
	for _, p := range f.list {
		if !p.answered && !p.underWay() {
			if p.held {
				return nil // those behind it are out of order as long
			}
			return p
		}
	}
	return nil
}

func (f *gatewayFlights) any(is func(*gatewayPack) bool) bool {
	for _, p := range f.list {
		if is(p) {
			return true
		}
	}
	return false
}

func (f *gatewayFlights) underWay() bool { return f.any((*gatewayPack).underWay) }

// of returns the request that an answer is to, nil if its attempt was given up.
func (f *gatewayFlights) of(m *nats.Msg) *gatewayPack {
	number, err := strconv.ParseUint(m.Subject[min(len(f.inbox), len(m.Subject)):], 10, 64)
	for _, p := range f.list {
		if err == nil && p.underWay() && p.attempt.number == number {
			return p
		}
	}
	return nil
}

// soonest returns when the next attempt is given up, or at if that is sooner.
func (f *gatewayFlights) soonest(at time.Time) time.Time {
	for _, p := range f.list {
		if p.underWay() && p.attempt.deadline.Before(at) {
			at = p.attempt.deadline
		}
	}
	return at
}

// send makes one attempt of a request. What comes of it is told to landed.
func (r *gatewayRun) send(p *gatewayPack, conn context.Context) error {
	f := &r.flights
	subject, err := r.g.c.subjects.Gateway(r.g.id, protocol.OpApply)
	if err != nil {
		return err
	}
	f.attempts++
	p.attempt = attempt{number: f.attempts, conn: conn, deadline: time.Now().Add(r.patience()), first: p == f.list[0]}
	err = r.g.c.nc.PublishRequest(subject, f.inbox+strconv.FormatUint(f.attempts, 10), p.body)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, nats.ErrMaxPayload):
		err = fmt.Errorf("%w: %w", protocol.ErrRequestTooLarge, err)
	default:
		err = fmt.Errorf("asking on %s: %w", subject, err)
	}
	return r.landed(p, err)
}

// receive takes what has come: answers, and the ends of attempts that got none.
func (r *gatewayRun) receive(conn context.Context) error {
	for {
		select {
		case m := <-r.flights.answers:
			if err := r.answer(m); err != nil {
				return err
			}
		default:
			return r.giveUpAttempts(conn)
		}
	}
}

// answer takes an answer.
func (r *gatewayRun) answer(m *nats.Msg) error {
	p := r.flights.of(m)
	if p == nil {
		return nil // its attempt was given up
	}
	return r.landed(p, p.read(m))
}

// giveUpAttempts ends those that went by an earlier connection, and those that wait for too long.
func (r *gatewayRun) giveUpAttempts(conn context.Context) error {
	if !r.flights.underWay() {
		return nil
	}
	now := time.Now()
	for _, p := range r.flights.list {
		if !p.underWay() {
			continue
		}
		err := fmt.Errorf("%w: %w", errNoAnswer, errLost)
		if p.attempt.conn == conn && conn.Err() == nil {
			if now.Before(p.attempt.deadline) {
				continue
			}
			notify(r.g.c.dog.doubt) // is it the service that does not answer, or is the connection dead?
			err = fmt.Errorf("%w within %v: %w", errNoAnswer, r.patience(), context.DeadlineExceeded)
		}
		if err := r.landed(p, err); err != nil {
			return err
		}
	}
	return nil
}

// landed notes what became of an attempt. It returns an error if there should be a pause before
// the next one.
func (r *gatewayRun) landed(p *gatewayPack, err error) error {
	first := p == r.flights.list[0]
	overtook := errors.Is(err, protocol.ErrOutOfOrder) && !p.attempt.first
	p.attempt = attempt{}
	switch {
	case err == nil:
		r.failures, p.answered = 0, true
		r.flights.landed()
		r.g.c.own.note(p.reply.Epoch, p.reply.Revision)
		r.settle()
		return nil
	case errors.Is(err, protocol.ErrLeaseNotFound):
		r.leave(err, false)
		return nil
	case overtook, isTransient(err):
		if overtook {
			r.flights.overtook()
		}
		p.unsure = p.unsure || !overtook && mayBeDone(err)
		// Whatever was wrong, the first one goes again alone, and the others after its answer.
		if p.held = !first; first && !overtook {
			return err
		}
		return nil
	default:
		// A defect, on either side. It is no longer known which sessions the lease
		// holds, so open another.
		p.refusal = err
		r.leave(err, true)
		return nil
	}
}

// settle answers the callers of the requests that are answered, in order. The others need not be
// held any more.
func (r *gatewayRun) settle() {
	n := 0
	for _, p := range r.flights.list {
		if !p.answered {
			break
		}
		r.seq = p.request.Seq
		r.judgeAll(p)
		n++
	}
	if n == 0 {
		return
	}
	r.flights.remove(n)
	for _, p := range r.flights.list {
		p.held = false
	}
}
