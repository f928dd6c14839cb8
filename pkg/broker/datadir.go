package broker

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// LockFile, in the data directory, is locked by the process that uses the directory,
// and holds its process ID as decimal text. The lock ends with the process, however
// that ends. The file stays.
const LockFile = "presenced.lock"

// dirLock is the right to use a data directory.
type dirLock struct {
	dir  string
	file *os.File
}

// lockDir makes the directory if it is missing, locks it, and checks that it can be
// written to.
func lockDir(dir string) (*dirLock, error) {
	if dir == "" {
		return nil, errors.New("the data directory is not given")
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, dirError(dir, err)
	}
	file, err := os.OpenFile(filepath.Join(dir, LockFile), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, dirError(dir, err)
	}
	l := &dirLock{dir, file}
	if err := l.acquire(dir); err != nil {
		file.Close()
		return nil, err
	}
	if err := probe(dir); err != nil {
		l.release()
		return nil, dirError(dir, err)
	}
	return l, nil
}

func (l *dirLock) acquire(dir string) error {
	switch err := flock(l.file); {
	case errors.Is(err, syscall.EWOULDBLOCK):
		return fmt.Errorf("data directory %s is %w by another presenced%s", dir, ErrInUse, l.holder())
	case err != nil:
		return dirError(dir, fmt.Errorf("locking %s: %w", LockFile, err))
	}
	// The process ID is for people. Only the lock counts.
	if err := l.file.Truncate(0); err != nil {
		return dirError(dir, err)
	}
	if _, err := l.file.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0); err != nil {
		return dirError(dir, err)
	}
	return nil
}

// holder names the process that holds the lock, as it wrote itself down.
func (l *dirLock) holder() string {
	b := make([]byte, 20)
	n, _ := l.file.ReadAt(b, 0)
	pid, err := strconv.Atoi(strings.TrimSpace(string(b[:n])))
	if err != nil {
		return ""
	}
	return fmt.Sprintf(" (pid %d)", pid)
}

func (l *dirLock) release() { l.file.Close() }

// probe writes a little to the directory and syncs it. Without this check the server
// would start on a full or read-only disk, and fail at the first change.
func probe(dir string) error {
	file, err := os.CreateTemp(dir, ".probe-*")
	if err != nil {
		return err
	}
	defer os.Remove(file.Name())
	defer file.Close()
	if _, err := file.Write(make([]byte, 1<<20)); err != nil {
		return err
	}
	return file.Sync()
}

// dirError names the directory and the reason, but not the file in it that was tried.
func dirError(dir string, err error) error {
	if e, ok := errors.AsType[*os.PathError](err); ok {
		err = e.Err
	}
	if errors.Is(err, os.ErrPermission) {
		return fmt.Errorf("data directory %s cannot be used: %w for user %d, who runs presenced: make it that user's (chown), with mode 0700", dir, err, os.Getuid())
	}
	return fmt.Errorf("data directory %s cannot be used: %w", dir, err)
}
