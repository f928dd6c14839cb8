// Package contacts keeps whom each user knows, in a JetStream KV bucket. Contacts are no presence,
// so they are not in the state that each instance has in memory.
//
//	s, err := contacts.Open(ctx, contacts.Config{JetStream: js})
//	changed, err := s.Change(ctx, "alice", &protocol.ContactsRequest{Add: []string{"bob"}})
//
// A user's contacts are one value:
//
//	$KV.PRESENCE_CONTACTS.<token>    ["bob","carol"]    sorted, each once; see package value
//
// Their version is the value's revision in the bucket. So it rises with every change, and after an
// erasure it is higher than all versions before. A change is written only if the contacts still
// have the version that was read. If not, it is made again on the newer ones, so two instances do
// not lose each other's changes. The bucket's leader answers reads. A leader that has lost its
// majority and does not know it yet may answer with contacts that are some seconds old. It cannot
// write.
//
// Every method is bounded by its context. Its error wraps one of PROTOCOL 6: unavailable if nothing
// was done, outcome_unknown if JetStream did not say whether it stored a change. Then the change
// may still be stored later, as long as nobody else changes the contacts.
//
// A bucket that is deleted while it is used is made anew, empty.
package contacts

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/singleflight"

	"presence/pkg/protocol"
	"presence/pkg/service/internal/contacts/value"
	"presence/pkg/service/internal/streams"
)

// DefaultBucket holds the contacts.
const DefaultBucket = "PRESENCE_CONTACTS"

const (
	// askTimeout bounds one request to JetStream. While there is no leader, nobody answers, and
	// the request must be repeated when there is one.
	askTimeout = 2 * time.Second
	// pause is the longest pause before JetStream is asked again. raced is the longest one before
	// a change is made again because another one came first.
	pause = 200 * time.Millisecond
	raced = 20 * time.Millisecond
)

// Config says where a Store keeps the contacts.
type Config struct {
	JetStream jetstream.JetStream
	Bucket    string // default DefaultBucket
	Replicas  int    // of a bucket that is created; default 1
	// Max returns how many contacts a user may have. Default: protocol.MaxContacts.
	Max func() int
	// MaxBytes returns how many bytes of JSON a user's contacts may have. More could not be
	// sent as a reply, so adding is refused. nil: there is no limit.
	MaxBytes func() int
	Logger   *slog.Logger
}

// Store is the bucket. Several goroutines may call its methods.
type Store struct {
	js     jetstream.JetStream
	stream jetstream.Stream
	prefix string     // of the values' subjects
	max    func() int // Config.Max
	most   func() int // Config.MaxBytes
	// want is the configuration that the stream is made with. required is what it must have.
	want     jetstream.StreamConfig
	required streams.Requirements
	remaking singleflight.Group
	log      *slog.Logger
}

// List is a user's contacts as of a version. Version 0: they were never changed, or are erased.
type List struct {
	Users   []string
	Version uint64

	change string // the ID of the change that wrote it
}

// Changed is the result of a change.
type Changed struct {
	List
	Previous       uint64 // the version before; List.Version if nothing changed
	Added, Removed []string
	// Read says that more may have changed than Added and Removed: who needs the contacts must
	// read them.
	Read bool
}

// Open finds the bucket, or creates it.
func Open(ctx context.Context, cfg Config) (*Store, error) {
	bucket := cmp.Or(cfg.Bucket, DefaultBucket)
	s := &Store{js: cfg.JetStream, prefix: prefixOf(bucket), max: cfg.Max, most: cfg.MaxBytes, log: cfg.Logger}
	if s.max == nil {
		s.max = func() int { return protocol.MaxContacts }
	}
	s.log = cmp.Or(s.log, slog.New(slog.DiscardHandler))
	want := made(bucket, cfg.Replicas)
	stream, err := streams.Find(ctx, s.js, want.Name)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		stream, err = streams.Create(ctx, s.js, want)
	}
	if err != nil {
		return nil, fmt.Errorf("opening the contacts' bucket %s: %w", bucket, err)
	}
	s.want, s.required = want, requirements(want, s.max())
	if err := streams.Check(stream.CachedInfo().Config, s.required); err != nil {
		return nil, fmt.Errorf("the bucket %s cannot hold the contacts: %w", bucket, err)
	}
	s.stream = stream
	return s, nil
}

// made is the configuration that the bucket's stream is made with: that of a KV bucket, but without
// AllowDirect.
func made(bucket string, replicas int) jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name:              "KV_" + bucket,
		Description:       "presence: whom each user knows; written by presenced only",
		Subjects:          []string{prefixOf(bucket) + ">"},
		MaxMsgsPerSubject: 1,
		Discard:           jetstream.DiscardNew,
		Storage:           jetstream.FileStorage,
		Replicas:          max(replicas, 1),
		AllowRollup:       true,
		DenyDelete:        true,
		MaxMsgs:           -1,
		MaxBytes:          -1,
		MaxMsgSize:        -1,
		MaxConsumers:      -1,
	}
}

// prefixOf begins the subjects of the values.
func prefixOf(bucket string) string { return "$KV." + bucket + "." }

// Requirements are what the bucket's stream must have, with so many replicas at least, where users
// have as many contacts as by default.
func Requirements(bucket string, replicas int) streams.Requirements {
	return requirements(made(bucket, replicas), protocol.MaxContacts)
}

// requirements returns what the bucket's stream must have. want is what it is made with, most how
// many contacts a user may have.
func requirements(want jetstream.StreamConfig, most int) streams.Requirements {
	const perContact = 2*protocol.MaxUserIDBytes + len(`"",`) // if each byte is escaped
	return streams.Requirements{
		Name: want.Name, What: "the list of contacts",
		Subjects:   want.Subjects,
		Replicas:   want.Replicas,
		Message:    most*perContact + 4<<10,
		PerSubject: want.MaxMsgsPerSubject,
		Rollup:     want.AllowRollup,
		DenyDelete: want.DenyDelete,
	}
}

// Get returns a user's contacts.
func (s *Store) Get(ctx context.Context, userID string) (List, error) {
	subject, err := s.subject(userID)
	if err != nil {
		return List{}, err
	}
	return s.read(ctx, subject)
}

// Change does what a request says. The request must have been checked. If it changes nothing,
// nothing is written. More contacts than Config.Max are ErrRequestTooLarge.
func (s *Store) Change(ctx context.Context, userID string, r *protocol.ContactsRequest) (Changed, error) {
	subject, err := s.subject(userID)
	if err != nil {
		return Changed{}, err
	}
	overtaken := false // this change may have been stored, and another one after it
	for {
		have, err := s.read(ctx, subject)
		if err != nil {
			return Changed{}, err
		}
		want, added, removed := value.Edit(have.Users, r)
		switch {
		case len(added)+len(removed) == 0:
			return Changed{List: have, Previous: have.Version, Read: overtaken}, nil
		case len(want) > s.max() && len(added) > 0:
			return Changed{}, protocol.ErrRequestTooLarge.Withf("that would be %d contacts, at most %d are allowed", len(want), s.max())
		}
		data, err := value.Encode(want)
		if err != nil {
			return Changed{}, err
		}
		if s.most != nil && len(added) > 0 && len(data) > s.most() {
			return Changed{}, protocol.ErrRequestTooLarge.Withf("the contacts would have %d bytes, at most %d can be sent: nothing was changed", len(data), s.most())
		}
		version, err := s.write(ctx, subject, data, have.Version)
		overtaken = overtaken || errors.Is(err, errOvertaken)
		if errors.Is(err, errChanged) {
			if err := sleep(ctx, raced); err != nil {
				return Changed{}, unavailable(err)
			}
			continue
		}
		return Changed{List: List{Users: want, Version: version}, Previous: have.Version, Added: added, Removed: removed}, err
	}
}

// Erase removes every trace of a user's contacts. It is no error if there are none.
func (s *Store) Erase(ctx context.Context, userID string) (Changed, error) {
	subject, err := s.subject(userID)
	if err != nil {
		return Changed{}, err
	}
	have, err := s.read(ctx, subject)
	if err != nil && !errors.Is(err, errDamaged) || have.Version == 0 {
		return Changed{}, err
	}
	err = s.again(ctx, func(ctx context.Context) error {
		return s.stream.Purge(ctx, jetstream.WithPurgeSubject(subject))
	})
	if err != nil {
		return Changed{}, unavailable(err)
	}
	return Changed{Previous: have.Version, Removed: have.Users}, nil
}

func (s *Store) subject(userID string) (string, error) {
	token, err := protocol.EncodeToken(userID)
	return s.prefix + token, err
}

// errDamaged says that a stored value is no list of contacts. It can only be erased.
var errDamaged = errors.New("the stored contacts cannot be read")

// read returns what the bucket's leader has under a subject.
func (s *Store) read(ctx context.Context, subject string) (List, error) {
	var m *jetstream.RawStreamMsg
	err := s.again(ctx, func(ctx context.Context) (err error) {
		m, err = s.stream.GetLastMsgForSubject(ctx, subject)
		return err
	})
	switch {
	case errors.Is(err, jetstream.ErrMsgNotFound):
		return List{}, nil
	case err != nil:
		return List{}, unavailable(err)
	}
	list := List{Version: m.Sequence, change: m.Header.Get(jetstream.MsgIDHeader)}
	if m.Header.Get("KV-Operation") != "" { // somebody deleted it by hand
		return list, nil
	}
	if list.Users, err = value.Decode(m.Data); err != nil {
		return list, fmt.Errorf("%w at revision %d: %w", errDamaged, m.Sequence, err)
	}
	return list, nil
}

// errChanged says that another change came first. errOvertaken is an errChanged of which it is
// unknown whether this change was stored before the other one.
var (
	errChanged   = errors.New("the contacts have changed meanwhile")
	errOvertaken = fmt.Errorf("%w, perhaps also by this change", errChanged)
)

// write stores contacts if they still have a version, and returns the new one. It may have to
// repeat the message. JetStream knows a repetition by its ID. If it does not any more, the ID in
// the stored value shows whether it is this change.
func (s *Store) write(ctx context.Context, subject string, data []byte, over uint64) (uint64, error) {
	id, unsure := uuid.NewString(), false
	var version uint64
	err := s.again(ctx, func(ctx context.Context) error {
		ack, err := s.js.PublishMsg(ctx, &nats.Msg{Subject: subject, Data: data}, jetstream.WithMsgID(id), jetstream.WithExpectLastSequencePerSubject(over))
		if err == nil {
			version = ack.Sequence
			return nil
		}
		if errors.Is(err, jetstream.ErrNoStreamResponse) {
			_, _ = s.read(ctx, subject) // it makes a deleted bucket anew, or waits for a leader
			return err
		}
		if !isConflict(err) {
			unsure = unsure || mayBeStored(err)
			return err
		}
		// Something else is stored: an earlier attempt of this, or another change.
		have, err := s.read(ctx, subject)
		switch {
		case err != nil:
			return err // again tries again
		case have.change == id:
			version = have.Version
			return nil
		case unsure:
			return errOvertaken
		}
		return errChanged
	})
	switch {
	case err == nil || errors.Is(err, errChanged):
		return version, err
	case errors.Is(err, nats.ErrMaxPayload) && !unsure:
		return 0, fmt.Errorf("%w: %w", protocol.ErrRequestTooLarge, err)
	case unsure:
		return 0, fmt.Errorf("%w: %w", protocol.ErrOutcomeUnknown.With("the contacts may have been changed, or may be later: the next change that is answered settles it"), err)
	}
	return 0, unavailable(err)
}

// unavailable returns an error that says that nothing was done, and why.
func unavailable(cause error) error {
	return fmt.Errorf("%w: %w", protocol.ErrUnavailable.With("the contacts cannot be reached at the moment: nothing was done, try again"), cause)
}

// mayBeStored reports whether a message may be stored although publishing it failed. It is not if
// JetStream refused it, or if it was not sent.
func mayBeStored(err error) bool {
	if isRefused(err) {
		return false
	}
	for _, unsent := range []error{jetstream.ErrNoStreamResponse, nats.ErrNoResponders, nats.ErrReconnectBufExceeded, nats.ErrConnectionClosed, nats.ErrMaxPayload} {
		if errors.Is(err, unsent) {
			return false
		}
	}
	return true
}

// isRefused reports whether JetStream answered with an error.
func isRefused(err error) bool {
	_, refused := errors.AsType[*jetstream.APIError](err)
	return refused
}

// isConflict reports whether something else was stored under the subject meanwhile.
func isConflict(err error) bool {
	api, ok := errors.AsType[*jetstream.APIError](err)
	return ok && (api.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequence || api.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequenceConstant)
}

// isFull reports whether a limit is reached, so that trying again soon does not help.
func isFull(err error) bool {
	const account, server, storage, stream = 10002, 10023, 10047, 10077 // whose limit
	api, ok := errors.AsType[*jetstream.APIError](err)
	return ok && slices.Contains([]jetstream.ErrorCode{account, server, storage, stream}, api.ErrorCode)
}

// again asks JetStream until it has answered, a limit is reached, or ctx is done. A bucket that was
// deleted is made anew. If that is refused, it gives up.
func (s *Store) again(ctx context.Context, ask func(context.Context) error) error {
	var said error // JetStream's last answer
	for {
		asking, cancel := context.WithTimeout(ctx, askTimeout)
		err := ask(asking)
		cancel()
		if err == nil || errors.Is(err, errChanged) || errors.Is(err, jetstream.ErrMsgNotFound) || errors.Is(err, nats.ErrMaxPayload) || isFull(err) {
			return err
		}
		if isDeleted(err) {
			err = s.remake()
		}
		if errors.Is(err, errNotRemade) {
			return err
		}
		if err != nil && !errors.Is(err, context.DeadlineExceeded) {
			said = err
		}
		if sleep(ctx, pause) != nil {
			return cmp.Or(said, err) // an answer says more than the lack of one
		}
	}
}

// sleep pauses for a random time, or until ctx is done.
func sleep(ctx context.Context, most time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(rand.N(most)):
		return nil
	}
}
