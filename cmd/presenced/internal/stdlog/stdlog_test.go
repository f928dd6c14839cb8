package stdlog

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log"
	"log/slog"
	"strings"
	"testing"
)

// TestKeptAndPassedOn: what was logged before there was a logger is not lost, and
// every line is one of its format.
func TestKeptAndPassedOn(t *testing.T) {
	taken.logger = nil // of an earlier run of this test
	log.Print("before there is a logger")
	log.Print("INFO: metrics: disable exposing PSI metrics")
	for i := range 2 * maxKept {
		log.Print(i)
	}
	var out bytes.Buffer
	PassTo(slog.New(slog.NewJSONHandler(&out, nil)))
	log.Printf("ERROR: of two\nlines, said by %s", "a library")

	var got []string
	for line := range strings.Lines(out.String()) {
		var l struct{ Level, Msg, Component string }
		if err := json.Unmarshal([]byte(line), &l); err != nil {
			t.Fatalf("not JSON: %s", line)
		}
		got = append(got, fmt.Sprint(l.Component, " ", l.Level, " ", l.Msg))
	}
	if first, want := got[0], "log INFO before there is a logger"; first != want {
		t.Errorf("the first line is %q, want %q", first, want)
	}
	if last, want := got[len(got)-1], "log WARN of two\nlines, said by a library"; last != want {
		t.Errorf("the last line is %q, want %q", last, want)
	}
	if len(got) != maxKept { // one of them was debug, one came later
		t.Errorf("%d lines were passed on, want %d", len(got), maxKept)
	}
}
