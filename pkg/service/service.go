// Package service is the presence service: the NATS micro service that answers
// requests, appends changes to the journal, applies it, and announces what
// changed. Its contract is package protocol's.
//
//	s, err := service.New(service.Config{Clients: nc, Journal: jnc, System: sys})
//	err = s.Run(ctx)   // until ctx is done; answers what it accepted, then returns
//
// A change goes this way:
//
//	request ─► endpoint: decode, check ─► journal: packed with others, appended
//	                                           │
//	reply  ◄─ responder ◄── apply: state machine, one goroutine, journal order
//	event  ◄─ announcer ◄──────┘
//
// Contacts are not in the journal but in a KV bucket. A worker waits for JetStream:
//
//	request ─► endpoint: decode, check ─► worker: read, write on top of what was read
//	reply, event on self.<user>  ◄────────────┘
//
// The listener makes the subscriptions. If the broker refuses one, it tries again. An instance is
// ready when it has all of them. Replies leave by the connection for answers, unless that one is
// on another server than the connection for requests.
//
// Applying an entry never waits for a client: replies and events leave on goroutines of their
// own. The journal admits so many callers at most, and so bounds the replies that wait. The
// events that wait are in the state, at most one for each user. Queries are answered from the
// state in memory, under the read side of its lock.
package service

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"

	"presence/pkg/internal/entry"
	"presence/pkg/internal/state"
	"presence/pkg/protocol"
	"presence/pkg/service/internal/admission"
	"presence/pkg/service/internal/connections"
	"presence/pkg/service/internal/contacts"
	"presence/pkg/service/internal/journal"
	"presence/pkg/service/internal/lograte"
	"presence/pkg/service/internal/replica"
)

// openTimeout bounds the search for the journal and the contacts at the start.
const openTimeout = 30 * time.Second

// ErrJournalLost is a cause to cancel Run's context by: nothing more is stored.
var ErrJournalLost = errors.New("the journal is lost")

// Service is one instance. New makes it, Run runs it once.
type Service struct {
	cfg      Config
	log      *slog.Logger
	subjects protocol.Subjects
	instance string        // the ID of this start of the instance
	begun    time.Time     // when New made it
	opened   chan struct{} // closed when journal is set
	ready    chan struct{} // closed when the instance answers
	leaving  atomic.Bool   // it stops, or has stopped

	gate     *admission.Gate
	limits   atomic.Pointer[Limits] // Config.Limits, until Reload changes them
	reloaded reloaded

	journal     *journal.Journal[waiter]
	contacts    *contacts.Store
	responder   *responder
	waiters     revisionWaiters
	announcer   *announcer
	endpoints   []*endpoint
	listener    *listener
	replies     *replies
	refused     refused
	unsent      lograte.Spaced // the log line of a reply that could not be sent
	registered  atomic.Bool    // an entry of this instance is applied
	pauses      pauses
	connections *connections.Watcher
	trims       trims
	detections  detections
	traces      traces
	noContacts  atomic.Bool // the last request to the contacts' bucket failed
	// contactsWrong says what is wrong with the configuration of the contacts' bucket. nil: it
	// was not checked yet.
	contactsWrong atomic.Pointer[error]
	// server is what Config.Server told last. nil: nothing yet, or there is none.
	server  atomic.Pointer[protocol.ServerVitals]
	counted counted
	// pendingRules are the rules that this instance wants in force. They wait until every
	// instance knows the format of the journal that they need. nil: nothing waits. Only
	// register uses it, and from then on only tick.
	pendingRules *entry.Params
	answering    []answer // empty, see keepAnswers; apply alone uses it

	mu    sync.RWMutex // guards what follows
	state *state.State
	// appliedAt is when the state became what it is.
	appliedAt time.Time
	digests   replica.Digests
	// stateWrong says that the state is known to be wrong, until it is built anew.
	stateWrong bool
	// wrongInstances spaces the log lines that another instance's state is wrong.
	wrongInstances lograte.Doubling
}

// New makes a service, or says what is wrong with the configuration. It starts nothing.
func New(cfg Config) (*Service, error) {
	if cfg.Clients == nil || cfg.Journal == nil {
		return nil, errors.New("service: the clients' and the journal's connection are required")
	}
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	s := &Service{
		cfg:      cfg,
		log:      cfg.Logger,
		subjects: protocol.NewSubjects(cfg.Prefix),
		instance: cfg.newInstanceID(),
		begun:    time.Now(),
		opened:   make(chan struct{}),
		ready:    make(chan struct{}),
		state:    state.New(),
		pauses:   pauses{begun: time.Now()},
	}
	s.limits.Store(&s.cfg.Limits)
	s.reloaded.rules = cfg.params()
	s.gate = admission.New(cfg.Limits.admission())
	s.responder = newResponder(s)
	s.waiters.responder = s.responder
	s.announcer = newAnnouncer(serviceOutbox{s}, s.subjects, s.log)
	s.detections.init()
	s.announcer.published = func(position uint64) {
		s.detections.announced(position, time.Now())
		s.traces.announced(position)
	}
	s.connections = connections.New(connections.Config{System: cfg.System, Account: cfg.ClientsAccount, Leases: leases{s}, Logger: s.log})
	s.endpoints = s.routes()
	s.replies, s.listener = newReplies(cfg.Clients, cfg.Answers), newListener(s)
	s.refused = newRefused(s)
	return s, nil
}

// Ready is closed when the service answers for the first time: it has caught up with the journal.
func (s *Service) Ready() <-chan struct{} { return s.ready }

// Run serves until ctx is done. Then it takes no more requests, answers those that it accepted,
// announces what it changed, and returns nil. An error says why it could not start, or had to
// stop. If the cause of ctx is ErrJournalLost, it does not wait for the journal.
func (s *Service) Run(ctx context.Context) error {
	defer s.leaving.Store(true)
	defer s.refused.listen(s)()
	if err := s.open(ctx); err != nil {
		return err
	}
	close(s.opened)
	s.setLimits() // Reload may have changed them just now
	// The goroutines outlive ctx by as long as draining takes.
	inner, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	// Answers are sent to the very end. When the journal stops, its callers get an error; when
	// serve stops, so do those who wait for a revision. Either may be the last.
	answering, stopAnswering := context.WithCancel(context.WithoutCancel(ctx))
	var responding sync.WaitGroup
	responding.Go(func() { s.responder.run(answering) })
	defer responding.Wait()
	defer stopAnswering()
	g, inner := errgroup.WithContext(inner)
	g.Go(func() error { return s.journal.Run(inner) })
	g.Go(func() error { s.announcer.run(inner); return nil })
	g.Go(func() error {
		defer stop()
		return s.serve(ctx, inner)
	})
	return g.Wait()
}

// open finds the journal and the bucket of the contacts, or creates them.
func (s *Service) open(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	js, err := jetstream.New(s.cfg.Journal)
	if err != nil {
		return err
	}
	if err := s.openJournal(ctx, js); err != nil {
		return err
	}
	if err := s.awaitPayload(ctx); err != nil {
		return err
	}
	s.contacts, err = contacts.Open(ctx, contacts.Config{JetStream: js, Bucket: s.cfg.Contacts, Replicas: s.cfg.Replicas, Max: func() int { return s.limits.Load().Contacts },
		MaxBytes: func() int { return s.maxBody() - headersOfReply }, Logger: s.log})
	return err
}

func (s *Service) openJournal(ctx context.Context, js jetstream.JetStream) (err error) {
	params := s.cfg.params()
	s.journal, err = journal.Open(ctx, journal.Config[waiter]{
		JetStream: js,
		Stream:    s.cfg.Stream,
		Bucket:    s.cfg.Snapshots,
		Replicas:  s.cfg.Replicas,
		Instance:  s.instance,
		Head:      s.cfg.Head,
		Logger:    s.log,

		SnapshotBytes:   s.cfg.SnapshotBytes,
		SnapshotEntries: s.cfg.SnapshotEntries,
		Keep:            s.cfg.JournalKeep,
		MaxWaiting:      s.limits.Load().WaitingChanges,
		MaxWaitingBytes: s.limits.Load().WaitingBytes,
		Skip:            s.cfg.Skip,
		NewEpoch:        s.cfg.NewEpoch,

		Genesis:  []entry.Command{{Kind: entry.Configure, Params: &params}, {Kind: entry.SetFormat, Seq: entry.Format}},
		Epoch:    uuid.NewString(),
		Stamp:    s.stamp,
		Apply:    s.apply,
		Failed:   s.failed,
		Arrived:  waiter.arrived,
		Restore:  s.restore,
		Reset:    s.reset,
		Snapshot: s.snapshot,
		Rank:     s.rank,
		Alone:    s.alone,
		Idle:     s.idle,
		Skipped:  s.skipped,
	})
	return err
}

// serve is what the instance does from catching up with the journal until it has drained. ctx
// ends it. inner is done when one of Run's goroutines has failed.
func (s *Service) serve(ctx, inner context.Context) error {
	begun := time.Now()
	select {
	case <-s.journal.CaughtUp():
	case <-ctx.Done():
		return nil
	case <-inner.Done():
		return nil
	}
	if err := s.chooseEpoch(inner); err != nil {
		return fmt.Errorf("beginning a new epoch: %w", err)
	}
	if err := s.register(inner); err != nil {
		return err
	}
	if err := s.connections.Listen(); err != nil {
		return err
	}
	defer hearErrors(s.cfg.Clients, s.listener.reported)()
	ticking, stopTicking := context.WithCancel(inner)
	var owned sync.WaitGroup
	owned.Go(func() { s.tick(ticking) })
	owned.Go(func() { s.watchClients(ticking) })
	owned.Go(func() { s.watchPauses(ticking) })
	owned.Go(func() { s.watchContacts(ticking) })
	owned.Go(func() { s.watchServer(ticking) })
	owned.Go(func() { s.connections.Run(ticking) })
	owned.Go(func() { s.replies.run(ticking, s.listener.kick) })
	owned.Go(func() { s.listener.run(ticking, func() { s.isReady(begun) }) })
	// What was taken is answered, whatever has failed. So the gate ends last.
	answering, stopAnswering := context.WithCancel(context.WithoutCancel(ctx))
	owned.Go(func() { s.gate.Run(ticking, answering) })
	draining := inner
	select {
	case <-ctx.Done():
		s.log.Info("stopping: no more requests are taken")
		if errors.Is(context.Cause(ctx), ErrJournalLost) {
			draining = ctx
		}
	case <-inner.Done():
	}
	s.leaving.Store(true)
	err := s.drain(draining)
	stopTicking()
	stopAnswering()
	owned.Wait()
	return err
}

// isReady is called once, when every request reaches the instance and it can answer.
func (s *Service) isReady(begun time.Time) {
	close(s.ready)
	s.mu.RLock()
	defer s.mu.RUnlock()
	s.log.Info("ready", "instance", protocol.ParseInstanceID(s.instance).Name(), "users", s.state.Users(), "sessions", s.state.Sessions(), "revision", s.state.Revision(),
		"epoch", s.state.Epoch(), "took", time.Since(begun).Round(time.Millisecond))
}

// chooseEpoch begins a new epoch if the configuration asks for one: see Config.NewEpoch and Alone.
func (s *Service) chooseEpoch(ctx context.Context) error {
	epoch := uuid.NewString()
	switch {
	case s.cfg.NewEpoch:
		params := s.reloaded.wanted()
		if err := s.journal.BeginEpoch(ctx, epoch, entry.Command{Kind: entry.Configure, Params: &params}); err != nil {
			return err
		}
		s.log.Warn("a new epoch has begun: clients fetch everything anew", "epoch", epoch)
	case s.cfg.Alone && !s.journal.Made():
		ctx, cancel := context.WithTimeout(ctx, drainTimeout)
		defer cancel()
		return s.journal.NextEpoch(ctx, epoch)
	}
	return nil
}

// register puts the rules of this instance's configuration into force. It waits until the
// instance's first entry is applied: then the others know the instance, and it can append.
func (s *Service) register(ctx context.Context) error {
	if err := s.want(s.reloaded.wanted()); err != nil {
		return err
	}
	if err := s.barrier(ctx); err != nil {
		return fmt.Errorf("appending to the journal for the first time: %w", err)
	}
	s.registered.Store(true)
	return nil
}

// want puts rules into force, now or when every instance knows the format that they need.
func (s *Service) want(rules entry.Params) error {
	s.pendingRules = &rules
	if err := s.configure(); err != nil {
		return err
	}
	if s.pendingRules != nil {
		s.log.Warn("the rules come into force when every instance knows a later format of the journal", "format", rules.Format(), "rules", rules)
	}
	return nil
}

// configure puts pendingRules into force. It leaves them pending while they need a format of the
// journal that is not in force: an instance of an earlier version would have to stop.
func (s *Service) configure() error {
	want := s.pendingRules
	s.mu.RLock()
	have, format := s.state.Params(), s.state.Format()
	s.mu.RUnlock()
	if *want != have {
		if want.Format() > format {
			return nil
		}
		s.log.Info("changing the rules in force", "from", have, "to", *want)
		if err := s.journal.Report(entry.Command{Kind: entry.Configure, Params: want}); err != nil {
			return err
		}
	}
	s.pendingRules = nil
	return nil
}

// barrier appends an entry and waits until it is applied, for drainTimeout at most.
func (s *Service) barrier(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, drainTimeout)
	defer cancel()
	b := &barrier{begun: time.Now(), outcome: make(chan error, 1)}
	if err := s.journal.Barrier(b); err != nil {
		return err
	}
	select {
	case err := <-b.outcome:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// stamp is the journal's Stamp: it fills in the header of an entry that is being packed.
func (s *Service) stamp(h *entry.Header, arrived time.Time) {
	s.mu.Lock()
	replica.Stamp(h, s.state, arrived.Sub(s.appliedAt), s.registered.Load())
	s.digests.Stamp(h, s.state)
	s.mu.Unlock()
	h.AnnouncedThrough = s.announcer.announcedThrough()
}

// apply is the journal's Apply: it applies an entry, and hands answers and events on.
func (s *Service) apply(a journal.Applied[waiter]) error {
	done, err := s.applyToState(&a)
	if err != nil {
		return err
	}
	if done.amnesty && s.registered.Load() {
		s.log.Info("there was an outage: for a while nobody is lost", "position", a.Position)
	}
	if done.fenced {
		s.journal.PutBack(a)
	}
	s.counted.applied.Add(1)
	s.detections.lost(done.losses, a.Position, a.Entry.Header.Instance == s.instance, time.Now())
	s.responder.push(done.answers)
	s.keepAnswers(done.answers)
	s.waiters.applied(a.Position)
	if a.Entry.Header.Instance == s.instance {
		s.announcer.kick()
	}
	return nil
}

// applied is what applying an entry led to.
type applied struct {
	answers []answer     // to this instance's callers
	fenced  bool         // the entry counts as empty
	amnesty bool         // an amnesty begins by the entry
	losses  []state.Loss // valid until the next entry is applied
}

// applyToState applies an entry to the state. If that fails or panics, the state may be half
// changed. Then stateWrong is set, and the journal stops.
func (s *Service) applyToState(a *journal.Applied[waiter]) (done applied, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.compare(&a.Entry.Header); err != nil {
		return done, err
	}
	whole := false
	defer func() { s.stateWrong = s.stateWrong || !whole }()
	before := s.state.InAmnesty()
	out, err := s.state.Apply(a.Entry, a.Position, a.Time, a.Callers != nil)
	if err != nil {
		return done, err
	}
	s.appliedAt = time.Now()
	if s.cfg.System != nil && a.Entry.Header.Instance == s.instance {
		s.connections.LookUp(s.state.NewlyBound)
	}
	if a.Callers != nil {
		done.answers = s.answers(a.Callers, &out)
	}
	done.losses = s.state.Losses()
	done.fenced, done.amnesty = out.Fenced, !before && s.state.InAmnesty()
	whole = true
	return done, nil
}

// answers makes the answers to the callers of an entry. The caller holds mu.
func (s *Service) answers(callers *journal.Callers[waiter], out *state.Outcome) []answer {
	answers := slices.Grow(s.answering, len(callers.Commands)+len(callers.Renewals)+len(callers.Barriers))
	if out.Fenced {
		for _, c := range callers.Commands {
			answers = append(answers, answer{to: c, err: protocol.ErrUnavailable})
		}
		for _, r := range callers.Renewals {
			answers = append(answers, answer{to: r.Caller, err: journalError(journal.ErrRenewalPending)}) // apply puts it back
		}
	} else {
		for i, c := range callers.Commands {
			answers = append(answers, answer{to: c, result: out.Results[i]})
			if trace := c.trace(); trace != "" {
				s.traces.add(out.Results[i].Revision, s.state.Position(), trace)
			}
		}
		for _, r := range callers.Renewals {
			answers = append(answers, s.renewedAnswer(r))
		}
	}
	for _, c := range callers.Barriers {
		answers = append(answers, answer{to: c})
	}
	return answers
}

// keepAnswers keeps the memory of answers for the next entry that has callers, up to mostAnswers.
func (s *Service) keepAnswers(answers []answer) {
	if len(answers) == 0 {
		return
	}
	clear(answers) // they hold requests and texts
	if s.answering = answers[:0]; cap(answers) > mostAnswers {
		s.answering = nil
	}
}

const mostAnswers = 512

// renewedAnswer makes the answer to a renewal. The caller holds mu.
func (s *Service) renewedAnswer(r journal.Renewing[waiter]) answer {
	result, ok := s.state.Renewed(r.Number)
	if !ok {
		lost := r.Caller.(interface {
			lost(*state.State) *protocol.Error
		})
		return answer{to: r.Caller, err: lost.lost(s.state)}
	}
	return answer{to: r.Caller, result: result}
}

// failed is the journal's Failed: it answers callers whose commands were not stored, or perhaps
// not.
func (s *Service) failed(callers []waiter, err error) {
	answers := make([]answer, len(callers))
	for i, c := range callers {
		answers[i] = answer{to: c, err: c.failed(err)}
	}
	s.responder.push(answers)
}
