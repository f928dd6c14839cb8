package broker

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/nats-io/nats-server/v2/server"
)

// ReaderKeyFile, in the data directory, holds the seed of a key by which a NATS client
// may enter the journal's account and read there: presencectl verify does, and the nats
// CLI can (--nkey). It is made anew at each start and removed at the end. Only
// presenced's own user can read it, who could read the store beside it as well.
const ReaderKeyFile = "journal-reader.nk"

// readerPermissions allow to read streams and object stores. They prevent accidents, not
// attacks: a consumer can deliver to any subject.
var readerPermissions = &server.Permissions{
	Publish: &server.SubjectPermission{Allow: []string{
		"$JS.API.INFO", "$JS.API.STREAM.NAMES", "$JS.API.STREAM.LIST", "$JS.API.STREAM.INFO.*",
		"$JS.API.STREAM.MSG.GET.*", "$JS.API.DIRECT.GET.>",
		"$JS.API.CONSUMER.CREATE.>", "$JS.API.CONSUMER.INFO.>", "$JS.API.CONSUMER.MSG.NEXT.>", "$JS.API.CONSUMER.DELETE.>",
		"$JS.FC.>", // flow control of consumers that deliver by themselves
	}},
	Subscribe: &server.SubjectPermission{Allow: []string{"_INBOX.>"}},
}

// addReader adds the reader's user to the journal's account.
func addReader(opts *server.Options, names accountNames, keys accountKeys) {
	public := keys[reader].public
	opts.Nkeys = append(opts.Nkeys, &server.NkeyUser{Nkey: public, Account: findAccount(opts, names.journal), Permissions: readerPermissions})
	if opts.AuthCallout != nil {
		opts.AuthCallout.AuthUsers = slices.Concat(opts.AuthCallout.AuthUsers, []string{public})
	}
}

// writeReaderKey writes the file. If the server has an operator there is none, because
// all users have JWTs.
func (b *Broker) writeReaderKey(dir string) error {
	pair := b.keys[reader].pair
	if pair == nil {
		return nil
	}
	seed, err := pair.Seed()
	if err != nil {
		return fmt.Errorf("making a key: %w", err)
	}
	b.reader = filepath.Join(dir, ReaderKeyFile)
	_ = os.Remove(b.reader) // whatever its permissions were
	if err := os.WriteFile(b.reader, append(seed, '\n'), 0o600); err != nil {
		return dirError(dir, err)
	}
	return nil
}
