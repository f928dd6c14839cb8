// Package schema has the wire contract for machines: a JSON Schema (2020-12) of every request, reply
// and event, and which endpoint takes and answers which.
//
//	for _, e := range schema.Endpoints { fmt.Println(e.Name, schema.Text(e.Request), schema.Text(e.Reply)) }
//
// The files beside this one are made of the types of package protocol, with the limits of
// PROTOCOL.md: go test ./pkg/protocol -update writes them, and asyncapi.json with them. They say
// what to send. The service takes a little more: null, or 0 and "" as PROTOCOL.md says, for a field
// that is left out, and fields that it does not know. Lengths in schemas are characters, where the contract bounds bytes.
package schema

import (
	"bytes"
	"embed"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
)

//go:embed *-request.json *-reply.json *-event.json error.json
var files embed.FS

// Endpoint is one of the service's, by the name that it has in $SRV.INFO.
type Endpoint struct {
	Name           string
	Subject        string // without the prefix; {user}, {gateway} and {writer} stand for one token
	Request, Reply string // names of schemas
	Summary        string
}

// Endpoints are all of them. Every one answers with the schema "error" instead where it refuses.
var Endpoints = []Endpoint{
	{"login", "user.{user}.login", "login-request", "login-reply", "opens a session, or resumes one"},
	{"renew", "user.{user}.renew", "renew-request", "change-reply", "keeps a session live"},
	{"logout", "user.{user}.logout", "logout-request", "change-reply", "ends a session, or all of a user's"},
	{"set", "user.{user}.set", "set-request", "change-reply", "sets a user's text and availability"},
	{"status", "user.{user}.status", "empty-request", "own-status-reply", "what its owner sees of a user, with sessions"},
	{"contacts", "user.{user}.contacts", "contacts-request", "contacts-reply", "reads or changes whom a user knows"},
	{"get", "get", "get-request", "get-reply", "what everybody sees of up to 500 users"},
	{"gateway-open", "gateway.{gateway}.open", "open-request", "lease-reply", "opens a gateway's lease, or resumes it"},
	{"gateway-renew", "gateway.{gateway}.renew", "lease-request", "lease-reply", "keeps a gateway's lease"},
	{"gateway-apply", "gateway.{gateway}.apply", "apply-request", "apply-reply", "up to 1,000 changes by a gateway for its users"},
	{"gateway-close", "gateway.{gateway}.close", "close-request", "lease-reply", "ends a gateway's lease"},
	{"stats", "stats", "empty-request", "stats-reply", "counts, instances, limits and refusals"},
	{"list", "list", "list-request", "list-reply", "all users, page by page"},
	{"explain", "explain", "user-request", "explain-reply", "everything about a user, and why it is so"},
	{"kick", "admin.kick", "kick-request", "kick-reply", "ends a session of a user, or all, for good"},
	{"erase", "admin.erase", "erase-request", "kick-reply", "forgets everything about a user"},
	{"instances", "admin.instances", "instance-request", "instance-reply", "what each instance holds; all answer"},
	{"instance", "admin.instance.{writer}", "instance-request", "instance-reply", "what one instance holds"},
}

// Event is a message that the service publishes.
type Event struct {
	Subject string // as in Endpoint
	Schema  string
	Summary string
}

// Events are all of them.
var Events = []Event{
	{"status.{user}", "status-event", "the public view of a user changed"},
	{"self.{user}", "self-event", "something changed that concerns the user's own devices"},
}

// Text returns the schema of a name as JSON without spaces and descriptions. It panics for a name
// that there is not.
func Text(name string) string {
	text, ok := texts()[name]
	if !ok {
		panic(fmt.Sprintf("schema: there is no %s", name))
	}
	return text
}

// texts are all of them, 35 KiB, from when the first one is asked for.
var texts = sync.OnceValue(func() map[string]string {
	list, err := files.ReadDir(".")
	all := make(map[string]string, len(list))
	for _, f := range list {
		var text []byte
		if err == nil {
			text, err = files.ReadFile(f.Name())
		}
		if err == nil {
			all[strings.TrimSuffix(f.Name(), ".json")], err = compact(text)
		}
	}
	if err != nil { // these files are tested
		panic(fmt.Sprintf("schema: %v", err))
	}
	return all
})

func compact(text []byte) (string, error) {
	var root map[string]any
	if err := json.Unmarshal(text, &root); err != nil {
		return "", err
	}
	strip(root)
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	err := enc.Encode(root)
	return strings.TrimSpace(out.String()), err
}

// strip takes out of a schema what is for people.
func strip(schema map[string]any) {
	delete(schema, "description")
	for _, of := range []string{"properties", "$defs"} {
		list, _ := schema[of].(map[string]any)
		for _, v := range list {
			strip(v.(map[string]any))
		}
	}
	for _, of := range []string{"items", "additionalProperties"} {
		if v, ok := schema[of].(map[string]any); ok {
			strip(v)
		}
	}
}
