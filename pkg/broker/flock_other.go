//go:build !(darwin || dragonfly || freebsd || linux || netbsd || openbsd)

package broker

import "os"

// flock does nothing where the system has no flock: there, only the port tells
// a second presenced that there is a first.
func flock(*os.File) error { return nil }
