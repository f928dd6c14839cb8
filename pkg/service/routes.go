package service

import (
	"time"

	"presence/pkg/internal/api"
	"presence/pkg/internal/entry"
	"presence/pkg/internal/state"
	"presence/pkg/protocol"
)

// route is an endpoint with the types of its messages. A change has the functions command and
// reply, a query has answer. An endpoint that needs more has a type of its own, which embeds
// change or query.
type route[Request, Reply any] struct {
	name, subject    string
	everyone, leases bool
	admit            func(*call) error

	// owner reads the user or gateway from the subject. nil: the subject names none.
	owner func(subject string) (string, error)
	// check refuses a request that is not valid. nil: every one is.
	check func(*Request) error

	// command makes a command of a request, and reply makes a reply of its result.
	command func(owner string, r *Request) entry.Command
	reply   func(api.Replies, *state.Result) Reply

	// answer answers a query from the state.
	answer func(owner string, r *Request) Reply
	// evenIfWrong: it is answered even from a state that is known to be wrong.
	evenIfWrong bool
}

// routes is the table of all endpoints.
func (s *Service) routes() []*endpoint {
	user, ofUser := s.subjects.AnyUser, s.subjects.ParseUser
	gateway, ofGateway := s.subjects.AnyGateway, s.subjects.ParseGateway
	return []*endpoint{
		route[protocol.LoginRequest, protocol.LoginReply]{name: "login", subject: user(protocol.OpLogin), owner: ofUser, leases: true,
			admit: s.admitChange, check: (*protocol.LoginRequest).Check, command: s.login, reply: api.Replies.Login}.change(s),
		renewals[protocol.RenewRequest, *protocol.ChangeReply]{
			route: route[protocol.RenewRequest, *protocol.ChangeReply]{name: "renew", subject: user(protocol.OpRenew), owner: ofUser, leases: true,
				admit: s.admitRenewal, check: (*protocol.RenewRequest).Check, command: api.Renew, reply: api.Replies.Change},
			lease: sessionLease, least: leastSessionLease, lost: lostSession, allowance: s.subjects.UserToken, admitCommand: s.admitChange}.renewal(s),
		route[protocol.LogoutRequest, *protocol.ChangeReply]{name: "logout", subject: user(protocol.OpLogout), owner: ofUser,
			admit: s.admitChange, check: (*protocol.LogoutRequest).Check, command: api.Logout, reply: api.Replies.Change}.change(s),
		route[protocol.SetRequest, *protocol.ChangeReply]{name: "set", subject: user(protocol.OpSet), owner: ofUser,
			admit: s.admitChange, check: s.checkSet, command: api.Set, reply: api.Replies.Change}.change(s),
		route[struct{}, protocol.OwnStatusReply]{name: "status", subject: user(protocol.OpStatus), owner: ofUser, answer: s.ownStatus}.query(s),
		route[protocol.ContactsRequest, *protocol.ContactsReply]{name: "contacts", subject: user(protocol.OpContacts), owner: ofUser,
			admit: s.admitContacts, check: (*protocol.ContactsRequest).Check}.changeOf(s, newContactsCall),
		route[protocol.GetRequest, *protocol.GetReply]{name: "get", subject: s.subjects.Get(), check: s.checkGet}.queryOf(s, newGet),

		route[protocol.OpenRequest, protocol.LeaseReply]{name: "gateway-open", subject: gateway(protocol.OpOpen), owner: ofGateway, leases: true,
			admit: s.admitOps, check: (*protocol.OpenRequest).Check, command: s.gatewayOpen, reply: s.gatewayOpened}.change(s),
		renewals[protocol.LeaseRequest, protocol.LeaseReply]{
			route: route[protocol.LeaseRequest, protocol.LeaseReply]{name: "gateway-renew", subject: gateway(protocol.OpRenew), owner: ofGateway, leases: true,
				admit: s.admitRenewal, check: (*protocol.LeaseRequest).Check, command: api.RenewGateway, reply: api.Replies.Lease},
			lease: gatewayLease, lost: lostGateway, allowance: s.gatewayAllowance, admitCommand: s.admitOps}.renewal(s),
		route[protocol.ApplyRequest, *protocol.ApplyReply]{name: "gateway-apply", subject: gateway(protocol.OpApply), owner: ofGateway,
			admit: s.admitOps, check: (*protocol.ApplyRequest).Check}.changeOf(s, newApply),
		route[protocol.CloseRequest, protocol.LeaseReply]{name: "gateway-close", subject: gateway(protocol.OpClose), owner: ofGateway,
			admit: s.admitOps, check: (*protocol.CloseRequest).Check, command: api.Close, reply: api.Replies.Lease}.change(s),

		route[struct{}, *protocol.StatsReply]{name: "stats", subject: s.subjects.Stats(), answer: s.stats}.query(s),
		route[protocol.ListRequest, *protocol.ListReply]{name: "list", subject: s.subjects.List(),
			check: (*protocol.ListRequest).Check}.queryOf(s, newList),
		route[protocol.UserRequest, *protocol.ExplainReply]{name: "explain", subject: s.subjects.Explain(),
			check: (*protocol.UserRequest).Check, answer: s.explain}.query(s),
		route[protocol.KickRequest, *protocol.KickReply]{name: "kick", subject: s.subjects.Kick(),
			check: (*protocol.KickRequest).Check, command: kick, reply: api.Replies.Ended}.change(s),
		route[protocol.EraseRequest, *protocol.KickReply]{name: "erase", subject: s.subjects.Erase(),
			check: (*protocol.EraseRequest).Check, reply: api.Replies.Ended}.changeOf(s, newErase),
		route[protocol.InstanceRequest, *protocol.InstanceReply]{name: "instances", subject: s.subjects.Instances(), everyone: true,
			check: (*protocol.InstanceRequest).Check, answer: s.describe, evenIfWrong: true}.query(s),
		route[protocol.InstanceRequest, *protocol.InstanceReply]{name: "instance", subject: s.subjects.Instance(s.instance),
			check: (*protocol.InstanceRequest).Check, answer: s.describe, evenIfWrong: true}.query(s),
	}
}

// endpoint returns the route's endpoint. open makes a call for each request.
func (r *route[Request, Reply]) endpoint(s *Service, isQuery bool, open func() request) *endpoint {
	return &endpoint{service: s, name: r.name, subject: r.subject, everyone: r.everyone, leases: r.leases, admit: r.admit, query: isQuery, open: open}
}

// read reads a call's owner from its subject, and reads and checks its body.
func (r *route[Request, Reply]) read(c *call, body *Request) (err error) {
	if r.owner != nil {
		if c.owner, err = r.owner(c.msg.Subject); err != nil {
			return err
		}
	}
	err = protocol.Unmarshal(c.msg.Data, body)
	if err == nil && r.check != nil {
		err = r.check(body)
	}
	return err
}

// change is a request that becomes one command of the journal.
type change[Request, Reply any] struct {
	call
	route *route[Request, Reply]
	body  Request
}

func (r route[Request, Reply]) change(s *Service) *endpoint {
	return r.changeOf(s, func(c change[Request, Reply]) request { return &c })
}

// changeOf is change for a type that embeds one.
func (r route[Request, Reply]) changeOf(s *Service, embed func(change[Request, Reply]) request) *endpoint {
	return r.endpoint(s, false, func() request { return embed(change[Request, Reply]{route: &r}) })
}

func (c *change[Request, Reply]) Handle() { c.handle(c.submit) }

func (c *change[Request, Reply]) submit() error {
	if err := c.route.read(&c.call, &c.body); err != nil {
		return err
	}
	return c.endpoint.service.submit(c, c.route.command(c.owner, &c.body))
}

func (c *change[Request, Reply]) done(a *answer) {
	if e := a.failure(); e != nil {
		c.fail(e)
		return
	}
	c.succeed(c.route.reply(c.endpoint.service.replying(), &a.result))
}

// query is a request that is answered from the state.
type query[Request, Reply any] struct {
	call
	route *route[Request, Reply]
	body  Request
}

func (r route[Request, Reply]) query(s *Service) *endpoint {
	return r.queryOf(s, func(c query[Request, Reply]) request { return &c })
}

// queryOf is query for a type that embeds one.
func (r route[Request, Reply]) queryOf(s *Service, embed func(query[Request, Reply]) request) *endpoint {
	return r.endpoint(s, true, func() request { return embed(query[Request, Reply]{route: &r}) })
}

func (c *query[Request, Reply]) Handle() { c.handle(c.answerNow) }

// read reads the query. It refuses while the state is known to be wrong (G14).
func (c *query[Request, Reply]) read() error {
	err := c.route.read(&c.call, &c.body)
	if err == nil && !c.route.evenIfWrong && c.endpoint.service.stateIsWrong() {
		err = protocol.ErrUnavailable.With("this instance is building its state anew: try again")
	}
	return err
}

func (c *query[Request, Reply]) answerNow() error {
	if err := c.read(); err != nil {
		return err
	}
	c.succeed(c.route.answer(c.owner, &c.body))
	return nil
}

// barrier is a waiter of the service's own. It waits until an entry is applied that is appended
// from now on.
type barrier struct {
	begun   time.Time
	outcome chan error
}

func (b *barrier) arrived() time.Time { return b.begun }

func (b *barrier) trace() string { return "" }

func (b *barrier) failed(err error) *protocol.Error { return journalError(err) }

func (b *barrier) done(a *answer) {
	if a.err != nil {
		b.outcome <- a.err
	}
	close(b.outcome)
}
