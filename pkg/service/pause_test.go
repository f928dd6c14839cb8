package service

import (
	"testing"
	"testing/synctest"
	"time"

	"presence/pkg/protocol"
)

// TestPauses_NoticedByWhoComesFirst: the process stood still, and a request is handled before
// watchPauses has run again. It is noticed all the same. White-box, because a test cannot make its
// own process stand still.
func TestPauses_NoticedByWhoComesFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &pauses{begun: time.Now()}
		time.Sleep(time.Hour)
		if p.paused() {
			t.Error("paused before anybody looked")
		}
		p.looked.Store(int64(time.Since(p.begun)))
		time.Sleep(protocol.StaleAfter)
		if p.paused() {
			t.Errorf("paused after %v", protocol.StaleAfter)
		}
		time.Sleep(pauseGrain)
		if !p.paused() {
			t.Errorf("not paused after %v", protocol.StaleAfter+pauseGrain)
		}
		p.looked.Store(int64(time.Since(p.begun)))
		p.waking.Store(true)
		if !p.paused() {
			t.Error("not paused while it wakes up")
		}
	})
}
