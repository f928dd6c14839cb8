package journal

import "errors"

// fatalError stops the journal.
type fatalError struct{ error }

func (e *fatalError) Unwrap() error { return e.error }

// rebuildError has the state built anew. atLeast and avoid are as in begin.
type rebuildError struct {
	error
	atLeast uint64
	avoid   int
}

func (e *rebuildError) Unwrap() error { return e.error }

// transientError may be gone at the next attempt.
type transientError struct{ error }

func (e *transientError) Unwrap() error { return e.error }

func transient(err error) bool { return errors.As(err, new(*transientError)) }
