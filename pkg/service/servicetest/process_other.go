//go:build !linux

package servicetest

import "syscall"

func dieWithParent() *syscall.SysProcAttr { return nil }
