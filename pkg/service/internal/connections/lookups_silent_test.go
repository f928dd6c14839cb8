package connections

import (
	"context"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"
)

// TestLookups_Rest: after a server did not answer there is a pause of askRest, however long it was
// asked. After one that answers, the pause is askShare times as long as that took.
func TestLookups_Rest(t *testing.T) {
	for _, c := range []struct {
		name     string
		answered bool
		rest     time.Duration
	}{
		{"silent", false, askRest},
		{"answers", true, askShare * time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				x := newLookups(slog.New(slog.DiscardHandler))
				ctx, stop := context.WithCancel(t.Context())
				ended := make(chan struct{})
				go func() {
					defer close(ended)
					x.run(ctx, func(context.Context, string, []uint64) bool {
						time.Sleep(time.Second)
						return c.answered
					})
				}()
				x.put("N1", 7)
				x.kick()
				asked := func(after time.Duration, want int) {
					time.Sleep(after)
					synctest.Wait()
					if _, n := x.counts(); n != want {
						t.Errorf("%d servers are asked, want %d", n, want)
					}
				}
				asked(time.Second+c.rest-time.Millisecond, 1)
				asked(2*time.Millisecond, 0)
				stop()
				<-ended
			})
		})
	}
}
