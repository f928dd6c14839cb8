package deploy

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/compose-spec/compose-go/v2/types"
)

// passwords are the variables of the Secret and of deploy/.env, as docs/deploy.md makes them.
func passwords(t *testing.T) (names []string) {
	t.Helper()
	m := regexp.MustCompile(`(?m)^for name in (.+); do$`).FindStringSubmatch(read(t, "../../docs/deploy.md"))
	if m == nil {
		t.Fatal("docs/deploy.md makes no passwords")
	}
	for name := range strings.FieldsSeq(m[1]) {
		names = append(names, name+"_PASSWORD")
	}
	return names
}

// TestPasswords: whoever does what docs/deploy.md says has all passwords of cluster.conf.
func TestPasswords(t *testing.T) {
	made := strings.Join(passwords(t), " ") + " "
	for _, name := range variables(t) {
		if strings.HasSuffix(name, "_PASSWORD") && !strings.Contains(made, name+" ") {
			t.Errorf("cluster.conf needs %s, and docs/deploy.md does not make it", name)
		}
	}
}

func TestCompose(t *testing.T) {
	var env []string
	for _, name := range passwords(t) {
		env = append(env, name+"=secret")
	}
	options, err := cli.NewProjectOptions([]string{"../compose.yaml"}, cli.WithEnv(env))
	if err != nil {
		t.Fatal(err)
	}
	project, err := options.LoadProject(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	routes := ""
	for _, name := range []string{"presence-1", "presence-2", "presence-3"} {
		s, ok := project.Services[name]
		if !ok {
			t.Fatalf("there is no %s", name)
		}
		for _, v := range variables(t) {
			if value := s.Environment[v]; value == nil || *value == "" {
				t.Errorf("%s: cluster.conf takes %s from the environment, and it is not there", name, v)
			}
		}
		if got := *s.Environment["SERVER_NAME"]; got != name {
			t.Errorf("%s has the server name %s", name, got)
		}
		if routes = *s.Environment["CLUSTER_ROUTES"]; !strings.Contains(routes, "@"+name+":6222") {
			t.Errorf("the routes are %s, without %s", routes, name)
		}
		if !s.ReadOnly || len(s.CapDrop) != 1 || s.CapDrop[0] != "ALL" || s.StopGracePeriod == nil || s.StopGracePeriod.String() != "45s" {
			t.Errorf("%s: got read_only %t, cap_drop %v, stop_grace_period %v", name, s.ReadOnly, s.CapDrop, s.StopGracePeriod)
		}
		for _, p := range s.Ports {
			checkLoopback(t, name, p)
		}
	}
	for _, name := range []string{"prometheus", "grafana"} {
		for _, p := range project.Services[name].Ports {
			checkLoopback(t, name, p)
		}
		for _, v := range project.Services[name].Volumes {
			if v.Type != types.VolumeTypeBind {
				continue
			}
			if _, err := os.Stat(v.Source); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	for _, c := range project.Configs {
		if _, err := os.Stat(c.File); err != nil {
			t.Error(err)
		}
	}
	if rules := "../prometheus/alerts.yml"; !strings.Contains(read(t, "../prometheus/prometheus.yml"), "rule_files: [alerts.yml]") || read(t, rules) == "" {
		t.Errorf("prometheus.yml does not name %s", rules)
	}
}

// checkLoopback: what is for trying out is reached from this machine only.
func checkLoopback(t *testing.T, name string, p types.ServicePortConfig) {
	t.Helper()
	if p.HostIP != "127.0.0.1" {
		t.Errorf("%s listens on %q, port %s", name, p.HostIP, p.Published)
	}
}
