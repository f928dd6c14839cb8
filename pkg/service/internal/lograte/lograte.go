// Package lograte keeps the log readable: it says when a line is due that could be logged very
// often.
//
//	if limit.Due("the disk is full", time.Now()) {
//		log.Warn("the disk is full")
//	}
package lograte

import (
	"sync/atomic"
	"time"
)

const (
	// leastPause and mostPause bound the pauses of Doubling.
	leastPause = time.Minute
	mostPause  = time.Hour
	// maxSaid bounds the texts that are remembered.
	maxSaid = 64
	// spacedPause is the pause of Spaced.
	spacedPause = 10 * time.Second
)

// Doubling is for a condition that lasts. Each text is due at once, and then after pauses that
// double, from a minute to an hour. A text that did not come up for an hour starts anew. The zero
// value is ready. One goroutine at a time may use it.
type Doubling struct{ said map[string]said }

type said struct {
	next  time.Time
	pause time.Duration
}

// Due reports whether to log a text now.
func (d *Doubling) Due(what string, now time.Time) bool {
	last := d.said[what]
	if now.Before(last.next) {
		return false
	}
	if now.Sub(last.next) >= mostPause {
		last.pause = 0
	}
	if d.said == nil || len(d.said) >= maxSaid {
		d.said = make(map[string]said)
	}
	pause := min(max(2*last.pause, leastPause), mostPause)
	d.said[what] = said{next: now.Add(pause), pause: pause}
	return true
}

// Spaced is for a line that may come very often. It is due once in 10 s. The zero value is ready,
// and any goroutine may use it.
type Spaced struct{ said atomic.Int64 }

// Due reports whether to log the line now.
func (s *Spaced) Due(now time.Time) bool {
	last := s.said.Load()
	return now.UnixNano()-last >= int64(spacedPause) && s.said.CompareAndSwap(last, now.UnixNano())
}
