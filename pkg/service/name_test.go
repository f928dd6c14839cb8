package service_test

import (
	"encoding/json"
	"testing"

	"presence/pkg/protocol"
	"presence/pkg/service"
	"presence/pkg/service/servicetest"

	"github.com/nats-io/nats.go"
)

// TestInstanceNames: every instance knows the name and version of each other one, also of one that
// has stopped. Each running one can be asked by its ID.
func TestInstanceNames(t *testing.T) {
	t.Parallel()
	named := func(host, version string) servicetest.Option {
		return servicetest.WithService(func(c *service.Config) { c.Host, c.Version = host, version })
	}
	k := servicetest.Start(t, named("node1.example.com", "1.4.0"))
	k.AddInstance(t, named("presence 2", "1.4.1-rc.1+d5ac433"))
	gone := k.AddInstance(t, named("presence-3", "1.3.9"))
	gone.Stop(t)

	nc := k.Connect(t)
	var stats protocol.StatsReply
	if err := json.Unmarshal(ask(t, nc, subjects.Stats(), "{}"), &stats); err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"node1.example.com": "1.4.0", "presence 2": "1.4.1-rc.1+d5ac433", "presence-3": "1.3.9"}
	if len(stats.Instances) != len(want) {
		t.Errorf("got the instances %+v, want %v", stats.Instances, want)
	}
	for _, i := range stats.Instances {
		if want[i.Host] == "" || want[i.Host] != i.Version {
			t.Errorf("got %+v, want one of %v", i, want)
		}
		if i.Host == "presence-3" {
			continue // it is gone
		}
		var reply protocol.InstanceReply
		if err := json.Unmarshal(ask(t, nc, subjects.Instance(i.Writer), "{}"), &reply); err != nil {
			t.Fatal(err)
		}
		if reply.Writer != i.Writer || reply.Host != i.Host || reply.Version != i.Version {
			t.Errorf("%s says of itself %+v", i.Host, reply)
		}
	}
}

func ask(t *testing.T, nc *nats.Conn, subject, body string) []byte {
	t.Helper()
	m, err := nc.Request(subject, []byte(body), waitFor)
	if err != nil {
		t.Fatalf("%s: %v", subject, err)
	}
	if m.Header.Get(protocol.ErrorHeader) != "" {
		t.Fatalf("%s: %s", subject, m.Data)
	}
	return m.Data
}
