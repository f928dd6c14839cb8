package state

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"slices"

	"presence/pkg/internal/entry"
	"presence/pkg/protocol"
)

// ErrDamagedSnapshot is wrapped by the errors of Restore when a snapshot cannot be read, or
// is not what was written.
var ErrDamagedSnapshot = errors.New("damaged snapshot")

// NewerSnapshotError says that a snapshot was written by a later version.
type NewerSnapshotError struct{ Format byte }

func (e *NewerSnapshotError) Error() string {
	return fmt.Sprintf("snapshot of format %d, this version understands up to %d: start a newer version", e.Format, snapshotFormat)
}

// Progress of a restore: users so far and in all.
type Progress struct{ Done, Total int }

// Restore makes a state from a snapshot. next returns the blocks in order, valid until the
// next call, and io.EOF behind the last. progress is called now and then; it may be nil.
// The error wraps ErrDamagedSnapshot, or is a *NewerSnapshotError, or comes from next. No
// input makes Restore panic, or use much more memory than the input has bytes.
func Restore(next func() ([]byte, error), progress func(Progress)) (*State, error) {
	if progress == nil {
		progress = func(Progress) {}
	}
	block, err := next()
	if err == io.EOF || err == nil && len(block) == 0 {
		return nil, fmt.Errorf("%w: it is empty", ErrDamagedSnapshot)
	}
	if err != nil {
		return nil, err
	}
	if block[0] > snapshotFormat {
		return nil, &NewerSnapshotError{Format: block[0]}
	}
	r := restorer{s: New()}
	if block, err = r.begin(block[0], block[1:]); err != nil {
		return nil, err
	}
	for {
		if err := r.records(block); err != nil {
			return nil, err
		}
		progress(Progress{Done: r.users, Total: r.header.Users})
		if block, err = next(); err == io.EOF {
			return r.finish()
		}
		if err != nil {
			return nil, err
		}
	}
}

// restorer is a state that is being restored.
type restorer struct {
	s        *State
	header   headerRecord
	gateways []*gateway
	// How many records were read.
	closed, freed, users int // and len(gateways), names and fences
	names                int
	ends                 endsRecord
	fences               []fenceRecord
	fenceNumbers         []uint32        // the fences' new numbers
	leases               []restoredLease // in any order

	format uint8
	record userRecord
	more   userMoreRecord
}

// restoredLease is a lease and who has it.
type restoredLease struct {
	*lease
	holder
}

// damaged makes an error of what is wrong with a snapshot.
func damaged(format string, args ...any) error {
	return fmt.Errorf("%w: %w", ErrDamagedSnapshot, fmt.Errorf(format, args...))
}

// begin restores the header, and the records that later formats have behind it.
func (r *restorer) begin(format uint8, b []byte) (rest []byte, err error) {
	h := &r.header
	if rest, err = h.UnmarshalMsg(b); err != nil {
		return nil, damaged("its header: %w", err)
	}
	var rules rulesRecord
	if format >= 2 {
		if rest, err = rules.UnmarshalMsg(rest); err != nil {
			return nil, damaged("its rules: %w", err)
		}
	}
	params := entry.Params{Grace: h.Grace, Retention: h.Retention, Persistent: h.Persistent, Sessions: rules.Sessions}
	var links linksRecord
	var c clockRecord
	if r.format = format; format >= 3 {
		if rest, err = links.UnmarshalMsg(rest); err != nil {
			return nil, damaged("what it has of NATS servers: %w", err)
		}
		if rest, err = c.UnmarshalMsg(rest); err != nil {
			return nil, damaged("its clock: %w", err)
		}
		if rest, err = r.ends.UnmarshalMsg(rest); err != nil {
			return nil, damaged("its count of ended sessions: %w", err)
		}
	}
	if format >= 4 {
		if rest, err = params.UnmarshalMsg(rest); err != nil {
			return nil, damaged("all its rules: %w", err)
		}
	}
	s := r.s
	for _, l := range links.Lame {
		s.connections.lame = append(s.connections.lame, lameServer{id: l.Server, since: l.Since})
	}
	s.epoch, s.generation, s.format, s.position = h.Epoch, h.Generation, h.Format, h.Position
	s.clock = clock{wall: h.Wall, lease: h.Lease, amnestyUntil: h.AmnestyUntil, wentBackAt: c.WentBackAt}
	s.params = params.Complete()
	if h.Epoch == "" || h.Users < 0 || h.Closed < 0 || h.Freed < 0 || h.Numbers < h.Freed ||
		r.ends.Names < 0 || r.ends.Fences < 0 || h.Format >= fencesFormat && format < 3 ||
		h.Format >= graceFormat && format < 4 || h.Format >= windowFormat && format < 5 {
		return nil, damaged("its counts do not fit: %d users, %d numbers, %d of them free, %d connections, %d and %d ended sessions, format %d",
			h.Users, h.Numbers, h.Freed, h.Closed, r.ends.Names, r.ends.Fences, h.Format)
	}
	for _, in := range h.Instances {
		s.addInstance(&instance{id: in.ID, sequence: in.Sequence, seen: in.Seen, maxFormat: in.MaxFormat})
	}
	return rest, nil
}

// records restores a block of records.
func (r *restorer) records(b []byte) (err error) {
	for len(b) > 0 {
		switch {
		case len(r.gateways) < r.header.Gateways:
			b, err = r.restoreGateway(b)
		case r.closed < r.header.Closed:
			b, err = r.restoreClosed(b)
		case r.freed < r.header.Freed:
			b, err = r.restoreFreed(b)
		case r.names < r.ends.Names:
			b, err = r.restoreName(b)
		case len(r.fences) < r.ends.Fences:
			b, err = r.restoreFence(b)
		case r.users < r.header.Users:
			b, err = r.restoreUser(b)
		default:
			err = damaged("%d bytes too many", len(b))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (r *restorer) restoreGateway(b []byte) ([]byte, error) {
	var g gatewayRecord
	b, err := g.UnmarshalMsg(b)
	if err != nil {
		return nil, damaged("gateway %d: %w", len(r.gateways), err)
	}
	x := &gateway{key: gatewayKey{g.Gateway, g.Process}, seq: g.Seq}
	last := doneApply{answer: answer(g.Revision, g.Applied, g.Failures)}
	if r.s.gateways.byKey[x.key] != nil {
		return nil, damaged("gateway %q comes twice", g.Gateway)
	}
	if r.format >= 3 {
		var more gatewayMoreRecord
		if b, err = more.UnmarshalMsg(b); err != nil {
			return nil, damaged("what else there is of gateway %d: %w", len(r.gateways), err)
		}
		last.body = more.Body
	}
	if r.format >= 5 {
		var earlier earlierRecord
		if b, err = earlier.UnmarshalMsg(b); err != nil {
			return nil, damaged("the earlier requests of gateway %d: %w", len(r.gateways), err)
		}
		for _, d := range earlier.Done {
			x.done = append(x.done, doneApply{answer(d.Revision, d.Applied, d.Failures), d.Body})
		}
	}
	if x.seq > 0 {
		x.done = append(x.done, last)
	}
	if uint64(len(x.done)) > min(x.seq, uint64(r.s.window())) {
		return nil, damaged("gateway %q has %d requests, and remembers %d", g.Gateway, x.seq, len(x.done))
	}
	x.live, x.number = true, g.Number
	if g.Number >= ofGateway || r.s.gateways.byLease[g.Number] != nil {
		return nil, damaged("the lease number %d of gateway %q comes twice or is too high", g.Number, g.Gateway)
	}
	r.s.addGateway(x)
	r.gateways = append(r.gateways, x)
	return b, r.restoreLease(&x.lease, holder(g.Number|ofGateway), g.Number, terms(g.Terms), g.Deadline, &g.On)
}

func (r *restorer) restoreClosed(b []byte) ([]byte, error) {
	var c closedRecord
	b, err := c.UnmarshalMsg(b)
	if err != nil {
		return nil, damaged("closed connection %d: %w", r.closed, err)
	}
	r.closed++
	cs := &r.s.connections
	n := cs.findOrAdd(connectionKey{c.Server, c.Client})
	x := cs.table.At(n)
	if x.kept {
		return nil, damaged("connection %d of %s closed twice", c.Client, c.Server)
	}
	x.closed, x.closedAt = true, c.At
	cs.remember(n)
	return b, nil
}

func (r *restorer) restoreFreed(b []byte) ([]byte, error) {
	var f freedRecord
	b, err := f.UnmarshalMsg(b)
	if err != nil {
		return nil, damaged("free number %d: %w", r.freed, err)
	}
	r.freed++
	if int(f.Number) >= r.header.Numbers {
		return nil, damaged("the free number %d is beyond %d", f.Number, r.header.Numbers)
	}
	r.s.leases.freed.Push(freed{number: f.Number, at: f.At})
	return b, nil
}

func (r *restorer) restoreName(b []byte) ([]byte, error) {
	var n nameRecord
	b, err := n.UnmarshalMsg(b)
	if err != nil || n.Reason > uint8(wasErased) {
		return nil, damaged("the name of ended session %d, reason %d: %w", r.names, n.Reason, err)
	}
	r.names++
	r.s.ended = append(r.s.ended, endedSession{user: n.User, session: packID(n.Session), until: n.Until, reason: endReason(n.Reason)})
	return b, nil
}

func (r *restorer) restoreFence(b []byte) ([]byte, error) {
	var f fenceRecord
	b, err := f.UnmarshalMsg(b)
	if err != nil || f.Reason > uint8(wasErased) {
		return nil, damaged("fence %d, reason %d: %w", len(r.fences), f.Reason, err)
	}
	if r.fences = append(r.fences, f); len(r.fences) == r.ends.Fences {
		return b, r.restoreFences()
	}
	return b, nil
}

// restoreFences adds all fences, with new numbers that have no gaps.
func (r *restorer) restoreFences() error {
	slices.SortFunc(r.fences, func(a, b fenceRecord) int {
		return cmp.Compare(a.Number-r.ends.First, b.Number-r.ends.First)
	})
	r.fenceNumbers = make([]uint32, 0, len(r.fences))
	for i := range r.fences {
		f := &r.fences[i]
		if i > 0 && (f.Number == r.fences[i-1].Number || f.Until < r.fences[i-1].Until) {
			return damaged("fence %d comes twice, or ends before an older one", f.Number)
		}
		number := r.s.fenceTable.add(f.Key, endReason(f.Reason), f.Until, r.fenceNumber(f.Prev))
		r.fenceNumbers = append(r.fenceNumbers, number)
	}
	return nil
}

// fenceNumber returns the new number of the fence with a number in the snapshot. It
// returns 0 if the snapshot has no such fence.
func (r *restorer) fenceNumber(number uint32) uint32 {
	i, ok := slices.BinarySearchFunc(r.fences[:len(r.fenceNumbers)], number-r.ends.First, func(f fenceRecord, n uint32) int {
		return cmp.Compare(f.Number-r.ends.First, n)
	})
	if !ok || number == 0 {
		return 0
	}
	return r.fenceNumbers[i]
}

func (r *restorer) restoreUser(b []byte) ([]byte, error) {
	b, err := r.record.UnmarshalMsg(b)
	if err != nil {
		return nil, damaged("user %d: %w", r.users, err)
	}
	r.users++
	s, u := r.s, &r.record
	r.more = userMoreRecord{Ends: r.more.Ends[:0]}
	if r.format >= 3 && u.PendingParts&moreFollows != 0 {
		u.PendingParts &^= moreFollows
		if b, err = r.more.UnmarshalMsg(b); err != nil {
			return nil, damaged("what else there is of user %d: %w", r.users-1, err)
		}
	}
	switch {
	case cause(u.Cause) > byErasure:
		return nil, damaged("user %q has the cause %d", u.ID, u.Cause)
	case u.Lasting == uint8(entry.Keep) || u.Lasting > uint8(entry.Invisible) || u.Override > uint8(entry.Invisible):
		return nil, damaged("user %q has the availabilities %d and %d", u.ID, u.Lasting, u.Override)
	}
	x := s.newUser(u.ID) // found by ID from finish on
	s.setText(x, u.Text, u.TextUntil)
	x.lastSeen, x.idleSince, x.updatedAt = instantOf(u.LastSeen), instantOf(u.IdleSince), instantOf(u.UpdatedAt)
	x.revision, x.previous, x.cause = u.Revision, u.Previous, cause(u.Cause)
	x.fence, x.fenced = r.fenceNumber(r.more.Fence), r.more.Fenced
	switch {
	case r.more.Gone:
		x.erased = erasedGone
	case u.Erased:
		x.erased = erasedKnown
	}
	if s.format >= fencesFormat && len(u.Replaced) > 0 || x.fenced >= maxReplacedFences {
		return nil, damaged("user %q has %d fences, %d of an earlier format", u.ID, x.fenced, len(u.Replaced))
	}
	if t := r.more.Tombstone; t != nil {
		s.putTombstone(x, tombstone{t.Revision, t.Previous, t.UpdatedAt})
	}
	for _, e := range r.more.Ends {
		if e.Reason > uint8(wasErased) {
			return nil, damaged("a session of user %q ended for the reason %d", u.ID, e.Reason)
		}
		s.enqueueEnd(x, pendingEnd{session: packID(e.Session), reason: endReason(e.Reason)})
	}
	s.setChosen(x, entry.Availability(u.Lasting), entry.Availability(u.Override), u.OverrideUntil)
	if err := r.restoreHidden(x, u.Hidden); err != nil {
		return nil, err
	}
	for i := range u.Sessions {
		if err = r.restoreSession(x, &u.Sessions[i]); err != nil {
			return nil, err
		}
	}
	s.notePresence(x)
	var first *replaced
	last := &first
	for _, p := range u.Replaced {
		if p.Reason > uint8(wasErased) {
			return nil, damaged("a session of user %q ended for the reason %d", u.ID, p.Reason)
		}
		*last = &replaced{session: packID(p.Session), until: p.Until, reason: endReason(p.Reason), pending: p.Pending}
		last = &(*last).next
	}
	if first != nil {
		s.setReplaced(x, first)
	}
	if x.pending, err = r.restorePending(x, u.Instance, pending{position: u.PendingAt, since: u.PendingSince, added: parts(u.PendingParts)}); err != nil {
		return nil, err
	}
	if h := s.hidden(x); h != nil {
		if h.pending, err = r.restorePending(x, u.Hidden.Instance, pending{hidden: true, position: u.Hidden.PendingAt, since: u.Hidden.PendingSince}); err != nil {
			return nil, err
		}
	}
	s.scheduleForget(x)
	s.scheduleExpiry(x)
	s.countUser(s.public(x, s.own(x)).statusType, s.publicRevision(x), +1)
	if s.hidden(x) == nil {
		s.countSessions(x, +1)
	}
	s.digest += s.hash(x)
	return b, nil
}

// restorePending restores a pending announcement of a user. instance is 1 + the index of the one
// that has it in its outbox; 0: there is none.
func (r *restorer) restorePending(u *user, instance int, p pending) (uint32, error) {
	s := r.s
	if instance == 0 {
		return 0, nil
	}
	if instance < 0 || instance > len(s.instances) {
		return 0, damaged("user %q has an announcement pending at instance %d of %d", s.userID(u), instance, len(s.instances))
	}
	in := s.instances[instance-1]
	p.user, p.instance = s.numberOf(u), in.local
	at, x := s.pendings.New()
	*x = p
	in.outbox = append(in.outbox, at)
	return at, nil
}

func (r *restorer) restoreHidden(u *user, h *hiddenRecord) error {
	if h == nil {
		return nil
	}
	s := r.s
	t := protocol.StatusType(h.StatusType)
	if t != protocol.Offline && t != protocol.Unlogined || cause(h.Cause) > byErasure {
		return damaged("user %q is hidden as %d with the cause %d", s.userID(u), h.StatusType, h.Cause)
	}
	x := s.newHidden(u, view{statusType: t, text: h.Text, textUntil: h.TextUntil})
	x.lastSeen, x.revision, x.previous, x.updatedAt, x.cause = h.LastSeen, h.Revision, h.Previous, h.UpdatedAt, cause(h.Cause)
	x.until, x.idleSince, x.ended, x.gone = h.Until, h.IdleSince, h.Ended, h.Gone
	return nil
}

func (r *restorer) restoreSession(u *user, rec *sessionRecord) error {
	s := r.s
	n, x := s.newSession(u, packID(rec.ID))
	x.device, x.platform = s.keep(n, ofDevice, rec.Device), s.names.Take(rec.Platform)
	x.loginAt, x.lostAt = rec.LoginAt, rec.LostAt
	x.live, x.idle, x.loginOnly, x.loss = rec.Flags&1 != 0, rec.Flags&2 != 0, rec.Flags&4 != 0, loss(rec.Flags>>3&3)
	s.live += int(flag(x.live))
	if rec.Gateway > 0 {
		if rec.Gateway > len(r.gateways) || !x.live || rec.On.Server != "" {
			return damaged("session %q of %q is held by gateway %d of %d", rec.ID, s.userID(u), rec.Gateway, len(r.gateways))
		}
		r.gateways[rec.Gateway-1].add(n, x)
	}
	return r.restoreLease(&x.lease, holder(n), rec.Number, terms(rec.Terms), rec.Deadline, &rec.On)
}

func (r *restorer) restoreLease(l *lease, h holder, number uint32, chosen terms, deadline int64, on *bindingRecord) error {
	if int(number) >= r.header.Numbers {
		return damaged("the lease number %d is beyond %d", number, r.header.Numbers)
	}
	if l.terms = chosen; l.grace() != 0 && r.format < graceFormat {
		return damaged("lease %d has the terms %#x, and a grace of its own is not in its format", number, chosen)
	}
	s := r.s
	r.leases = append(r.leases, restoredLease{l, h})
	l.number, l.deadline = number, deadline
	s.digest += deadlineHash(number, deadline)
	if on.Server != "" {
		n := s.connections.findOrAdd(connectionKey{on.Server, on.Client})
		if c := s.connections.table.At(n); on.Closed && !c.kept {
			c.closed, c.closedAt = true, on.ClosedAt
		}
		s.bindTo(l, h, n)
	}
	return nil
}

// finish checks that the snapshot is complete, and builds what is derived from the records.
func (r *restorer) finish() (*State, error) {
	h, s := &r.header, r.s
	if len(r.gateways) < h.Gateways || r.closed < h.Closed || r.freed < h.Freed || r.users < h.Users {
		return nil, damaged("it ends after %d of %d users", r.users, h.Users)
	}
	if len(r.leases)+r.freed != h.Numbers {
		return nil, damaged("%d leases and %d free numbers are not %d", len(r.leases), r.freed, h.Numbers)
	}
	s.leases.byNumber.Grow(h.Numbers)
	for _, l := range r.leases {
		if s.leases.byNumber.Get(l.number) != 0 {
			return nil, damaged("the lease number %d comes twice", l.number)
		}
		s.leases.byNumber.Set(l.number, l.holder)
	}
	for f := range s.leases.freed.All() {
		if s.leases.byNumber.Get(f.number) != 0 {
			return nil, damaged("the number %d is both free and taken", f.number)
		}
	}
	for _, l := range r.leases {
		s.schedule(l.lease)
	}
	if twice, ok := s.indexUsers(); !ok {
		return nil, damaged("user %q comes twice", twice)
	}
	for _, in := range s.instances {
		items := in.outbox
		in.outbox = nil
		slices.SortFunc(items, func(at, bt uint32) int {
			a, b := s.pendings.At(at), s.pendings.At(bt)
			u, v := s.user(a.user), s.user(b.user)
			return cmp.Or(cmp.Compare(a.position, b.position), cmp.Compare(u.revision, v.revision), cmp.Compare(s.userID(u), s.userID(v)),
				cmp.Compare(a.all(), b.all()))
		})
		for _, p := range items {
			s.push(in, p)
		}
	}
	if got := s.Digest(); got != h.Digest {
		return nil, damaged("its digest is %016x, that of what it holds %016x", h.Digest, got)
	}
	s.noteDigest()
	return s, nil
}
