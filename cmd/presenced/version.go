package main

import "presence/cmd/internal/semver"

// version is set by the linker: -ldflags "-X main.version=1.2.3".
var version string

func versionText() string { return semver.Text(version) }
