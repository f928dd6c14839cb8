package verify

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"presence/pkg/protocol"
)

const (
	// recently is longer than any instance that runs appends nothing, in milliseconds. Who
	// appended within that time should answer.
	recently = 60_000
	// settle is how long instances may take to answer that the journal does not know.
	settle = 300 * time.Millisecond
	// maxInstances bounds the answers that are read.
	maxInstances = 256
	// tries is how often an instance is asked that is behind, or refuses. pause lies between.
	tries = 20
	pause = 100 * time.Millisecond
)

// ask asks all instances what they hold.
func (v *verification) ask(ctx context.Context) ([]*protocol.InstanceReply, error) {
	v.cfg.Progress("asking the instances")
	nc := v.cfg.Clients
	inbox, err := nc.SubscribeSync(nc.NewInbox())
	if err != nil {
		return nil, err
	}
	defer inbox.Unsubscribe()
	if err := nc.PublishRequest(v.subjects.Instances(), inbox.Subject, []byte("{}")); err != nil {
		return nil, err
	}
	v.asked = v.recent()
	answered := map[string]*protocol.InstanceReply{}
	for begun := time.Now(); len(answered) < maxInstances; {
		left := v.cfg.Timeout - time.Since(begun)
		if len(answered) > 0 && !missing(v.asked, answered) {
			left = min(left, settle)
		}
		waiting, cancel := context.WithTimeout(ctx, max(left, time.Millisecond))
		m, err := inbox.NextMsgWithContext(waiting)
		cancel()
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if errors.Is(err, nats.ErrNoResponders) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, nats.ErrTimeout) {
			break
		}
		if err != nil {
			return nil, err
		}
		reply := new(protocol.InstanceReply)
		if err := read(m, reply); err != nil {
			return nil, fmt.Errorf("asking the instances: %w", err)
		}
		answered[reply.Writer] = reply
	}
	if len(answered) == 0 {
		v.report.differs(Difference{What: fmt.Sprintf("no instance answers on %s: is presenced running, and of this version?", v.subjects.Instances())})
	}
	list := slices.Collect(maps.Values(answered))
	slices.SortFunc(list, func(a, b *protocol.InstanceReply) int { return strings.Compare(a.Writer, b.Writer) })
	return list, nil
}

// recent returns the instances that should answer, and for how many milliseconds each has appended
// nothing.
func (v *verification) recent() map[string]int64 {
	silent := map[string]int64{}
	for _, i := range v.state.Instances() {
		if i.SilentMs < recently {
			silent[i.Writer] = i.SilentMs
		}
	}
	return silent
}

func missing(expected map[string]int64, answered map[string]*protocol.InstanceReply) bool {
	for instance := range expected {
		if answered[instance] == nil {
			return true
		}
	}
	return false
}

// read reads a reply. If it is an error reply, it returns the error.
func read(m *nats.Msg, reply any) error {
	if m.Header.Get(protocol.ErrorHeader) != "" {
		e := new(protocol.Error)
		if err := json.Unmarshal(m.Data, e); err != nil {
			return fmt.Errorf("%s", m.Header.Get(protocol.ErrorHeader))
		}
		return e
	}
	return json.Unmarshal(m.Data, reply)
}

// compare compares what an instance holds with the journal.
func (v *verification) compare(ctx context.Context, i *protocol.InstanceReply) error {
	position := positionOf(i.Revision)
	seen := Instance{Writer: i.Writer, Host: i.Host, Version: i.Version, Position: position, NotReady: i.NotReady}
	if i.NotReady != "" {
		v.report.note("instance %s is not ready: %s", protocol.ParseInstanceID(i.Writer).Name(), i.NotReady)
	}
	what, err := v.judge(ctx, i)
	seen.Same = what == ""
	v.report.Instances = append(v.report.Instances, seen)
	if seen.Same || err != nil {
		return err
	}
	d := Difference{Instance: i.Writer, Position: position, What: what}
	if i.Epoch != v.state.Epoch() || v.digests[position] == 0 {
		v.report.differs(d)
		return nil
	}
	now, err := v.askOne(ctx, i.Writer, protocol.InstanceRequest{})
	if err != nil {
		return err
	}
	if now.Digest == v.digest() {
		v.report.differs(d)
		v.report.note("instance %s has built its state anew, and at position %d that is right", protocol.ParseInstanceID(i.Writer).Name(), v.state.Position())
		return nil
	}
	d.Fields = diff(now.Facts, v.state.Facts())
	v.report.differs(d)
	return v.findUsers(ctx, i.Writer)
}

// judge says what is wrong with an instance's first answer. Empty: nothing is.
func (v *verification) judge(ctx context.Context, i *protocol.InstanceReply) (string, error) {
	position := positionOf(i.Revision)
	if err := v.advance(ctx, position); err != nil {
		_, last, e := v.reader.Positions(ctx)
		if e != nil || last >= position {
			return "", err
		}
		return fmt.Sprintf("the instance is at position %d, and the journal ends at %d", position, last), nil
	}
	own, known := v.digests[position]
	switch {
	case i.Epoch != v.state.Epoch():
		return fmt.Sprintf("the instance is in the epoch %s, the journal in %s", i.Epoch, v.state.Epoch()), nil
	case !known:
		return fmt.Sprintf("the instance is %d positions behind: what it holds cannot be compared", v.state.Position()-position), nil
	case hex(own) != i.Digest:
		return fmt.Sprintf("the instance's state has the digest %s, by the journal it is %s", i.Digest, hex(own)), nil
	}
	return "", nil
}

// findUsers looks for the users by whom an instance's state differs.
func (v *verification) findUsers(ctx context.Context, instance string) error {
	v.cfg.Progress(fmt.Sprintf("looking for what differs in instance %s", instance))
	seen := map[string]bool{}
	var differ []string
	limit := protocol.MaxUsersPerInstancePage
	for from := 0; ; {
		reply, err := v.askOne(ctx, instance, protocol.InstanceRequest{From: from, Limit: limit})
		if limit > 1 && errors.Is(err, protocol.ErrRequestTooLarge) {
			limit /= 2
			continue
		}
		if err != nil {
			return err
		}
		for _, u := range reply.Page {
			if seen[u.UserID] {
				continue
			}
			seen[u.UserID] = true
			if v.state.UserDigest(u.UserID) != u.Digest {
				differ = append(differ, u.UserID)
			}
		}
		if from = reply.Next; from == 0 {
			break
		}
	}
	for _, id := range v.state.UserIDs() {
		if !seen[id] {
			differ = append(differ, id)
		}
	}
	if len(differ) == 0 {
		v.report.note("instance %s: no user differs; the difference is named above, or lies in a gateway", instance)
		return nil
	}
	if n := len(differ) - MaxUsers; n > 0 {
		v.report.note("instance %s: %d more users differ", instance, n)
		differ = differ[:MaxUsers]
	}
	return v.explainUsers(ctx, instance, differ)
}

// explainUsers reports how users differ. If they do not fit into one reply, it asks for each half.
// If the NATS server takes small messages only, a single user with many sessions may not
// fit: then the report does not say how that user differs.
func (v *verification) explainUsers(ctx context.Context, instance string, ids []string) error {
	reply, err := v.askOne(ctx, instance, protocol.InstanceRequest{UserIDList: ids})
	if half := len(ids) / 2; half > 0 && errors.Is(err, protocol.ErrRequestTooLarge) {
		if err := v.explainUsers(ctx, instance, ids[:half]); err != nil {
			return err
		}
		return v.explainUsers(ctx, instance, ids[half:])
	}
	if errors.Is(err, protocol.ErrRequestTooLarge) {
		v.report.differs(Difference{Instance: instance, Position: v.state.Position(), UserID: ids[0],
			What: fmt.Sprintf("user %q: the instance holds too much for one answer", ids[0])})
		return nil
	}
	if err != nil {
		return err
	}
	if len(reply.Explained) != len(ids) {
		return fmt.Errorf("instance %s explains %d users of %d", instance, len(reply.Explained), len(ids))
	}
	for k, id := range ids {
		d := Difference{Instance: instance, Position: v.state.Position(), UserID: id, What: fmt.Sprintf("user %q", id)}
		d.Fields = diff(reply.Explained[k], v.state.Explain(id))
		if len(d.Fields) == 0 {
			d.What += " differs in something that is not shown, or differed a moment ago"
		}
		v.report.differs(d)
	}
	return nil
}

// askOne asks one instance, until it is not behind. Then it brings the state to the position of the
// reply.
func (v *verification) askOne(ctx context.Context, instance string, r protocol.InstanceRequest) (*protocol.InstanceReply, error) {
	for range tries {
		reply := new(protocol.InstanceReply)
		if err := v.request(ctx, v.subjects.Instance(instance), r, reply); err != nil {
			return nil, fmt.Errorf("asking instance %s: %w", instance, err)
		}
		if position := positionOf(reply.Revision); position >= v.state.Position() {
			return reply, v.advance(ctx, position)
		}
		if err := sleep(ctx); err != nil {
			return nil, err
		}
	}
	return nil, fmt.Errorf("instance %s stays behind position %d", instance, v.state.Position())
}

// request asks the service, and asks again if it refuses for the moment.
func (v *verification) request(ctx context.Context, subject string, body, reply any) error {
	data, err := protocol.Marshal(body)
	if err != nil {
		return err
	}
	for range tries {
		waiting, cancel := context.WithTimeout(ctx, v.cfg.Timeout)
		m, e := v.cfg.Clients.RequestWithContext(waiting, subject, data)
		cancel()
		if err = e; err == nil {
			err = read(m, reply)
		}
		if !errors.Is(err, protocol.ErrUnavailable) && !errors.Is(err, protocol.ErrOverloaded) && !errors.Is(err, nats.ErrNoResponders) {
			return err
		}
		if err := sleep(ctx); err != nil {
			return err
		}
	}
	return err
}

func sleep(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(pause):
		return nil
	}
}

// checkSilent reports instances that the journal knows and that did not answer.
func (v *verification) checkSilent(ctx context.Context) error {
	for instance, before := range v.asked {
		if slices.ContainsFunc(v.report.Instances, func(i Instance) bool { return i.Writer == instance }) {
			continue
		}
		now, known := v.recent()[instance]
		if known && now < before {
			v.report.differs(Difference{Instance: instance, Position: v.state.Position(), What: "the instance appends to the journal and does not answer"})
			continue
		}
		v.report.note("instance %s did not answer, and appended an entry %v before: it was stopped a moment ago, or cannot be reached", instance, (time.Duration(before) * time.Millisecond).Round(time.Second))
	}
	return ctx.Err()
}
