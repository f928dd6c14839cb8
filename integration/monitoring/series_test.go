package monitoring

import (
	"bytes"
	"fmt"
	"slices"
	"testing"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/textparse"
	"github.com/prometheus/prometheus/promql/parser"
)

// targetLabels are those that Prometheus adds to each series that it scrapes.
var targetLabels = labels.FromStrings("instance", "127.0.0.1:8222", "job", "presence")

// series returns all series of the page of figures, as Prometheus stores them.
func series(t *testing.T) (all []labels.Labels) {
	t.Helper()
	p, err := textparse.New(page, "text/plain", labels.NewSymbolTable(), textparse.ParserOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for {
		kind, err := p.Next()
		if err != nil {
			break // the end; TestLint sees what cannot be parsed
		}
		if kind != textparse.EntrySeries {
			continue
		}
		var l labels.Labels
		p.Labels(&l)
		b := labels.NewBuilder(l)
		targetLabels.Range(func(l labels.Label) { b.Set(l.Name, l.Value) })
		all = append(all, b.Labels())
	}
	if len(all) < 100 || !bytes.Contains(page, []byte("presence_ready 1\n")) {
		t.Fatalf("the page has only %d series, or presenced was not ready", len(all))
	}
	return all
}

// checkQuery returns what is wrong with a query: it cannot be parsed, it selects a series that is
// not there, or it groups by a label that what it selects does not have.
func checkQuery(query string, all []labels.Labels) error {
	expr, err := parser.NewParser(parser.Options{}).ParseExpr(query)
	if err != nil {
		return err
	}
	parser.Inspect(expr, func(node parser.Node, path []parser.Node) error {
		if s, ok := node.(*parser.VectorSelector); ok && err == nil {
			err = checkSelector(s, path, all)
		}
		return nil
	})
	return err
}

func checkSelector(s *parser.VectorSelector, path []parser.Node, all []labels.Labels) error {
	found := slices.DeleteFunc(slices.Clone(all), func(l labels.Labels) bool { return !labels.Selector(s.LabelMatchers).Matches(l) })
	if len(found) == 0 {
		return fmt.Errorf("there is no series %s", s)
	}
	for _, m := range s.LabelMatchers {
		if !found[0].Has(m.Name) { // a matcher such as {no=~".*"} matches what does not have the label
			return fmt.Errorf("%s has no label %s", s, m.Name)
		}
	}
	for _, node := range path {
		var by []string
		switch x := node.(type) {
		case *parser.AggregateExpr:
			by = x.Grouping
		case *parser.BinaryExpr:
			if x.VectorMatching != nil {
				by = x.VectorMatching.MatchingLabels
			}
		}
		for _, label := range by {
			if !found[0].Has(label) {
				return fmt.Errorf("%s has no label %s to group by", s, label)
			}
		}
	}
	return nil
}

// TestCheckQuery: the check finds each kind of mistake. Otherwise the tests of rules and dashboard
// would prove nothing.
func TestCheckQuery(t *testing.T) {
	all := series(t)
	for query, good := range map[string]bool{
		`presence_ready == 0`: true,
		`sum by (instance, endpoint) (rate(presence_request_errors_total{error="internal"}[5m]))`: true,
		`presence_redy == 0`:                           false,
		`presence_users{status="on"}`:                  false,
		`presence_users{status=~"online|x"}`:           true,
		`presence_users{state=~".*"}`:                  false,
		`sum by (status) (presence_ready)`:             false,
		`sum by (le) (rate(presence_waiting[5m]))`:     false,
		`presence_ready and on (host) presence_info`:   false,
		`max(presence_ready) < max(presence_no_such)`:  false,
		`rate(presence_ready)`:                         false,
		`absent(presence_ready{job="presence"})`:       true,
		`increase(presence_digest_mismatches_total[])`: false,
	} {
		if err := checkQuery(query, all); (err == nil) != good {
			t.Errorf("%s: got %v", query, err)
		}
	}
}

// checkLegend returns an error if the result of a query does not have a label. It knows that only
// as far as the outermost aggregation says so.
func checkLegend(query, label string, all []labels.Labels) error {
	expr, err := parser.NewParser(parser.Options{}).ParseExpr(query)
	if err != nil {
		return err
	}
	for {
		switch x := expr.(type) {
		case *parser.AggregateExpr:
			if !slices.Contains(x.Grouping, label) {
				return fmt.Errorf("it groups by %v", x.Grouping)
			}
			return nil
		case *parser.BinaryExpr: // a scalar comes first, if there is one
			if expr = x.LHS; expr.Type() == parser.ValueTypeScalar {
				expr = x.RHS
			}
		case *parser.Call:
			expr = x.Args[len(x.Args)-1]
		case *parser.MatrixSelector:
			expr = x.VectorSelector
		case *parser.ParenExpr:
			expr = x.Expr
		case *parser.VectorSelector:
			return checkSelector(x, []parser.Node{&parser.AggregateExpr{Grouping: []string{label}}}, all)
		default:
			return nil
		}
	}
}
