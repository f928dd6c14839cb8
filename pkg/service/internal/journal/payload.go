package journal

import (
	"errors"

	"presence/pkg/internal/entry"
)

// What one message may have is the NATS server's to say, or the account's. It can be less
// than an entry would have, and another after a reconnect, so it is asked for each entry
// that is packed. (A server whose limit is lowered by a reload does not tell: it closes the
// connection at the next message that is larger.)

// ErrTooLarge refuses a command that no entry has room for, as large as the server takes
// one. Nothing was done.
var ErrTooLarge = errors.New("the change is larger than the NATS server takes")

// headersOfEntry is more than the headers of an entry's message take.
const headersOfEntry = 1 << 10

// Payload returns how many bytes a message to the journal may have, as of the last entry.
func (j *Journal[W]) Payload() int { return int(j.payload.Load()) }

// notePayload asks for it. It waits while what is sent on the connection is stuck, so
// nobody calls it but who is about to send.
func (j *Journal[W]) notePayload() { j.payload.Store(j.cfg.JetStream.Conn().MaxPayload()) }

// entryBytes returns about how many bytes of commands and renewals an entry is filled with
// where a message may have payload bytes: half of them, because one large command may come
// on top of half an entry. It is MaxBytes where payload is 0, not known yet, and always enough for
// one renewal and one small command: a server that takes less refuses them.
func entryBytes(payload int) int {
	if payload == 0 {
		return MaxBytes
	}
	return max(min(MaxBytes, (payload-headersOfEntry)/2), 4*renewalBytes)
}

// largestCommand returns how many bytes that one may have.
func largestCommand(payload int) int { return payload - headersOfEntry - entryBytes(payload)/2 }

// fitsAlone reports whether there can be an entry with a command. bytes is what it takes at
// most; what it really takes is looked at only where that would be too much.
func (j *Journal[W]) fitsAlone(c *entry.Command, bytes int) bool {
	most := largestCommand(j.Payload())
	return bytes <= most || c.EncodedSize() <= most
}
