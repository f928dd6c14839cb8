// Package verify checks a running service against its journal, from outside:
//
//	report, err := verify.Run(ctx, verify.Config{Clients: nc, Journal: jnc})
//	if err == nil && !report.OK() { … }   // report.Differences says what is wrong
//
// It reads the snapshots and the journal itself, applies the entries with the instances' state
// machine, and compares the resulting state
//
//   - with every snapshot, at the snapshot's position,
//   - with the digests that instances wrote into the journal,
//   - with what each instance says it holds (PROTOCOL 4.9); if that differs, it looks for the users
//     that differ and how,
//   - with the answers that the service gives to "get" for a sample of users.
//
// Each comparison is as of one position of the journal, so it may run while the service is at
// work. It changes nothing, and needs as much memory as an instance. It does not see what an
// instance has yet to announce, nor a mistake of the state machine itself.
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
	// MaxUsers bounds the users that are reported for one instance, and for all answers. More
	// are only counted.
	MaxUsers = 10
)

// Config is what a verification needs.
type Config struct {
	// Clients is the connection of an operator in the clients' account. Journal is one of a
	// user who may read the journal's stream and the snapshots.
	Clients, Journal *nats.Conn
	// Prefix, Stream, Snapshots and Skip are as in the service's configuration, and have the
	// same defaults.
	Prefix, Stream, Snapshots string
	Skip                      []uint64
	// Sample is how many users are asked for. Default DefaultSample; negative: none.
	Sample int
	// Timeout bounds the wait for one answer, and for one entry. Default DefaultTimeout.
	Timeout time.Duration
	// Progress is called with what is done next, in one line for people. Default: nothing.
	Progress func(string)
}

// Report is what was found.
type Report struct {
	Epoch string `json:"epoch"`
	// From is the position that the state began at. To is the last position that was applied.
	From uint64 `json:"from"`
	To   uint64 `json:"to"`
	// Digests is how many digests in entries between them were compared.
	Digests int `json:"digests"`
	Users   int `json:"users"`
	// Snapshots are the positions of the snapshots that can be used, the newest first.
	Snapshots []uint64 `json:"snapshots"`
	// Instances are those that answered.
	Instances []Instance `json:"instances"`
	// Answers is how many users' answers were compared.
	Answers int `json:"answers"`

	Differences []Difference `json:"differences"`
	// Notes are worth knowing, and no differences.
	Notes []string `json:"notes"`
}

// Instance is one that answered.
type Instance struct {
	Writer   string `json:"writer"`
	Host     string `json:"host,omitempty"`
	Version  string `json:"version"`
	Position uint64 `json:"position"` // where it was compared
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

// Field is a value that differs, as JSON. Empty: there is none.
type Field struct {
	Name    string `json:"name"`
	Have    string `json:"have"`    // what was found
	Journal string `json:"journal"` // what it should be
}

// OK reports whether nothing differs.
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

	// asked are the instances that should answer, and for how many milliseconds each had
	// appended nothing when they were asked.
	asked        map[string]int64
	wrongAnswers int // users whose answer differs
}

// Run verifies. The report says what differs. An error says why it could not be made.
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
		return report, nil // the report says why
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
