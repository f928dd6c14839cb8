package monitoring

import (
	"encoding/json"
	"os"
	"regexp"
	"strings"
	"testing"
)

// panel is what is tested of a panel of a Grafana dashboard.
type panel struct {
	Title   string
	Type    string
	GridPos struct{ H, W, X, Y int }
	Targets []struct{ Expr, LegendFormat string }
}

// legendLabel is a label in a legend.
var legendLabel = regexp.MustCompile(`\{\{(\w+)\}\}`)

// TestDashboard: each query of the dashboard finds what it asks for in what presenced shows, no two
// panels are in the same place, and every metric of presenced's own is on the dashboard.
func TestDashboard(t *testing.T) {
	text, err := os.ReadFile(root + "/deploy/grafana/presence.json")
	if err != nil {
		t.Fatal(err)
	}
	var dashboard struct{ Panels []panel }
	if err := json.Unmarshal(text, &dashboard); err != nil {
		t.Fatal(err)
	}
	// As Grafana fills them in.
	variables := strings.NewReplacer("$__rate_interval", "1m0s", "$instance", ".*")
	all := series(t)
	taken, queries := map[[2]int]string{}, 0
	for _, p := range dashboard.Panels {
		for x := p.GridPos.X; x < p.GridPos.X+p.GridPos.W; x++ {
			for y := p.GridPos.Y; y < p.GridPos.Y+p.GridPos.H; y++ {
				if other := taken[[2]int{x, y}]; other != "" || x >= 24 {
					t.Fatalf("panel %q lies upon panel %q, or beside the dashboard", p.Title, other)
				}
				taken[[2]int{x, y}] = p.Title
			}
		}
		if p.Type != "row" && len(p.Targets) == 0 {
			t.Errorf("panel %q shows nothing", p.Title)
		}
		for _, target := range p.Targets {
			queries++
			query := variables.Replace(target.Expr)
			if err := checkQuery(query, all); err != nil {
				t.Errorf("panel %q: %s: %v", p.Title, target.Expr, err)
			}
			for _, m := range legendLabel.FindAllStringSubmatch(target.LegendFormat, -1) {
				if err := checkLegend(query, m[1], all); err != nil {
					t.Errorf("panel %q: %s: the legend has {{%s}}: %v", p.Title, target.Expr, m[1], err)
				}
			}
		}
	}
	if queries < 50 {
		t.Errorf("the dashboard has only %d queries", queries)
	}
	for _, m := range regexp.MustCompile(`(?m)^# TYPE (presence_\w+) `).FindAllStringSubmatch(string(page), -1) {
		if !strings.Contains(string(text), m[1]) {
			t.Errorf("the dashboard does not show %s", m[1])
		}
	}
}
