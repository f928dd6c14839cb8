package state

import (
	"presence/pkg/protocol"
)

//go:generate go run github.com/tinylib/msgp -tests=false -io=false -unexported -o record_gen.go

// The records of a snapshot, as MessagePack arrays: their fields are never
// reordered or reused, and a new one makes a new snapshotFormat.

// snapshotFormat is the newest one that this program writes and understands. 2 has
// a rulesRecord behind the header. 3 has a linksRecord, a clockRecord and an endsRecord
// behind that, and what the last one says. 4 has all parameters behind that, encoded as in
// an entry, without those that have their defaults: a new one needs no new record. And
// leases can have a grace of their own. 5 has an earlierRecord behind each gatewayMoreRecord. Like
// an entry a snapshot is written in the oldest format that has all it says.
const snapshotFormat = 5

// headerRecord begins a snapshot: everything that there is not much of.
//
//msgp:tuple headerRecord
type headerRecord struct {
	Epoch        string
	Generation   uint32
	Format       uint8
	Position     uint64
	Wall         int64
	Lease        int64
	AmnestyUntil int64
	Grace        int64 // of the parameters
	Retention    int64
	Persistent   bool
	Instances    []instanceRecord `msg:",limit=4096"`
	Numbers      int              // leases.byNumber
	Digest       uint64
	// How many records follow, in this order.
	Gateways, Closed, Freed, Users int
}

// rulesRecord is the parameters that came after the first ones.
//
//msgp:tuple rulesRecord
type rulesRecord struct{ Sessions int }

// linksRecord is what is known of NATS servers.
//
//msgp:tuple linksRecord
type linksRecord struct {
	Lame []lameRecord `msg:",limit=4096"`
}

//msgp:tuple lameRecord
type lameRecord struct {
	Server string
	Since  int64
}

// clockRecord is what is known of the stream's clock beside the time.
//
//msgp:tuple clockRecord
type clockRecord struct{ WentBackAt int64 }

// endsRecord counts the records about ended sessions. In format 3 a gatewayMoreRecord
// stands behind each gateway, a userMoreRecord behind each user whose PendingParts
// has moreFollows, and between the free numbers and the users there are Names and Fences.
//
//msgp:tuple endsRecord
type endsRecord struct {
	Names, Fences int
	First         uint32 // where the numbers of fences begin: they may wrap
}

// nameRecord is an endedSession.
//
//msgp:tuple nameRecord
type nameRecord struct {
	User, Session string
	Until         uint32
	Reason        uint8
}

// fenceRecord is a fence. Fences come in any order.
//
//msgp:tuple fenceRecord
type fenceRecord struct {
	Number, Prev uint32
	Until        uint32
	Reason       uint8
	Key          [10]byte
}

//msgp:tuple gatewayMoreRecord
type gatewayMoreRecord struct{ Body uint64 }

// moreFollows in userRecord.PendingParts says that a userMoreRecord stands behind it.
const moreFollows = 1 << 7

//msgp:tuple userMoreRecord
type userMoreRecord struct {
	Fence     uint32
	Fenced    uint16
	Gone      bool
	Tombstone *tombstoneRecord // nil: none
	Ends      []endRecord      `msg:",limit=1048576"`
}

//msgp:tuple tombstoneRecord
type tombstoneRecord struct {
	Revision, Previous uint64
	UpdatedAt          int64
}

// endRecord is a pendingEnd.
//
//msgp:tuple endRecord
type endRecord struct {
	Session string
	Reason  uint8
}

//msgp:tuple instanceRecord
type instanceRecord struct {
	ID        string
	Sequence  uint64
	Seen      int64
	MaxFormat uint8
}

//msgp:tuple gatewayRecord
type gatewayRecord struct {
	Gateway, Process string
	Number, Terms    uint32
	Deadline         int64
	On               bindingRecord
	Seq              uint64
	Revision         uint64 // of the answer, like the next two
	Applied          int
	Failures         []failureRecord `msg:",limit=1000"`
}

// earlierRecord is what is remembered of a gateway's requests before the last one, in order.
//
//msgp:tuple earlierRecord
type earlierRecord struct {
	Done []doneRecord `msg:",limit=16"`
}

//msgp:tuple doneRecord
type doneRecord struct {
	Body, Revision uint64
	Applied        int
	Failures       []failureRecord `msg:",limit=1000"`
}

//msgp:tuple failureRecord
type failureRecord struct {
	Index   int
	User    string
	Code    int
	Name    string
	Message string
}

// bindingRecord is the connection of a lease; Server is empty for none.
//
//msgp:tuple bindingRecord
type bindingRecord struct {
	Server   string
	Client   uint64
	Closed   bool
	ClosedAt int64
}

//msgp:tuple closedRecord
type closedRecord struct {
	Server string
	Client uint64
	At     int64
}

//msgp:tuple freedRecord
type freedRecord struct {
	Number uint32
	At     int64
}

//msgp:tuple userRecord
type userRecord struct {
	ID        string
	Text      string
	TextUntil int64
	LastSeen  int64
	IdleSince int64
	Revision  uint64
	Previous  uint64
	UpdatedAt int64
	Cause     uint8
	// Instance has the last change to announce: 1 + its index; 0: none has. PendingAt and
	// PendingSince are the position of the entry that put it into its outbox, and the lease
	// clock of that.
	Instance     int
	PendingAt    uint64
	PendingSince int64
	Sessions     []sessionRecord  `msg:",limit=4096"`
	Replaced     []replacedRecord `msg:",limit=4096"`
	// PendingParts is what of the last changes Instance has yet to announce.
	PendingParts  uint8
	Lasting       uint8
	Override      uint8
	OverrideUntil int64
	Erased        bool
	Hidden        *hiddenRecord // nil: the owner's view
}

// hiddenRecord is what everybody sees of a user who is hidden.
//
//msgp:tuple hiddenRecord
type hiddenRecord struct {
	StatusType       uint8
	Text             string
	TextUntil        int64
	LastSeen         int64
	Revision         uint64
	Previous         uint64
	UpdatedAt        int64
	Cause            uint8
	Until, IdleSince int64
	Ended            int64
	Gone             bool
	Instance         int // as in userRecord
	PendingAt        uint64
	PendingSince     int64
}

//msgp:tuple sessionRecord
type sessionRecord struct {
	ID, Device, Platform string
	Number, Terms        uint32
	Deadline             int64
	Flags                uint8 // live, idle, loginOnly from the lowest bit on, then two bits of loss
	LoginAt, LostAt      int64
	Gateway              int // 1 + index of the one that holds it; 0: none
	On                   bindingRecord
}

//msgp:tuple replacedRecord
type replacedRecord struct {
	Session string
	Until   int64
	Reason  uint8
	Pending bool
}

func (r *bindingRecord) from(s *State, l *lease) {
	*r = bindingRecord{}
	if c := s.connectionOf(l); c != nil {
		*r = bindingRecord{Server: s.server(c), Client: c.client, Closed: c.closed, ClosedAt: c.closedAt}
	}
}

func (r *gatewayRecord) from(s *State, g *gateway) {
	answer := g.last().answer
	*r = gatewayRecord{
		Gateway: g.key.gateway, Process: g.key.process, Number: g.number, Terms: uint32(g.terms), Deadline: g.deadline,
		Seq: g.seq, Revision: answer.Revision, Applied: answer.Applied, Failures: failureRecords(answer),
	}
	r.On.from(s, &g.lease)
}

func (r *earlierRecord) from(g *gateway) {
	*r = earlierRecord{}
	for _, d := range g.earlier() {
		r.Done = append(r.Done, doneRecord{Body: d.body, Revision: d.answer.Revision, Applied: d.answer.Applied, Failures: failureRecords(d.answer)})
	}
}

func failureRecords(a GatewayAnswer) (list []failureRecord) {
	for _, f := range a.Failures {
		list = append(list, failureRecord{Index: f.Index, User: f.UserID, Code: f.Code, Name: f.Name, Message: f.Message})
	}
	return list
}

// answer is what failureRecords and the numbers beside them were made of.
func answer(revision uint64, applied int, failures []failureRecord) GatewayAnswer {
	a := GatewayAnswer{Revision: revision, Applied: applied}
	for _, f := range failures {
		a.Failures = append(a.Failures, protocol.OpFailure{Index: f.Index,
			UserFailure: protocol.UserFailure{UserID: f.User, Code: f.Code, Name: f.Name, Message: f.Message}})
	}
	return a
}

// from fills the record and reports whether there is something in it. Its slice is used
// again.
func (r *userMoreRecord) from(s *State, u *user) bool {
	*r = userMoreRecord{Fence: u.fence, Fenced: u.fenced, Gone: u.erased == erasedGone, Ends: r.Ends[:0]}
	if x, ok := s.tombstone(u); ok {
		r.Tombstone = &tombstoneRecord{x.revision, x.previous, x.updatedAt}
	}
	for _, e := range s.pendingEnds(u) {
		r.Ends = append(r.Ends, endRecord{Session: e.session.String(), Reason: uint8(e.reason)})
	}
	return r.Fence != 0 || r.Fenced != 0 || r.Gone || r.Tombstone != nil || len(r.Ends) > 0
}

// from fills the record; its slices are used again.
func (r *userRecord) from(s *State, u *user) {
	sessions, ended := r.Sessions[:0], r.Replaced[:0]
	for x := s.first(u); x != nil; x = s.after(x) {
		sessions = append(sessions, sessionRecord{})
		sessions[len(sessions)-1].from(s, x)
	}
	for p := s.replacedOf(u); p != nil; p = p.next {
		ended = append(ended, replacedRecord{Session: p.session.String(), Until: p.until, Reason: uint8(p.reason), Pending: p.pending})
	}
	rare := s.rare(u)
	*r = userRecord{
		ID: s.userID(u), Text: s.text(u), TextUntil: rare.textUntil, LastSeen: u.lastSeen.ms(), IdleSince: u.idleSince.ms(),
		Revision: u.revision, Previous: u.previous, UpdatedAt: u.updatedAt.ms(), Cause: uint8(u.cause),
		Sessions: sessions, Replaced: ended,
		Lasting: uint8(u.lasting), Override: uint8(rare.override), OverrideUntil: rare.overrideUntil, Erased: u.erased != notErased,
	}
	if h := s.hidden(u); h != nil {
		r.Hidden = &hiddenRecord{
			StatusType: uint8(h.statusType), Text: s.texts.Get(h.text), TextUntil: h.textUntil, LastSeen: h.lastSeen, Revision: h.revision,
			Previous: h.previous, UpdatedAt: h.updatedAt, Cause: uint8(h.cause), Until: h.until, IdleSince: h.idleSince, Ended: h.ended, Gone: h.gone,
		}
		if p := s.pendings.At(h.pending); p != nil {
			r.Hidden.Instance, r.Hidden.PendingAt, r.Hidden.PendingSince = 1+s.instanceOf(p).saved, p.position, p.since
		}
	}
	if p := s.pendings.At(u.pending); p != nil {
		r.Instance, r.PendingAt, r.PendingSince, r.PendingParts = 1+s.instanceOf(p).saved, p.position, p.since, uint8(p.all())
	}
}

func (r *sessionRecord) from(s *State, x *session) {
	*r = sessionRecord{
		ID: s.sessionID(x).String(), Device: s.device(x), Platform: s.platform(x), Number: x.number, Terms: uint32(x.terms), Deadline: x.deadline,
		Flags:   uint8(flag(x.live)|flag(x.idle)<<1|flag(x.loginOnly)<<2) | uint8(x.loss)<<3,
		LoginAt: x.loginAt, LostAt: x.lostAt,
	}
	if g := s.gatewayOf(x); g != nil {
		r.Gateway = 1 + g.saved
	}
	r.On.from(s, &x.lease)
}
