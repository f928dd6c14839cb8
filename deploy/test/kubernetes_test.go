package deploy

import (
	"bufio"
	"errors"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	apps "k8s.io/api/apps/v1"
	core "k8s.io/api/core/v1"
	networking "k8s.io/api/networking/v1"
	policy "k8s.io/api/policy/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	documents "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/yaml"
)

// kinds are the types of all that there is in the files.
var kinds = map[string]func() meta.Object{
	"apps/v1 StatefulSet":                func() meta.Object { return &apps.StatefulSet{} },
	"apps/v1 Deployment":                 func() meta.Object { return &apps.Deployment{} },
	"v1 Service":                         func() meta.Object { return &core.Service{} },
	"policy/v1 PodDisruptionBudget":      func() meta.Object { return &policy.PodDisruptionBudget{} },
	"networking.k8s.io/v1 NetworkPolicy": func() meta.Object { return &networking.NetworkPolicy{} },
}

// load reads all files of a folder. A field that a type does not have is an error.
func load(t *testing.T, folder string) (objects []meta.Object) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("../kubernetes", folder, "*.yaml"))
	if err != nil || len(files) == 0 {
		t.Fatalf("%s: %v, %d files", folder, err, len(files))
	}
	for _, file := range files {
		for split := documents.NewYAMLReader(bufio.NewReader(strings.NewReader(read(t, file)))); ; {
			text, err := split.Read()
			if errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				t.Fatalf("%s: %v", file, err)
			}
			var kind meta.TypeMeta
			if err := yaml.Unmarshal(text, &kind); err != nil {
				t.Fatalf("%s: %v", file, err)
			}
			make, ok := kinds[kind.APIVersion+" "+kind.Kind]
			if !ok {
				t.Fatalf("%s: the test knows no %s of %s", file, kind.Kind, kind.APIVersion)
			}
			object := make()
			if err := yaml.UnmarshalStrict(text, object); err != nil {
				t.Fatalf("%s: %v", file, err)
			}
			objects = append(objects, object)
		}
	}
	return objects
}

// find returns the objects of one type.
func find[T meta.Object](objects []meta.Object) (found []T) {
	for _, o := range objects {
		if x, ok := o.(T); ok {
			found = append(found, x)
		}
	}
	return found
}

func TestKubernetes_Embedded(t *testing.T) {
	objects := load(t, "embedded")
	sets := find[*apps.StatefulSet](objects)
	if len(sets) != 1 {
		t.Fatalf("got %d StatefulSets, want 1", len(sets))
	}
	set := sets[0].Spec
	checkPod(t, &set.Template, set.Selector)
	checkSelectors(t, objects, set.Template.Labels)
	if *set.Replicas != 3 || set.PodManagementPolicy != apps.ParallelPodManagement || set.UpdateStrategy.Type != apps.RollingUpdateStatefulSetStrategyType {
		t.Errorf("got %d replicas, %s, %s, want 3 that start together and are replaced one by one", *set.Replicas, set.PodManagementPolicy, set.UpdateStrategy.Type)
	}

	// A server that is not ready has to be found: the others make it ready.
	found := false
	for _, s := range find[*core.Service](objects) {
		found = found || s.Name == set.ServiceName && s.Spec.ClusterIP == core.ClusterIPNone && s.Spec.PublishNotReadyAddresses
	}
	if !found {
		t.Errorf("no Service without an address of its own is named %s and publishes what is not ready", set.ServiceName)
	}

	c := set.Template.Spec.Containers[0]
	for _, name := range variables(t) {
		given := strings.HasSuffix(name, "_PASSWORD") // of the Secret, see TestPasswords
		for _, e := range c.Env {
			given = given || e.Name == name
			if name != "CLUSTER_ROUTES" || e.Name != name {
				continue
			}
			for _, pod := range []string{"presence-0", "presence-1", "presence-2"} {
				if !strings.Contains(e.Value, "cluster:$(CLUSTER_PASSWORD)@"+pod+"."+set.ServiceName+":6222") {
					t.Errorf("%s is %s, without %s", name, e.Value, pod)
				}
			}
		}
		if !given {
			t.Errorf("cluster.conf takes %s from the environment, and it is not there", name)
		}
	}
	if len(c.EnvFrom) != 1 || c.EnvFrom[0].SecretRef == nil || c.EnvFrom[0].SecretRef.Name != "presence" {
		t.Errorf("the passwords come from %+v, want the Secret presence", c.EnvFrom)
	}
}

func TestKubernetes_External(t *testing.T) {
	objects := load(t, "external")
	sets := find[*apps.Deployment](objects)
	if len(sets) != 1 {
		t.Fatalf("got %d Deployments, want 1", len(sets))
	}
	checkPod(t, &sets[0].Spec.Template, sets[0].Spec.Selector)
	checkSelectors(t, objects, sets[0].Spec.Template.Labels)
	if u := sets[0].Spec.Strategy.RollingUpdate; u == nil || u.MaxUnavailable.IntValue() != 0 {
		t.Errorf("got %+v, want no instance less while they are replaced", u)
	}
}

// drained is how long presenced takes to stop at most: three steps of 10 s, and some for the server
// inside.
const drained = 35

// checkPod holds a pod to what presenced needs, and to no more rights than that.
func checkPod(t *testing.T, pod *core.PodTemplateSpec, selector *meta.LabelSelector) {
	t.Helper()
	if !matches(selector, pod.Labels) {
		t.Errorf("the selector %v is not of the pods, %v", selector.MatchLabels, pod.Labels)
	}
	s := pod.Spec.SecurityContext
	if s == nil || s.RunAsNonRoot == nil || !*s.RunAsNonRoot || *s.RunAsUser != 65532 || *s.FSGroup != 65532 || s.SeccompProfile.Type != core.SeccompProfileTypeRuntimeDefault {
		t.Errorf("the pod's security context is %+v", s)
	}
	if len(pod.Spec.Containers) != 1 {
		t.Fatalf("got %d containers, want 1", len(pod.Spec.Containers))
	}
	c := pod.Spec.Containers[0]
	if s := c.SecurityContext; s == nil || *s.AllowPrivilegeEscalation || !*s.ReadOnlyRootFilesystem || !slices.Equal(s.Capabilities.Drop, []core.Capability{"ALL"}) {
		t.Errorf("the container's security context is %+v", s)
	}
	for what, x := range map[string]struct {
		probe *core.Probe
		path  string
	}{"liveness": {c.LivenessProbe, "/healthz"}, "startup": {c.StartupProbe, "/healthz"}, "readiness": {c.ReadinessProbe, "/readyz"}} {
		switch {
		case x.probe == nil || x.probe.HTTPGet == nil || x.probe.HTTPGet.Path != x.path:
			t.Errorf("the probe of %s is %+v, want %s", what, x.probe, x.path)
		case !slices.ContainsFunc(c.Ports, func(p core.ContainerPort) bool { return p.Name == x.probe.HTTPGet.Port.String() }):
			t.Errorf("the probe of %s is on port %s, which is none of the container's", what, x.probe.HTTPGet.Port.String())
		}
	}
	before := int64(0)
	if c.Lifecycle != nil && c.Lifecycle.PreStop != nil && c.Lifecycle.PreStop.Sleep != nil {
		before = c.Lifecycle.PreStop.Sleep.Seconds
	}
	if got := pod.Spec.TerminationGracePeriodSeconds; got == nil || *got < before+drained {
		t.Errorf("a pod has too little time to stop, want at least %d s", before+drained)
	}
	volumes := map[string]bool{"data": true} // of the claim
	for _, v := range pod.Spec.Volumes {
		volumes[v.Name] = true
	}
	for _, m := range c.VolumeMounts {
		if !volumes[m.Name] {
			t.Errorf("there is no volume %s", m.Name)
		}
	}
}

// checkSelectors: services, budgets and policies are about the pods.
func checkSelectors(t *testing.T, objects []meta.Object, labels map[string]string) {
	t.Helper()
	budgets := find[*policy.PodDisruptionBudget](objects)
	if len(budgets) != 1 || budgets[0].Spec.MaxUnavailable.IntValue() != 1 {
		t.Errorf("got %d budgets, want one by which one pod may be away", len(budgets))
	}
	for _, b := range budgets {
		if !matches(b.Spec.Selector, labels) {
			t.Errorf("the budget %s is not of the pods", b.Name)
		}
	}
	for _, s := range find[*core.Service](objects) {
		if !matches(&meta.LabelSelector{MatchLabels: s.Spec.Selector}, labels) {
			t.Errorf("the service %s is not of the pods", s.Name)
		}
	}
	for _, p := range find[*networking.NetworkPolicy](objects) {
		if !matches(&p.Spec.PodSelector, labels) {
			t.Errorf("the policy %s is not of the pods", p.Name)
		}
	}
}

func matches(s *meta.LabelSelector, labels map[string]string) bool {
	if s == nil || len(s.MatchLabels) == 0 {
		return false
	}
	for k, v := range s.MatchLabels {
		if labels[k] != v {
			return false
		}
	}
	return true
}
