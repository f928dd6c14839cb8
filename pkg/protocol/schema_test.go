package protocol_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	generator "github.com/invopop/jsonschema"
	validator "github.com/santhosh-tekuri/jsonschema/v6"

	"presence/pkg/protocol"
	"presence/pkg/protocol/schema"
)

// messages are the types behind the schemas, by the names of these.
var messages = map[string]any{
	"empty-request": struct{}{}, "login-request": protocol.LoginRequest{}, "renew-request": protocol.RenewRequest{}, "logout-request": protocol.LogoutRequest{},
	"set-request": protocol.SetRequest{}, "contacts-request": protocol.ContactsRequest{}, "get-request": protocol.GetRequest{},
	"open-request": protocol.OpenRequest{}, "lease-request": protocol.LeaseRequest{}, "apply-request": protocol.ApplyRequest{}, "close-request": protocol.CloseRequest{},
	"list-request": protocol.ListRequest{}, "user-request": protocol.UserRequest{}, "kick-request": protocol.KickRequest{}, "erase-request": protocol.EraseRequest{},
	"instance-request": protocol.InstanceRequest{},

	"login-reply": protocol.LoginReply{}, "change-reply": protocol.ChangeReply{}, "own-status-reply": protocol.OwnStatusReply{}, "contacts-reply": protocol.ContactsReply{},
	"get-reply": protocol.GetReply{}, "lease-reply": protocol.LeaseReply{}, "apply-reply": protocol.ApplyReply{}, "stats-reply": protocol.StatsReply{},
	"list-reply": protocol.ListReply{}, "explain-reply": protocol.ExplainReply{}, "kick-reply": protocol.KickReply{}, "instance-reply": protocol.InstanceReply{},

	"status-event": protocol.Event{}, "self-event": protocol.SelfEvent{}, "error": protocol.Error{},
}

// Schemas of the contract's own kinds of value.
var (
	anID      = generator.Schema{Type: "string", Pattern: `^[A-Za-z0-9_-]{1,64}$`}
	aUserID   = generator.Schema{Type: "string", MinLength: count(1), MaxLength: count(protocol.MaxUserIDBytes), Pattern: `^[^\x00-\x1f\x7f-\x9f]*$`}
	aRevision = generator.Schema{Type: "integer", Minimum: "0", Maximum: json.Number(strconv.Itoa(protocol.MaxRevision))}
	anExpiry  = generator.Schema{Type: "integer", Minimum: "1", Maximum: seconds(protocol.MaxExpiry)}
	aText     = generator.Schema{Type: "string", MaxLength: count(protocol.MostCustomStatusBytes)}
	aTTL      = generator.Schema{Type: "integer", Minimum: seconds(protocol.MinTTL), Maximum: seconds(protocol.MaxTTL)}
)

func count(n int) *uint64 { u := uint64(n); return &u }

func seconds(d time.Duration) json.Number { return json.Number(strconv.Itoa(int(d / time.Second))) }

// listOf is a list of so many.
func listOf(items generator.Schema, least, most int) generator.Schema {
	s := generator.Schema{Type: "array", Items: &items, MaxItems: count(most)}
	if least > 0 {
		s.MinItems = count(least)
	}
	return s
}

// limits are what the contract says of fields, by their names: of one type's, or of every type's.
var limits = map[string]generator.Schema{
	"userID": aUserID, "sessionID": anID, "process": anID,
	"revision": aRevision, "previousRevision": aRevision, "ifRevision": aRevision, "minRevision": aRevision,
	"customStatus": aText, "expiresInSeconds": anExpiry, "availabilityExpiresInSeconds": anExpiry,
	"device":   {Type: "string", MaxLength: count(protocol.MaxDeviceBytes)},
	"platform": {Type: "string", Pattern: `^[a-z0-9-]{1,32}$`},
	"serverID": {Type: "string", Pattern: `^[A-Za-z0-9_-]{1,128}$`}, "clientID": {Type: "integer", Minimum: "1"},

	"LoginRequest.ttlSeconds": aTTL, "OpenRequest.ttlSeconds": aTTL,
	"LoginRequest.graceSeconds": {Type: "integer", Minimum: seconds(protocol.MinGrace), Maximum: seconds(protocol.MaxGrace)},
	"OpenRequest.graceSeconds":  {Type: "integer", Minimum: seconds(protocol.MinGrace), Maximum: seconds(protocol.MaxGrace)},

	"GetRequest.userIDList":      listOf(generator.Schema{Type: "string"}, 1, protocol.MaxUsersPerGet), // what is wrong with one fails that one
	"InstanceRequest.userIDList": listOf(aUserID, 0, protocol.MaxExplained),
	"InstanceRequest.from":       {Type: "integer", Minimum: "0"},
	"InstanceRequest.limit":      {Type: "integer", Minimum: "0", Maximum: json.Number(strconv.Itoa(protocol.MaxUsersPerInstancePage))},
	"ListRequest.limit":          {Type: "integer", Minimum: "0", Maximum: json.Number(strconv.Itoa(protocol.MaxUsersPerList))},
	"ContactsRequest.add":        listOf(aUserID, 0, protocol.MaxContacts),
	"ContactsRequest.remove":     listOf(aUserID, 0, protocol.MaxContacts),
	"ContactsRequest.replace":    listOf(aUserID, 0, protocol.MaxContacts),
	"ApplyRequest.seq":           {Type: "integer", Minimum: "1", Maximum: json.Number(strconv.Itoa(protocol.MaxRevision))},

	"Op.userID": {Type: "string"}, "Op.sessionID": {Type: "string"}, "UserFailure.userID": {Type: "string"}, "OpFailure.userID": {Type: "string"}, // as they were sent
	"Op.op":          {Type: "string", Enum: []any{protocol.OpKindLogin, protocol.OpKindLogout, protocol.OpKindLost, protocol.OpKindIdle, protocol.OpKindSet}},
	"SelfEvent.type": {Type: "string", Enum: []any{protocol.SelfStatus, protocol.SelfSessions, protocol.SelfAvailability, protocol.SelfKicked, protocol.SelfContacts}},
}

// values are the schemas of types that are no structs.
var values = map[reflect.Type]*generator.Schema{
	reflect.TypeFor[protocol.Time]():         {Type: "string", Format: "date-time", Pattern: `^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$`},
	reflect.TypeFor[protocol.StatusType]():   {Type: "integer", Enum: []any{0, 1, 2, 3}, Description: "0 UNKNOWN, 1 ONLINE, 2 OFFLINE, 3 UNLOGINED"},
	reflect.TypeFor[protocol.Availability](): {Type: "string", Enum: []any{protocol.Available, protocol.Away, protocol.Busy, protocol.DND, protocol.Invisible}},
	reflect.TypeFor[protocol.Cause](): {Type: "string", Enum: []any{protocol.CauseLogin, protocol.CauseLogout, protocol.CauseLost, protocol.CauseSet,
		protocol.CauseExpired, protocol.CauseKicked, protocol.CauseErased}},
	reflect.TypeFor[protocol.EndReason](): {Type: "string", Enum: []any{protocol.EndReplaced, protocol.EndKicked, protocol.EndLogout, protocol.EndErased}},
}

// generate makes the schema of one message.
func generate(t *testing.T, name string) *generator.Schema {
	t.Helper()
	r := &generator.Reflector{
		Anonymous: true, AllowAdditionalProperties: true, ExpandedStruct: true,
		Mapper: func(of reflect.Type) *generator.Schema {
			if s, ok := values[of]; ok {
				c := *s
				return &c
			}
			return nil
		},
	}
	if err := r.AddGoComments("presence/pkg/protocol", "."); err != nil {
		t.Fatal(err)
	}
	// Comments of the package are found below its path.
	for key, text := range maps.Clone(r.CommentMap) {
		r.CommentMap[strings.Replace(key, "presence/pkg/protocol/.", "presence/pkg/protocol.", 1)] = text
	}
	of := reflect.TypeOf(messages[name])
	s := r.ReflectFromType(of)
	s.Title = name
	limit(of.Name(), s)
	for def, d := range s.Definitions {
		limit(def, d)
	}
	return s
}

// limit puts the contract's limits into the schema of a struct. What protocol says of a field stays.
func limit(of string, s *generator.Schema) {
	if s.Properties == nil {
		return
	}
	for p := s.Properties.Oldest(); p != nil; p = p.Next() {
		l, ok := limits[of+"."+p.Key]
		if !ok {
			l, ok = limits[p.Key]
		}
		if ok {
			l.Description = p.Value.Description
			p.Value = &l
		}
	}
	if of == "ApplyRequest" {
		ops, _ := s.Properties.Get("ops")
		ops.MinItems, ops.MaxItems = count(1), count(protocol.MaxOpsPerApply)
	}
}

// TestSchemas pins the schemas, and what AsyncAPI says of them.
func TestSchemas(t *testing.T) {
	names := map[string]bool{"error": true}
	for _, e := range schema.Endpoints {
		names[e.Request], names[e.Reply] = true, true
	}
	for _, e := range schema.Events {
		names[e.Schema] = true
	}
	if got, want := slices.Sorted(maps.Keys(messages)), slices.Sorted(maps.Keys(names)); !slices.Equal(got, want) {
		t.Fatalf("there are the messages\n%q, endpoints and events have\n%q", got, want)
	}
	for name := range messages {
		golden(t, filepath.Join("schema", name+".json"), generate(t, name))
	}
	golden(t, filepath.Join("schema", "asyncapi.json"), asyncAPI())
	files, err := filepath.Glob("schema/*.json")
	if want := len(messages) + 1; err != nil || len(files) != want {
		t.Errorf("there are %d files, %v, want %d: remove what nothing writes any more", len(files), err, want)
	}
}

// golden compares a file with what it should have.
func golden(t *testing.T, path string, v any) {
	t.Helper()
	var got bytes.Buffer
	enc := json.NewEncoder(&got)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(v); err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile(path, got.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if want, _ := os.ReadFile(path); !bytes.Equal(got.Bytes(), want) {
		t.Errorf("%s is not what the types of package protocol say: go test ./pkg/protocol -update writes it anew", path)
	}
}

type object = map[string]any

// asyncAPI is the contract as an AsyncAPI 3 document. It names the schemas' files.
func asyncAPI() object {
	channels, operations, components := object{}, object{}, object{}
	message := func(name string) object {
		components[name] = object{"name": name, "contentType": "application/json",
			"payload": object{"schemaFormat": "application/schema+json;version=draft-2020-12", "schema": object{"$ref": "./" + name + ".json"}}}
		return object{"$ref": "#/components/messages/" + name}
	}
	channel := func(name, subject string, messages ...string) object {
		c := object{"address": protocol.DefaultPrefix + "." + subject, "messages": object{}}
		for _, m := range messages {
			c["messages"].(object)[m] = message(m)
		}
		for token := range strings.SplitSeq(subject, ".") {
			if p, ok := strings.CutPrefix(token, "{"); ok {
				c["parameters"] = object{strings.TrimSuffix(p, "}"): object{"$ref": "#/components/parameters/" + strings.TrimSuffix(p, "}")}}
			}
		}
		channels[name] = c
		return object{"$ref": "#/channels/" + name}
	}
	in := func(channel, message string) object {
		return object{"$ref": "#/channels/" + channel + "/messages/" + message}
	}
	for _, e := range schema.Endpoints {
		answers := e.Name + "-answer"
		channels[answers] = object{"address": nil, "description": "the reply subject of the request",
			"messages": object{e.Reply: message(e.Reply), "error": message("error")}}
		operations[e.Name] = object{"action": "receive", "summary": e.Summary,
			"channel":  channel(e.Name, e.Subject, e.Request),
			"messages": []any{in(e.Name, e.Request)},
			"reply":    object{"channel": object{"$ref": "#/channels/" + answers}, "messages": []any{in(answers, e.Reply), in(answers, "error")}}}
	}
	for _, e := range schema.Events {
		name, _, _ := strings.Cut(e.Subject, ".")
		name += "-events"
		operations[name] = object{"action": "send", "summary": e.Summary, "channel": channel(name, e.Subject, e.Schema), "messages": []any{in(name, e.Schema)}}
	}
	return object{
		"asyncapi": "3.0.0",
		"info": object{"title": protocol.ServiceName, "version": "1",
			"description": "User presence over NATS. PROTOCOL.md is normative: it says what the messages mean, and when which is sent."},
		"defaultContentType": "application/json",
		"channels":           channels,
		"operations":         operations,
		"components": object{"messages": components, "parameters": object{
			"user":    object{"description": "a user ID as a token: every byte but A-Z a-z 0-9 _ - is = and two upper-case hex digits"},
			"gateway": object{"description": "a gateway's ID: 1 to 64 of A-Z a-z 0-9 _ -"},
			"writer":  object{"description": "one start of one instance, as stats names it"},
		}},
	}
}

// compile makes a validator of a schema's file.
func compile(t *testing.T, name string) *validator.Schema {
	t.Helper()
	s, err := validator.NewCompiler().Compile(filepath.Join("schema", name+".json"))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestSchemas_GoldenMessages: the golden messages are what the schemas say.
func TestSchemas_GoldenMessages(t *testing.T) {
	checked := map[string]bool{}
	for _, name := range slices.Sorted(maps.Keys(messages)) {
		s := compile(t, name)
		pattern := name + "*.json"
		if name == "status-event" {
			pattern = "event.json"
		}
		files, _ := filepath.Glob(filepath.Join("testdata", pattern))
		for _, file := range files {
			if err := s.Validate(load(t, file)); err != nil {
				t.Errorf("%s: %v", file, err)
			}
			checked[name] = true
		}
		if !checked[name] && name != "empty-request" {
			t.Errorf("there is no golden message of %s", name)
		}
	}
}

func load(t *testing.T, file string) any {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return parse(t, string(text))
}

func parse(t *testing.T, text string) any {
	t.Helper()
	v, err := validator.UnmarshalJSON(strings.NewReader(text))
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return v
}

// TestSchemas_Refuse: what a schema refuses the service refuses, and what the service takes a schema
// takes.
func TestSchemas_Refuse(t *testing.T) {
	long, id := strings.Repeat("x", 129), strings.Repeat("x", 64)
	for name, bodies := range map[string]map[string]bool{ // whether it is valid
		"login-request": {`{}`: true, `{"ttlSeconds":5}`: true, `{"ttlSeconds":4}`: false, `{"ttlSeconds":3601}`: false, `{"graceSeconds":300}`: true, `{"graceSeconds":301}`: false,
			`{"sessionID":"` + id + `"}`: true, `{"sessionID":"` + id + `x"}`: false, `{"sessionID":"a b"}`: false, `{"platform":"Web"}`: false, `{"device":"` + long + `"}`: false,
			`{"connection":{"serverID":"N","clientID":1}}`: true, `{"connection":{"serverID":"N.x","clientID":1}}`: false, `{"connection":{"serverID":"N"}}`: false,
			`{"idle":1}`: false, `{"later":1}`: true},
		"set-request": {`{"customStatus":"x","expiresInSeconds":1}`: true, `{"customStatus":"x","expiresInSeconds":0}`: false, `{"customStatus":"x","expiresInSeconds":31622400}`: true,
			`{"customStatus":"x","expiresInSeconds":31622401}`: false, `{"availability":"busy"}`: true, `{"availability":"Busy"}`: false, `{"customStatus":"","ifRevision":-1}`: false},
		"get-request":      {`{"userIDList":["a"]}`: true, `{"userIDList":[]}`: false, `{}`: false, `{"userIDList":"a"}`: false},
		"contacts-request": {`{}`: true, `{"add":["a"]}`: true, `{"add":[""]}`: false, `{"replace":["` + long + `"]}`: false, `{"add":["a\u0007"]}`: false},
		"list-request":     {`{"limit":500}`: true, `{"limit":501}`: false, `{"statusType":3}`: true, `{"statusType":4}`: false},
		"user-request":     {`{"userID":"a"}`: true, `{"userID":""}`: false, `{}`: false},
		"apply-request":    {`{"process":"p","seq":1,"ops":[{"op":"lost","userID":"a","sessionID":"s"}]}`: true, `{"process":"p","seq":0,"ops":[{"op":"lost","userID":"a"}]}`: false, `{"process":"p","seq":1,"ops":[]}`: false},
		"lease-request":    {`{"process":"p"}`: true, `{"process":"p.q"}`: false, `{}`: false},
		"instance-request": {`{"limit":500}`: true, `{"limit":501}`: false, `{"from":-1}`: false},
	} {
		s := compile(t, name)
		for body, valid := range bodies {
			if err := s.Validate(parse(t, body)); (err == nil) != valid {
				t.Errorf("the schema %s, %s: got %v, want valid: %t", name, body, err, valid)
			}
			if err := accept(name, body); (err == nil) != valid {
				t.Errorf("the service, %s %s: got %v, want valid: %t", name, body, err, valid)
			}
		}
	}
}

// accept reads and checks a request as the service does.
func accept(name, body string) error {
	v := reflect.New(reflect.TypeOf(messages[name])).Interface()
	if err := protocol.Unmarshal([]byte(body), v); err != nil {
		return err
	}
	switch r := v.(type) {
	case interface{ Check() error }:
		return r.Check()
	case interface{ Check(maxText int) error }:
		return r.Check(protocol.MaxCustomStatusBytes)
	}
	return fmt.Errorf("%s has no check", name)
}
