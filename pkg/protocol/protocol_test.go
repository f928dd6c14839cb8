package protocol_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"presence/pkg/protocol"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// The golden files pin every message: a change to one is a change to the
// contract.
func TestGoldenMessages(t *testing.T) {
	status := protocol.Status{
		UserID: "alice", StatusType: protocol.Online, CustomStatus: `in a <meeting> & "busy"`,
		CustomStatusExpiresAt: 1_763_805_600_000, Revision: 339521537, UpdatedAt: 1_763_805_600_123,
	}
	offline := protocol.Status{UserID: "bob@example.com", StatusType: protocol.Offline, LastSeenAt: 1_763_805_600_000, Revision: 8193, UpdatedAt: 1_763_805_600_000}
	detailed := status
	detailed.Platforms = []string{"android", "web"}
	busy := status
	busy.Availability = protocol.Busy
	session := protocol.Session{SessionID: "s1", Device: "pixel-8", Platform: "android", Live: true, TTLSeconds: 30, GraceSeconds: 5, Bound: true, LoginAt: 1_763_805_600_000}
	overridden := protocol.AvailabilitySettings{Lasting: protocol.Busy, Override: protocol.DND, OverrideExpiresAt: 1_763_805_600_000}
	for name, v := range map[string]any{
		"instance-request": &protocol.InstanceRequest{From: 500, Limit: 500, UserIDList: []string{"alice"}},
		"instance-reply": &protocol.InstanceReply{Writer: "presence-1:1=2E0=2E0:w1", Host: "presence-1", Version: "1.0.0", NotReady: "stopping", Digest: "00f1", Facts: map[string]string{"lease clock": "12"},
			Users: 3, Page: []protocol.UserDigest{{UserID: "alice", Digest: "0a"}}, Next: 1000, Revision: 339521537, Epoch: "e1", AsOf: 1_763_805_600_123},
		"instance-reply-vitals": &protocol.InstanceReply{Writer: "w1", Version: "1.0.0", Digest: "00f1", Facts: map[string]string{}, Revision: 339521537, Epoch: "e1", AsOf: 1_763_805_600_123,
			Vitals: &protocol.Vitals{Clock: 1_763_805_600_200, UptimeSeconds: 3600.5, Position: 41445, LagSeconds: 0.25, Format: 5, MaxFormat: 6, Impaired: "ready, but", SystemAccount: true,
				Waiting: 2, Owes: 3, Mismatches: 1, Refusals: map[string]uint64{"overloaded": 4}, Rules: map[string]string{"grace": "5s"},
				Snapshot: &protocol.SnapshotVitals{Position: 40000, Bytes: 1100, AgeSeconds: 600},
				Journal:  &protocol.JournalVitals{First: 30000, Last: 41445, Bytes: 540000, Replicas: 3},
				Server:   &protocol.ServerVitals{Version: "2.15.2", SyncAlways: true, PingIntervalSeconds: 5, PingMax: 2, FreeBytes: 1 << 30, DiskBytes: 1 << 34}}},
		"instance-reply-vitals-bare": &protocol.InstanceReply{Writer: "w1", Version: "1.0.0", Digest: "00f1", Facts: map[string]string{}, Revision: 339521537, Epoch: "e1",
			Vitals: &protocol.Vitals{Clock: 1_763_805_600_200, Refusals: map[string]uint64{}, Rules: map[string]string{}}},
		"status":        &status,
		"status-detail": &detailed,
		"status-unseen": &protocol.Status{UserID: "nobody", StatusType: protocol.Unlogined},
		"login-request": &protocol.LoginRequest{SessionID: "s1", Device: "pixel-8", Platform: "android", TTLSeconds: 30, GraceSeconds: 20, Idle: true,
			Connection: &protocol.Connection{ServerID: "NABC", ClientID: 12}},
		"login-reply":          &protocol.LoginReply{SessionID: "s1", TTLSeconds: 30, GraceSeconds: 5, Replaced: []string{"s0"}, Status: status, Revision: 339521537, Epoch: "e1"},
		"renew-request":        &protocol.RenewRequest{SessionID: "s1", Idle: protocol.Ptr(true)},
		"logout-request":       &protocol.LogoutRequest{All: true},
		"logout-request-final": &protocol.LogoutRequest{SessionID: "s1", Final: true},
		"set-request": &protocol.SetRequest{CustomStatus: protocol.Ptr("in a meeting"), ExpiresInSeconds: protocol.Ptr[int64](3600),
			IfRevision: protocol.Ptr[uint64](339521537), SessionID: "s1"},
		"set-request-clear":  &protocol.SetRequest{CustomStatus: protocol.Ptr("")},
		"change-reply":       &protocol.ChangeReply{Status: status, Revision: 339521537, Epoch: "e1"},
		"change-reply-final": &protocol.ChangeReply{Status: status, Revision: 339521537, Epoch: "e1", Final: true},
		"get-request":        &protocol.GetRequest{UserIDList: []string{"alice", "bob"}, Detail: true, MinRevision: 7, Epoch: "e1", Fresh: true},
		"get-reply": &protocol.GetReply{SuccessUserList: []protocol.Status{status, offline},
			FailureUserList: []protocol.UserFailure{protocol.Failure("", protocol.ErrInvalidUserID)}, Revision: 339521537, Epoch: "e1", AsOf: 1_763_805_600_123},
		"own-status-reply": &protocol.OwnStatusReply{Status: status, Availability: overridden, Sessions: []protocol.Session{session}, Revision: 339521537, Epoch: "e1", AsOf: 1_763_805_600_123},
		"open-request":     &protocol.OpenRequest{Process: "p1", TTLSeconds: 30, GraceSeconds: 20, Connection: &protocol.Connection{ServerID: "NABC", ClientID: 12}},
		"lease-reply":      &protocol.LeaseReply{TTLSeconds: 30, GraceSeconds: 5, Seq: 7, Window: 4, Revision: 339521537, Epoch: "e1"},
		"lease-request":    &protocol.LeaseRequest{Process: "p1"},
		"close-request":    &protocol.CloseRequest{Process: "p1", Logout: true},
		"apply-request": &protocol.ApplyRequest{Process: "p1", Seq: 7, Ops: []protocol.Op{
			{Op: protocol.OpKindLogin, UserID: "alice", SessionID: "s1", Device: "pixel-8", Platform: "web", Idle: true},
			{Op: protocol.OpKindSet, UserID: "alice", CustomStatus: protocol.Ptr(""), IfRevision: protocol.Ptr[uint64](7)},
			{Op: protocol.OpKindSet, UserID: "bob", CustomStatus: protocol.Ptr("hi"), ExpiresInSeconds: protocol.Ptr[int64](60)},
		}},
		"apply-reply": &protocol.ApplyReply{Applied: 2, Failures: []protocol.OpFailure{
			{Index: 1, UserFailure: protocol.Failure("alice", protocol.ErrRevisionConflict)}}, Revision: 339521537, Epoch: "e1"},
		"event":                     &protocol.Event{Status: offline, Epoch: "e1", PreviousRevision: 4097, Cause: protocol.CauseLost},
		"self-event":                &protocol.SelfEvent{Type: protocol.SelfStatus, Status: &status, Cause: protocol.CauseSet, Epoch: "e1"},
		"status-busy":               &busy,
		"set-request-availability":  &protocol.SetRequest{Availability: protocol.Ptr(protocol.DND), AvailabilityExpiresInSeconds: protocol.Ptr[int64](3600)},
		"self-event-sessions":       &protocol.SelfEvent{Type: protocol.SelfSessions, Sessions: []protocol.Session{session}, Revision: 339521537, Epoch: "e1"},
		"self-event-availability":   &protocol.SelfEvent{Type: protocol.SelfAvailability, Availability: &overridden, Revision: 339521537, Epoch: "e1"},
		"self-event-kicked":         &protocol.SelfEvent{Type: protocol.SelfKicked, SessionID: "s1", Reason: protocol.EndKicked, Revision: 339521537, Epoch: "e1"},
		"self-event-contacts-first": &protocol.SelfEvent{Type: protocol.SelfContacts, Added: []string{"bob"}, Version: 1},
		"self-event-contacts":       &protocol.SelfEvent{Type: protocol.SelfContacts, Added: []string{"bob"}, Removed: []string{"carol"}, Version: 12, PreviousVersion: 9},
		"contacts-request":          &protocol.ContactsRequest{Add: []string{"bob"}, Remove: []string{"carol"}},
		"contacts-request-replace":  &protocol.ContactsRequest{Replace: &[]string{}},
		"contacts-reply":            &protocol.ContactsReply{Contacts: []string{"bob", "dave"}, FriendNotifications: true, Version: 12},
		"stats-reply": &protocol.StatsReply{Users: protocol.UserCounts{Online: 3, Offline: 2, Unlogined: 1}, Sessions: map[string]int{"android": 1, "web": 3},
			Leases: 7, Gateways: 1, Instances: []protocol.InstanceStats{{Writer: "presence-1:1=2E0=2E0:w1", Host: "presence-1", Version: "1.0.0", SilentMs: 250, Owes: 2, Format: 1, Answering: true}},
			Limits: map[string]int64{"max-custom-status": 512}, Refusals: map[string]uint64{"invalid_request": 4}, Revision: 339521537, Epoch: "e1", AsOf: 1_763_805_600_123},
		"list-request":  &protocol.ListRequest{StatusType: protocol.Online, Cursor: "alice", Limit: 100},
		"list-reply":    &protocol.ListReply{Users: []protocol.Status{status, offline}, Cursor: "bob=40example=2Ecom", Revision: 339521537, Epoch: "e1", AsOf: 1_763_805_600_123},
		"user-request":  &protocol.UserRequest{UserID: "alice"},
		"erase-request": &protocol.EraseRequest{UserID: "alice", Trim: true},
		"explain-reply": &protocol.ExplainReply{Public: offline, Owner: busy, Why: []string{"invisible by the lasting value"}, Availability: overridden,
			Sessions: []protocol.SessionDetail{{Session: session, EndsInSeconds: 12.5, Connection: &protocol.Connection{ServerID: "NABC", ClientID: 12}, ClosedSeconds: 1.25}},
			Ended:    []protocol.EndedSession{{SessionID: "s0", Reason: protocol.EndReplaced, RememberedForSeconds: 3600}}, OwedBy: "w1", AmnestySeconds: 30,
			Revision: 339521537, Epoch: "e1", AsOf: 1_763_805_600_123},
		"kick-request": &protocol.KickRequest{UserID: "alice", SessionID: "s1"},
		"kick-reply":   &protocol.KickReply{Ended: []string{"s1"}, Revision: 339521537, Epoch: "e1"},
		"error":        protocol.ErrSessionNotFound,
		"error-retry": &protocol.Error{Code: 429, Name: protocol.ErrRateLimited.Name, Message: protocol.ErrRateLimited.Message,
			RetryAfterMs: 250},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := protocol.Marshal(v)
			if err != nil {
				t.Fatal(err)
			}
			path := filepath.Join("testdata", name+".json")
			if *update {
				if err := os.WriteFile(path, append(got, '\n'), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if want = bytes.TrimSpace(want); !bytes.Equal(got, want) {
				t.Errorf("got\n%s, want\n%s", got, want)
			}
			back := reflect.New(reflect.TypeOf(v).Elem())
			if err := protocol.Unmarshal(want, back.Interface()); err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(back.Interface(), v) {
				t.Errorf("read back: got %+v, want %+v", back.Interface(), v)
			}
		})
	}
}

func TestToken(t *testing.T) {
	for id, token := range map[string]string{
		"alice":                  "alice",
		"alice@example.com":      "alice=40example=2Ecom",
		"a b*>":                  "a=20b=2A=3E",
		"=":                      "=3D",
		"Ünal":                   "=C3=9Cnal",
		strings.Repeat("x", 128): strings.Repeat("x", 128),
	} {
		if got, err := protocol.EncodeToken(id); err != nil || got != token {
			t.Errorf("EncodeToken(%q): got %q, %v, want %q", id, got, err, token)
		}
		if got, err := protocol.DecodeToken(token); err != nil || got != id {
			t.Errorf("DecodeToken(%q): got %q, %v, want %q", token, got, err, id)
		}
	}
	for _, id := range []string{"", "a\x00", "a\nb", "a\x7f", "\u0085", "\xff", strings.Repeat("x", 129)} {
		if _, err := protocol.EncodeToken(id); !errors.Is(err, protocol.ErrInvalidUserID) {
			t.Errorf("EncodeToken(%q): got %v, want %v", id, err, protocol.ErrInvalidUserID)
		}
	}
	for _, token := range []string{"", "=41", "=c3=9cnal", "a=", "a=4", "=4g", "=00", "=FF", "a b", "a.b", "a*", strings.Repeat("x", 129), strings.Repeat("=40", 129)} {
		if _, err := protocol.DecodeToken(token); !errors.Is(err, protocol.ErrInvalidUserID) {
			t.Errorf("DecodeToken(%q): got %v, want %v", token, err, protocol.ErrInvalidUserID)
		}
	}
}

// FuzzToken: encoding is exactly invertible, and a token has one spelling.
func FuzzToken(f *testing.F) {
	for _, s := range []string{"alice", "a@b.c", "=41", "=C3=9C", "\xff", "=", "a=2Eb", "*", ">"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if token, err := protocol.EncodeToken(s); err == nil {
			if strings.ContainsAny(token, ".*> \t\r\n") {
				t.Errorf("EncodeToken(%q) = %q is not one literal subject token", s, token)
			}
			if back, err := protocol.DecodeToken(token); err != nil || back != s {
				t.Errorf("DecodeToken(EncodeToken(%q)): got %q, %v", s, back, err)
			}
		}
		if id, err := protocol.DecodeToken(s); err == nil {
			if token, err := protocol.EncodeToken(id); err != nil || token != s {
				t.Errorf("%q decodes to %q, whose token is %q, %v", s, id, token, err)
			}
		}
	})
}

func TestSubjects(t *testing.T) {
	s := protocol.NewSubjects("")
	subject, err := s.Set("alice@example.com")
	if want := "presence.v1.user.alice=40example=2Ecom.set"; err != nil || subject != want {
		t.Errorf("Set: got %q, %v, want %q", subject, err, want)
	}
	if id, err := s.ParseUser(subject); err != nil || id != "alice@example.com" {
		t.Errorf("ParseUser(%q): got %q, %v", subject, id, err)
	}
	event, err := s.Event("bob")
	if id, ok := s.ParseEvent(event); err != nil || !ok || id != "bob" {
		t.Errorf("ParseEvent(%q): got %q, %t, %v", event, id, ok, err)
	}
	for _, bad := range []string{"presence.v1.status.a.b", "presence.v1.status.=41", "presence.v1.status.", "x.status.a", "presence.v1.self.a"} {
		if id, ok := s.ParseEvent(bad); ok {
			t.Errorf("ParseEvent(%q): got %q", bad, id)
		}
	}
	for reply, want := range map[string]bool{
		"_INBOX.abc.1": true, "": true, "presence.v1.user.alice.set": false, "presence.v1.status.alice": false,
		"$JS.API.STREAM.DELETE.X": false, "$SRV.PING": false, "presence.v1": false, "other.presence.v1.get": true,
	} {
		if got := s.ReplyAllowed(reply); got != want {
			t.Errorf("ReplyAllowed(%q): got %t, want %t", reply, got, want)
		}
	}
	for _, bad := range []string{"", ".", "a.", ".a", "a..b", "a.*", "a.>", "a b", "ü", strings.Repeat("x", 65)} {
		if err := protocol.CheckPrefix(bad); err == nil {
			t.Errorf("CheckPrefix(%q): got nil", bad)
		}
	}
	if err := protocol.CheckPrefix("acme.presence-2.v1"); err != nil {
		t.Errorf("CheckPrefix: %v", err)
	}
}

func FuzzParseUser(f *testing.F) {
	s := protocol.NewSubjects("")
	f.Add("presence.v1.user.alice.set")
	f.Add("presence.v1.user.=41.set")
	f.Add("presence.v1.user..set")
	f.Fuzz(func(t *testing.T, subject string) {
		id, err := s.ParseUser(subject)
		if err != nil {
			return
		}
		rest, ok := strings.CutPrefix(subject, "presence.v1.user.")
		token, op, _ := strings.Cut(rest, ".")
		back, err := s.User(id, op)
		if !ok || err != nil || back != subject {
			t.Errorf("ParseUser(%q) = %q, whose subject is %q, %v (token %q)", subject, id, back, err, token)
		}
	})
}

func TestUnmarshalRefuses(t *testing.T) {
	deep := `{"userIDList":` + strings.Repeat("[", 100_000) + strings.Repeat("]", 100_000) + `}`
	for name, c := range map[string]struct {
		body string
		want *protocol.Error
	}{
		"nothing":        {"", protocol.ErrInvalidRequest},
		"null":           {"null", protocol.ErrInvalidRequest},
		"a list":         {"[]", protocol.ErrInvalidRequest},
		"a text":         {`"x"`, protocol.ErrInvalidRequest},
		"not JSON":       {"{", protocol.ErrInvalidRequest},
		"two values":     {"{}{}", protocol.ErrInvalidRequest},
		"a wrong type":   {`{"userIDList":"alice"}`, protocol.ErrInvalidRequest},
		"a fraction":     {`{"userIDList":["a"],"minRevision":1.5}`, protocol.ErrInvalidRequest},
		"negative":       {`{"userIDList":["a"],"minRevision":-1}`, protocol.ErrInvalidRequest},
		"invalid UTF-8":  {"{\"userIDList\":[\"\xff\"]}", protocol.ErrInvalidRequest},
		"deeply nested":  {deep, protocol.ErrInvalidRequest},
		"half a pair":    {`{"userIDList":["\ud800"]}`, protocol.ErrInvalidRequest},
		"the other half": {`{"userIDList":["x\udfffx"]}`, protocol.ErrInvalidRequest},
		"two halves":     {`{"userIDList":["\ud800\ud800\udc00"]}`, protocol.ErrInvalidRequest},
		"oversize":       {`{"x":"` + strings.Repeat("x", protocol.MaxBodyBytes) + `"}`, protocol.ErrRequestTooLarge},
	} {
		var r protocol.GetRequest
		if err := protocol.Unmarshal([]byte(c.body), &r); !errors.Is(err, c.want) {
			t.Errorf("%s: got %v, want %v", name, err, c.want)
		}
	}
	var r protocol.GetRequest
	if err := protocol.Unmarshal([]byte(` {"userIDList":["a"],"later":{"x":1}}`), &r); err != nil {
		t.Errorf("an unknown field: %v", err)
	}
}

// Other receivers tell names apart by case, so this one must.
func TestUnmarshalTellsCaseApart(t *testing.T) {
	for body, want := range map[string]string{
		`{"deviCe":"x"}`: "",
		`{"Device":"x","device":"y","DEVICE":"z"}`: "y",
		`{"\u0044evice":"x"}`:                      "",
		`{"\u0064evice" : "x"}`:                    "x",
		`{"device":"Device","x":"\"device\":1"}`:   "Device",
		`{"device":"\ud83d\ude00"}`:                "😀",
		`{"device":"\\ud800"}`:                     `\ud800`,
	} {
		before := body
		var r protocol.LoginRequest
		if err := protocol.Unmarshal([]byte(body), &r); err != nil || r.Device != want {
			t.Errorf("%s: got %q, %v, want %q", body, r.Device, err, want)
		}
		if body != before {
			t.Errorf("%s was changed to %s", before, body)
		}
	}
	var r protocol.LoginRequest
	if err := protocol.Unmarshal([]byte(`{"connection":{"serverid":"x","clientID":7}}`), &r); err != nil || r.Connection.ServerID != "" || r.Connection.ClientID != 7 {
		t.Errorf("a name within: got %+v, %v", r.Connection, err)
	}
}

// FuzzRequests: whatever the body, decoding and checking a request neither
// panics nor returns anything but an error of the contract.
func FuzzRequests(f *testing.F) {
	for _, s := range []string{`{}`, `{"sessionID":"s"}`, `{"userIDList":["a"]}`, `{"customStatus":"x","expiresInSeconds":1}`, `{"all":true}`, `[`, "null",
		`{"add":["a"],"remove":["b"]}`, `{"replace":[]}`, `{"process":"p","ttlSeconds":30,"connection":{"serverID":"N","clientID":1}}`,
		`{"process":"p","seq":1,"ops":[{"op":"set","userID":"a","customStatus":"x"}]}`, `{"statusType":1,"cursor":"a=2Eb","limit":5}`, `{"userID":"a","sessionID":"s"}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		var login protocol.LoginRequest
		var renew protocol.RenewRequest
		var logout protocol.LogoutRequest
		var set protocol.SetRequest
		var get protocol.GetRequest
		var contacts protocol.ContactsRequest
		var open protocol.OpenRequest
		var lease protocol.LeaseRequest
		var end protocol.CloseRequest
		var apply protocol.ApplyRequest
		var list protocol.ListRequest
		var user protocol.UserRequest
		var kick protocol.KickRequest
		for v, check := range map[any]func() error{
			&login: login.Check, &renew: renew.Check, &logout: logout.Check, &get: get.Check,
			&set:      func() error { return set.Check(protocol.MaxCustomStatusBytes) },
			&contacts: contacts.Check, &open: open.Check, &lease: lease.Check, &end: end.Check,
			&apply: func() error {
				for i := range apply.Ops {
					if err := apply.Ops[i].Check(protocol.MaxCustomStatusBytes); err != nil {
						return err
					}
				}
				return apply.Check()
			},
			&list: list.Check, &user: user.Check, &kick: kick.Check,
		} {
			err := protocol.Unmarshal(body, v)
			if err == nil {
				err = check()
			}
			if e, ok := errors.AsType[*protocol.Error](err); err != nil && (!ok || e.Code/100 != 4) {
				t.Errorf("%T: got %v, want an error of the contract", v, err)
			}
			if err == nil {
				if _, err := json.Marshal(v); err != nil {
					t.Errorf("%T: accepted, but not encoded: %v", v, err)
				}
			}
		}
	})
}

func TestErrorsAcrossTheWire(t *testing.T) {
	wrapped := fmt.Errorf("setting: %w", protocol.ErrSessionReplaced.With("another text"))
	if !errors.Is(wrapped, protocol.ErrSessionReplaced) || errors.Is(wrapped, protocol.ErrSessionNotFound) {
		t.Error("errors.Is does not go by the name")
	}
	if got := protocol.AsError(errors.New("secret")); got != protocol.ErrInternal {
		t.Errorf("AsError: got %v, want %v", got, protocol.ErrInternal)
	}
	if got := protocol.AsError(wrapped); got.Message != "another text" {
		t.Errorf("AsError: got %v", got)
	}
}

// TestCompareTokens: user IDs are in the order of their tokens.
func TestCompareTokens(t *testing.T) {
	ids := []string{"a", "a=", "a b", "ab", "aB", "a-b", "a_b", "a.b", "a~", "é", "è", "z", "Z", "_", "-", "=", "~", "0", "a=0", "a00"}
	for _, a := range ids {
		for _, b := range ids {
			x, _ := protocol.EncodeToken(a)
			y, _ := protocol.EncodeToken(b)
			if got, want := protocol.CompareTokens(a, b), strings.Compare(x, y); got != want {
				t.Errorf("CompareTokens(%q, %q): got %d, want %d, as of %s and %s", a, b, got, want, x, y)
			}
		}
	}
}
