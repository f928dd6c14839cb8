package broker

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/nats-io/nats-server/v2/server"
)

// A stream's configuration is in two small files of its directory. If nats-server cannot read
// them, it logs a warning and starts without the stream. The messages are still on the disk, but
// presenced would find no stream, and make an empty one in its place.
const (
	metaFile = "meta.inf" // the stream's configuration
	sumFile  = "meta.sum" // its checksum
	keyFile  = "meta.key" // where the store is encrypted
)

// ours is in the names of presenced's streams, and of no others.
const ours = "PRESENCE_"

// checkLoaded returns an error if the store holds messages of a stream of presenced that the
// server has not loaded. It checks nothing in a cluster, where the other servers have the stream.
func (b *Broker) checkLoaded() error {
	if b.server.JetStreamIsClustered() || b.server.StoreDir() == "" {
		return nil
	}
	info, err := b.server.Jsz(&server.JSzOptions{Accounts: true, Streams: true, Limit: 1 << 16})
	if err != nil {
		return fmt.Errorf("asking the NATS server for its streams: %w", err)
	}
	for _, a := range info.AccountDetails {
		dirs, _ := filepath.Glob(filepath.Join(b.server.StoreDir(), a.Id, "streams", "*"+ours+"*"))
		for _, dir := range dirs {
			name := filepath.Base(dir)
			loaded := slices.ContainsFunc(a.Streams, func(s server.StreamDetail) bool { return s.Name == name })
			if !loaded && !strings.HasPrefix(name, ".") && holdsMessages(dir) {
				return notLoaded(dir, name)
			}
		}
	}
	return nil
}

// holdsMessages says that there is something to lose in a stream's directory. There is nothing
// if the process was killed just when it made the stream.
func holdsMessages(dir string) bool {
	blocks, _ := filepath.Glob(filepath.Join(dir, "msgs", "*.blk"))
	return slices.ContainsFunc(blocks, func(path string) bool {
		info, err := os.Stat(path)
		return err == nil && info.Size() > 0
	})
}

func notLoaded(dir, name string) error {
	file, what := metaFault(dir)
	files, from := metaFile+" and "+sumFile, "from a backup, however old, or from the directory of a stream of that name in another --data"
	if _, err := os.Stat(filepath.Join(dir, keyFile)); err == nil {
		files, from = metaFile+", "+sumFile+" and "+keyFile, "from a backup, however old"
	}
	return fmt.Errorf("the stream %s cannot be loaded, though its messages are there: %s %s; nothing is lost by it: "+
		"copy %s into %s %s, and start again (if somebody was deleting the stream, remove that directory)",
		name, filepath.Join(dir, file), what, files, dir, from)
}

// metaFault says which of the files is at fault.
func metaFault(dir string) (file, what string) {
	for _, file := range []string{metaFile, sumFile} {
		data, err := os.ReadFile(filepath.Join(dir, file))
		switch {
		case os.IsNotExist(err):
			return file, "is missing"
		case err != nil:
			return file, "cannot be read"
		case len(data) == 0:
			return file, "is empty"
		}
	}
	return metaFile, "does not match " + sumFile
}
