package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"strings"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"presence/pkg/broker"
)

// referenceCommand, as the first argument, makes this program the reference: a plain NATS
// server with JetStream, and a responder in the same process, as with presenced.
const referenceCommand = "reference"

// Subjects of the reference. <user> is a token.
const (
	// refCanned, with refReply, refEvent or refGetReply appended, sets the body that is
	// sent from then on.
	refCanned   = "bench.canned."
	refReply    = "reply"
	refEvent    = "event"
	refGetReply = "getreply"

	refEcho   = "bench.echo"         // answered with reply
	refGet    = "bench.get"          // answered with getreply
	refUser   = "bench.user."        // bench.user.<user>.set: event, then reply
	refStatus = "bench.status."      // bench.status.<user>: the event
	refRenew  = "bench.renew.<user>" // counted; answered with reply where wanted
	refStream = "BENCH"              // the stream of bench.js.<user>
	refJS     = "bench.js."
)

// refStreamBytes bounds the stream on disk; old messages go.
const refStreamBytes = 256 << 20

// runReference serves until a signal ends the process.
func runReference(args []string, stdout io.Writer) error {
	fs := flag.NewFlagSet(referenceCommand, flag.ContinueOnError)
	data := fs.String("data", "", "directory of the server's store")
	sync := fs.String("sync", "interval", "always or interval")
	if err := fs.Parse(args); err != nil {
		return err
	}
	interval := "2m"
	if *sync == "always" {
		interval = "always"
	}
	s, err := broker.StartForeign(fmt.Sprintf("jetstream { sync_interval: %q }", interval), "127.0.0.1:0", *data, nil)
	if err != nil {
		return err
	}
	defer s.Shutdown()
	nc, err := s.ConnectPlain()
	if err != nil {
		return err
	}
	defer nc.Close()
	if err := newResponder(nc).subscribe(); err != nil {
		return err
	}
	if err := addStream(nc); err != nil {
		return err
	}
	fmt.Fprintln(stdout, "reference listens on", s.ClientURL())
	select {}
}

func addStream(nc *nats.Conn) error {
	js, err := jetstream.New(nc)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	_, err = js.CreateStream(ctx, jetstream.StreamConfig{
		Name: refStream, Subjects: []string{refJS + "*"}, Storage: jetstream.FileStorage,
		Discard: jetstream.DiscardOld, MaxBytes: refStreamBytes,
	})
	return err
}

// responder answers instead of presenced, with the least work: it sends bodies of the
// right size, and decodes and keeps nothing. Each subscription has a goroutine, as in
// presenced.
type responder struct {
	nc                     *nats.Conn
	reply, event, getReply atomic.Pointer[[]byte]
}

func newResponder(nc *nats.Conn) *responder {
	r := &responder{nc: nc}
	for _, b := range []*atomic.Pointer[[]byte]{&r.reply, &r.event, &r.getReply} {
		b.Store(&[]byte{})
	}
	return r
}

func (r *responder) subscribe() error {
	handlers := map[string]nats.MsgHandler{
		refCanned + refReply:    r.keep(&r.reply),
		refCanned + refEvent:    r.keep(&r.event),
		refCanned + refGetReply: r.keep(&r.getReply),
		refEcho:                 func(m *nats.Msg) { _ = m.Respond(*r.reply.Load()) },
		refGet:                  func(m *nats.Msg) { _ = m.Respond(*r.getReply.Load()) },
		refUser + "*.set":       r.set,
		renewSubject("*"):       r.renew,
	}
	for subject, handle := range handlers {
		if _, err := r.nc.QueueSubscribe(subject, "bench", handle); err != nil {
			return err
		}
	}
	return r.nc.Flush()
}

func (r *responder) keep(body *atomic.Pointer[[]byte]) nats.MsgHandler {
	return func(m *nats.Msg) {
		body.Store(&m.Data)
		_ = m.Respond(nil)
	}
}

// set publishes one event and answers. Errors show as missing answers.
func (r *responder) set(m *nats.Msg) {
	user, _, _ := strings.Cut(m.Subject[len(refUser):], ".")
	_ = r.nc.Publish(refStatus+user, *r.event.Load())
	_ = m.Respond(*r.reply.Load())
}

func (r *responder) renew(m *nats.Msg) {
	if m.Reply != "" {
		_ = m.Respond(*r.reply.Load())
	}
}

func renewSubject(user string) string { return strings.Replace(refRenew, "<user>", user, 1) }
