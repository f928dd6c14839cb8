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
	"presence/pkg/protocol"
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

	// bench.durable.<user>.set: published to the stream; event and reply once the stream
	// has it.
	refDurable = "bench.durable."
)

// refStreamBytes bounds the stream on disk; old messages go.
const refStreamBytes = 256 << 20

// runReference serves until a signal ends the process.
func runReference(args []string, stdout io.Writer) error {
	fs := flag.NewFlagSet(referenceCommand, flag.ContinueOnError)
	data := fs.String("data", "", "directory of the server's store")
	sync := fs.String("sync", "interval", "always or interval")
	name := fs.String("name", "", "the server's name in a cluster; empty: it is alone")
	listen := fs.String("cluster", "", "host:port for the other servers of the cluster")
	routes := fs.String("routes", "", "URLs of all servers of the cluster, comma-separated")
	if err := fs.Parse(args); err != nil {
		return err
	}
	interval := "2m"
	if *sync == "always" {
		interval = "always"
	}
	config, replicas := fmt.Sprintf("jetstream { sync_interval: %q }\n", interval), 1
	if *name != "" {
		replicas = strings.Count(*routes, ",") + 1
		config += fmt.Sprintf("server_name: %q\ncluster { name: bench, listen: %q, routes: [%s] }\n", *name, *listen, *routes)
	}
	s, err := broker.StartForeign(config, "127.0.0.1:0", *data, nil)
	if err != nil {
		return err
	}
	defer s.Shutdown()
	nc, err := s.ConnectPlain()
	if err != nil {
		return err
	}
	defer nc.Close()
	js, err := jetstream.New(nc, jetstream.WithPublishAsyncMaxPending(maxCallers))
	if err != nil {
		return err
	}
	if err := addStream(js, replicas); err != nil {
		return err
	}
	if err := newResponder(nc, js).subscribe(); err != nil {
		return err
	}
	fmt.Fprintln(stdout, "reference listens on", s.ClientURL())
	select {}
}

// streamWithin bounds the wait for a stream. A cluster first elects leaders.
const streamWithin = 30 * time.Second

// addStream creates the stream. Every server of a cluster does, with the same
// configuration; the first one creates it. It tries again until the cluster can store.
func addStream(js jetstream.JetStream, replicas int) error {
	ctx, cancel := context.WithTimeout(context.Background(), streamWithin)
	defer cancel()
	for {
		once, done := context.WithTimeout(ctx, streamWithin/10)
		_, err := js.CreateStream(once, jetstream.StreamConfig{
			Name: refStream, Subjects: []string{refJS + "*"}, Storage: jetstream.FileStorage,
			Discard: jetstream.DiscardOld, MaxBytes: refStreamBytes, Replicas: replicas,
		})
		done()
		if err == nil {
			return nil
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("creating a stream: %w", err)
		}
	}
}

// responder answers instead of presenced, with the least work: it sends bodies of the
// right size, and decodes and keeps nothing. Each subscription has a goroutine, as in
// presenced.
type responder struct {
	nc                     *nats.Conn
	js                     jetstream.JetStream
	reply, event, getReply atomic.Pointer[[]byte]
}

func newResponder(nc *nats.Conn, js jetstream.JetStream) *responder {
	r := &responder{nc: nc, js: js}
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
		refDurable + "*.set":    r.setDurably,
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

func (r *responder) set(m *nats.Msg) {
	user, _, _ := strings.Cut(m.Subject[len(refUser):], ".")
	r.answer(m, user)
}

// answer publishes one event and answers. Errors show as missing answers.
func (r *responder) answer(m *nats.Msg, user string) {
	_ = r.nc.Publish(refStatus+user, *r.event.Load())
	_ = m.Respond(*r.reply.Load())
}

// setDurably is set, after a JetStream publish of the request. This is how a service
// without a journal of its own would be durable. Many publishes are under way at a time,
// so that only the stream is waited for.
func (r *responder) setDurably(m *nats.Msg) {
	user, _, _ := strings.Cut(m.Subject[len(refDurable):], ".")
	stored, err := r.js.PublishAsync(refJS+user, m.Data)
	if err != nil {
		refuse(m, err)
		return
	}
	go func() {
		select {
		case <-stored.Ok():
			r.answer(m, user)
		case err := <-stored.Err():
			refuse(m, err)
		}
	}()
}

// refuse answers as presenced does with an error, so that the caller sees one.
func refuse(m *nats.Msg, err error) {
	reply := nats.NewMsg(m.Reply)
	reply.Header.Set(protocol.ErrorHeader, err.Error())
	_ = m.RespondMsg(reply)
}

func (r *responder) renew(m *nats.Msg) {
	if m.Reply != "" {
		_ = m.Respond(*r.reply.Load())
	}
}

func renewSubject(user string) string { return strings.Replace(refRenew, "<user>", user, 1) }
