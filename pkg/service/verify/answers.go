package verify

import (
	"context"
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
	wrong := 0
	for page := range slices.Chunk(ids, protocol.MaxUsersPerGet) {
		reply := new(protocol.GetReply)
		r := protocol.GetRequest{UserIDList: page, Detail: true, MinRevision: v.state.Revision(), Epoch: v.state.Epoch()}
		if err := v.request(ctx, v.subjects.Get(), r, reply); err != nil {
			return fmt.Errorf("asking for users: %w", err)
		}
		position := positionOf(reply.Revision)
		switch {
		case reply.Epoch != v.state.Epoch():
			v.report.differs(Difference{Position: position, What: fmt.Sprintf("an answer is of the epoch %s, the journal of %s", reply.Epoch, v.state.Epoch())})
			continue
		case reply.Revision < r.MinRevision:
			v.report.differs(Difference{Position: position, What: fmt.Sprintf("an answer is as of revision %d, though at least %d was asked for", reply.Revision, r.MinRevision)})
			continue
		case len(reply.SuccessUserList) != len(page):
			v.report.differs(Difference{Position: position, What: fmt.Sprintf("an answer has %d users of %d", len(reply.SuccessUserList), len(page))})
			continue
		}
		if err := v.advance(ctx, position); err != nil {
			return err
		}
		for i, id := range page {
			v.report.Answers++
			fields := diff(reply.SuccessUserList[i], v.state.Status(id, true))
			if len(fields) == 0 {
				continue
			}
			if wrong++; wrong <= MaxUsers {
				v.report.differs(Difference{Position: position, UserID: id, Fields: fields, What: fmt.Sprintf("the answer about user %q", id)})
			}
		}
	}
	if wrong > MaxUsers {
		v.report.note("%d more answers differ", wrong-MaxUsers)
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
