package integration

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"

	"presence/integration/internal/wire"
	"presence/pkg/broker"
	"presence/pkg/protocol"
	"presence/pkg/service/servicetest"

	"github.com/nats-io/nats.go"
)

// badInput is a request that has to be refused: with an error, or because
// nobody serves its subject.
type badInput struct {
	name, subject, body string
	want                *protocol.Error // nil: no responders
}

// The users whom bad input is about: witness has a session and a text, crowd
// as many sessions as one can have.
const witness, crowd = "witness", "crowd"

// ops are the requests about one user, with a body that is accepted and
// changes nothing; "%s" is for more fields.
var ops = []struct{ op, body string }{
	{protocol.OpLogin, `{"sessionID":"phone","device":"pixel","platform":"android","ttlSeconds":3600%s}`},
	{protocol.OpRenew, `{"sessionID":"phone"%s}`},
	{protocol.OpLogout, `{"sessionID":"unheard-of"%s}`},
	{protocol.OpSet, `{"customStatus":"as it was"%s}`},
	{protocol.OpStatus, `{"nothing":0%s}`},
	{protocol.OpContacts, `{"remove":["nobody"]%s}`},
}

// others are the requests whose subject names no user, likewise.
var others = []struct{ subject, body string }{
	{wire.Subjects.Get(), `{"userIDList":["witness"]%s}`},
	{wire.Subjects.Stats(), `{"nothing":0%s}`},
	{wire.Subjects.List(), `{"limit":1%s}`},
	{wire.Subjects.Explain(), `{"userID":"witness"%s}`},
	{wire.Subjects.Kick(), `{"userID":"witness","sessionID":"unheard-of"%s}`},
	{wire.Subjects.Erase(), `{"userID":"stranger"%s}`},
}

// badInputs builds the table of what has to be refused.
func badInputs() (table []badInput) {
	add := func(name, subject, body string, want *protocol.Error) {
		table = append(table, badInput{name, subject, body, want})
	}

	// Bodies that are no JSON object, for every kind of request.
	for _, bad := range [][2]string{
		{"empty", ""},
		{"blank", " \r\n\t"},
		{"not JSON", "hello"},
		{"null", "null"},
		{"an array", "[]"},
		{"a string", `"{}"`},
		{"a number", "1"},
		{"cut off", `{"sessionID":"phone"`},
		{"two objects", `{}{}`},
		{"trailing text", `{"sessionID":"phone"} x`},
		{"single quotes", `{'sessionID':'phone'}`},
		{"a byte order mark", "\ufeff{}"},
		{"a zero byte", "{}\x00"},
		{"invalid UTF-8", "{\"unknown\":\"\xff\"}"},
		{"NaN", `{"unknown":NaN}`},
		{"deeply nested", `{"unknown":` + strings.Repeat("[", 100_000) + strings.Repeat("]", 100_000) + `}`},
	} {
		name, body := bad[0], bad[1]
		for _, o := range ops {
			add(o.op+": "+name, wire.To(o.op, witness), body, protocol.ErrInvalidRequest)
		}
		for _, o := range others {
			add(o.subject+": "+name, o.subject, body, protocol.ErrInvalidRequest)
		}
	}
	huge := strings.Repeat("x", protocol.MaxBodyBytes)
	for _, o := range ops {
		add(o.op+": over the limit", wire.To(o.op, witness), fmt.Sprintf(o.body, `,"unknown":"`+huge+`"`), protocol.ErrRequestTooLarge)
		add(o.op+": one byte over the limit", wire.To(o.op, witness), fill(o.body, protocol.MaxBodyBytes+1), protocol.ErrRequestTooLarge)
	}
	for _, o := range others {
		add(o.subject+": over the limit", o.subject, fmt.Sprintf(o.body, `,"unknown":"`+huge+`"`), protocol.ErrRequestTooLarge)
	}

	// A wrong type for each field, in a body that is accepted otherwise.
	wrong := func(subject, body, fields string, values ...string) {
		for field := range strings.FieldsSeq(fields) {
			for _, value := range values {
				add(subject+": "+field+" is "+value, subject, fmt.Sprintf(body, fmt.Sprintf(`,%q:%s`, field, value)), protocol.ErrInvalidRequest)
			}
		}
	}
	noText := []string{"1", "true", "[]", "{}", `["x"]`}
	noInteger := []string{`"5"`, "true", "[]", "{}", "5.5", "-1.5", "1e400", "99999999999999999999", "-99999999999999999999"}
	noBool := []string{`"true"`, "1", "0", "[]", "{}"}
	wrong(wire.To(protocol.OpLogin, witness), `{"unknown":0%s}`, "sessionID device platform", noText...)
	wrong(wire.To(protocol.OpLogin, witness), `{"sessionID":"phone"%s}`, "ttlSeconds graceSeconds", noInteger...)
	wrong(wire.To(protocol.OpLogin, witness), `{"sessionID":"phone"%s}`, "idle", noBool...)
	wrong(wire.To(protocol.OpLogin, witness), `{"sessionID":"phone"%s}`, "connection", `"x"`, "1", "true", "[]", "{}",
		`{"serverID":1,"clientID":1}`, `{"serverID":"x","clientID":"1"}`, `{"serverID":"x","clientID":1.5}`, `{"serverID":"x","clientID":-1}`,
		`{"serverID":"x"}`, `{"clientID":1}`, `{"serverID":"","clientID":1}`, `{"serverID":"x","clientID":0}`, `{"serverID":"a\nb","clientID":1}`,
		`{"serverID":"`+strings.Repeat("x", protocol.MaxServerIDBytes+1)+`","clientID":1}`)
	wrong(wire.To(protocol.OpRenew, witness), `{"unknown":0%s}`, "sessionID", noText...)
	wrong(wire.To(protocol.OpRenew, witness), `{"sessionID":"phone"%s}`, "idle", noBool...)
	wrong(wire.To(protocol.OpLogout, witness), `{"unknown":0%s}`, "sessionID", noText...)
	wrong(wire.To(protocol.OpLogout, witness), `{"unknown":0%s}`, "all", noBool...)
	wrong(wire.To(protocol.OpSet, witness), `{"unknown":0%s}`, "customStatus availability", noText...)
	wrong(wire.To(protocol.OpSet, witness), `{"customStatus":"x"%s}`, "expiresInSeconds ifRevision", noInteger...)
	wrong(wire.To(protocol.OpSet, witness), `{"customStatus":"x"%s}`, "ifRevision", "-1")
	wrong(wire.To(protocol.OpSet, witness), `{"customStatus":"x"%s}`, "sessionID", noText...)
	wrong(wire.To(protocol.OpSet, witness), `{"availability":"busy"%s}`, "availabilityExpiresInSeconds", noInteger...)
	wrong(wire.Subjects.Get(), `{"unknown":0%s}`, "userIDList", `"witness"`, "1", "true", "{}", `{"0":"witness"}`, "[1]", "[true]", `[["witness"]]`, "[{}]")
	wrong(wire.Subjects.Get(), `{"userIDList":["witness"]%s}`, "detail fresh", noBool...)
	wrong(wire.Subjects.Get(), `{"userIDList":["witness"]%s}`, "minRevision", append(noInteger, "-1")...)
	wrong(wire.Subjects.Get(), `{"userIDList":["witness"]%s}`, "epoch", noText...)
	for _, subject := range []string{wire.Subjects.Explain(), wire.Subjects.Kick(), wire.Subjects.Erase()} {
		wrong(subject, `{"unknown":0%s}`, "userID", noText...)
		for name, id := range map[string]string{"nobody": "", "too long": strings.Repeat("x", protocol.MaxUserIDBytes+1), "two lines": `a\nb`, "half a letter": `\ud800`} {
			want := protocol.ErrInvalidUserID
			if name == "half a letter" {
				want = protocol.ErrInvalidRequest
			}
			add(subject+": "+name, subject, `{"userID":"`+id+`"}`, want)
		}
		add(subject+": no userID", subject, `{}`, protocol.ErrInvalidUserID)
		add(subject+": userid", subject, `{"userid":"witness"}`, protocol.ErrInvalidUserID)
	}
	wrong(wire.Subjects.Kick(), `{"userID":"witness"%s}`, "sessionID", append(noText, `"a.b"`, `">"`, `"`+strings.Repeat("x", protocol.MaxSessionIDBytes+1)+`"`)...)
	wrong(wire.Subjects.List(), `{"unknown":0%s}`, "statusType limit", append(noInteger, "-1")...)
	wrong(wire.Subjects.List(), `{"unknown":0%s}`, "statusType", "4", "255", "256", "257")
	wrong(wire.Subjects.List(), `{"unknown":0%s}`, "limit", "501", "1000000")
	wrong(wire.Subjects.List(), `{"unknown":0%s}`, "cursor", append(noText, `"="`, `"=41"`, `"a.b"`, `"é"`, `">"`, `"`+strings.Repeat("x", protocol.MaxUserIDBytes+1)+`"`)...)
	noList := []string{`"friend"`, "1", "true", "{}", `{"0":"friend"}`, "[1]", "[true]", `[["friend"]]`, "[{}]"}
	wrong(wire.To(protocol.OpContacts, witness), `{"unknown":0%s}`, "add remove replace", noList...)
	for _, field := range []string{"add", "remove", "replace"} {
		for _, id := range []string{"", "a\\nb", "\\u0000", strings.Repeat("x", protocol.MaxUserIDBytes+1)} {
			add("contacts: "+field+" "+id, wire.To(protocol.OpContacts, witness), fmt.Sprintf(`{%q:["friend","%s"]}`, field, id), protocol.ErrInvalidUserID)
		}
		many := `"f0"`
		for i := 1; i <= protocol.MaxContacts; i++ {
			many += fmt.Sprintf(`,"f%d"`, i)
		}
		add("contacts: "+field+" 2001", wire.To(protocol.OpContacts, witness), fmt.Sprintf(`{%q:[%s]}`, field, many), protocol.ErrRequestTooLarge)
		add("contacts: "+field+" of half a letter", wire.To(protocol.OpContacts, witness), fmt.Sprintf(`{%q:["\ud800"]}`, field), protocol.ErrInvalidRequest)
	}
	for _, body := range []string{`{"replace":["a"],"add":["b"]}`, `{"replace":[],"remove":["b"]}`} {
		add("contacts: "+body, wire.To(protocol.OpContacts, witness), body, protocol.ErrInvalidRequest)
	}
	add("contacts: one too many", wire.To(protocol.OpContacts, crowd), `{"add":["one more"]}`, protocol.ErrRequestTooLarge)
	// What the message quotes must not make the answer too large to be sent.
	add("login: a number of half a megabyte", wire.To(protocol.OpLogin, witness), fillWith("0", `{"ttlSeconds":5.5%s}`, protocol.MaxBodyBytes), protocol.ErrInvalidRequest)

	// Values outside their limits.
	invalid := func(op string, bodies ...string) {
		for _, body := range bodies {
			add(op+": "+body, wire.To(op, witness), body, protocol.ErrInvalidRequest)
		}
	}
	x := func(n int) string { return strings.Repeat("x", n) }
	for _, ttl := range []int{4, 3601, -1, -30, 1} {
		invalid(protocol.OpLogin, fmt.Sprintf(`{"sessionID":"phone","ttlSeconds":%d}`, ttl))
	}
	for _, grace := range []int{301, 3600, -1, -5} {
		invalid(protocol.OpLogin, fmt.Sprintf(`{"sessionID":"phone","graceSeconds":%d}`, grace))
	}
	for _, platform := range []string{"Web", "a_b", "web app", "web.app", "é", "web\\n", x(protocol.MaxPlatformBytes + 1)} {
		invalid(protocol.OpLogin, fmt.Sprintf(`{"sessionID":"phone","platform":"%s"}`, platform))
	}
	for _, device := range []string{"a\\nb", "\\u0000", "\\u007f", "\\u0085", x(protocol.MaxDeviceBytes + 1)} {
		invalid(protocol.OpLogin, fmt.Sprintf(`{"sessionID":"phone","device":"%s"}`, device))
	}
	for _, id := range []string{"a.b", "a b", " ", "é", "a/b", "*", ">", "a=2E", "a\\n", "\\u0000", x(protocol.MaxSessionIDBytes + 1)} {
		invalid(protocol.OpLogin, fmt.Sprintf(`{"sessionID":"%s"}`, id))
		invalid(protocol.OpRenew, fmt.Sprintf(`{"sessionID":"%s"}`, id))
		invalid(protocol.OpLogout, fmt.Sprintf(`{"sessionID":"%s"}`, id))
		invalid(protocol.OpSet, fmt.Sprintf(`{"customStatus":"x","sessionID":"%s"}`, id))
	}
	invalid(protocol.OpRenew, `{}`, `{"idle":true}`, `{"sessionID":""}`)
	invalid(protocol.OpLogout, `{}`, `{"all":false}`, `{"sessionID":""}`, `{"sessionID":"phone","all":true}`)
	invalid(protocol.OpSet, `{}`, `{"sessionID":"phone"}`, `{"ifRevision":0}`, `{"expiresInSeconds":60}`, `{"customStatus":null}`,
		`{"customStatus":"","expiresInSeconds":60}`, `{"customStatus":"x","availabilityExpiresInSeconds":60}`,
		`{"customStatus":"a\nb"}`, `{"customStatus":"\u0000"}`, `{"customStatus":"\u007f"}`, `{"customStatus":"\u009f"}`)
	for _, seconds := range []int{0, -1, 366*24*3600 + 1} {
		invalid(protocol.OpSet, fmt.Sprintf(`{"customStatus":"x","expiresInSeconds":%d}`, seconds))
		invalid(protocol.OpSet, fmt.Sprintf(`{"availability":"busy","availabilityExpiresInSeconds":%d}`, seconds))
	}
	add("set: a text that is too long", wire.To(protocol.OpSet, witness), `{"customStatus":"`+x(protocol.MaxCustomStatusBytes+1)+`"}`, protocol.ErrCustomStatusTooLong)
	add("set: bytes count, not letters", wire.To(protocol.OpSet, witness), `{"customStatus":"`+strings.Repeat("é", 257)+`"}`, protocol.ErrCustomStatusTooLong)

	// Half of a surrogate pair is no UTF-8; a decoder that puts something else
	// in its place changes what was asked for.
	invalid(protocol.OpSet, `{"customStatus":"\ud800"}`)
	invalid(protocol.OpLogin, `{"sessionID":"phone","device":"\udfff"}`)

	// A field's name has one spelling; another is an unknown field.
	invalid(protocol.OpSet, `{"customstatus":"x"}`, `{"CustomStatus":"x"}`)
	invalid(protocol.OpLogout, `{"sessionid":"phone"}`, `{"ALL":true}`)
	add("get: useridlist", wire.Subjects.Get(), `{"useridlist":["witness"]}`, protocol.ErrInvalidRequest)

	// What is valid and does not hold.
	add("set: ifRevision of another state", wire.To(protocol.OpSet, witness), `{"customStatus":"x","ifRevision":1}`, protocol.ErrRevisionConflict)
	add("set: ifRevision 0 of a user who has one", wire.To(protocol.OpSet, witness), `{"customStatus":"x","ifRevision":0}`, protocol.ErrRevisionConflict)
	add("set: ifRevision above 2^53", wire.To(protocol.OpSet, witness), `{"customStatus":"x","ifRevision":9007199254740993}`, protocol.ErrRevisionConflict)
	add("set: of an unknown session", wire.To(protocol.OpSet, witness), `{"customStatus":"x","sessionID":"unheard-of"}`, protocol.ErrSessionNotFound)
	add("renew: an unknown session", wire.To(protocol.OpRenew, witness), `{"sessionID":"unheard-of"}`, protocol.ErrSessionNotFound)
	add("renew: of somebody else", wire.To(protocol.OpRenew, "stranger"), `{"sessionID":"phone"}`, protocol.ErrSessionNotFound)
	add("login: one session too many", wire.To(protocol.OpLogin, crowd), `{"sessionID":"another"}`, protocol.ErrTooManySessions)
	for _, a := range []string{"", "Busy", "unknown", "busy "} {
		add("set: no availability "+a, wire.To(protocol.OpSet, witness), fmt.Sprintf(`{"customStatus":"x","availability":%q}`, a), protocol.ErrInvalidRequest)
	}

	// Lists.
	list := func(n int, id func(int) string) string {
		ids := make([]string, n)
		for i := range ids {
			ids[i] = id(i)
		}
		return string(wire.Encode(protocol.GetRequest{UserIDList: ids}))
	}
	add("get: nobody", wire.Subjects.Get(), `{"userIDList":[]}`, protocol.ErrInvalidRequest)
	add("get: no list", wire.Subjects.Get(), `{}`, protocol.ErrInvalidRequest)
	add("get: 501 users", wire.Subjects.Get(), list(501, strconv.Itoa), protocol.ErrTooManyUsers)
	add("get: a user 501 times", wire.Subjects.Get(), list(501, func(int) string { return witness }), protocol.ErrTooManyUsers)
	add("get: a reply that does not fit", wire.Subjects.Get(), list(500, func(i int) string { return x(1020) + strconv.Itoa(i) }), protocol.ErrRequestTooLarge)

	// Subjects. A user has one token.
	for _, token := range []string{"=41", "=61lice", "alice=", "alice=4", "=4", "=", "alice=2e", "=c3=a9", "=C3=a9", "==", "=GG", "=+1", "a@b", "é", "a*", "*",
		"=2D", "=5F", "a/b", "a%2Eb", x(129), "=00", "=0A", "=7F", "=C2=85", "=FF", "=C3", "=ED=A0=80", "=C0=80",
		strings.Repeat("=40", 129), strings.Repeat("=41", 100)} {
		for _, o := range ops {
			add(o.op+": user "+token, wire.Subjects.Prefix()+".user."+token+"."+o.op, fmt.Sprintf(o.body, ""), protocol.ErrInvalidUserID)
		}
	}
	for _, subject := range []string{"user.witness", "user.witness.set.more", "user.witness.more.set", "user.set", "user..set", "user.witness.SET", "user.witness.erase",
		"user.>", "get.witness", "set", "user.witness.contacts.more", "gateway.g1.rename", "stats.more", "explain.witness", "list.more", "admin", "admin.forget"} {
		add("nobody serves "+subject, wire.Subjects.Prefix()+"."+subject, `{"customStatus":"x","userID":"witness"}`, nil)
	}
	return table
}

// fill makes a body of n bytes, with blanks.
func fill(format string, n int) string { return fillWith(" ", format, n) }

func fillWith(pad, format string, n int) string {
	return fmt.Sprintf(format, strings.Repeat(pad, n-len(format)+len("%s")))
}

// TestG10_BadInputIsRefusedAndChangesNothing sends each row over the wire. It
// must be answered with exactly its error, no user may have changed, and
// nothing may have been announced.
func TestG10_BadInputIsRefusedAndChangesNothing(t *testing.T) {
	t.Parallel()
	kit := servicetest.Start(t)
	nc := kit.Connect(t)
	w := watchForChanges(t, kit)
	for _, row := range badInputs() {
		t.Run(clip(row.name), func(t *testing.T) {
			m, err := nc.Request(row.subject, []byte(row.body), 10*time.Second)
			switch {
			case row.want == nil && !errors.Is(err, nats.ErrNoResponders):
				t.Errorf("%s: got %v, want no responders", row.subject, err)
			case row.want != nil && err != nil:
				t.Errorf("%s %s: got %v, want %s", row.subject, clip(row.body), err, row.want.Name)
			case row.want != nil:
				checkError(t, m, row)
			}
			w.check(t)
		})
	}
}

// checkError holds an answer against PROTOCOL 6.
func checkError(t *testing.T, m *nats.Msg, row badInput) {
	t.Helper()
	var body struct {
		Code           int
		Error, Message string
	}
	if err := json.Unmarshal(m.Data, &body); err != nil || body.Error == "" {
		t.Errorf("%s %s: got %s, want %s", row.subject, clip(row.body), clip(string(m.Data)), row.want.Name)
		return
	}
	if body.Code != row.want.Code || body.Error != row.want.Name {
		t.Errorf("%s %s: got %d %s (%s), want %d %s", row.subject, clip(row.body), body.Code, body.Error, clip(body.Message), row.want.Code, row.want.Name)
	}
	if code := m.Header.Get(protocol.ErrorCodeHeader); code != strconv.Itoa(row.want.Code) {
		t.Errorf("header %s: got %q, want %d", protocol.ErrorCodeHeader, code, row.want.Code)
	}
	header := m.Header.Get(protocol.ErrorHeader)
	if name, _, _ := strings.Cut(header, ":"); name != row.want.Name {
		t.Errorf("header %s: got %q, want %s", protocol.ErrorHeader, clip(header), row.want.Name)
	}
	if strings.ContainsAny(header, "\r\n") {
		t.Errorf("header %s has several lines: %q", protocol.ErrorHeader, clip(header))
	}
	if body.Message == "" || len(body.Message) > 1024 || strings.Contains(body.Message, "Go ") || strings.Contains(body.Message, "protocol.") {
		t.Errorf("the message is not for people: %d bytes, %q", len(body.Message), clip(body.Message))
	}
}

func clip(s string) string {
	if len(s) > 100 {
		return s[:100] + "…"
	}
	return s
}

// changeWatch notices any change of the witnesses and any event but its own.
type changeWatch struct {
	nc     *nats.Conn
	events *wire.Recorder
	before []any
	rounds int
	heard  int
}

func watchForChanges(t *testing.T, kit *servicetest.Kit) *changeWatch {
	t.Helper()
	nc := kit.Connect(t)
	wire.Login(t, nc, witness, protocol.LoginRequest{SessionID: "phone", TTLSeconds: 3600, Device: "pixel", Platform: "android"})
	wire.SetText(t, nc, witness, "as it was")
	for _, id := range wire.Names("s", protocol.MaxSessionsPerUser) {
		wire.Login(t, nc, crowd, protocol.LoginRequest{SessionID: id, TTLSeconds: 3600})
	}
	many := wire.Names("f", protocol.MaxContacts)
	wire.Must[protocol.ContactsReply](t, nc, wire.To(protocol.OpContacts, crowd), protocol.ContactsRequest{Replace: &many})
	wire.Login(t, nc, "marker", protocol.LoginRequest{TTLSeconds: 3600})
	w := &changeWatch{nc: nc}
	w.before = w.state(t)
	w.events = wire.Record(t, nc, wire.Subjects.AnyEvent(), wire.Subjects.AnySelf())
	w.hear(t) // the events of what was done so far, which may come after the replies
	return w
}

// state is everything that can be asked about the witnesses.
func (w *changeWatch) state(t *testing.T) (state []any) {
	t.Helper()
	for _, s := range wire.Fresh(t, w.nc, witness, crowd, "stranger", "alice", "another") {
		state = append(state, s)
	}
	for _, id := range []string{witness, crowd} {
		own := wire.Must[protocol.OwnStatusReply](t, w.nc, wire.To(protocol.OpStatus, id), "{}")
		state = append(state, own.Status, own.Sessions, own.Availability)
	}
	return append(state, wire.Must[protocol.ContactsReply](t, w.nc, wire.To(protocol.OpContacts, witness), "{}"))
}

// check reports whatever changed or was announced since the last time.
func (w *changeWatch) check(t *testing.T) {
	t.Helper()
	now := w.state(t)
	for i := range now {
		if !reflect.DeepEqual(now[i], w.before[i]) {
			t.Errorf("something changed:\nbefore %+v\nafter  %+v", w.before[i], now[i])
		}
	}
	w.before = now
	for _, m := range w.hear(t) {
		t.Errorf("something was announced on %s: %s", m.Subject, m.Data)
	}
}

// hear returns what was announced since the last time. It waits for two events
// that it causes itself, which shows that others would have arrived before them.
func (w *changeWatch) hear(t *testing.T) (others []wire.Received) {
	t.Helper()
	w.rounds++
	text := fmt.Sprintf("round %d", w.rounds)
	wire.SetText(t, w.nc, "marker", text)
	event, _ := wire.Subjects.Event("marker")
	self, _ := wire.Subjects.Self("marker")
	servicetest.Eventually(t, wire.Soon, "the events of the marker", func() bool {
		return w.events.Has(event, text) && w.events.Has(self, text)
	})
	heard := w.events.All()
	for _, m := range heard[w.heard:] {
		if m.Subject != event && m.Subject != self {
			others = append(others, m)
		}
	}
	w.heard = len(heard)
	return others
}

// TestG10_RefusedWithoutAReplySubject: there is nobody to tell, and nothing
// may happen either.
func TestG10_RefusedWithoutAReplySubject(t *testing.T) {
	kit := servicetest.Start(t)
	nc := kit.Connect(t)
	w := watchForChanges(t, kit)
	for _, row := range badInputs() {
		if strings.ContainsAny(row.subject, ">*") {
			continue
		}
		if err := nc.Publish(row.subject, []byte(row.body)); err != nil {
			t.Fatalf("%s: %v", row.name, err)
		}
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	// Each endpoint takes its requests in order: when it answers the next, it
	// has seen them all.
	for _, o := range ops {
		wire.Must[json.RawMessage](t, nc, wire.To(o.op, witness), fmt.Sprintf(o.body, ""))
	}
	w.check(t)
}

// TestG10_ForgedReplySubjectIsDropped: a request whose answer would become a
// request or an event in the service's name does nothing at all.
func TestG10_ForgedReplySubjectIsDropped(t *testing.T) {
	kit := servicetest.Start(t)
	nc := kit.Connect(t)
	w := watchForChanges(t, kit)
	answers := wire.Record(t, kit.ConnectAs(t, broker.Clients), ">") // it may hear everything
	prefix := wire.Subjects.Prefix()
	replies := []string{prefix, prefix + ".status.bob", prefix + ".self.bob", prefix + ".status.bob.more", prefix + ".user.bob.login",
		prefix + ".get", prefix + ".inbox.1", "$x", "$SYS.REQ.USER.INFO", "$JS.API.STREAM.DELETE.PRESENCE_JOURNAL", "$SRV.PING"}
	requests := map[string]string{
		wire.To(protocol.OpLogin, witness):  `{"sessionID":"forged"}`,
		wire.To(protocol.OpRenew, witness):  `{"sessionID":"unheard-of"}`,
		wire.To(protocol.OpLogout, witness): `{"all":true}`,
		wire.To(protocol.OpSet, witness):    `{"customStatus":"forged"}`,
		wire.To(protocol.OpStatus, witness): `{}`,
		wire.Subjects.Get():                 `{"userIDList":["witness"]}`,
	}
	for _, reply := range replies {
		for subject, body := range requests {
			if err := nc.PublishRequest(subject, reply, []byte(body)); err != nil {
				t.Fatal(err)
			}
		}
		if err := nc.Flush(); err != nil {
			t.Fatal(err)
		}
		for _, o := range ops { // as above
			wire.Must[json.RawMessage](t, nc, wire.To(o.op, witness), fmt.Sprintf(o.body, ""))
		}
		wire.Must[json.RawMessage](t, nc, wire.Subjects.Get(), `{"userIDList":["witness"]}`)
		w.check(t)
	}
	for _, m := range answers.All() {
		for _, reply := range replies {
			if m.Subject == reply && m.Reply == "" { // the test's own requests want an answer
				t.Errorf("got an answer on %s: %s %s", reply, m.Header, m.Data)
			}
		}
	}
}

// TestG10_WhatLooksOddAndIsValid is the other side: limits are inclusive,
// unknown fields are ignored.
func TestG10_WhatLooksOddAndIsValid(t *testing.T) {
	kit := servicetest.Start(t)
	nc := kit.Connect(t)
	for _, o := range ops {
		wire.Must[json.RawMessage](t, nc, wire.To(o.op, witness), fmt.Sprintf(o.body, `,"unknown":{"deep":[1,2.5,null]},"":0`))
		wire.Must[json.RawMessage](t, nc, wire.To(o.op, witness), fill(o.body, protocol.MaxBodyBytes))
	}
	x := func(n int) string { return strings.Repeat("x", n) }
	for _, id := range []string{x(128), strings.Repeat("@", 128), "a b", "*", ">", "é", "日本", "\u200b", "😀", "=41", "."} {
		wire.Login(t, nc, id, protocol.LoginRequest{SessionID: x(64), Device: strings.Repeat("é", 64), Platform: x(32), TTLSeconds: 3600})
		wire.Login(t, nc, id, protocol.LoginRequest{SessionID: "s", TTLSeconds: 5})
		text := `<&> "\` + x(506)
		wire.Must[protocol.ChangeReply](t, nc, wire.To(protocol.OpSet, id), protocol.SetRequest{CustomStatus: &text, ExpiresInSeconds: protocol.Ptr(int64(366 * 24 * 3600))})
		if got := wire.Fresh(t, nc, id)[0]; got.UserID != id || got.CustomStatus != text {
			t.Errorf("status of %q: got %+v", id, got)
		}
	}
}

// TestG10_EveryIDOfAListIsAnsweredOnce: in the order asked, in exactly one
// list, and a bad one spoils only itself.
func TestG10_EveryIDOfAListIsAnsweredOnce(t *testing.T) {
	kit := servicetest.Start(t)
	nc := kit.Connect(t)
	long := strings.Repeat("x", 129)
	list := []string{"bob", "", "alice", "bob", "a\nb", "never seen", long, "", "\u0085", "alice", "x\u007f", "ALICE"}
	reply := wire.Must[protocol.GetReply](t, nc, wire.Subjects.Get(), protocol.GetRequest{UserIDList: list})
	var good, bad []string
	for _, s := range reply.SuccessUserList {
		good = append(good, s.UserID)
		if s.StatusType != protocol.Unlogined || s.Revision != 0 {
			t.Errorf("a user never seen: got %+v", s)
		}
	}
	for _, f := range reply.FailureUserList {
		bad = append(bad, f.UserID)
		if f.Code != 400 || f.Name != protocol.ErrInvalidUserID.Name || f.Message == "" {
			t.Errorf("failure of %q: got %+v", f.UserID, f)
		}
	}
	if want := []string{"bob", "alice", "never seen", "ALICE"}; !reflect.DeepEqual(good, want) {
		t.Errorf("successUserList: got %q, want %q", good, want)
	}
	if want := []string{"", "a\nb", long, "\u0085", "x\u007f"}; !reflect.DeepEqual(bad, want) {
		t.Errorf("failureUserList: got %q, want %q", bad, want)
	}
	wire.Must[protocol.GetReply](t, nc, wire.Subjects.Get(), protocol.GetRequest{UserIDList: wire.Names("u", 500)})

	// Half of a surrogate pair names nobody, and not U+FFFD either. Whether it
	// is the list or the ID that is refused, the contract leaves open.
	half, err := wire.Ask[protocol.GetReply](nc, wire.Subjects.Get(), `{"userIDList":["\ud800"]}`)
	if err == nil && len(half.SuccessUserList) > 0 || err != nil && !errors.Is(err, protocol.ErrInvalidRequest) {
		t.Errorf("get of half a surrogate pair: got %+v, %v", half.SuccessUserList, err)
	}

	// A list without failures and one without successes are lists all the same.
	for _, id := range []string{"alice", ""} {
		raw := wire.Must[map[string]json.RawMessage](t, nc, wire.Subjects.Get(), protocol.GetRequest{UserIDList: []string{id}})
		for _, field := range []string{"successUserList", "failureUserList"} {
			if !strings.HasPrefix(string(raw[field]), "[") {
				t.Errorf("get of %q: %s is %s", id, field, raw[field])
			}
		}
	}
}

// TestG10_ReplyTooLarge: 500 users with texts that double when they are
// escaped do not fit; nothing of the list is cut, and half of it fits.
func TestG10_ReplyTooLarge(t *testing.T) {
	kit := servicetest.Start(t)
	nc := kit.Connect(t)
	users := wire.Names("u", 500)
	for _, id := range users {
		wire.SetText(t, nc, id, strings.Repeat(`\`, 512))
	}
	wire.Refused(t, nc, wire.Subjects.Get(), protocol.GetRequest{UserIDList: users}, protocol.ErrRequestTooLarge)
	wire.Refused(t, nc, wire.Subjects.Get(), protocol.GetRequest{UserIDList: users, Fresh: true}, protocol.ErrRequestTooLarge)
	if got := len(wire.Fresh(t, nc, users[:250]...)); got != 250 {
		t.Errorf("get of 250: got %d", got)
	}
}

// TestG10_OverMaxPayload: the broker closes the connection, and the service
// goes on.
func TestG10_OverMaxPayload(t *testing.T) {
	kit := servicetest.Start(t)
	nc := kit.Connect(t)
	w := watchForChanges(t, kit)
	if _, err := nc.Request(wire.To(protocol.OpSet, witness), make([]byte, nc.MaxPayload()+1), time.Second); err == nil {
		t.Error("a message over the max payload was answered")
	}
	w.check(t)
}
