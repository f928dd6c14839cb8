//go:build darwin || freebsd || linux

package broker

import "syscall"

// diskSpace returns how many bytes of the file system of a path are free for this
// process, and of how many.
func diskSpace(path string) (free, size uint64, err error) {
	var fs syscall.Statfs_t
	if err := syscall.Statfs(path, &fs); err != nil {
		return 0, 0, err
	}
	block := uint64(fs.Bsize)
	return uint64(fs.Bavail) * block, uint64(fs.Blocks) * block, nil
}
