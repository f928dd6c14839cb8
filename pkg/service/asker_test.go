package service

import (
	"testing"

	"github.com/nats-io/nats.go"

	"presence/pkg/protocol"
)

// TestAsker: queries for many users are told apart by connection, with the inboxes of PROTOCOL 9
// and with the usual ones. A query for one's own status is told apart by the user.
func TestAsker(t *testing.T) {
	s := &Service{subjects: protocol.NewSubjects("")}
	for _, x := range []struct{ subject, reply, want string }{
		{"get", "_INBOX.abc.1", "_INBOX.abc"},
		{"get", "_INBOX.user.alice.abc.1", "_INBOX.user.alice.abc"},
		{"get", "_INBOX.user.bob.def.1", "_INBOX.user.bob.def"},
		{"list", "_INBOX.operator.op.abc.1", "_INBOX.operator.op.abc"},
		{"get", "_INBOX_alice.abc.1", "_INBOX_alice.abc"},
		{"get", "_INBOX.abc", "_INBOX.abc"},
		{"get", "x", "x"},
		{"get", ".", "."},
		{"user.alice.status", "_INBOX.abc.1", "alice"},
	} {
		c := &call{msg: &nats.Msg{Subject: s.subjects.Prefix() + "." + x.subject, Reply: x.reply}}
		if got := s.asker(c); got != x.want {
			t.Errorf("%s with the answer to %q: got the asker %q, want %q", x.subject, x.reply, got, x.want)
		}
	}
}
