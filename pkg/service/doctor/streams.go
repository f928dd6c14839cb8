package doctor

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/dustin/go-humanize"
	"github.com/nats-io/nats.go/jetstream"

	"presence/pkg/service/internal/contacts"
	"presence/pkg/service/internal/journal"
	"presence/pkg/service/internal/streams"
)

// lookAtJournal looks at the streams, with the journal's credentials.
func (x *examination) lookAtJournal(ctx context.Context) {
	f := &x.streams
	if x.cfg.Journal == nil {
		f.skip("journal.streams", "access to the journal's account: --data on presenced's machine, or --journal-creds, --journal-nkey or --journal-url")
		return
	}
	nc, err := dial(ctx, x.cfg.Journal)
	if err != nil {
		f.failed("journal.streams", err)
		return
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		f.failed("journal.streams", err)
		return
	}
	stream, snapshots, bucket := cmp.Or(x.cfg.Stream, journal.DefaultStream), cmp.Or(x.cfg.Snapshots, journal.DefaultBucket), cmp.Or(x.cfg.Contacts, contacts.DefaultBucket)
	wanted := []struct {
		name string
		want streams.Requirements
	}{
		{"journal.stream", journal.Requirements(stream, 1)},
		{"journal.snapshots", journal.SnapshotRequirements(snapshots, 1)},
		{"journal.contacts", contacts.Requirements(bucket, 1)},
	}
	found := make([]Check, len(wanted))
	var looking sync.WaitGroup
	for k, w := range wanted {
		looking.Go(func() { found[k] = lookAtStream(ctx, js, w.name, w.want) })
	}
	looking.Wait()
	f.list = append(f.list, found...)
}

func lookAtStream(ctx context.Context, js jetstream.JetStream, name string, want streams.Requirements) Check {
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	stream, err := js.Stream(ctx, want.Name)
	if err != nil {
		return judgeNoStream(name, want.Name, err)
	}
	return judgeStream(name, stream.CachedInfo(), want)
}

func judgeNoStream(name, stream string, err error) Check {
	c := Check{Name: name, Result: Fail, Found: fmt.Sprintf("the stream %s cannot be looked at: %v", stream, err)}
	switch {
	case errors.Is(err, jetstream.ErrStreamNotFound):
		c.Found = fmt.Sprintf("there is no stream %s in this account", stream)
		c.Means, c.Do = "it was deleted, or these credentials are of another account", "read /readyz of an instance: it says which way on there is"
	case errors.Is(err, context.DeadlineExceeded):
		c.Found = fmt.Sprintf("nobody answers for the stream %s within %v", stream, answerWithin)
		c.Means, c.Do = "JetStream has no leader or no majority, or these credentials may not ask", "look at the NATS servers (nats server report jetstream)"
	}
	return c
}

// judgeStream looks at a stream's settings and its replicas.
func judgeStream(name string, info *jetstream.StreamInfo, want streams.Requirements) Check {
	replicas := max(info.Config.Replicas, 1)
	c := Check{Name: name, Result: OK, Found: fmt.Sprintf("%s: settings are right, %s, %s", want.Name, humanize.IBytes(info.State.Bytes), counted(replicas, "replica"))}
	if err := streams.Check(info.Config, want); err != nil {
		c.Result, c.Found = Fail, err.Error()
		c.Means = "what was acknowledged could be lost"
		if wrong, ok := errors.AsType[*streams.SettingError](err); ok {
			c.Found = fmt.Sprintf("%s has %s %v, and %s", wrong.Stream, wrong.Setting, wrong.Have, wrong.Why)
			c.Do = wrong.Cure
			if len(wrong.Others) > 0 {
				c.Found += "; wrong as well: " + strings.Join(wrong.Others, ", ")
			}
		}
		return c
	}
	if info.Cluster == nil || info.Cluster.Name == "" {
		return c
	}
	// A server that was killed is not offline for minutes, but not current.
	var behind []string
	for _, p := range info.Cluster.Replicas {
		switch {
		case p.Offline:
			behind = append(behind, p.Name+" is offline")
		case !p.Current:
			behind = append(behind, fmt.Sprintf("%s is %d behind, last heard of %s ago", p.Name, p.Lag, span(p.Active)))
		}
	}
	switch {
	case info.Cluster.Leader == "":
		c.Result, c.Found = Fail, want.Name+" has no leader"
		c.Means, c.Do = "nothing can be changed", "start the NATS servers that are missing: most of the replicas must run"
	case len(behind) > 0:
		c.Result, c.Found = Warn, fmt.Sprintf("%s: of %s, %s", want.Name, counted(replicas, "replica"), strings.Join(behind, ", "))
		c.Means, c.Do = "the loss of another server could stop all changes", "look at that server; nats stream info "+want.Name
	case replicas == 1:
		c.Result, c.Found = Warn, want.Name+" has one replica, in a cluster"
		c.Means, c.Do = "the loss of that one server stops all changes, and of its disk loses them", "nats stream edit "+want.Name+" --replicas=3, and presenced --replicas 3"
	}
	return c
}

func counted(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
