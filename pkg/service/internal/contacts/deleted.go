package contacts

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"presence/pkg/service/internal/streams"
)

// isDeleted reports whether JetStream says that there is no such stream.
func isDeleted(err error) bool {
	api, ok := errors.AsType[*jetstream.APIError](err)
	return errors.Is(err, jetstream.ErrStreamNotFound) || ok && api.ErrorCode == jetstream.JSErrCodeStreamNotFound
}

// errNotRemade says that JetStream refused to make the bucket anew.
var errNotRemade = errors.New("the contacts' bucket was deleted, and cannot be made anew")

// Inspect checks the bucket's configuration. wrong names a setting that is wrong, and what to do.
// err says why it could not be checked. A bucket that was deleted is made anew. It takes at most
// as long as some requests to JetStream.
func (s *Store) Inspect(ctx context.Context) (wrong, err error) {
	ctx, cancel := context.WithTimeout(ctx, 2*askTimeout)
	defer cancel()
	stream, err := s.js.Stream(ctx, s.required.Name)
	if isDeleted(err) {
		return nil, s.remake()
	}
	if err != nil {
		return nil, err
	}
	return streams.Check(stream.CachedInfo().Config, s.required), nil
}

// remake makes the bucket anew, empty, unless it exists. The contacts are lost: they are nowhere
// else. Versions continue above all earlier ones: the first version is the time in microseconds,
// and nobody changes contacts a million times a second for as long as a bucket lasts. Who calls it
// meanwhile waits for the same attempt. It takes some askTimeouts at most, even if a caller's
// context is done before.
func (s *Store) remake() error {
	_, err, _ := s.remaking.Do("", func() (any, error) {
		ctx, cancel := context.WithTimeout(context.Background(), askTimeout)
		defer cancel()
		if _, err := s.js.Stream(ctx, s.want.Name); !isDeleted(err) {
			return nil, err
		}
		err := s.create(ctx)
		switch {
		case errors.Is(err, jetstream.ErrStreamNameAlreadyInUse): // another instance was faster
			return nil, nil
		case isRefused(err):
			return nil, fmt.Errorf("%w: %w", errNotRemade, err)
		case err != nil:
			return nil, err
		}
		s.log.Error("the contacts' bucket was deleted: it is made anew, and all users' contacts are lost unless they are restored from a backup", "bucket", s.want.Name)
		return nil, nil
	})
	return err
}

// remakeTries is how often the server is asked to make the bucket. Right after it has deleted a
// stream it may fail: it is still removing the directory.
const remakeTries = 4

func (s *Store) create(ctx context.Context) (err error) {
	want := s.want
	want.FirstSeq = uint64(time.Now().UnixMicro())
	for range remakeTries {
		if _, err = s.js.CreateStream(ctx, want); !isRefused(err) || errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) {
			return err
		}
		if sleep(ctx, pause) != nil {
			break
		}
	}
	return err
}
