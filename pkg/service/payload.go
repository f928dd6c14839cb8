package service

import (
	"context"
	"errors"
	"fmt"

	"presence/pkg/protocol"
)

// MinPayload is how many bytes the NATS server must let a message have (max_payload of the server,
// or of the account). The largest message that cannot be split is an event with the longest text
// and the longest user ID, all bytes escaped: 9,500 bytes. Others are split, or refused as too
// large.
const MinPayload = 16 << 10

// ErrPayload is the error of a service that ends because the NATS server takes less than
// MinPayload. Starting it again helps once the server takes more.
var ErrPayload = errors.New("(max_payload)")

// headersOfReply is more than the headers of a reply take.
const headersOfReply = 1 << 10

// checkPayload returns an error if the NATS server, or the account, takes less than MinPayload. It
// asks nobody: it goes by the limits that were seen last.
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

// awaitPayload waits until the limits are known, and checks them. A server tells the account's
// limit right after it has accepted the connection.
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

// tooLarge returns the error that is sent instead of a reply of so many bytes. A change is made by
// then, and cannot be refused any more.
func (s *Service) tooLarge(c *call, bytes int) error {
	if !c.reads {
		return protocol.ErrOutcomeUnknown.Withf("the change was made, but the reply has %d bytes and at most %d can be sent: read the result", bytes, s.maxBody())
	}
	return protocol.ErrRequestTooLarge.Withf("the reply would have %d bytes, at most %d are allowed: ask for less", bytes, s.maxBody())
}

// failureBytes is how many bytes a failure has at most in the reply to an apply, without the user
// ID. Its message is the error's name.
const failureBytes = len(`{"index":999,"userID":"","code":404,"error":"custom_status_too_long","message":"custom_status_too_long"},`)

// refuseApply refuses an apply whose reply could be too large to send, if all its ops failed. It
// must be refused before: the reply is made when the apply is committed.
func (s *Service) refuseApply(r *protocol.ApplyRequest) error {
	most, bytes := s.maxBody()-headersOfReply, 0
	for i := range r.Ops {
		bytes += failureBytes + 2*min(len(r.Ops[i].UserID), protocol.MaxUserIDBytes)
	}
	if bytes > most {
		return protocol.ErrRequestTooLarge.Withf("the reply could have %d bytes, at most %d can be sent: nothing was done, send fewer ops at once", bytes, most)
	}
	return nil
}

// digestBytes is how many bytes a user takes at most on a page of admin.instance.
const digestBytes = len(`{"userID":"","digest":"0123456789abcdef"},`) + 2*protocol.MaxUserIDBytes

// digestsFit returns how many users fit on a page of admin.instance, beside the rest of the reply.
func (s *Service) digestsFit() int { return (s.maxBody() - 4<<10) / digestBytes }
