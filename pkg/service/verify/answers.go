package verify

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"

	"presence/pkg/protocol"
)

// checkAnswers asks the service about a sample of users, as any client does, and
// compares its answers.
func (v *verification) checkAnswers(ctx context.Context) error {
	ids := v.sample()
	if len(ids) > 0 {
		v.cfg.Progress(fmt.Sprintf("asking for the statuses of users: %d", len(ids)))
	}
	a := &answers{verification: v}
	for page := range slices.Chunk(ids, protocol.MaxUsersPerGet) {
		if err := a.check(ctx, page, true); err != nil {
			return err
		}
	}
	if a.wrong > MaxUsers {
		v.report.note("%d more answers differ", a.wrong-MaxUsers)
	}
	return nil
}

// answers are those that are checked.
type answers struct {
	*verification
	wrong int // users about whom one differs
}

// check asks for users and compares the answer. Those that do not fit into one reply it asks
// for in halves, and one who does not fit alone without the sessions: that always fits.
func (a *answers) check(ctx context.Context, ids []string, detail bool) error {
	reply := new(protocol.GetReply)
	r := protocol.GetRequest{UserIDList: ids, Detail: detail, MinRevision: a.state.Revision(), Epoch: a.state.Epoch()}
	err := a.request(ctx, a.subjects.Get(), r, reply)
	if errors.Is(err, protocol.ErrRequestTooLarge) {
		if half := len(ids) / 2; half > 0 {
			if err := a.check(ctx, ids[:half], detail); err != nil {
				return err
			}
			return a.check(ctx, ids[half:], detail)
		}
		if detail {
			return a.check(ctx, ids, false)
		}
	}
	if err != nil {
		return fmt.Errorf("asking for users: %w", err)
	}
	return a.compareUsers(ctx, &r, reply)
}

func (a *answers) compareUsers(ctx context.Context, r *protocol.GetRequest, reply *protocol.GetReply) error {
	position := positionOf(reply.Revision)
	differs := func(format string, args ...any) error {
		a.report.differs(Difference{Position: position, What: fmt.Sprintf(format, args...)})
		return nil
	}
	switch {
	case reply.Epoch != a.state.Epoch():
		return differs("an answer is of the epoch %s, the journal of %s", reply.Epoch, a.state.Epoch())
	case reply.Revision < r.MinRevision:
		return differs("an answer is as of revision %d, though at least %d was asked for", reply.Revision, r.MinRevision)
	case len(reply.SuccessUserList) != len(r.UserIDList):
		return differs("an answer has %d users of %d", len(reply.SuccessUserList), len(r.UserIDList))
	}
	if err := a.advance(ctx, position); err != nil {
		return err
	}
	for i, id := range r.UserIDList {
		a.report.Answers++
		fields := diff(reply.SuccessUserList[i], a.state.Status(id, r.Detail))
		if len(fields) == 0 {
			continue
		}
		if a.wrong++; a.wrong <= MaxUsers {
			a.report.differs(Difference{Position: position, UserID: id, Fields: fields, What: fmt.Sprintf("the answer about user %q", id)})
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
