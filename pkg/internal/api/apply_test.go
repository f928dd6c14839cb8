package api

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"presence/pkg/protocol"
)

// TestShorten: an apply tells of each op that failed why, in words, unless the
// reply would not fit. Then the last ones lose their messages, no more than it takes.
// White-box: most messages are short, and all of them fit.
func TestShorten(t *testing.T) {
	reply := func(n, message int) *protocol.ApplyReply {
		r := &protocol.ApplyReply{Revision: protocol.MaxRevision, Epoch: strings.Repeat("e", 36)}
		for i := range n {
			e := protocol.ErrInvalidUserID.With(strings.Repeat("m", message))
			r.Failures = append(r.Failures, protocol.OpFailure{Index: i, UserFailure: protocol.Failure(strings.Repeat(`"`, protocol.MaxUserIDBytes), e)})
		}
		return r
	}
	for _, c := range []struct{ n, message, long int }{
		{1000, 60, 1000},
		{fewFailures, 1000, fewFailures},
		{1000, 400, -1},
		{1000, 5000, -1},
	} {
		t.Run(fmt.Sprint(c.n, " of ", c.message), func(t *testing.T) {
			r := reply(c.n, c.message)
			if err := shorten(r, protocol.MaxBodyBytes); err != nil {
				t.Fatal(err)
			}
			data, err := protocol.Marshal(r)
			if err != nil || len(data) > protocol.MaxBodyBytes {
				t.Fatalf("got %d bytes, %v, want at most %d", len(data), err, protocol.MaxBodyBytes)
			}
			short := func(f protocol.OpFailure) bool { return f.Message == f.Name }
			long := slices.IndexFunc(r.Failures, short)
			if long < 0 {
				long = c.n
			}
			if rest := r.Failures[long:]; slices.ContainsFunc(rest, func(f protocol.OpFailure) bool { return !short(f) }) {
				t.Errorf("a message behind failure %d, the first without one", long)
			}
			if room := protocol.MaxBodyBytes - len(data); c.long < 0 && (long == 0 || room > c.message) || c.long >= 0 && long != c.long {
				t.Errorf("%d of %d failures have their messages, and %d bytes are left", long, c.n, room)
			}
		})
	}
}
