package service

import "time"

// What goes on is said again after leastPause at first, and more seldom each time.
const (
	leastPause = time.Minute
	mostPause  = time.Hour
	// maxSaid bounds what is remembered of having been said.
	maxSaid = 64
)

// seldom keeps the log readable while something goes on: of each thing that there
// is to say it is due at once, and then after pauses that double. What has not come
// up for mostPause is news again. The zero value has said nothing.
type seldom struct{ said map[string]said }

type said struct {
	next  time.Time
	pause time.Duration
}

// due reports whether something is to be said now.
func (s *seldom) due(what string, now time.Time) bool {
	last := s.said[what]
	if now.Before(last.next) {
		return false
	}
	if now.Sub(last.next) >= mostPause {
		last.pause = 0
	}
	if s.said == nil || len(s.said) >= maxSaid {
		s.said = make(map[string]said)
	}
	pause := min(max(2*last.pause, leastPause), mostPause)
	s.said[what] = said{next: now.Add(pause), pause: pause}
	return true
}
