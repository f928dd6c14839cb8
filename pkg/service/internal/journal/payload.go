package journal

import (
	"errors"

	"presence/pkg/internal/entry"
)

// The NATS server, or the account, limits the size of a message. The limit can be less than
// MaxBytes, and another one after a reconnect. So it is read again for each entry that is packed.
// (If a reload lowers a server's limit, the server does not tell. It closes the connection at the
// next message that is larger.)

// MaxBytes bounds an entry: half of what a NATS server accepts by default.
const MaxBytes = 512 << 10

// ErrTooLarge refuses a command that is too large for any entry that the server takes. Nothing was
// done.
var ErrTooLarge = errors.New("the change is larger than the NATS server takes")

// headersOfEntry bounds the headers of an entry's message, in bytes.
const headersOfEntry = 1 << 10

// Payload returns how many bytes a message to the journal may have, as of the last entry packed.
func (j *Journal[W]) Payload() int { return int(j.payload.Load()) }

// notePayload reads the limit. While the connection is stuck it blocks, so only code that is about
// to send calls it.
func (j *Journal[W]) notePayload() { j.payload.Store(j.cfg.JetStream.Conn().MaxPayload()) }

// entryBytes returns with about how many bytes of commands and renewals an entry is filled, where a
// message may have payload bytes. It is half of them, because one large command may be added to
// half an entry. If payload is 0, not known yet, it is MaxBytes. It is never too little for one
// renewal and one small command: a server that takes less refuses them.
func entryBytes(payload int) int {
	if payload == 0 {
		return MaxBytes
	}
	return max(min(MaxBytes, (payload-headersOfEntry)/2), 4*renewalBytes)
}

// largestCommand returns how many bytes that one large command may have.
func largestCommand(payload int) int { return payload - headersOfEntry - entryBytes(payload)/2 }

// fitsAlone reports whether a command fits into an entry of its own. bytes is an upper bound of its
// size. The exact size is computed only where the bound is too large.
func (j *Journal[W]) fitsAlone(c *entry.Command, bytes int) bool {
	most := largestCommand(j.Payload())
	return bytes <= most || c.EncodedSize() <= most
}
