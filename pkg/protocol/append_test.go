package protocol

import (
	"bytes"
	"fmt"
	"testing"

	"pgregory.net/rapid"
)

// White-box: what is encoded by hand is compared with what encoding/json makes
// of it, and the latter is not exported.

var genStatus = rapid.Custom(func(t *rapid.T) Status {
	time := rapid.OneOf(rapid.Just(Time(0)), rapid.Map(rapid.Int64Range(1, 253402300799999), func(n int64) Time { return Time(n) }))
	return Status{
		UserID:                rapid.String().Draw(t, "userID"),
		StatusType:            StatusType(rapid.IntRange(0, 3).Draw(t, "statusType")),
		CustomStatus:          rapid.OneOf(rapid.String(), rapid.SampledFrom([]string{"<b>&", `"\`, "\u2028", "\x7f", "\xff"})).Draw(t, "customStatus"),
		CustomStatusExpiresAt: time.Draw(t, "expires"),
		Availability:          Availability(rapid.OneOf(rapid.Just(""), rapid.String()).Draw(t, "availability")),
		LastSeenAt:            time.Draw(t, "lastSeen"),
		Platforms:             rapid.SliceOf(rapid.String()).Draw(t, "platforms"),
		Revision:              rapid.Uint64().Draw(t, "revision"),
		UpdatedAt:             time.Draw(t, "updatedAt"),
	}
})

var genText = rapid.OneOf(rapid.String(), rapid.SampledFrom([]string{"<b>&", `"\`, "\u2028", "\x7f", "\xff"}))

var genOp = rapid.Custom(func(t *rapid.T) Op {
	return Op{
		Op:               rapid.SampledFrom([]string{OpKindLogin, OpKindSet, "da\nce"}).Draw(t, "op"),
		UserID:           genText.Draw(t, "userID"),
		SessionID:        genText.Draw(t, "sessionID"),
		Device:           genText.Draw(t, "device"),
		Platform:         genText.Draw(t, "platform"),
		Idle:             rapid.Bool().Draw(t, "idle"),
		CustomStatus:     rapid.Ptr(genText, true).Draw(t, "customStatus"),
		ExpiresInSeconds: rapid.Ptr(rapid.Int64(), true).Draw(t, "expires"),

		Availability:                 rapid.Ptr(rapid.Just(Busy), true).Draw(t, "availability"),
		AvailabilityExpiresInSeconds: rapid.Ptr(rapid.Int64(), true).Draw(t, "availabilityExpires"),

		IfRevision: rapid.Ptr(rapid.Uint64(), true).Draw(t, "ifRevision"),
	}
})

func TestProperty_AppendIsEncodingJSON(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := genStatus.Draw(t, "status")
		list := append([]Status{}, rapid.SliceOf(genStatus).Draw(t, "list")...)
		failures := []UserFailure{Failure(rapid.String().Draw(t, "failed"), ErrInvalidUserID)}
		ops := rapid.SliceOf(genOp).Draw(t, "ops")
		refused := []OpFailure{{Index: len(ops), UserFailure: failures[0]}, {}}
		for _, v := range []any{
			&ApplyRequest{Process: "p", Seq: 7, Ops: ops},
			&ApplyRequest{},
			&ApplyReply{Applied: 7, Failures: refused, Revision: 7, Epoch: "e"},
			&ApplyReply{},
			&refused[0],
			&s,
			&Event{Status: s, Epoch: "e", PreviousRevision: 7, Cause: CauseLost},
			&SelfEvent{Type: SelfStatus, Status: &s, Cause: CauseSet, Epoch: "e"},
			&SelfEvent{Type: SelfSessions},
			&SelfEvent{Type: SelfStatus},
			&SelfEvent{Type: SelfKicked, SessionID: s.UserID, Reason: EndKicked, Revision: 7, Epoch: "e"},
			&ChangeReply{Status: s, Revision: 7, Epoch: "e"},
			&ChangeReply{Status: s, Revision: 7, Epoch: "e", Final: true},
			&GetReply{SuccessUserList: list, FailureUserList: failures, Revision: 7, Epoch: "e", AsOf: s.UpdatedAt, Stale: true},
		} {
			got, err := Marshal(v)
			want, err2 := marshal(v)
			if err != nil || err2 != nil || !bytes.Equal(got, want) {
				t.Fatalf("%T: got\n%s (%v), want\n%s (%v)", v, got, err, want, err2)
			}
		}
	})
}

// TestAppendString_EachByte: whatever byte stands wherever in a text of whatever length,
// the text is written as encoding/json writes it.
func TestAppendString_EachByte(t *testing.T) {
	for length := 1; length <= 25; length++ {
		text := bytes.Repeat([]byte{'a'}, length)
		for at := range text {
			for c := range 256 {
				text[at] = byte(c)
				s := string(text)
				copied := c >= ' ' && c < 0x80 && c != '"' && c != '\\'
				if isCopied(s) != copied {
					t.Fatalf("isCopied(%q): got %v, want %v", s, !copied, copied)
				}
				want, _ := marshal(s)
				if got := appendString(nil, s); !bytes.Equal(got, want) {
					t.Fatalf("appendString(%q): got %s, want %s", s, got, want)
				}
			}
			text[at] = 'a'
		}
	}
}

// TestAppendString_NotASCII: a text in any language is copied, without an allocation.
// encoding/json has to write only what JSON writes otherwise.
func TestAppendString_NotASCII(t *testing.T) {
	for _, s := range []string{"в отпуске", "会議中です", "im Büro", "🎉", "ü", "lunch with Zoë", "\u2027"} {
		var b [64]byte
		if n := testing.AllocsPerRun(10, func() { appendString(b[:0], s) }); n != 0 {
			t.Errorf("appendString(%q): %v allocations, want none", s, n)
		}
		if got := appendString(nil, s); string(got) != `"`+s+`"` {
			t.Errorf("appendString(%q): got %s", s, got)
		}
	}
	for _, s := range []string{"会議\n", "a\u2028", "\u2029", "é\xff", "\xc3", "“a” \"b\""} {
		if want, _ := marshal(s); isCopied(s) || !bytes.Equal(appendString(nil, s), want) {
			t.Errorf("appendString(%q): got %s, want %s", s, appendString(nil, s), want)
		}
	}
}

// TestProperty_TimeIsFormat: a time is written as package time writes it, before 1970 and
// behind the year 9999 too.
func TestProperty_TimeIsFormat(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v := Time(rapid.Int64Range(-100_000_000_000_000, 400_000_000_000_000).Draw(t, "time"))
		got, err := v.AppendText(nil)
		if want := v.Time().Format(timeLayout); err != nil || string(got) != want {
			t.Fatalf("%d: got %s (%v), want %s", v, got, err, want)
		}
	})
}

func BenchmarkMarshalEvent(b *testing.B) {
	e := &Event{Status: Status{UserID: "alice", StatusType: Online, CustomStatus: "in a meeting", Revision: 339521537, UpdatedAt: 1_763_805_600_123},
		Epoch: "2da56097-f0a8-4919-afac-ac86d95e6f38", Cause: CauseSet}
	b.Run("append", func(b *testing.B) {
		for b.Loop() {
			_, _ = Marshal(e)
		}
	})
	b.Run("encoding/json", func(b *testing.B) {
		for b.Loop() {
			_, _ = marshal(e)
		}
	})
}

func BenchmarkMarshalGetReply(b *testing.B) {
	r, body := &GetReply{Epoch: "2da56097-f0a8-4919-afac-ac86d95e6f38", Revision: 339521537, AsOf: 1_763_805_600_123}, []byte(nil)
	for i := range 100 {
		r.SuccessUserList = append(r.SuccessUserList, Status{UserID: fmt.Sprintf("user-%07d", i), StatusType: Online,
			CustomStatus: fmt.Sprintf("in a meeting %07d", i), Revision: 339521537, UpdatedAt: Time(1_763_805_600_123 + i)})
	}
	for b.Loop() {
		body, _ = AppendMarshal(body[:0], r)
	}
}
