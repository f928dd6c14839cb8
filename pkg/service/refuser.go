package service

import "context"

// refuser answers the requests that are refused before they are read, on a
// goroutine of its own: to send a refusal takes longer than to decide on it, and
// whoever floods an endpoint must not keep the others waiting there by the answers
// that it gets. Refusals that wait are bounded by maxRefusals; where there are more,
// those who sent too much get no answer, and the endpoint counts them as
// unanswered.
type refuser struct{ waiting chan refusal }

// refusal is a call with what is wrong with it.
type refusal struct {
	call *call
	err  error
}

const maxRefusals = 1 << 13

func newRefuser() *refuser { return &refuser{waiting: make(chan refusal, maxRefusals)} }

// refuse has a call that was not handled answered with an error. It does not wait.
func (s *Service) refuse(c *call, err error) {
	select {
	case s.refuser.waiting <- refusal{c, err}:
	default:
		c.endpoint.stats.unanswered.Add(1)
		s.handling.Add(-1)
	}
}

// run sends refusals until ctx is done, and then what is left.
func (r *refuser) run(ctx context.Context, s *Service) {
	work(ctx, r.waiting, func(x refusal) {
		x.call.fail(s, x.err)
		s.handling.Add(-1)
	})
}
