// Package semver tells the version of a command: as text, and as a semantic version.
package semver

import (
	"regexp"
	"runtime/debug"
	"strings"
)

var (
	// form is the expression that semver.org recommends, without its groups.
	form = regexp.MustCompile(`^(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)` +
		`(-(0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*)(\.(0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*))*)?` +
		`(\+[0-9a-zA-Z-]+(\.[0-9a-zA-Z-]+)*)?$`)
	notBuild = regexp.MustCompile(`[^0-9A-Za-z-]+`)
)

// Text is the version that the linker set, or what the go command stamped.
func Text(linked string) string {
	if linked != "" {
		return linked
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "(devel)"
}

// Commit is the commit that was built, in 12 digits, with "+dirty" if its files were changed; empty
// if the go command knew none.
func Commit() string {
	commit, dirty := "", ""
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			switch {
			case s.Key == "vcs.revision":
				commit = s.Value[:min(len(s.Value), 12)]
			case s.Key == "vcs.modified" && s.Value == "true":
				dirty = "+dirty"
			}
		}
	}
	if commit == "" {
		return ""
	}
	return commit + dirty
}

// Of makes a semantic version of any version, because NATS micro services must have one.
// A commit, for example, becomes build metadata of 0.0.0.
func Of(v string) string {
	if s := strings.TrimPrefix(v, "v"); form.MatchString(s) {
		return s
	}
	if build := strings.Trim(notBuild.ReplaceAllString(v, "-"), "-"); build != "" {
		return "0.0.0+" + build
	}
	return "0.0.0"
}
