//go:build !(darwin || freebsd || linux)

package broker

import "errors"

func diskSpace(string) (free, size uint64, err error) { return 0, 0, errors.ErrUnsupported }
