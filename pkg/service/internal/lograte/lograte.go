// Package lograte keeps the log readable: it says when a line that could be logged again and
// again is due.
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
	// maxSaid bounds what is remembered of having been said.
	maxSaid = 64
	// spacedPause is that of Spaced.
	spacedPause = 10 * time.Second
)

// Doubling is for what goes on for long. Each text is due at once, and then after pauses that
// double, from a minute to an hour. A text that has not come up for an hour is news again. The
// zero value has said nothing. One goroutine at a time may use it.
type Doubling struct{ said map[string]said }

type said struct {
	next  time.Time
	pause time.Duration
}

// Due reports whether a text is to be said now.
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

// Spaced is for what may come very often. One of many lines is due each 10 s. The zero value
// is ready, and any goroutine may use it.
type Spaced struct{ said atomic.Int64 }

// Due reports whether to say it now.
func (s *Spaced) Due(now time.Time) bool {
	last := s.said.Load()
	return now.UnixNano()-last >= int64(spacedPause) && s.said.CompareAndSwap(last, now.UnixNano())
}
