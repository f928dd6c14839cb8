package verify

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"

	"presence/pkg/protocol"
)

// checkAnswers asks the service for the statuses of a sample of users, as any client does, and
// compares the answers.
func (v *verification) checkAnswers(ctx context.Context) error {
	ids := v.sample()
	if len(ids) > 0 {
		v.cfg.Progress(fmt.Sprintf("asking for the statuses of users: %d", len(ids)))
	}
	for page := range slices.Chunk(ids, protocol.MaxUsersPerGet) {
		if err := v.checkPage(ctx, page, true); err != nil {
			return err
		}
	}
	if v.wrongAnswers > MaxUsers {
		v.report.note("%d more answers differ", v.wrongAnswers-MaxUsers)
	}
	return nil
}

// checkPage asks for users and compares the answer. If they do not fit into one reply, it asks for
// each half of them. A single user who does not fit is asked for without sessions: that fits.
func (v *verification) checkPage(ctx context.Context, ids []string, detail bool) error {
	reply := new(protocol.GetReply)
	r := protocol.GetRequest{UserIDList: ids, Detail: detail, MinRevision: v.state.Revision(), Epoch: v.state.Epoch()}
	err := v.request(ctx, v.subjects.Get(), r, reply)
	if errors.Is(err, protocol.ErrRequestTooLarge) {
		if half := len(ids) / 2; half > 0 {
			if err := v.checkPage(ctx, ids[:half], detail); err != nil {
				return err
			}
			return v.checkPage(ctx, ids[half:], detail)
		}
		if detail {
			return v.checkPage(ctx, ids, false)
		}
	}
	if err != nil {
		return fmt.Errorf("asking for users: %w", err)
	}
	return v.compareUsers(ctx, &r, reply)
}

func (v *verification) compareUsers(ctx context.Context, r *protocol.GetRequest, reply *protocol.GetReply) error {
	position := positionOf(reply.Revision)
	differs := func(format string, args ...any) error {
		v.report.differs(Difference{Position: position, What: fmt.Sprintf(format, args...)})
		return nil
	}
	switch {
	case reply.Epoch != v.state.Epoch():
		return differs("an answer is of the epoch %s, the journal of %s", reply.Epoch, v.state.Epoch())
	case reply.Revision < r.MinRevision:
		return differs("an answer is as of revision %d, though at least %d was asked for", reply.Revision, r.MinRevision)
	case len(reply.SuccessUserList) != len(r.UserIDList):
		return differs("an answer has %d users of %d", len(reply.SuccessUserList), len(r.UserIDList))
	}
	if err := v.advance(ctx, position); err != nil {
		return err
	}
	for i, id := range r.UserIDList {
		v.report.Answers++
		fields := diff(reply.SuccessUserList[i], v.state.Status(id, r.Detail))
		if len(fields) == 0 {
			continue
		}
		if v.wrongAnswers++; v.wrongAnswers <= MaxUsers {
			v.report.differs(Difference{Position: position, UserID: id, Fields: fields, What: fmt.Sprintf("the answer about user %q", id)})
		}
	}
	return nil
}

// sample draws the users to ask for.
func (v *verification) sample() []string {
	if v.cfg.Sample < 0 {
		return nil
	}
	ids := v.state.UserIDs()
	rand.Shuffle(len(ids), func(i, j int) { ids[i], ids[j] = ids[j], ids[i] })
	return ids[:min(len(ids), v.cfg.Sample)]
}
