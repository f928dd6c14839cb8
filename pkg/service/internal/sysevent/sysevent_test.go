package sysevent_test

import (
	"testing"

	"presence/pkg/protocol"
	"presence/pkg/service/internal/sysevent"
)

// FuzzConnections: whatever is published in the system account about connections, it names a
// connection that can exist, or is refused.
func FuzzConnections(f *testing.F) {
	for _, s := range []string{
		`{"server":{"id":"NA"},"client":{"id":7,"acc":"APP"}}`, `{"server":{"id":""},"client":{"id":7}}`, `{"client":{"id":-1}}`, `null`, `[`, ``,
		`{"server":{"id":"NA"},"data":{"connections":[{"cid":1},{"cid":2}]}}`, `{"server":{"id":"NA"},"error":{"description":"no"}}`,
		`$SYS.SERVER.NA.LAMEDUCK`, `{"server":{"id":"NB"},"data":{"connections":[]}}`, `{"server":{"id":"NA"},"data":{"connections":null}}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		server, client, err := sysevent.Closed(data)
		if ok := server != "" && len(server) <= protocol.MaxServerIDBytes && client != 0; err == nil && !ok {
			t.Errorf("accepted %q %d", server, client)
		}
		if id, err := sysevent.Server(data); err == nil && (id == "" || len(id) > protocol.MaxServerIDBytes) {
			t.Errorf("accepted the server %q", id)
		}
		if id, err := sysevent.LameDuck(string(data)); err == nil && (id == "" || len(id) > protocol.MaxServerIDBytes) {
			t.Errorf("accepted the server %q in lame duck mode", id)
		}
		if ids, err := sysevent.Connections(data, "NA"); err == nil && len(ids)*len(`{}`) > len(data) {
			t.Errorf("%d connections of %d bytes", len(ids), len(data))
		}
	})
}
