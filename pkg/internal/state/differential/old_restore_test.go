package differential

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"slices"
	"unique"

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
	fenceNumbers         []uint32 // the fences' new numbers
	leases               []*lease // in any order

	format uint8
	record userRecord
	more   userMoreRecord
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
	s := r.s
	for _, l := range links.Lame {
		s.connections.lame = append(s.connections.lame, lameServer{id: l.Server, since: l.Since})
	}
	s.epoch, s.generation, s.format, s.position = h.Epoch, h.Generation, h.Format, h.Position
	s.clock = clock{wall: h.Wall, lease: h.Lease, amnestyUntil: h.AmnestyUntil, wentBackAt: c.WentBackAt}
	s.params = entry.Params{Grace: h.Grace, Retention: h.Retention, Persistent: h.Persistent, Sessions: rules.Sessions}.Complete()
	if h.Epoch == "" || h.Users < 0 || h.Closed < 0 || h.Freed < 0 || h.Numbers < h.Freed ||
		r.ends.Names < 0 || r.ends.Fences < 0 || h.Format >= fencesFormat && format < 3 {
		return nil, damaged("its counts do not fit: %d users, %d numbers, %d of them free, %d connections, %d and %d ended sessions, format %d",
			h.Users, h.Numbers, h.Freed, h.Closed, r.ends.Names, r.ends.Fences, h.Format)
	}
	for _, in := range h.Instances {
		s.instances = append(s.instances, &instance{id: in.ID, sequence: in.Sequence, seen: in.Seen, maxFormat: in.MaxFormat})
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
	x := &gateway{key: gatewayKey{g.Gateway, g.Process}, seq: g.Seq, answer: g.answer()}
	if r.s.gateways[x.key] != nil {
		return nil, damaged("gateway %q comes twice", g.Gateway)
	}
	if r.format >= 3 {
		var more gatewayMoreRecord
		if b, err = more.UnmarshalMsg(b); err != nil {
			return nil, damaged("what else there is of gateway %d: %w", len(r.gateways), err)
		}
		x.body = more.Body
	}
	x.lease.gateway = x
	x.live, x.ttl = true, g.TTL
	r.s.gateways[x.key] = x
	r.gateways = append(r.gateways, x)
	return b, r.restoreLease(&x.lease, g.Number, g.Deadline, &g.On)
}

func (r *restorer) restoreClosed(b []byte) ([]byte, error) {
	var c closedRecord
	b, err := c.UnmarshalMsg(b)
	if err != nil {
		return nil, damaged("closed connection %d: %w", r.closed, err)
	}
	r.closed++
	cs := &r.s.connections
	x := cs.findOrAdd(connectionKey{c.Server, c.Client})
	if x.kept {
		return nil, damaged("connection %d of %s closed twice", c.Client, c.Server)
	}
	x.closed, x.closedAt, x.kept = true, c.At, true
	cs.closed = append(cs.closed, x)
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
	r.s.leases.freed = append(r.s.leases.freed, freed{number: f.Number, at: f.At})
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
	x := &user{
		id: u.ID, text: u.Text, textUntil: u.TextUntil, lastSeen: u.LastSeen, idleSince: u.IdleSince,
		revision: u.Revision, previous: u.Previous, updatedAt: u.UpdatedAt, cause: cause(u.Cause),
		rare: &nothingRare, fence: r.fenceNumber(r.more.Fence), fenced: r.more.Fenced,
	}
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
		x.needRare().tombstone = &tombstone{t.Revision, t.Previous, t.UpdatedAt}
	}
	for _, e := range r.more.Ends {
		if e.Reason > uint8(wasErased) {
			return nil, damaged("a session of user %q ended for the reason %d", u.ID, e.Reason)
		}
		x.enqueueEnd(pendingEnd{session: packID(e.Session), reason: endReason(e.Reason)})
	}
	x.setChosen(entry.Availability(u.Lasting), entry.Availability(u.Override), u.OverrideUntil)
	s.users.list = append(s.users.list, x) // found by ID from finish on
	if err := x.restoreHidden(u.Hidden); err != nil {
		return nil, err
	}
	end := &x.sessions
	for i := range u.Sessions {
		if *end, err = r.restoreSession(x, &u.Sessions[i]); err != nil {
			return nil, err
		}
		end = &(*end).next
	}
	if len(u.Replaced) > 0 {
		x.needRare()
	}
	last := &x.replaced
	for _, p := range u.Replaced {
		if p.Reason > uint8(wasErased) {
			return nil, damaged("a session of user %q ended for the reason %d", u.ID, p.Reason)
		}
		*last = &replaced{session: packID(p.Session), until: p.Until, reason: endReason(p.Reason), pending: p.Pending}
		last = &(*last).next
	}
	if x.pending, err = r.restorePending(u.Instance, pending{user: x, position: u.PendingAt, since: u.PendingSince, added: parts(u.PendingParts)}); err != nil {
		return nil, err
	}
	if h := x.hidden; h != nil {
		if h.pending, err = r.restorePending(u.Hidden.Instance, pending{user: x, hidden: h, position: u.Hidden.PendingAt, since: u.Hidden.PendingSince}); err != nil {
			return nil, err
		}
	}
	s.scheduleForget(x)
	s.scheduleExpiry(x)
	s.countUser(x.public(x.own()).statusType, x.publicRevision(), +1)
	s.countSessions(x, +1)
	s.digest += s.hash(x)
	return b, nil
}

// restorePending restores a pending announcement. instance is 1 + the index of the one that
// has it in its outbox; 0: there is none.
func (r *restorer) restorePending(instance int, p pending) (*pending, error) {
	if instance == 0 {
		return nil, nil
	}
	if instance < 0 || instance > len(r.s.instances) {
		return nil, damaged("user %q has an announcement pending at instance %d of %d", p.user.id, instance, len(r.s.instances))
	}
	p.instance = r.s.instances[instance-1]
	p.instance.outbox = append(p.instance.outbox, &p)
	return &p, nil
}

func (u *user) restoreHidden(h *hiddenRecord) error {
	if h == nil {
		return nil
	}
	if t := protocol.StatusType(h.StatusType); t != protocol.Offline && t != protocol.Unlogined || cause(h.Cause) > byErasure {
		return damaged("user %q is hidden as %d with the cause %d", u.id, h.StatusType, h.Cause)
	}
	u.needRare().hidden = &hidden{
		view:     view{statusType: protocol.StatusType(h.StatusType), text: h.Text, textUntil: h.TextUntil},
		lastSeen: h.LastSeen, revision: h.Revision, previous: h.Previous, updatedAt: h.UpdatedAt, cause: cause(h.Cause),
		until: h.Until, idleSince: h.IdleSince, ended: h.Ended, gone: h.Gone,
	}
	return nil
}

func (r *restorer) restoreSession(u *user, rec *sessionRecord) (*session, error) {
	x := &session{
		id: packID(rec.ID), device: rec.Device, platform: unique.Make(rec.Platform), user: u,
		loginAt: rec.LoginAt, lostAt: rec.LostAt,
	}
	x.lease.session = x
	x.idle, x.loginOnly, x.loss = rec.Flags&2 != 0, rec.Flags&4 != 0, loss(rec.Flags>>3&3)
	x.live, x.ttl = rec.Flags&1 != 0, rec.TTL
	if rec.Gateway > 0 {
		if rec.Gateway > len(r.gateways) || !x.live {
			return nil, damaged("session %q of %q is held by gateway %d of %d", rec.ID, u.id, rec.Gateway, len(r.gateways))
		}
		r.s.setGateway(x, r.gateways[rec.Gateway-1])
	}
	return x, r.restoreLease(&x.lease, rec.Number, rec.Deadline, &rec.On)
}

func (r *restorer) restoreLease(l *lease, number uint32, deadline int64, on *bindingRecord) error {
	if int(number) >= r.header.Numbers {
		return damaged("the lease number %d is beyond %d", number, r.header.Numbers)
	}
	s := r.s
	r.leases = append(r.leases, l)
	l.number, l.deadline = number, deadline
	s.digest += deadlineHash(number, deadline)
	if on.Server != "" {
		c := s.connections.findOrAdd(connectionKey{on.Server, on.Client})
		if on.Closed && !c.kept {
			c.closed, c.closedAt = true, on.ClosedAt
		}
		l.connection, l.bound = c, int32(len(c.leases))
		c.leases = append(c.leases, l)
	}
	s.schedule(l)
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
	byNumber := make([]*lease, h.Numbers)
	for _, l := range r.leases {
		if byNumber[l.number] != nil {
			return nil, damaged("the lease number %d comes twice", l.number)
		}
		byNumber[l.number] = l
	}
	for _, f := range s.leases.freed {
		if byNumber[f.number] != nil {
			return nil, damaged("the number %d is both free and taken", f.number)
		}
	}
	s.leases.byNumber = byNumber
	if twice := s.users.index(); twice != "" {
		return nil, damaged("user %q comes twice", twice)
	}
	for _, in := range s.instances {
		items := in.outbox
		in.outbox = nil
		slices.SortFunc(items, func(a, b *pending) int {
			return cmp.Or(cmp.Compare(a.position, b.position), cmp.Compare(a.user.revision, b.user.revision), cmp.Compare(a.user.id, b.user.id),
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
