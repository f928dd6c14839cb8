//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package broker

import (
	"os"
	"syscall"
)

// flock locks the file for this process without waiting. The lock ends when
// the file is closed or the process ends.
func flock(file *os.File) error {
	return syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
}
