package broker_test

import (
	"slices"
	"testing"

	"presence/pkg/protocol"

	"github.com/nats-io/nats-server/v2/server"
)

// The documented example has the permissions of PROTOCOL 9.
func TestExampleHasThePermissionsOfTheContract(t *testing.T) {
	for _, v := range []string{"SERVER_NAME", "STORE_DIR", "CLUSTER_PASSWORD", "SYS_PASSWORD", "ALICE_PASSWORD", "GW1_PASSWORD", "READER_PASSWORD", "OPERATOR_PASSWORD"} {
		t.Setenv(v, "x")
	}
	t.Setenv("CLIENT_LISTEN", "127.0.0.1:4222")
	t.Setenv("CLUSTER_LISTEN", "127.0.0.1:6222")
	t.Setenv("CLUSTER_ROUTES", "[]")
	opts := &server.Options{}
	if err := opts.ProcessConfigFile("../../cmd/presenced/example/cluster.conf"); err != nil {
		t.Fatal(err)
	}
	roles := map[string]protocol.Role{
		"alice": protocol.RoleUser, "gw1": protocol.RoleGateway, "reader": protocol.RoleReader, "operator": protocol.RoleOperator,
	}
	for _, u := range opts.Users {
		role, ok := roles[u.Username]
		if !ok || u.Permissions == nil {
			continue
		}
		delete(roles, u.Username)
		p := subjects.Permissions(role, u.Username)
		for _, list := range []struct {
			what      string
			got, want []string
		}{
			{"publish", u.Permissions.Publish.Allow, p.Publish.Allow},
			{"publish, denied", u.Permissions.Publish.Deny, p.Publish.Deny},
			{"subscribe", u.Permissions.Subscribe.Allow, p.Subscribe.Allow},
			{"subscribe, denied", u.Permissions.Subscribe.Deny, p.Subscribe.Deny},
		} {
			if !slices.Equal(list.got, list.want) {
				t.Errorf("%s, %s: got %q, want %q", u.Username, list.what, list.got, list.want)
			}
		}
	}
	if len(roles) > 0 {
		t.Errorf("the example has no users %v", roles)
	}
}
