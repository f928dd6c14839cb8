package broker

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	"github.com/nats-io/nats-server/v2/server"
)

// ErrInUse is in the error of a data directory that another presenced uses, and of an address that
// somebody listens on.
var ErrInUse = errors.New("in use")

// CheckFile returns what is wrong with a configuration file, as StartFile would, and what it sets
// up. It logs what StartFile would warn of. It starts nothing.
func CheckFile(cfg FileConfig) (Setup, error) {
	f, err := readChecked(cfg.withDefaults())
	if err != nil {
		return Setup{}, err
	}
	f.warn()
	s := f.setup()
	s.addresses = append(s.addresses, listenAddress{f.opts.Host, cmp.Or(f.opts.Port, server.DEFAULT_PORT)})
	for _, l := range []listenAddress{{f.opts.Websocket.Host, f.opts.Websocket.Port}, {f.opts.MQTT.Host, f.opts.MQTT.Port},
		{f.opts.LeafNode.Host, f.opts.LeafNode.Port}, {f.opts.Cluster.Host, f.opts.Cluster.Port}, {f.opts.Gateway.Host, f.opts.Gateway.Port}} {
		if l.port != 0 {
			s.addresses = append(s.addresses, l)
		}
	}
	return s, nil
}

// Check returns what is wrong with a configuration, as Start would, and what it sets up. It starts
// nothing.
func Check(cfg Config) (Setup, error) {
	cfg = cfg.withDefaults()
	a, err := cfg.addresses()
	if err != nil {
		return Setup{}, err
	}
	s := Setup{DataDir: cfg.DataDir, SyncAlways: cfg.SyncAlways, Listeners: a.names()}
	for _, x := range a.list() {
		s.addresses = append(s.addresses, listenAddress{x.host, x.port})
	}
	return s, nil
}

type listenAddress struct {
	host string
	port int
}

// Free returns the first reason why the server could not listen: the error is ErrInUse if somebody
// listens there.
func (s Setup) Free() error {
	for _, a := range s.addresses {
		if err := checkFree(a.host, a.port); err != nil {
			return err
		}
	}
	return nil
}

// Directory is what is known of a data directory.
type Directory struct {
	Missing    bool   // it will be made
	Holder     string // the presenced that uses it, as " (pid 7)"; only with ErrInUse
	Mode       os.FileMode
	Free, Size uint64 // of the disk, in bytes
	Reserve    uint64 // with less than this free, changes are refused
}

// Inspect tells whether a data directory can be used: it exists or can be made, it can be written
// to, and no other presenced uses it (ErrInUse). It leaves nothing behind. For a moment it holds
// the lock.
func Inspect(dir string) (d Directory, err error) {
	there := dir
	info, err := os.Stat(dir)
	for errors.Is(err, os.ErrNotExist) && filepath.Dir(there) != there {
		d.Missing, there = true, filepath.Dir(there)
		info, err = os.Stat(there)
	}
	switch {
	case err != nil:
		return d, dirError(dir, err)
	case !info.IsDir():
		return d, dirError(dir, syscall.ENOTDIR)
	}
	d.Mode = info.Mode().Perm()
	if d.Free, d.Size, err = diskSpace(there); err != nil {
		return d, dirError(dir, err)
	}
	d.Reserve = min(maxReserve, d.Size/20)
	if !d.Missing {
		if err := d.tryLock(dir); err != nil {
			return d, err
		}
	}
	file, err := os.CreateTemp(there, ".probe-*")
	if err != nil {
		return d, dirError(dir, err)
	}
	file.Close()
	return d, os.Remove(file.Name())
}

// tryLock reports whether another presenced holds the lock.
func (d *Directory) tryLock(dir string) error {
	file, err := os.OpenFile(filepath.Join(dir, LockFile), os.O_RDWR, 0)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return dirError(dir, err)
	}
	defer file.Close()
	if err := flock(file); errors.Is(err, syscall.EWOULDBLOCK) {
		d.Holder = (&dirLock{dir, file}).holder()
		return fmt.Errorf("data directory %s is %w by another presenced%s", dir, ErrInUse, d.Holder)
	} else if err != nil {
		return dirError(dir, err)
	}
	return nil
}
