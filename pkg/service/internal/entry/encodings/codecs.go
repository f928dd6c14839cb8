// Package encodings compares encodings of a journal entry, to tell whether the
// one of package entry is a good choice. It is a module of its own so that the
// libraries compared are not dependencies of the project. README.md has the
// results.
//
//	go test -bench . -benchtime 0.3s
package encodings

import (
	"encoding/json"

	"github.com/fxamacker/cbor/v2"
	"github.com/vmihailenco/msgpack/v5"

	"presence/pkg/service/internal/entry"
	"presence/pkg/service/internal/entry/encodings/protobuf"
	"presence/pkg/service/internal/entry/encodings/tuple"
)

// codec is one encoding of a certain entry, as it would be used in the service:
// encode makes new bytes, decode reads into a value whose memory it may reuse
// where the library can do so correctly.
type codec struct {
	encode func() ([]byte, error)
	decode func([]byte) error
	// decoded says how many commands and renewals decode found, and the last
	// command's user.
	decoded func() (commands, renewed int, user string)
}

// codecs by the names in the table.
var codecs = []struct {
	name string
	make func(*entry.Entry) codec
}{
	{"msgp map", msgpMap}, // what package entry does
	{"msgp tuple", msgpTuple},
	{"vtprotobuf", vtprotobuf},
	{"cbor keyasint", tagged(cbor.Marshal, cbor.Unmarshal)},
	{"msgpack v5", tagged(msgpack.Marshal, msgpack.Unmarshal)},
	{"encoding/json", tagged(json.Marshal, json.Unmarshal)},
}

func msgpMap(e *entry.Entry) codec {
	var d entry.Entry
	return codec{
		encode: func() ([]byte, error) { return entry.Append(nil, e) },
		decode: func(b []byte) error { return entry.Decode(b, &d) },
		decoded: func() (int, int, string) {
			return len(d.Commands), len(d.Renewed), lastUser(d.Commands, func(c *entry.Command) string { return c.User })
		},
	}
}

func msgpTuple(e *entry.Entry) codec {
	t := tuple.Entry{Header: tuple.Header(e.Header), Renewed: e.Renewed}
	for _, c := range e.Commands {
		t.Commands = append(t.Commands, tuple.Command{
			Kind: uint8(c.Kind), User: c.User, Session: c.Session, Device: c.Device, Platform: c.Platform, TTL: c.TTL,
			Idle: c.Idle, SetIdle: c.SetIdle, All: c.All, Server: c.Server, Client: c.Client, Text: c.Text,
			Expires: c.Expires, IfRevision: c.IfRevision, CheckRevision: c.CheckRevision, Params: tupleParams(c.Params),
		})
	}
	var d tuple.Entry
	return codec{
		encode: func() ([]byte, error) { return t.MarshalMsg(nil) },
		decode: func(b []byte) error { _, err := d.UnmarshalMsg(b); return err },
		decoded: func() (int, int, string) {
			return len(d.Commands), len(d.Renewed), lastUser(d.Commands, func(c *tuple.Command) string { return c.User })
		},
	}
}

func vtprotobuf(e *entry.Entry) codec {
	h := e.Header
	p := &protobuf.Entry{
		Header:  &protobuf.Header{Epoch: h.Epoch, Generation: h.Generation, Writer: h.Writer, Sequence: h.Sequence, LeaseClock: h.LeaseClock, Latest: h.Latest, Flushed: h.Flushed, Knows: uint32(h.Knows), DigestAt: h.DigestAt, Digest: h.Digest},
		Renewed: e.Renewed,
	}
	for _, c := range e.Commands {
		m := &protobuf.Command{
			Kind: uint32(c.Kind), User: c.User, Session: c.Session, Device: c.Device, Platform: c.Platform, Ttl: c.TTL,
			Idle: c.Idle, SetIdle: c.SetIdle, All: c.All, Server: c.Server, Client: c.Client, Text: c.Text,
			Expires: c.Expires, IfRevision: c.IfRevision, CheckRevision: c.CheckRevision,
		}
		if c.Params != nil {
			m.Params = &protobuf.Params{Grace: c.Params.Grace, Retention: c.Params.Retention, Persistent: c.Params.Persistent}
		}
		p.Commands = append(p.Commands, m)
	}
	var d *protobuf.Entry
	return codec{
		encode: p.MarshalVT,
		decode: func(b []byte) error { d = &protobuf.Entry{}; return d.UnmarshalVT(b) },
		decoded: func() (int, int, string) {
			return len(d.Commands), len(d.Renewed), lastUser(d.Commands, func(c **protobuf.Command) string { return (*c).User })
		},
	}
}

// tagged is a library that goes by struct tags. Absent fields are left as they
// were, so each decoding needs an empty value.
func tagged(marshal func(any) ([]byte, error), unmarshal func([]byte, any) error) func(*entry.Entry) codec {
	return func(e *entry.Entry) codec {
		h := e.Header
		t := entryT{
			Header:  headerT{Epoch: h.Epoch, Generation: h.Generation, Writer: h.Writer, Sequence: h.Sequence, LeaseClock: h.LeaseClock, Latest: h.Latest, Flushed: h.Flushed, Knows: h.Knows, DigestAt: h.DigestAt, Digest: h.Digest},
			Renewed: e.Renewed,
		}
		for _, c := range e.Commands {
			t.Commands = append(t.Commands, commandT{
				Kind: uint8(c.Kind), User: c.User, Session: c.Session, Device: c.Device, Platform: c.Platform, TTL: c.TTL,
				Idle: c.Idle, SetIdle: c.SetIdle, All: c.All, Server: c.Server, Client: c.Client, Text: c.Text,
				Expires: c.Expires, IfRevision: c.IfRevision, CheckRevision: c.CheckRevision, Params: taggedParams(c.Params),
			})
		}
		var d *entryT
		return codec{
			encode: func() ([]byte, error) { return marshal(&t) },
			decode: func(b []byte) error { d = &entryT{}; return unmarshal(b, d) },
			decoded: func() (int, int, string) {
				return len(d.Commands), len(d.Renewed), lastUser(d.Commands, func(c *commandT) string { return c.User })
			},
		}
	}
}

func lastUser[C any](commands []C, user func(*C) string) string {
	if len(commands) == 0 {
		return ""
	}
	return user(&commands[len(commands)-1])
}

// The parameters, as little as they matter here: there is one in a whole journal.

func tupleParams(p *entry.Params) *tuple.Params {
	if p == nil {
		return nil
	}
	return &tuple.Params{Grace: p.Grace, Retention: p.Retention, Persistent: p.Persistent}
}

func taggedParams(p *entry.Params) *paramsT {
	if p == nil {
		return nil
	}
	return &paramsT{Grace: p.Grace, Retention: p.Retention, Persistent: p.Persistent}
}
