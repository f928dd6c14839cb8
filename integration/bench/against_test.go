package main

import (
	"context"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestMedianWithin(t *testing.T) {
	if mid, low, high := medianWithin(nil); mid != 0 || low != 0 || high != 0 {
		t.Errorf("of no values: got %v, %v to %v, want zeros", mid, low, high)
	}
	if mid, low, high := medianWithin([]float64{0.9}); mid != 0.9 || low != 0.9 || high != 0.9 {
		t.Errorf("of one value: got %v, %v to %v, want 0.9", mid, low, high)
	}
	// One bad round does not move it, and there is no more than there is.
	values := []float64{1.00, 1.01, 0.99, 1.02, 0.98, 1.00, 1.01, 0.99, 1.00, 1.01, 0.99, 1.02, 0.98, 1.00, 0.1}
	mid, low, high := medianWithin(values)
	if mid != 1 || low < 0.98 || low > 1 || high < 1 || high > 1.02 {
		t.Errorf("got %v, %v to %v, want 1 within 0.98 to 1.02", mid, low, high)
	}
	if _, again, _ := medianWithin(values); again != low {
		t.Errorf("the same values again: got %v, want %v", again, low)
	}
}

// TestMedianWithin_HoldsTheMedian: of many samples whose median is known, the
// interval holds it about as often as it says.
func TestMedianWithin_HoldsTheMedian(t *testing.T) {
	const samples = 300
	held := 0
	for s := range samples {
		values := make([]float64, againstRounds)
		for i := range values {
			// Equally spread over 0.9 to 1.1, by a sequence that never repeats.
			_, fraction := math.Modf(float64(s*againstRounds+i+1) * math.Phi * math.Sqrt(float64(s+2)))
			values[i] = 0.9 + 0.2*fraction
		}
		if _, low, high := medianWithin(values); low <= 1 && 1 <= high {
			held++
		}
	}
	if share := float64(held) / samples; share < 0.80 {
		t.Errorf("the interval held the median in %.2f of the samples, want about 0.90", share)
	}
}

// TestAlternate: each round begins with the one that the round before ended with,
// and the first does not count.
func TestAlternate(t *testing.T) {
	var order []string
	variants := []variant{{name: "a"}, {name: "b"}}
	for i, name := range []string{"a", "b"} {
		variants[i].server = &target{}
		variants[i].run = func(context.Context, time.Duration) (sample, error) {
			order = append(order, name)
			return sample{count: len(order)}, nil
		}
	}
	samples, err := alternate(t.Context(), variants, 3, time.Second)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := strings.Join(order, ""), "baabbaab"; got != want {
		t.Errorf("the order is %s, want %s", got, want)
	}
	var counts []int
	for _, s := range slices.Concat(samples...) {
		counts = append(counts, s.count)
	}
	if want := []int{3, 6, 7, 4, 5, 8}; !slices.Equal(counts, want) {
		t.Errorf("the samples are of the calls %v, want %v", counts, want)
	}
}

func TestAgainstOptions(t *testing.T) {
	for _, c := range []struct {
		args   []string
		rounds int // 0: refused
	}{
		{[]string{"-against", "HEAD"}, againstRounds},
		{[]string{"-against", "HEAD", "-full"}, againstRounds},
		{[]string{"-against", "HEAD", "-rounds", "40", "-only", "set,renew"}, 40},
		{[]string{"-against", "HEAD", "-only", "idle"}, 0},
		{[]string{"-only", "idle"}, 5},
	} {
		o, err := parseOptions(c.args, t.Output())
		if err != nil {
			o.rounds = 0
		}
		if o.rounds != c.rounds {
			t.Errorf("%v: got %d rounds and %v, want %d", c.args, o.rounds, err, c.rounds)
		}
	}
}

// TestBuildCommit: the program is that of the commit, whatever is in the tree now,
// and neither it nor one that cannot be built leaves a work tree behind.
func TestBuildCommit(t *testing.T) {
	repo := t.TempDir()
	git := func(args ...string) string {
		out, err := command(t.Context(), repo, "git", append([]string{"-c", "user.name=test", "-c", "user.email=test@example.com"}, args...)...)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	write := func(name, text string) {
		path := filepath.Join(repo, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	commit := func(body string) string {
		write("cmd/presenced/main.go", "package main\n\nfunc main() { "+body+" }\n")
		git("add", "-A")
		git("commit", "-q", "-m", "a step")
		return git("rev-parse", "HEAD")
	}
	git("init", "-q")
	write("go.mod", "module presence\n\ngo 1.21\n")
	first := commit(`println("first")`)
	broken := commit(`nonsense`)
	commit(`println("now")`)

	program, name, err := buildCommit(t.Context(), filepath.Join(repo, "cmd"), t.TempDir(), first)
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(program).CombinedOutput()
	if got := strings.TrimSpace(string(out)); err != nil || got != "first" {
		t.Errorf("the program says %q, %v, want that of the first commit", got, err)
	}
	if !strings.HasPrefix(first, name) || name == "" {
		t.Errorf("the name is %q, want the beginning of %s", name, first)
	}
	for _, wrong := range []string{broken, "no-such-commit", "--help", ""} {
		if _, _, err := buildCommit(t.Context(), repo, t.TempDir(), wrong); err == nil {
			t.Errorf("the commit %q was built", wrong)
		}
	}
	if trees := git("worktree", "list"); strings.Count(trees, "\n") != 0 {
		t.Errorf("work trees are left behind:\n%s", trees)
	}
}
