package service

import (
	"context"
	"errors"
	"fmt"

	"presence/pkg/protocol"
)

// MinPayload is how many bytes a message must be allowed to have (max_payload of the NATS
// server, or of the account) for the service to run. The largest message that cannot be
// made smaller is the event of a status whose text and user ID have their longest, and
// every byte escaped: 9,500 bytes. What is larger is split, or refused as too large.
const MinPayload = 16 << 10

// ErrPayload is in the error of a service that ends because the NATS server takes less
// than MinPayload. Another one may start when the server takes more.
var ErrPayload = errors.New("(max_payload)")

// headersOfReply is more than the headers of a reply take.
const headersOfReply = 1 << 10

// checkPayload returns an error where the NATS server, or the account, takes less than
// MinPayload. It asks nobody: the limits are those of the last look.
func (s *Service) checkPayload() error {
	for _, c := range []struct {
		of   string
		most int
	}{{"journal's", s.journal.Payload()}, {"clients'", s.replies.payload()}} {
		if c.most < MinPayload {
			return fmt.Errorf("the NATS server takes messages of at most %d bytes in the %s account %w, presenced needs %d", c.most, c.of, ErrPayload, MinPayload)
		}
	}
	return nil
}

// awaitPayload has the limits known: a server tells an account's right after it has let the
// connection in.
func (s *Service) awaitPayload(ctx context.Context) error {
	if err := s.cfg.Clients.FlushWithContext(ctx); err != nil {
		return err
	}
	if err := s.cfg.Answers.FlushWithContext(ctx); err != nil {
		return err
	}
	s.replies.choose()
	return s.checkPayload()
}

// maxBody returns how many bytes the body of a reply may have.
func (s *Service) maxBody() int {
	return min(protocol.MaxBodyBytes, s.replies.payload()-headersOfReply)
}

// tooLarge is the error of a reply of so many bytes. A change that was made cannot be
// refused any more.
func (s *Service) tooLarge(c *call, bytes int) error {
	if !c.reads {
		return protocol.ErrOutcomeUnknown.Withf("the change was made, and the reply has %d bytes, of which at most %d can be sent: read what is there", bytes, s.maxBody())
	}
	return protocol.ErrRequestTooLarge.Withf("the reply would have %d bytes, at most %d are allowed: ask for less", bytes, s.maxBody())
}

// failureBytes is what a failure of an apply has in the reply at most, with the error's name
// for a message, without its user's ID.
const failureBytes = len(`{"index":999,"userID":"","code":404,"error":"custom_status_too_long","message":"custom_status_too_long"},`)

// refuseApply refuses an apply whose reply could not be sent if all its ops failed: the
// reply comes when it is committed.
func (s *Service) refuseApply(r *protocol.ApplyRequest) error {
	most := s.maxBody() - headersOfReply
	if len(r.Ops)*(failureBytes+2*protocol.MaxUserIDBytes) <= most { // all that the contract allows, usually
		return nil
	}
	bytes := 0
	for i := range r.Ops {
		bytes += failureBytes + 2*min(len(r.Ops[i].UserID), protocol.MaxUserIDBytes)
	}
	if bytes > most {
		return protocol.ErrRequestTooLarge.Withf("the reply could have %d bytes, at most %d can be sent: nothing was done, send fewer ops at once", bytes, most)
	}
	return nil
}

// digestBytes is what a user takes on a page of admin.instance at most.
const digestBytes = len(`{"userID":"","digest":"0123456789abcdef"},`) + 2*protocol.MaxUserIDBytes

// digestsFit returns how many users fit on a page of admin.instance, beside the rest.
func (s *Service) digestsFit() int { return (s.maxBody() - 4<<10) / digestBytes }
