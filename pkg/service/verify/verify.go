// Package verify checks a running service against its journal, from outside of
// every instance:
//
//	report, err := verify.Run(ctx, verify.Config{Clients: nc, Journal: jnc})
//	if err == nil && !report.OK() { … }   // report.Differences says what is off
//
// It reads the snapshots and the journal itself, applies them with the state
// machine that the instances have, and compares what comes out
//
//   - with every other snapshot, which must hold the same at its position,
//   - with the digests that instances wrote into the journal,
//   - with what each instance says it holds (PROTOCOL 4.9); where that is another
//     state, it looks for the users that differ and how,
//   - with the answers that the service gives to "get" for a sample of users.
//
// Everything is compared as of one journal position, so that it may run while
// the service is at work. It changes nothing, and needs the memory of one more
// instance. What it cannot see: what an instance has yet to announce, and
// whatever all instances and this package would get wrong alike.
package verify

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"presence/pkg/internal/entry"
	"presence/pkg/protocol"
	"presence/pkg/service/internal/journal"
)

const (
	// DefaultSample is how many users' answers are checked.
	DefaultSample = 1000
	// DefaultTimeout bounds the wait for one answer, and for one entry.
	DefaultTimeout = 5 * time.Second
	// MaxUsers bounds the users that are told for one instance, and for all
	// answers; more are counted.
	MaxUsers = 10
)

// Config is what a verification needs: both connections, as an operator in the
// clients' account and as one who may read the journal's.
type Config struct {
	Clients, Journal *nats.Conn
	// Prefix, Stream and Snapshots are those of the service's configuration, with
	// its defaults, as is Skip.
	Prefix, Stream, Snapshots string
	Skip                      []uint64
	// Sample is for how many users answers are checked. Default DefaultSample;
	// negative: none.
	Sample int
	// Timeout bounds the wait for one answer. Default DefaultTimeout.
	Timeout time.Duration
	// Progress is told what is done next, in one line for people. Default: nobody.
	Progress func(string)
}

// Report is what was found.
type Report struct {
	Epoch string `json:"epoch"`
	// From is the position that the state was begun at, To the last one that was
	// applied; Digests of the entries between them were compared.
	From    uint64 `json:"from"`
	To      uint64 `json:"to"`
	Digests int    `json:"digests"`
	Users   int    `json:"users"`
	// Snapshots are those that were read and are whole, the newest first.
	Snapshots []uint64 `json:"snapshots"`
	// Instances are those that answered; Answers were compared.
	Instances []Instance `json:"instances"`
	Answers   int        `json:"answers"`

	Differences []Difference `json:"differences"`
	// Notes are what is worth knowing and no difference.
	Notes []string `json:"notes"`
}

// Instance is one that answered.
type Instance struct {
	Writer   string `json:"writer"`
	Host     string `json:"host,omitempty"`
	Version  string `json:"version"`
	Position uint64 `json:"position"` // as of which it was compared
	Same     bool   `json:"same"`
	NotReady string `json:"notReady,omitempty"`
}

// Difference is one thing that is not as the journal says.
type Difference struct {
	What     string  `json:"what"` // in one line, for people
	Instance string  `json:"instance,omitempty"`
	Position uint64  `json:"position,omitempty"`
	UserID   string  `json:"userID,omitempty"`
	Fields   []Field `json:"fields,omitempty"`
}

// Field is a value that differs, as JSON; empty where there is none.
type Field struct {
	Name    string `json:"name"`
	Have    string `json:"have"`    // what was found
	Journal string `json:"journal"` // what it should be
}

// OK reports whether nothing is off.
func (r *Report) OK() bool { return len(r.Differences) == 0 }

func (r *Report) differs(d Difference) { r.Differences = append(r.Differences, d) }

func (r *Report) note(format string, args ...any) {
	r.Notes = append(r.Notes, fmt.Sprintf(format, args...))
}

// verification is one at work.
type verification struct {
	cfg      Config
	subjects protocol.Subjects
	report   *Report
	*replay

	// asked are the instances that should answer, and for how long each had
	// appended nothing when they were asked, in milliseconds.
	asked map[string]int64
}

// Run verifies. An error says why it could not; whatever is off is in the report.
func Run(ctx context.Context, cfg Config) (*Report, error) {
	cfg.Sample = cmp.Or(cfg.Sample, DefaultSample)
	cfg.Timeout = cmp.Or(cfg.Timeout, DefaultTimeout)
	if cfg.Progress == nil {
		cfg.Progress = func(string) {}
	}
	report := &Report{Snapshots: []uint64{}, Instances: []Instance{}, Differences: []Difference{}, Notes: []string{}}
	v := &verification{cfg: cfg, subjects: protocol.NewSubjects(cfg.Prefix), report: report}
	js, err := jetstream.New(cfg.Journal)
	if err != nil {
		return nil, err
	}
	opening, cancel := context.WithTimeout(ctx, cfg.Timeout)
	defer cancel()
	reader, err := journal.OpenReader(opening, js, cfg.Stream, cfg.Snapshots)
	if err != nil {
		return nil, err
	}
	v.replay = &replay{cfg: &v.cfg, report: report, reader: reader}
	defer v.stop()
	err = v.run(ctx)
	if v.state != nil {
		report.Epoch, report.To, report.Users = v.state.Epoch(), v.state.Position(), v.state.Users()
	}
	if _, ok := errors.AsType[*unusable](err); ok {
		return report, nil // it is in the report, and nothing can be compared
	}
	return report, err
}

func (v *verification) run(ctx context.Context) error {
	if err := v.begin(ctx); err != nil {
		return err
	}
	instances, err := v.ask(ctx)
	if err != nil {
		return err
	}
	for _, i := range instances {
		if err := v.compare(ctx, i); err != nil {
			return err
		}
	}
	if len(instances) > 0 {
		if err := v.checkAnswers(ctx); err != nil {
			return err
		}
	}
	return v.checkSilent(ctx)
}

// positionOf is the journal position of a revision.
func positionOf(revision uint64) uint64 { return revision / entry.IndexSpan }
