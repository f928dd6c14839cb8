//go:build !(darwin || dragonfly || freebsd || linux || netbsd || openbsd)

package broker

import "os"

// flock does nothing on systems without flock: there a second presenced notices the
// first only by its port.
func flock(*os.File) error { return nil }
