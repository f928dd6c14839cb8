// Package backupfile keeps backups in files, for both commands.
//
//	info, size, err := backupfile.Take(ctx, "nightly.backup", false, os.Stdout, source)
//	info, err := backupfile.Check("nightly.backup", os.Stdin)
//
// A file has its name only once it is complete: it is written beside it under another name, made
// durable, read back whole, and then renamed. It has mode 0600, because it has what users have set.
// A process that is killed meanwhile may leave the other file, .<name>.part-<random>, behind.
//
// The name "-" is stdout, or stdin. What was written to stdout is not read back.
package backupfile

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"

	"presence/pkg/service/backup"
)

// Stream is the name that stands for stdout or stdin.
const Stream = "-"

// Take takes a backup to the file at path, and returns its size in bytes. Only with force it
// replaces a file.
func Take(ctx context.Context, path string, force bool, stdout io.Writer, src backup.Source) (*backup.Info, int64, error) {
	if path == Stream {
		n := &counter{w: stdout}
		info, err := backup.Take(ctx, n, src)
		return info, n.n, err
	}
	if err := free(path, force); err != nil {
		return nil, 0, err
	}
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".part-*")
	if err != nil {
		return nil, 0, fmt.Errorf("the backup cannot be written: %w", err)
	}
	defer os.Remove(f.Name()) // unless it is renamed
	defer f.Close()
	if _, err = backup.Take(ctx, f, src); err != nil {
		return nil, 0, err
	}
	if err := f.Sync(); err != nil {
		return nil, 0, err
	}
	// The state that was written is not needed any more. Reading it back needs as much again.
	debug.FreeOSMemory()
	if src.Progress != nil {
		src.Progress("reading the backup back")
	}
	size, err := f.Seek(0, io.SeekCurrent)
	if err != nil {
		return nil, 0, err
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return nil, 0, err
	}
	info, err := backup.Check(f)
	if err != nil {
		return nil, 0, fmt.Errorf("reading the backup back: %w", err)
	}
	return info, size, publish(f.Name(), path, force)
}

// free reports what stands where the file is to be.
func free(path string, force bool) error {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("the backup cannot be written: %w", err)
	case info.IsDir():
		return fmt.Errorf("%s is a directory: name a file in it", path)
	case !info.Mode().IsRegular():
		return fmt.Errorf("%s is no file: name a file, or - for stdout", path)
	case !force:
		return fmt.Errorf("%s exists: name another file, or replace it with --force", path)
	}
	return nil
}

// publish gives a complete file its name.
func publish(from, path string, force bool) error {
	if force {
		if err := os.Rename(from, path); err != nil {
			return err
		}
	} else if err := os.Link(from, path); errors.Is(err, fs.ErrExist) { // made meanwhile
		return free(path, false)
	} else if err != nil { // a file system without links
		if err := os.Rename(from, path); err != nil {
			return err
		}
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Sync()
}

// Check reads a whole backup.
func Check(path string, stdin io.Reader) (*backup.Info, error) {
	r, err := Open(path, stdin)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	info, err := backup.Check(r)
	return info, named(path, err)
}

// Open opens a backup to be read.
func Open(path string, stdin io.Reader) (io.ReadCloser, error) {
	if path == Stream {
		return io.NopCloser(stdin), nil
	}
	f, err := os.Open(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("there is no file %s", path)
	case errors.Is(err, fs.ErrPermission):
		return nil, fmt.Errorf("%s may not be read: run this as the user who owns it", path)
	}
	return f, err
}

// Restore restores a backup. A file is read whole before anything is written.
func Restore(ctx context.Context, path string, stdin io.Reader, to backup.Target) (*backup.Info, error) {
	r, err := Open(path, stdin)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	info, err := backup.Restore(ctx, r, to)
	return info, named(path, err)
}

// named puts the file's name before an error of what is in it.
func named(path string, err error) error {
	if path != Stream && (errors.Is(err, backup.ErrDamaged) || errors.Is(err, backup.ErrNewer)) {
		return fmt.Errorf("%s: %w", path, err)
	}
	return err
}

// Describe says in lines for people what is in a backup.
func Describe(info *backup.Info) string {
	var b strings.Builder
	fmt.Fprintf(&b, "taken     %s by %s\n", info.At.Local().Format("2006-01-02 15:04:05"), info.By)
	fmt.Fprintf(&b, "journal   position %d, format %d, digest %s\n", info.Position, info.Format, info.Digest)
	fmt.Fprintf(&b, "users     %d, with %d sessions; %d gateways; contacts of %d users\n", info.Users, info.Sessions, info.Gateways, info.Contacts)
	if info.Damaged > 0 {
		fmt.Fprintf(&b, "note      the contacts of %d users could not be read when it was taken, and are not in it\n", info.Damaged)
	}
	return b.String()
}

// counter counts what is written.
type counter struct {
	w io.Writer
	n int64
}

func (c *counter) Write(b []byte) (int, error) {
	n, err := c.w.Write(b)
	c.n += int64(n)
	return n, err
}
