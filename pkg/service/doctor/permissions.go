package doctor

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"presence/pkg/protocol"
)

// probe is a harmless request of one kind.
type probe struct {
	name    string // of the check, and of the request
	subject string
	body    any
	serves  string // what is had by it
}

// probes are those of an operator. None changes anything. An erase and a kick are not tried: they
// are below the same subject as instances.
func (a *asker) probes() []probe {
	const nobody = "presence-doctor"
	s := a.subjects
	return []probe{
		{"get", s.Get(), protocol.GetRequest{UserIDList: []string{nobody}}, "a status, by presencectl get or a client that watches,"},
		{"list", s.List(), protocol.ListRequest{Limit: 1}, "what presencectl list shows"},
		{"stats", s.Stats(), struct{}{}, "what presencectl stats shows"},
		{"explain", s.Explain(), protocol.UserRequest{UserID: nobody}, "what presencectl explain shows"},
		{"instances", s.Instances(), struct{}{}, "what instances tell, here and to presencectl verify,"},
	}
}

// lookAtPermissions tries a request of each kind, and to watch, all at the same time.
func (a *asker) lookAtPermissions(ctx context.Context, f *findings) {
	probes := a.probes()
	errs := make([]error, len(probes))
	var asking sync.WaitGroup
	for i, p := range probes {
		asking.Go(func() { errs[i] = a.request(ctx, p.subject, p.body, nil) })
	}
	watched, err := a.subjects.Event("presence-doctor")
	if err == nil {
		if sub, e := a.nc.SubscribeSync(watched); e == nil {
			defer sub.Unsubscribe()
		}
	}
	asking.Wait()
	a.mu.Lock()
	noAnswers, noWatching := a.noAnswers, a.noSubscription[watched]
	a.mu.Unlock()
	if noAnswers != "" {
		f.failed("permissions.answers", &Problem{Found: fmt.Sprintf("this user may not subscribe to %s, where answers arrive", noAnswers),
			Means: "no request gets an answer", Do: "give the user's own inbox: --inbox-prefix _INBOX.operator.NAME, as PROTOCOL.md, section 9, has it for each role"})
	}
	for i, p := range probes {
		f.add(judgeProbe(p, errs[i], noAnswers != ""))
	}
	if noWatching {
		f.failed("permissions.watch", refusedProblem("subscribe to", watched, "what presencectl watch shows"))
	} else {
		f.ok("permissions.watch", "may subscribe to "+watched)
	}
}

func judgeProbe(p probe, err error, noAnswers bool) Check {
	c := Check{Name: "permissions." + p.name, Result: OK, Found: "may ask on " + p.subject}
	switch {
	case errors.Is(err, errRefused):
		x := refusedProblem("publish on", p.subject, p.serves)
		c.Result, c.Found, c.Means, c.Do = Fail, x.Found, x.Means, x.Do
	case noAnswers:
		c.Result, c.Found = NotChecked, "needs answers on "+p.subject+", see above"
	}
	return c // whether somebody answers, and what, is another check
}

func refusedProblem(verb, subject, what string) *Problem {
	return &Problem{Found: fmt.Sprintf("this user may not %s %s", verb, subject), Means: what + " cannot be had by this user",
		Do: "use an operator's credentials (--context, --creds), or allow it to this user: PROTOCOL.md, section 9"}
}
