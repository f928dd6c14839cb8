package doctor

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"

	"presence/pkg/protocol"
)

const (
	// recently is longer than any instance that runs appends nothing to the journal. Who
	// appended within that time should answer.
	recently = time.Minute
	// settle is how long instances may take to answer that the journal does not know.
	settle = 300 * time.Millisecond
	// maxInstances bounds the answers that are read.
	maxInstances = 256
	// times is how often each instance is asked, to measure its answers.
	times = 3
)

// served is what answered below the prefix.
type served struct {
	prefix string
	// err is why nobody answered stats, instancesErr why nobody answered admin.instances; nil
	// where somebody did.
	err, instancesErr error
	stats             protocol.StatsReply
	instances         []*instance // that answered, in the order of their IDs
	missing           []missing
	// elsewhere are prefixes below which instances were found, if none answered below this one.
	elsewhere []string
}

// instance is one that answered.
type instance struct {
	protocol.InstanceReply
	took []time.Duration // of its answers, the shortest first; empty: it gave none when asked alone
	// ahead is how far its clock is ahead of this machine's, as far as bound, half of the shortest
	// round trip, allows to say. Both are 0 where it does not tell.
	ahead, bound time.Duration
}

// missing is an instance that appended to the journal within the last minute and did not answer.
type missing struct {
	protocol.InstanceStats
	// hangs says that it is subscribed and silent, appends that it went on to append.
	hangs, appends bool
}

func (s *served) tellsOfServers() bool {
	return slices.ContainsFunc(s.instances, func(i *instance) bool { return i.Vitals != nil && i.Vitals.Server != nil })
}

// ask asks who is there and how they are doing.
func (a *asker) ask(ctx context.Context) *served {
	s := &served{prefix: a.subjects.Prefix()}
	s.stats, s.err = a.stats(ctx)
	if errors.Is(s.err, errNobody) {
		s.elsewhere = a.elsewhere(ctx)
		s.instancesErr = s.err
		return s
	}
	if errors.Is(s.err, errDeaf) {
		s.instancesErr = s.err
		return s
	}
	expected := map[string]protocol.InstanceStats{}
	for _, i := range s.stats.Instances {
		if i.SilentMs < recently.Milliseconds() {
			expected[i.Writer] = i
		}
	}
	answered, err := a.everyone(ctx, expected)
	s.instancesErr = err
	for _, writer := range slices.Sorted(maps.Keys(answered)) {
		s.instances = append(s.instances, answered[writer])
	}
	if err != nil {
		return s
	}
	var asking sync.WaitGroup
	for _, i := range s.instances {
		asking.Go(func() { a.measure(ctx, i) })
	}
	for writer, i := range expected {
		if answered[writer] == nil {
			s.missing = append(s.missing, missing{InstanceStats: i})
		}
	}
	slices.SortFunc(s.missing, func(x, y missing) int { return strings.Compare(x.Writer, y.Writer) })
	for k := range s.missing {
		m := &s.missing[k]
		asking.Go(func() { m.hangs = errors.Is(a.request(ctx, a.subjects.Instance(m.Writer), struct{}{}, nil), errSilent) })
	}
	asking.Wait()
	if len(s.missing) > 0 {
		a.lookAgain(ctx, s.missing)
	}
	return s
}

const (
	// attempts is how often stats is asked for, attemptEvery apart. An instance that hangs gets its
	// share of the requests, and does not answer.
	attempts     = 8
	attemptEvery = 100 * time.Millisecond
)

// stats asks for the figures until an instance has answered. It returns the first answer.
func (a *asker) stats(ctx context.Context) (protocol.StatsReply, error) {
	ctx, cancel := context.WithCancel(ctx) // ends the other attempts
	defer cancel()
	type answer struct {
		reply protocol.StatsReply
		err   error
	}
	answers := make(chan answer, attempts)
	var last answer
	for asked, open := 0, 0; asked < attempts || open > 0; {
		var again <-chan time.Time
		if asked < attempts {
			asked, open = asked+1, open+1
			go func() {
				var x answer
				x.err = a.request(ctx, a.subjects.Stats(), struct{}{}, &x.reply)
				answers <- x
			}()
			again = time.After(attemptEvery)
		}
		select {
		case last = <-answers:
			open--
			if !errors.Is(last.err, errSilent) {
				return last.reply, last.err
			}
		case <-again:
		}
	}
	return last.reply, last.err
}

// lookAgain finds which of the missing went on to append. The others have been silent for longer.
func (a *asker) lookAgain(ctx context.Context, list []missing) {
	stats, err := a.stats(ctx)
	if err != nil {
		return
	}
	for k := range list {
		for _, i := range stats.Instances {
			if i.Writer == list[k].Writer {
				list[k].appends = i.SilentMs < list[k].SilentMs
			}
		}
	}
}

// everyone asks all instances at once. It waits until those that are expected have answered and a
// little longer, for answerWithin at most.
func (a *asker) everyone(ctx context.Context, expected map[string]protocol.InstanceStats) (map[string]*instance, error) {
	answered := map[string]*instance{}
	err := a.gather(ctx, a.subjects.Instances(), func(data []byte) (enough bool) {
		i := new(instance)
		if protocol.Unmarshal(data, &i.InstanceReply) == nil && i.Writer != "" {
			answered[i.Writer] = i
		}
		for writer := range expected {
			if answered[writer] == nil {
				return false
			}
		}
		return true
	})
	return answered, err
}

// gather publishes a request that several answer. It gives their answers to take until that has
// enough and settle has passed, for answerWithin at most. Error replies count as none.
func (a *asker) gather(ctx context.Context, subject string, take func([]byte) (enough bool)) error {
	inbox, err := a.nc.SubscribeSync(a.nc.NewInbox())
	if err != nil {
		return err
	}
	defer inbox.Unsubscribe()
	if err := a.nc.PublishRequest(subject, inbox.Subject, []byte("{}")); err != nil {
		return err
	}
	a.mu.Lock()
	refused := a.refusal(subject)
	a.mu.Unlock()
	end := time.Now().Add(answerWithin)
	for n := 0; n < maxInstances; n++ {
		waiting, stop := context.WithDeadline(ctx, end)
		m, err := inbox.NextMsgWithContext(waiting)
		stop()
		select {
		case <-refused:
			return errRefused
		default:
		}
		switch {
		case err != nil && n > 0:
			return nil
		case errors.Is(err, nats.ErrNoResponders):
			return errNobody
		case err != nil:
			return errSilent // or the connection is lost, which is another check
		}
		if m.Header.Get(protocol.ErrorHeader) == "" && take(m.Data) {
			if soon := time.Now().Add(settle); soon.Before(end) {
				end = soon
			}
		}
	}
	return nil
}

// measure asks one instance some times, to see how long its answers take and what its clock says.
func (a *asker) measure(ctx context.Context, i *instance) {
	for range times {
		var reply protocol.InstanceReply
		sent := time.Now()
		if a.request(ctx, a.subjects.Instance(i.Writer), struct{}{}, &reply) != nil {
			return
		}
		took := time.Since(sent)
		i.took = append(i.took, took)
		if i.bound == 0 || took/2 < i.bound {
			i.bound = took / 2
			if reply.Vitals != nil {
				i.ahead = reply.Vitals.Clock.Time().Sub(sent.Add(took / 2))
			}
		}
	}
	slices.Sort(i.took)
}

// elsewhere looks for instances below any prefix.
func (a *asker) elsewhere(ctx context.Context) (prefixes []string) {
	subject, err := micro.ControlSubject(micro.PingVerb, protocol.ServiceName, "")
	if err != nil {
		return nil
	}
	_ = a.gather(ctx, subject, func(data []byte) bool { // whoever may not ask finds none
		var ping micro.Ping
		prefix := ""
		if json.Unmarshal(data, &ping) == nil {
			prefix = ping.Metadata["prefix"]
		}
		if protocol.CheckPrefix(cmp.Or(prefix, "-")) == nil && !slices.Contains(prefixes, prefix) {
			prefixes = append(prefixes, prefix)
		}
		return true
	})
	slices.Sort(prefixes)
	return prefixes
}
