package state

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"strconv"

	"github.com/cespare/xxhash/v2"

	"presence/pkg/internal/entry"
	"presence/pkg/protocol"
)

const (
	// DigestEvery is the distance of the positions whose digests are kept and
	// compared.
	DigestEvery = 64
	// digestsKept bounds how many of them are: 16,384 positions, half a minute
	// of the fullest load, which an entry that carries one is late by at most.
	digestsKept = 256
)

// pointDigest is the digest as of a position that is a multiple of DigestEvery.
type pointDigest struct{ position, sum uint64 }

// noteDigest remembers the digest where the position at hand is a multiple of
// DigestEvery.
func (s *State) noteDigest() {
	if s.position%DigestEvery == 0 {
		s.digests[s.position/DigestEvery%digestsKept] = pointDigest{s.position, s.Digest()}
	}
}

// DigestAt returns the digest as of a past position, and false where it is not
// remembered: not a multiple of DigestEvery, too long ago, or before this state
// was restored.
func (s *State) DigestAt(position uint64) (uint64, bool) {
	d := s.digests[position/DigestEvery%digestsKept]
	return d.sum, position != 0 && d.position == position
}

// Digest hashes everything that decides what the state does next, in a way that
// does not depend on how it came to be: two instances that applied the same
// journal have the same (G14). Users and deadlines are hashed when they change,
// so that it costs a walk over instances and gateways only.
func (s *State) Digest() uint64 {
	sum := s.digest + s.fenceTable.sum
	for _, g := range s.gateways.byKey {
		sum += s.hashGateway(g)
	}
	b := append(s.scratch[:0], s.epoch...) // Facts tells the same in words
	b = appendNumbers(b, uint64(s.generation), uint64(s.format), s.position, uint64(s.clock.wall), uint64(s.clock.lease),
		uint64(s.clock.amnestyUntil), uint64(s.params.Grace), uint64(s.params.Retention), flag(s.params.Persistent),
		uint64(s.users.table.Len()), uint64(s.leases.byNumber.Len()), uint64(s.leases.freed.Len()), uint64(s.connections.closed.Len()))
	for _, in := range s.instances {
		b = appendText(b, in.id)
		b = appendNumbers(b, in.sequence, uint64(in.seen), uint64(in.maxFormat), uint64(in.current))
	}
	if n := s.params.Sessions; n != entry.DefaultSessions { // as earlier versions hash it
		b = appendNumbers(b, uint64(n))
	}
	if s.format >= graceFormat {
		short := s.params.Short()
		b = must(short.MarshalMsg(b))
	}
	b = s.appendLame(b)
	if at := s.clock.wentBackAt; at != 0 { // likewise
		b = appendNumbers(b, uint64(at))
	}
	if s.fenceTable.count > 0 {
		b = appendNumbers(b, uint64(s.fenceTable.count))
	}
	s.scratch = b
	return sum + xxhash.Sum64(b)
}

// hash hashes a user with all sessions. Deadlines change with every renewal and are hashed
// separately. Pending announcements, and whether a connection is closed, are left out.
func (s *State) hash(u *user) uint64 {
	r := s.rare(u)
	b := appendText(s.scratch[:0], s.userID(u))
	b = appendText(b, s.text(u))
	b = appendNumbers(b, uint64(r.textUntil), uint64(u.lastSeen.ms()), uint64(u.idleSince.ms()), u.revision, u.previous, uint64(u.updatedAt.ms()), uint64(u.cause))
	b = appendNumbers(b, uint64(u.lasting), uint64(r.override), uint64(r.overrideUntil), flag(u.erased != notErased))
	if h := s.hidden(u); h != nil {
		b = appendText(b, s.texts.Get(h.text))
		b = appendNumbers(b, uint64(h.statusType), uint64(h.textUntil), uint64(h.lastSeen), h.revision, h.previous, uint64(h.updatedAt),
			uint64(h.cause), uint64(h.until), uint64(h.idleSince), flag(h.gone), uint64(h.ended))
	}
	for x := s.first(u); x != nil; x = s.after(x) {
		b = s.appendID(b, x)
		b = appendText(b, s.device(x))
		b = appendText(b, s.platform(x))
		b = appendNumbers(b, uint64(x.number), uint64(x.terms), flag(x.live)|flag(x.idle)<<1|flag(x.loginOnly)<<2|uint64(x.loss)<<3, uint64(x.loginAt), uint64(x.lostAt))
		if x.bound.isGateway() {
			b = appendNumbers(b, uint64(x.bound&^ofGateway)) // the number of its lease
		}
		if c := s.connectionOf(&x.lease); c != nil {
			b = appendText(b, s.server(c))
			b = appendNumbers(b, c.client)
		}
	}
	for r := s.replacedOf(u); r != nil; r = r.next {
		b = appendText(b, string(r.session))
		b = appendNumbers(b, uint64(r.until), uint64(r.reason))
	}
	if u.fenced > 0 {
		b = appendNumbers(b, uint64(u.fenced))
	}
	s.scratch = b
	return xxhash.Sum64(b)
}

func (s *State) hashGateway(g *gateway) uint64 {
	last := g.last()
	b := appendText(s.scratch[:0], g.key.gateway)
	b = appendText(b, g.key.process)
	b = appendNumbers(b, uint64(g.number), uint64(g.terms), g.seq, last.answer.Revision, uint64(last.answer.Applied), uint64(len(last.answer.Failures)), uint64(len(g.sessions)))
	if c := s.connectionOf(&g.lease); c != nil {
		b = appendText(b, s.server(c))
		b = appendNumbers(b, c.client, flag(c.closed), uint64(c.closedAt))
	}
	if last.body != 0 {
		b = appendNumbers(b, last.body)
	}
	for _, d := range g.earlier() { // none below windowFormat
		b = appendNumbers(b, d.body, d.answer.Revision, uint64(d.answer.Applied), uint64(len(d.answer.Failures)))
	}
	s.scratch = b
	return xxhash.Sum64(b)
}

// deadlineHash hashes the deadline of the lease with a number, by the finalizer
// of MurmurHash3.
func deadlineHash(number uint32, deadline int64) uint64 {
	h := uint64(deadline)*0x9e3779b97f4a7c15 + uint64(number) + 1
	h = (h ^ h>>33) * 0xff51afd7ed558ccd
	h = (h ^ h>>33) * 0xc4ceb9fe1a85ec53
	return h ^ h>>33
}

// appendText and appendNumbers write what is hashed: no two things alike.
func appendText(b []byte, text string) []byte {
	return append(binary.LittleEndian.AppendUint32(b, uint32(len(text))), text...)
}

// appendID writes the ID of a session, packed.
func (t *tables) appendID(b []byte, x *session) []byte {
	if x.id.isUUID() {
		return append(binary.LittleEndian.AppendUint32(b, packedLength), x.id[:]...)
	}
	return appendText(b, t.texts.Get(x.id.text()))
}

func appendNumbers(b []byte, numbers ...uint64) []byte {
	for _, n := range numbers {
		b = binary.LittleEndian.AppendUint64(b, n)
	}
	return b
}

func flag(b bool) uint64 {
	if b {
		return 1
	}
	return 0
}

// Facts are what the digest covers beside users, by name, for people who look
// for a difference.
func (s *State) Facts() map[string]string {
	facts := map[string]string{
		"epoch":              fmt.Sprintf("%s, generation %d, format %d", s.epoch, s.generation, s.format),
		"wall clock":         strconv.FormatInt(s.clock.wall, 10),
		"lease clock":        strconv.FormatInt(s.clock.lease, 10),
		"amnesty until":      strconv.FormatInt(s.clock.amnestyUntil, 10),
		"clock went back at": strconv.FormatInt(s.clock.wentBackAt, 10),
		"rules":              fmt.Sprintf("%+v", s.params),
		"users":              strconv.Itoa(s.users.table.Len()),
		"lease numbers":      fmt.Sprintf("%d, %d of them free", s.leases.byNumber.Len(), s.leases.freed.Len()),
		"closed connections": strconv.Itoa(s.connections.closed.Len()),
		"lame duck servers":  s.lameFact(),
	}
	for _, in := range s.instances {
		facts["instance "+in.id] = fmt.Sprintf("sequence %d, seen %d, understands format %d, pending %d", in.sequence, in.seen, in.maxFormat, in.current)
	}
	facts["ended sessions"] = fmt.Sprintf("%d, digest %016x", s.fenceTable.count, s.fenceTable.sum)
	sum := uint64(0)
	for _, g := range s.gateways.byKey {
		sum += s.hashGateway(g) + deadlineHash(g.number, g.deadline)
	}
	facts["gateways"] = fmt.Sprintf("%d, digest %016x", len(s.gateways.byKey), sum)
	return facts
}

// UserDigests returns the digests of at most limit users, by their places from a
// number on, and the place behind the last of them, 0 where no more follow. A
// user keeps the place. It is another one in another process.
func (s *State) UserDigests(from, limit int) (page []protocol.UserDigest, next int) {
	for n, u := range s.users.table.From(uint32(min(max(from, 0), math.MaxInt32))) {
		if len(page) == limit {
			return page, int(n)
		}
		page = append(page, protocol.UserDigest{UserID: s.userID(u), Digest: s.userDigest(u)})
	}
	return page, 0
}

// UserDigest returns the digest of a user; empty where there is none.
func (s *State) UserDigest(id string) string {
	u := s.users.get(id)
	if u == nil {
		return ""
	}
	return s.userDigest(u)
}

// userDigest covers deadlines too.
func (s *State) userDigest(u *user) string {
	sum := s.hash(u)
	for x := s.first(u); x != nil; x = s.after(x) {
		sum += deadlineHash(x.number, x.deadline)
	}
	return fmt.Sprintf("%016x", sum)
}

// UserIDs returns who is known, sorted.
func (s *State) UserIDs() []string {
	ids := make([]string, 0, s.users.table.Len())
	for _, u := range s.users.table.All() {
		ids = append(ids, s.userID(u))
	}
	slices.Sort(ids)
	return ids
}
