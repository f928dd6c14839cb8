package service_test

import (
	"testing"
	"time"

	"presence/pkg/protocol"
	"presence/pkg/service/servicetest"
)

// TestLookUp_SilentServer: a server that does not answer soon gives up its place among the servers
// that are asked. A client can make up any number of server IDs.
func TestLookUp_SilentServer(t *testing.T) {
	t.Parallel()
	kit := servicetest.Start(t)
	s, nc := kit.Instances[0].Service, kit.Connect(t)
	login, _ := subjects.Login("alice")
	status, _ := subjects.OwnStatus("alice")
	body := protocol.LoginRequest{SessionID: "s", TTLSeconds: 3600, Connection: &protocol.Connection{ServerID: "NOWHERE", ClientID: 7}}
	if err := request(t, nc, login, body, nil); err != nil {
		t.Fatal(err)
	}
	servicetest.Eventually(t, soon, "the session to be unbound", func() bool {
		var own protocol.OwnStatusReply
		err := request(t, nc, status, map[string]any{}, &own)
		return err == nil && len(own.Sessions) == 1 && !own.Sessions[0].Bound
	})
	// It was kept for 10 s and more.
	servicetest.Eventually(t, 5*time.Second, "the server's place to be free", func() bool { return s.Figures().Remembered["servers-asked"] == 0 })
}
