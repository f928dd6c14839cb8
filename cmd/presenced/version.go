package main

import (
	"regexp"
	"runtime/debug"
	"strings"
)

// version is set by the linker: -ldflags "-X main.version=1.2.3".
var version string

// versionText is the linker's version, or what the go command stamped.
func versionText() string {
	if version != "" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "(devel)"
}

var (
	// semver is the expression that semver.org recommends, without its groups.
	semver = regexp.MustCompile(`^(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)` +
		`(-(0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*)(\.(0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*))*)?` +
		`(\+[0-9a-zA-Z-]+(\.[0-9a-zA-Z-]+)*)?$`)
	notBuild = regexp.MustCompile(`[^0-9A-Za-z-]+`)
)

// semantic makes a version what NATS micro services must have. A commit, for
// example, becomes build metadata of 0.0.0.
func semantic(v string) string {
	if s := strings.TrimPrefix(v, "v"); semver.MatchString(s) {
		return s
	}
	if build := strings.Trim(notBuild.ReplaceAllString(v, "-"), "-"); build != "" {
		return "0.0.0+" + build
	}
	return "0.0.0"
}
