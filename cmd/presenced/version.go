package main

import "runtime/debug"

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
