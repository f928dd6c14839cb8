package service

import (
	"context"
	"sync"

	"github.com/nats-io/nats.go"

	"presence/pkg/internal/refusal"
)

// refused is what looks after refusals of the NATS server, apart from those of the subscriptions
// for requests, which are the listener's, and of events, which are the announcer's.
//
//	connection    a subscription is refused         publishing is refused
//	clients       listener                          replies
//	answers       nothing rests on one              announcer: events; replies
//	journal       journal: that for answers.        journal: done again by itself
//	              Others are made anew by themselves
//	system        system: that for answers.         system: done again by itself
//	              package connections: the others
type refused struct {
	journal, system *requester        // system is nil without a system account
	replies         []*refusedReplies // one for each connection that answers leave by
}

func newRefused(s *Service) refused {
	x := refused{journal: newRequester(s.cfg.Journal, "journal's", "$SYS.REQ.USER.INFO", s.log)}
	if s.cfg.System != nil {
		x.system = newRequester(s.cfg.System, "system", "$SYS.REQ.SERVER.PING", s.log)
	}
	x.replies = append(x.replies, newRefusedReplies(s.cfg.Answers, s.log))
	if s.cfg.Clients != s.cfg.Answers {
		x.replies = append(x.replies, newRefusedReplies(s.cfg.Clients, s.log))
	}
	return x
}

// listen begins to hear what is refused, and to see to it. The function that it returns ends that.
func (x *refused) listen(s *Service) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var owned sync.WaitGroup
	var stops []func()
	hear := func(nc *nats.Conn, tell func(*nats.Subscription, error)) { stops = append(stops, hearErrors(nc, tell)) }

	hear(s.cfg.Journal, x.journal.reported)
	owned.Go(func() { x.journal.run(ctx) })
	if x.system != nil {
		hear(s.cfg.System, x.system.reported)
		hear(s.cfg.System, func(_ *nats.Subscription, err error) { s.connections.Reported(err) })
		owned.Go(func() { x.system.run(ctx) })
	}
	hear(s.cfg.Answers, func(_ *nats.Subscription, err error) {
		if r, ok := refusal.Read(err); ok {
			s.announcer.reported(r)
		}
	})
	for _, replies := range x.replies {
		hear(replies.nc, func(_ *nats.Subscription, err error) {
			if r, ok := refusal.Read(err); ok {
				replies.reported(r)
			}
		})
		owned.Go(func() { replies.run(ctx) })
	}
	return func() {
		cancel()
		for _, stop := range stops {
			stop()
		}
		owned.Wait()
	}
}

// publishing says what the instance may not publish; nil where it may publish what it has to.
func (x *refused) publishing(s *Service) error {
	if err := s.announcer.trouble(); err != nil {
		return err
	}
	for _, replies := range x.replies {
		if err := replies.trouble(); err != nil {
			return err
		}
	}
	return nil
}
