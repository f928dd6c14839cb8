package integration

import (
	"bytes"
	"encoding/json"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"presence/integration/internal/wire"
	"presence/pkg/broker"
	"presence/pkg/protocol"
	"presence/pkg/protocol/schema"
	"presence/pkg/service"
	"presence/pkg/service/servicetest"
)

// traffic is all that goes over the wire, to be held to the schemas of the contract.
type traffic struct {
	nc      *nats.Conn
	heard   *wire.Recorder // replies and events
	asked   *wire.Recorder // requests
	schemas map[string]*jsonschema.Schema
	seen    map[string]int // messages that were checked, by endpoint or event, and by schema
}

// recordTraffic begins to record, on a client's connection and on the service's: no client may
// listen to requests.
func recordTraffic(t *testing.T, kit *servicetest.Kit) *traffic {
	t.Helper()
	nc, service := kit.Connect(t), kit.ConnectAs(t, broker.Clients)
	return &traffic{
		nc: nc, heard: wire.Record(t, nc, append(wire.Subjects.EventSubjects(), "_INBOX.>")...),
		asked:   wire.Record(t, service, wire.Subjects.RequestSubjects()...),
		schemas: map[string]*jsonschema.Schema{}, seen: map[string]int{},
	}
}

// theLast is the user of the last request that is recorded.
const theLast = "the last"

// check waits for what is under way. It fails where a message is not what its schema says, and where
// there was no message of some schema.
func (tr *traffic) check(t *testing.T) {
	t.Helper()
	// Conformance has not asked the instances.
	reply := wire.Must[protocol.InstanceReply](t, tr.nc, wire.Subjects.Instances(), protocol.InstanceRequest{Limit: 10})
	wire.Must[protocol.InstanceReply](t, tr.nc, wire.Subjects.Instance(reply.Writer), protocol.InstanceRequest{UserIDList: []string{theLast}})
	for _, what := range []*wire.Recorder{tr.asked, tr.heard} {
		servicetest.Eventually(t, wire.Soon, "the last request and its answer to be recorded", func() bool {
			return slices.ContainsFunc(what.All(), func(m wire.Received) bool { return bytes.Contains(m.Data, []byte(theLast)) })
		})
	}
	endpoints, requests := map[string]schema.Endpoint{}, map[string]wire.Received{} // by the reply's subject
	for _, m := range tr.asked.All() {
		for _, e := range schema.Endpoints {
			if addressed(m.Subject, e.Subject) && m.Reply != "" {
				endpoints[m.Reply], requests[m.Reply] = e, m
			}
		}
	}
	for _, m := range tr.heard.All() {
		for _, e := range schema.Events {
			if addressed(m.Subject, e.Subject) {
				tr.validate(t, e.Subject, e.Schema, m)
			}
		}
		e, ok := endpoints[m.Subject]
		switch {
		case !ok:
		case m.Header.Get(protocol.ErrorHeader) != "":
			tr.validate(t, e.Name, "error", m)
		default:
			tr.validate(t, e.Name, e.Reply, m)
			// An op that is not valid fails alone.
			if !bytes.Contains(m.Data, []byte(`"failures":[{`)) {
				tr.validate(t, e.Name, e.Request, requests[m.Subject])
			}
		}
	}
	for _, e := range schema.Endpoints {
		if tr.seen[e.Name+" "+e.Request] == 0 || tr.seen[e.Name+" "+e.Reply] == 0 {
			t.Errorf("no request to %s was done", e.Name)
		}
	}
	for _, e := range schema.Events {
		if tr.seen[e.Subject+" "+e.Schema] == 0 {
			t.Errorf("no event was sent on %s", e.Subject)
		}
	}
	t.Logf("checked %v", tr.seen)
}

// validate holds a message to a schema.
func (tr *traffic) validate(t *testing.T, of, name string, m wire.Received) {
	t.Helper()
	s, ok := tr.schemas[name]
	if !ok {
		var err error
		if s, err = jsonschema.NewCompiler().Compile(filepath.Join("../pkg/protocol/schema", name+".json")); err != nil {
			t.Fatal(err)
		}
		tr.schemas[name] = s
	}
	tr.seen[of+" "+name]++
	body := m.Data
	if len(body) == 0 && strings.HasSuffix(name, "-request") {
		body = []byte("{}")
	}
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader(body))
	if err == nil {
		err = s.Validate(v)
	}
	if err != nil {
		t.Errorf("%s: %s is not of the schema %s: %v", m.Subject, m.Data, name, err)
	}
}

// addressed says that a subject is one of an endpoint's or event's.
func addressed(subject, shape string) bool {
	tokens, shapes := strings.Split(subject, "."), strings.Split(wire.Subjects.Prefix()+"."+shape, ".")
	if len(tokens) != len(shapes) {
		return false
	}
	for i := range tokens {
		if tokens[i] != shapes[i] && !strings.HasPrefix(shapes[i], "{") {
			return false
		}
	}
	return true
}

// TestSchemas_Discovery: $SRV.INFO names the schemas of every endpoint, and has them where they fit.
func TestSchemas_Discovery(t *testing.T) {
	t.Parallel()
	kit := servicetest.Start(t)
	checkDiscovery(t, kit.Connect(t), true)
	small := servicetest.StartNATS(t, "max_payload: 16384")
	small.StartInstance(t, func(*service.Config) {})
	checkDiscovery(t, small.Connect(t), false)
}

func checkDiscovery(t *testing.T, nc *nats.Conn, fits bool) {
	t.Helper()
	info := wire.Must[micro.Info](t, nc, "$SRV.INFO.presence", "")
	if len(info.Endpoints) != len(schema.Endpoints) {
		t.Errorf("there are %d endpoints, and schemas of %d", len(info.Endpoints), len(schema.Endpoints))
	}
	for _, e := range info.Endpoints {
		for _, of := range []string{"request", "reply"} {
			var s struct{ Title string }
			text := e.Metadata[of+"_schema"]
			if err := json.Unmarshal([]byte(text), &s); (err == nil) != fits || fits && s.Title != e.Metadata[of] || e.Metadata[of] == "" {
				t.Errorf("%s: got the %s %q with the schema %.60q, want that it is there: %t", e.Name, of, e.Metadata[of], text, fits)
			}
		}
	}
}
