package integration

import (
	"bytes"
	"encoding/json"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// arrows says which of the module's packages each package may import, and which
// of the heavy dependencies. Tests of a package are not held to it.
var arrows = map[string][]string{
	"pkg/protocol":                        {},
	"pkg/protocol/schema":                 {},
	"pkg/internal/entry":                  {},
	"pkg/internal/refusal":                {"nats.go"},
	"pkg/internal/table":                  {},
	"pkg/internal/state":                  {"pkg/protocol", "pkg/internal/entry", "pkg/internal/table"},
	"pkg/internal/state/differential":     {},
	"pkg/internal/api":                    {"pkg/protocol", "pkg/internal/entry", "pkg/internal/state"},
	"pkg/service/internal/streams":        {"nats.go"},
	"pkg/service/internal/histogram":      {},
	"pkg/service/internal/journal":        {"pkg/internal/entry", "pkg/service/internal/histogram", "pkg/service/internal/streams", "nats.go"},
	"pkg/service/internal/replica":        {"pkg/protocol", "pkg/internal/entry", "pkg/internal/state"},
	"pkg/service/internal/contacts":       {"pkg/protocol", "pkg/service/internal/contacts/value", "pkg/service/internal/streams", "nats.go"},
	"pkg/service/internal/contacts/value": {"pkg/protocol"},
	"pkg/service/internal/admission":      {"pkg/protocol"},
	"pkg/service/internal/connections":    {"pkg/protocol", "pkg/internal/refusal", "pkg/service/internal/lograte", "pkg/service/internal/sysevent", "nats.go"},
	"pkg/service/internal/lograte":        {},
	"pkg/service/internal/simulation":     {},
	"pkg/service/internal/sysevent":       {"pkg/protocol"},
	"pkg/service": {"pkg/protocol", "pkg/protocol/schema", "pkg/service/internal/admission", "pkg/service/internal/connections", "pkg/service/internal/contacts", "pkg/service/internal/histogram", "pkg/internal/api", "pkg/internal/entry", "pkg/internal/refusal", "pkg/internal/state",
		"pkg/service/internal/journal", "pkg/service/internal/lograte", "pkg/service/internal/replica", "nats.go"},
	// It checks instances with their own state machine, and knows nothing of how
	// they serve; so a command may use it that has no service in it.
	"pkg/service/verify": {"pkg/protocol", "pkg/internal/entry", "pkg/internal/state",
		"pkg/service/internal/journal", "nats.go"},
	"pkg/service/doctor": {"pkg/protocol", "pkg/internal/refusal", "pkg/service/internal/contacts", "pkg/service/internal/journal",
		"pkg/service/internal/streams", "nats.go"},
	// Both commands use it, and presencectl has no service in it.
	"pkg/service/backup": {"pkg/protocol", "pkg/internal/entry", "pkg/internal/state", "pkg/service/internal/contacts",
		"pkg/service/internal/journal", "nats.go"},
	"pkg/client":                       {"pkg/protocol", "pkg/internal/refusal", "nats.go"},
	"pkg/client/clienttest":            {"pkg/protocol", "pkg/client", "pkg/internal/api", "pkg/internal/entry", "pkg/internal/state", "nats.go", "nats-server"},
	"pkg/broker":                       {"pkg/protocol", "nats.go", "nats-server"},
	"pkg/service/servicetest":          {"pkg/protocol", "pkg/service", "pkg/broker", "nats.go"},
	"cmd/presenced/internal/stdlog":    {},
	"cmd/presenced/internal/demo":      {},
	"cmd/presenced/internal/dashboard": {"pkg/protocol", "pkg/service"},
	"cmd/internal/span":                {},
	"cmd/internal/backupfile":          {"pkg/service/backup"},
	"cmd/internal/datadir":             {},
	"cmd/internal/natsurl":             {},
	"cmd/internal/shell":               {},
	"cmd/internal/layout":              {},
	"cmd/internal/usage":               {},
	"cmd/internal/semver":              {},
	"cmd/internal/choice":              {},
	"cmd/presenced":                    {"cmd/internal/backupfile", "cmd/internal/datadir", "cmd/internal/layout", "cmd/internal/natsurl", "cmd/internal/semver", "cmd/internal/shell", "cmd/internal/span", "cmd/internal/usage", "cmd/presenced/internal/dashboard", "cmd/presenced/internal/demo", "cmd/presenced/internal/stdlog", "pkg/protocol", "pkg/service", "pkg/service/backup", "pkg/broker", "nats.go"},
	"cmd/presencectl":                  {"cmd/internal/choice", "cmd/internal/backupfile", "cmd/internal/datadir", "cmd/internal/layout", "cmd/internal/natsurl", "cmd/internal/semver", "cmd/internal/shell", "cmd/internal/span", "cmd/internal/usage", "pkg/protocol", "pkg/client", "pkg/service/backup", "pkg/service/doctor", "pkg/service/verify", "cmd/presencectl/load", "cmd/presencectl/natsconfig", "cmd/presencectl/natscontext", "nats.go"},
	"cmd/presencectl/load":             {},
	"cmd/presencectl/natscontext":      {"nats.go"},
	"cmd/presencectl/natsconfig":       {"cmd/internal/shell", "cmd/presencectl/natscontext", "pkg/protocol"},
	"integration":                      {},
	"integration/processes":            {},
	"integration/internal/wire":        {"pkg/protocol", "pkg/client", "pkg/service/servicetest", "nats.go"},
	"integration/authcallout":          {"pkg/protocol", "nats.go"},
	"integration/authcallout/webapp":   {"pkg/protocol", "integration/authcallout", "nats.go"},
	"integration/bench":                {"pkg/protocol", "pkg/broker", "pkg/client", "pkg/service/servicetest", "nats.go", "charts"},
	"integration/docs":                 {},
}

// heavy are the dependencies whose importers are limited.
var heavy = map[string]string{
	"github.com/nats-io/nats.go":        "nats.go",
	"github.com/nats-io/nats-server/v2": "nats-server",
	"github.com/go-analyze/charts":      "charts",
}

// TestImportArrows holds the arrows: protocol is a leaf, the state machine and
// the journal know nothing of each other, the client nothing of the service,
// only the broker package and the client's test kit import nats-server, and only the
// benchmark draws.
func TestImportArrows(t *testing.T) {
	out, err := exec.Command("go", "list", "-json=ImportPath,Imports", "presence/...").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	for dec := json.NewDecoder(bytes.NewReader(out)); dec.More(); {
		var p struct {
			ImportPath string
			Imports    []string
		}
		if err := dec.Decode(&p); err != nil {
			t.Fatal(err)
		}
		name := strings.TrimPrefix(p.ImportPath, "presence/")
		allowed, ok := arrows[name]
		if !ok {
			t.Errorf("%s is not in the table of arrows", name)
		}
		for _, imported := range p.Imports {
			if short := shorten(imported); short != "" && !slices.Contains(allowed, short) {
				t.Errorf("%s imports %s", name, short)
			}
		}
	}
}

// shorten returns what the table calls an import; empty for one it does not
// speak of.
func shorten(imported string) string {
	if name, ok := strings.CutPrefix(imported, "presence/"); ok {
		return name
	}
	for path, name := range heavy {
		if imported == path || strings.HasPrefix(imported, path+"/") {
			return name
		}
	}
	return ""
}
