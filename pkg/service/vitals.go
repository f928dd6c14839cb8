package service

import (
	"context"
	"math/rand/v2"
	"strconv"
	"time"

	"presence/pkg/internal/entry"
	"presence/pkg/protocol"
)

// vitals returns how this instance is doing (PROTOCOL 4.9). It asks nobody, and waits for no disk.
func (s *Service) vitals() *protocol.Vitals {
	f := s.Figures()
	v := &protocol.Vitals{
		Clock:         protocol.TimeOf(time.Now()),
		UptimeSeconds: seconds(time.Since(s.begun)),
		Position:      f.Position,
		LagSeconds:    seconds(f.Lag),
		Format:        f.Format,
		MaxFormat:     entry.Format,
		SystemAccount: s.cfg.System != nil,
		Waiting:       f.Waiting,
		Owes:          f.Unannounced,
		Mismatches:    f.Mismatches,
		Refusals:      s.refusals(),
		Rules:         s.rules(),
		Server:        s.server.Load(),
	}
	if err := s.Impaired(); err != nil {
		v.Impaired = err.Error()
	}
	if !f.SnapshotAt.IsZero() {
		v.Snapshot = &protocol.SnapshotVitals{Position: f.Snapshot, Bytes: f.SnapshotBytes, AgeSeconds: seconds(time.Since(f.SnapshotAt))}
	}
	if x, ok := s.journal.Stored(); ok {
		v.Journal = &protocol.JournalVitals{First: x.First, Last: x.Last, Bytes: x.Bytes, Replicas: x.Replicas}
	}
	return v
}

// seconds returns a duration in seconds, to the millisecond.
func seconds(d time.Duration) float64 { return d.Round(time.Millisecond).Seconds() }

// serverEvery is how often an instance looks at the NATS server in its process, and at its disk.
const serverEvery = 5 * time.Second

// watchServer looks at the NATS server in this process until ctx is done. Requests do not look: a
// disk that hangs must not keep them waiting.
func (s *Service) watchServer(ctx context.Context) {
	if s.cfg.Server == nil {
		return
	}
	for {
		if v, err := s.cfg.Server(); err == nil {
			s.server.Store(&v)
		} else {
			s.log.Debug("the NATS server inside does not tell how it is doing", "err", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(serverEvery + rand.N(serverEvery/4)):
		}
	}
}

// rules returns the rules that this instance was given, at its start or by Reload, by the names of
// their flags. They are the same for all instances, or should be.
func (s *Service) rules() map[string]string {
	given, policy := s.reloaded.given(), PolicySession
	if given.Persistent {
		policy = PolicyPersistent
	}
	return map[string]string{
		"grace":                milliseconds(given.Grace),
		"max-grace":            milliseconds(given.MaxGrace),
		"retention":            milliseconds(given.Retention),
		"custom-status-policy": policy,
		"friend-notifications": strconv.FormatBool(s.cfg.FriendNotifications),
		maxSessions:            strconv.Itoa(given.Sessions),
	}
}

func milliseconds(n int64) string { return (time.Duration(n) * time.Millisecond).String() }
