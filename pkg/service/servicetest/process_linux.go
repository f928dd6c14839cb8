package servicetest

import "syscall"

// dieWithParent has a child killed when this process is.
func dieWithParent() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}
