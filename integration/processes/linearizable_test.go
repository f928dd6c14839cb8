package processes

import (
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"sync"
	"testing"
	"time"

	"presence/integration/internal/wire"
	"presence/pkg/protocol"
	"presence/pkg/service/servicetest"

	"github.com/anishathalye/porcupine"
	"github.com/nats-io/nats.go"
)

// How long the tests under random faults run, and what they draw from. "make
// chaos" sets them.
var (
	chaosTime = flag.Duration("chaos", 0, "how long TestChaos and TestLinearizable go on with faults; 0: a few faults")
	chaosSeed = flag.Uint64("seed", 0, "of the faults of TestChaos and TestLinearizable; 0: a new one")
)

// seeded returns a source of chance and says which it is.
func seeded(t testing.TB) (seed uint64, chance *rand.Rand) {
	if seed = *chaosSeed; seed == 0 {
		seed = rand.Uint64N(1_000_000) + 1
	}
	t.Logf("seed %d", seed)
	return seed, rand.New(rand.NewPCG(seed, 0))
}

// What a client did to a register, which is a user's text with its revision.
type registerOp struct {
	user       string
	set        bool   // else a fresh get
	text       string // set, or got
	ifRevision uint64 // of a set; 0: none
}

// What came of it.
type registerResult struct {
	text     string
	revision uint64 // of the user's status; 0 of a set where nobody knows
	asOf     uint64 // of a get: everything up to this revision is in it
	conflict bool
	unknown  bool // it took effect, or does so later, or never
}

// register is a user's text. Who set it without being told leaves it to the next
// reader to learn the revision: then revision is one that is certainly lower.
type register struct {
	text     string
	revision uint64
	guessed  bool
}

// may reports whether the register's revision can be this one.
func (r register) may(revision uint64) bool {
	return revision == r.revision && !r.guessed || revision > r.revision && r.guessed
}

// step says whether an operation on a register can have had this result, and
// what the register is afterwards.
func step(r register, op registerOp, got registerResult) (bool, register) {
	conflicts := op.ifRevision != 0 && !r.may(op.ifRevision)
	switch {
	case !op.set:
		return got.text == r.text && r.may(got.revision), register{text: r.text, revision: got.revision}
	case got.unknown && conflicts:
		return true, r
	case got.unknown:
		return true, register{text: op.text, revision: max(r.revision, op.ifRevision), guessed: true}
	case got.conflict:
		return conflicts || r.guessed, r
	case conflicts || got.revision <= max(r.revision, op.ifRevision):
		return false, r
	}
	return true, register{text: op.text, revision: got.revision}
}

// registers is the model: each user is a register of its own.
var registers = porcupine.Model{
	Init: func() any { return register{} },
	Step: func(state, input, output any) (bool, any) {
		return step(state.(register), input.(registerOp), output.(registerResult))
	},
	Partition: func(history []porcupine.Operation) [][]porcupine.Operation {
		users := map[string][]porcupine.Operation{}
		for _, op := range history {
			user := op.Input.(registerOp).user
			users[user] = append(users[user], op)
		}
		var parts [][]porcupine.Operation
		for _, part := range users {
			parts = append(parts, part)
		}
		return parts
	},
	DescribeOperation: func(input, output any) string {
		op, got := input.(registerOp), output.(registerResult)
		switch {
		case !op.set:
			return fmt.Sprintf("get %s: %q @%d", op.user, got.text, got.revision)
		case got.unknown:
			return fmt.Sprintf("set %s %q if %d: ?", op.user, op.text, op.ifRevision)
		case got.conflict:
			return fmt.Sprintf("set %s %q if %d: conflict", op.user, op.text, op.ifRevision)
		}
		return fmt.Sprintf("set %s %q if %d: @%d", op.user, op.text, op.ifRevision, got.revision)
	},
	DescribeState: func(state any) string { return fmt.Sprintf("%+v", state.(register)) },
}

// history is what all clients did. It is safe for concurrent use.
type history struct {
	begun time.Time
	tally
	opsMu sync.Mutex
	ops   []porcupine.Operation
}

func (h *history) now() int64 { return int64(time.Since(h.begun)) }

// note takes down what came of an operation. What was refused is left out: it
// must not have had any effect (G10), and as every text is set once, the model
// would notice. What nobody knows of goes on for ever, unless it is settled.
func (h *history) note(client int, op registerOp, call int64, got registerResult, err error) {
	end := h.now()
	h.tally.add(outcome(err))
	switch {
	case err == nil:
	case outcome(err) == protocol.ErrRevisionConflict.Name:
		got.conflict = true
	case op.set && undecided(err):
		got.unknown, end = true, math.MaxInt64
	default:
		return
	}
	h.opsMu.Lock()
	defer h.opsMu.Unlock()
	h.ops = append(h.ops, porcupine.Operation{ClientId: client, Input: op, Output: got, Call: call, Return: end})
}

// registerClient sets and gets the texts of a few users, one request at a time.
type registerClient struct {
	id, n   int
	nc      *nats.Conn
	chance  *rand.Rand
	history *history
	users   []string
	seen    map[string]uint64 // the revision last seen of a user
	own     map[string]uint64 // the revision of the last set of a user that was acknowledged
	epoch   string
}

// act makes a request. Errors are of the guarantees that the model does not hold.
func (c *registerClient) act() error {
	user := c.users[c.chance.IntN(len(c.users))]
	switch k := c.chance.IntN(10); {
	case k < 3:
		return c.set(user, 0)
	case k < 5:
		return c.set(user, c.seen[user])
	case k < 9:
		c.get(user)
		return nil
	}
	return c.readOwnWrite(user)
}

func (c *registerClient) set(user string, ifRevision uint64) error {
	c.n++
	op := registerOp{user: user, set: true, text: fmt.Sprintf("%d.%d", c.id, c.n), ifRevision: ifRevision}
	request := protocol.SetRequest{CustomStatus: &op.text}
	if ifRevision != 0 {
		request.IfRevision = &ifRevision
	}
	call := c.history.now()
	reply, err := wire.AskWithin[protocol.ChangeReply](c.nc, patience, wire.To(protocol.OpSet, user), request)
	c.history.note(c.id, op, call, registerResult{revision: reply.Status.Revision}, err)
	if err != nil {
		return nil
	}
	if reply.Status.CustomStatus != op.text || reply.Status.Revision != reply.Revision {
		return fmt.Errorf("set of %q: got %+v, want that text with its revision", op.text, reply)
	}
	c.seen[user], c.own[user], c.epoch = reply.Revision, reply.Revision, reply.Epoch
	return nil
}

func (c *registerClient) get(user string) {
	call := c.history.now()
	reply, err := wire.AskWithin[protocol.GetReply](c.nc, patience, wire.Subjects.Get(), protocol.GetRequest{UserIDList: []string{user}, Fresh: true})
	var got registerResult
	if err == nil {
		status := reply.SuccessUserList[0]
		got.text, got.revision, got.asOf = status.CustomStatus, status.Revision, reply.Revision
		c.seen[user] = got.revision
	}
	c.history.note(c.id, registerOp{user: user}, call, got, err)
}

// readOwnWrite asks, of memory, for what this client set itself (G2).
func (c *registerClient) readOwnWrite(user string) error {
	request := protocol.GetRequest{UserIDList: []string{user}, MinRevision: c.own[user], Epoch: c.epoch}
	reply, err := wire.AskWithin[protocol.GetReply](c.nc, patience, wire.Subjects.Get(), request)
	if err == nil && reply.SuccessUserList[0].Revision < c.own[user] {
		return fmt.Errorf("get of %s with minRevision %d: got %+v", user, c.own[user], reply)
	}
	return nil
}

// runClients has n clients act on users until the function returns.
func (h *history) runClients(t *testing.T, conns []*nats.Conn, chance *rand.Rand, users []string, during func()) {
	t.Helper()
	load := newBackground(t)
	for i, nc := range conns {
		c := &registerClient{id: i, nc: nc, chance: rand.New(rand.NewPCG(chance.Uint64(), 0)), history: h,
			users: users, seen: map[string]uint64{}, own: map[string]uint64{}}
		load.every(5*time.Millisecond, c.act)
	}
	during()
	load.stop(t)
}

// check fails where the history is of no register, and draws a picture of it.
func (h *history) check(t *testing.T, what string) {
	t.Helper()
	unknown, settled := h.settle(t)
	result, info := porcupine.CheckOperationsVerbose(registers, h.ops, 2*time.Minute)
	t.Logf("%s: %d operations, %v, of %d unknown sets %d settled as done: %s", what, len(h.ops), &h.tally, unknown, settled, result)
	if result == porcupine.Ok {
		return
	}
	picture, err := os.CreateTemp("", "presence-history-*.html")
	if err != nil {
		t.Fatal(err)
	}
	defer picture.Close()
	if err := porcupine.Visualize(registers, info, picture); err != nil {
		t.Error(err)
	}
	t.Errorf("%s: not linearizable (%s); look at %s in a browser", what, result, picture.Name())
}

// settle has the sets that nobody knew of, and that were done, end at the first fresh
// get that settles them: the first one answered of those that were sent
// protocol.OutcomeWithin after the set (PROTOCOL 6). It fails where one was done later,
// which its revision tells exactly. Whether one was done is told by those who read its
// text; of one that nobody read it may go on for ever.
func (h *history) settle(t testing.TB) (unknown, settled int) {
	t.Helper()
	for _, part := range h.byUser() {
		read := map[string]uint64{} // revisions of the texts that were read
		for _, op := range part {
			if got := op.Output.(registerResult); !op.Input.(registerOp).set {
				read[got.text] = got.revision
			}
		}
		for _, op := range part {
			if !op.Output.(registerResult).unknown {
				continue
			}
			unknown++
			text := op.Input.(registerOp).text
			revision, done := read[text]
			for _, by := range part {
				if by.Input.(registerOp).set || by.Call < op.Call+int64(protocol.OutcomeWithin) || !done {
					continue
				}
				if asOf := by.Output.(registerResult).asOf; revision > asOf {
					t.Errorf("G2: set of %q, sent at %v, was done at revision %d; the fresh get sent at %v is as of %d",
						text, time.Duration(op.Call), revision, time.Duration(by.Call), asOf)
				}
				if op.Return == math.MaxInt64 {
					settled++
				}
				op.Return = min(op.Return, by.Return)
			}
		}
	}
	return unknown, settled
}

// byUser returns the operations of each user.
func (h *history) byUser() map[string][]*porcupine.Operation {
	users := map[string][]*porcupine.Operation{}
	for i := range h.ops {
		user := h.ops[i].Input.(registerOp).user
		users[user] = append(users[user], &h.ops[i])
	}
	return users
}

// checkRising fails where a set has a revision not above that of one that had
// been acknowledged before it was asked for (G3).
func (h *history) checkRising(t *testing.T) {
	t.Helper()
	for _, part := range registers.Partition(h.ops) {
		for _, a := range part {
			for _, b := range part {
				before, after := a.Output.(registerResult), b.Output.(registerResult)
				isSet := a.Input.(registerOp).set && b.Input.(registerOp).set && before.revision != 0 && after.revision != 0
				if isSet && a.Return < b.Call && before.revision >= after.revision {
					t.Errorf("%+v got revision %d, and then %+v got %d", a.Input, before.revision, b.Input, after.revision)
				}
			}
		}
	}
}

// TestLinearizable: whatever happens to one process at a time, sets and fresh
// gets are as if one after the other were done at once, in one place. Of a set
// that nobody knows of whether it was done, either is right.
func TestLinearizable(t *testing.T) {
	t.Parallel()
	_, chance := seeded(t)
	tr := startTrio(t)
	var conns []*nats.Conn
	for i := range 6 {
		nc, err := nats.Connect(tr.Servers[i%3].URL, hasty()...)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(nc.Close)
		conns = append(conns, nc)
	}
	leader := func() *servicetest.ClusterServer { return tr.Servers[tr.StreamLeader(t, journalStream)] }
	someone := func() *servicetest.Daemon { return tr.daemons[chance.IntN(3)] }
	pause := func() { time.Sleep(time.Duration(2000+chance.IntN(4000)) * time.Millisecond) }
	faults := []struct {
		name   string
		happen func()
	}{
		{"presenced killed", func() {
			d := someone()
			d.Kill(t)
			time.Sleep(time.Second)
			d.Restart(t)
		}},
		{"presenced paused", func() {
			d := someone()
			d.Pause(t)
			pause()
			d.Resume(t)
		}},
		{"the journal's leader killed", func() {
			s := leader()
			s.Kill(t)
			time.Sleep(time.Second)
			s.Restart(t)
		}},
		{"the journal's leader paused", func() {
			s := leader()
			s.Pause(t)
			pause()
			s.Resume(t)
		}},
	}
	order, end := chance.Perm(len(faults)), time.Now().Add(*chaosTime)
	for round := 0; round < 3 || time.Now().Before(end); round++ {
		fault := faults[order[round%len(faults)]]
		// Users of its own, so that what is unknown does not pile up.
		users := wire.Names(fmt.Sprint("round", round, "-"), 3)
		h := &history{begun: time.Now()}
		h.runClients(t, conns, chance, users, func() {
			time.Sleep(500 * time.Millisecond) // some requests before
			fault.happen()
			n := h.of("acknowledged")
			servicetest.Eventually(t, 2*wire.Soon, "requests to be answered again", func() bool { return h.of("acknowledged") > n+500 })
		})
		h.check(t, fmt.Sprintf("round %d, %s", round, fault.name))
		h.checkRising(t)
		servicetest.Eventually(t, 2*wire.Soon, "the cluster to heal", func() bool { return tr.Current(t, journalStream) })
	}
}

// TestLinearizable_Settled: a set that nobody knew of, and that is read later, was done
// by the time that a fresh get sent ten seconds after it was answered, or the history is
// of no register.
func TestLinearizable_Settled(t *testing.T) {
	const s = int64(time.Second)
	op := func(text string, set bool, call, end int64, got registerResult) porcupine.Operation {
		return porcupine.Operation{Input: registerOp{user: "u", set: set, text: text}, Output: got, Call: call * s, Return: end * s}
	}
	unknown := porcupine.Operation{Input: registerOp{user: "u", set: true, text: "a"}, Output: registerResult{unknown: true}, Return: math.MaxInt64}
	early := op("", false, 1, 2, registerResult{asOf: 8})
	late := op("", false, 9, 11, registerResult{asOf: 9})
	nothing := op("", false, 10, 11, registerResult{asOf: 10})
	for name, c := range map[string]struct {
		ops  []porcupine.Operation
		want bool // it is settled as the contract says
	}{
		"done before":        {[]porcupine.Operation{unknown, early, op("", false, 11, 12, registerResult{text: "a", revision: 9, asOf: 10})}, true},
		"sent too early":     {[]porcupine.Operation{unknown, late, op("", false, 12, 13, registerResult{text: "a", revision: 11, asOf: 11})}, true},
		"never done":         {[]porcupine.Operation{unknown, nothing, op("", false, 14, 15, registerResult{asOf: 12})}, true},
		"done after a get":   {[]porcupine.Operation{unknown, nothing, op("", false, 14, 15, registerResult{text: "a", revision: 11, asOf: 12})}, false},
		"done while one ran": {[]porcupine.Operation{unknown, nothing, op("", false, 10, 15, registerResult{text: "a", revision: 11, asOf: 12})}, false},
	} {
		h := &history{ops: c.ops}
		told := &complaints{TB: t}
		h.settle(told)
		if got := told.n == 0; got != c.want {
			t.Errorf("%s: settled as promised %v, want %v", name, got, c.want)
		}
	}
}

// complaints counts what a check complains of.
type complaints struct {
	testing.TB
	n int
}

func (c *complaints) Errorf(string, ...any) { c.n++ }

// TestLinearizable_Model: what the model must not let pass.
func TestLinearizable_Model(t *testing.T) {
	const never = math.MaxInt64
	set := func(text string, call, end int64, got registerResult) porcupine.Operation {
		return porcupine.Operation{Input: registerOp{set: true, text: text}, Output: got, Call: call, Return: end}
	}
	setIf := func(text string, revision uint64, call, end int64, got registerResult) porcupine.Operation {
		return porcupine.Operation{Input: registerOp{set: true, text: text, ifRevision: revision}, Output: got, Call: call, Return: end}
	}
	get := func(text string, revision uint64, call, end int64) porcupine.Operation {
		return porcupine.Operation{Input: registerOp{}, Output: registerResult{text: text, revision: revision}, Call: call, Return: end}
	}
	a, unknown, conflict := registerResult{revision: 5}, registerResult{unknown: true}, registerResult{conflict: true}
	for name, c := range map[string]struct {
		want bool
		ops  []porcupine.Operation
	}{
		"read after write":       {true, []porcupine.Operation{set("a", 0, 1, a), get("a", 5, 2, 3)}},
		"stale read":             {false, []porcupine.Operation{set("a", 0, 1, a), get("", 0, 2, 3)}},
		"concurrent read":        {true, []porcupine.Operation{set("a", 0, 3, a), get("", 0, 1, 2)}},
		"lost write":             {false, []porcupine.Operation{set("a", 0, 1, a), set("b", 2, 3, registerResult{revision: 6}), get("a", 5, 4, 5)}},
		"done twice":             {false, []porcupine.Operation{set("a", 0, 1, a), set("b", 2, 3, registerResult{revision: 6}), get("a", 7, 4, 5)}},
		"refused, and done":      {false, []porcupine.Operation{get("refused", 5, 0, 1)}},
		"revision falls":         {false, []porcupine.Operation{set("a", 0, 1, a), set("b", 2, 3, registerResult{revision: 4})}},
		"another revision":       {false, []porcupine.Operation{set("a", 0, 1, a), get("a", 6, 2, 3)}},
		"unknown, done":          {true, []porcupine.Operation{set("a", 0, never, unknown), get("a", 5, 2, 3)}},
		"unknown, done later":    {true, []porcupine.Operation{set("a", 0, never, unknown), get("", 0, 2, 3), get("a", 5, 4, 5)}},
		"unknown, never done":    {true, []porcupine.Operation{set("a", 0, never, unknown), get("", 0, 2, 3)}},
		"unknown, done twice":    {false, []porcupine.Operation{set("a", 0, never, unknown), get("a", 5, 2, 3), set("b", 4, 5, registerResult{revision: 6}), get("a", 7, 6, 7)}},
		"unknown, two revisions": {false, []porcupine.Operation{set("a", 0, never, unknown), get("a", 5, 2, 3), get("a", 6, 4, 5)}},
		"condition holds":        {true, []porcupine.Operation{set("a", 0, 1, a), setIf("b", 5, 2, 3, registerResult{revision: 6})}},
		"condition overlooked":   {false, []porcupine.Operation{set("a", 0, 1, a), setIf("b", 4, 2, 3, registerResult{revision: 6})}},
		"conflict for nothing":   {false, []porcupine.Operation{set("a", 0, 1, a), setIf("b", 5, 2, 3, conflict)}},
		"conflict":               {true, []porcupine.Operation{set("a", 0, 1, a), setIf("b", 4, 2, 3, conflict), get("a", 5, 4, 5)}},
	} {
		if got := porcupine.CheckOperations(registers, c.ops); got != c.want {
			t.Errorf("%s: linearizable %v, want %v", name, got, c.want)
		}
	}
}
