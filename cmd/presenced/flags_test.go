package main

import (
	"io"
	"strings"
	"testing"
)

// FuzzFlags: whatever stands on the command line, it is a configuration, an answer
// on stdout, or an error of one line.
func FuzzFlags(f *testing.F) {
	for _, s := range []string{
		"--listen 127.0.0.1:0 --data d", "--nats-url nats://a:b@c --single-account", "--user-changes -1 --grace 1h", "--skip 1,2", "--help", "--version",
		"--nats-config x --replicas 3", "--prefix a.*.b", "-x", "--", "--log-level", "--snapshot-entries 18446744073709551616",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, line string) {
		args := append([]string{"presenced"}, strings.Fields(line)...)
		var out strings.Builder
		cfg, err := parse(t.Context(), args, &out, io.Discard)
		switch {
		case err != nil && strings.Contains(err.Error(), "\n"):
			t.Errorf("%q: an error of several lines: %v", args, err)
		case err == nil && cfg == nil && out.Len() == 0:
			t.Errorf("%q: neither configuration, answer nor error", args)
		}
	})
}
