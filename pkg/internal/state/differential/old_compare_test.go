package differential

import (
	"fmt"
	"slices"
	"strconv"

	"presence/pkg/protocol"
)

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
		"users":              strconv.Itoa(len(s.users.list)),
		"lease numbers":      fmt.Sprintf("%d, %d of them free", len(s.leases.byNumber), len(s.leases.freed)),
		"closed connections": strconv.Itoa(len(s.connections.closed)),
		"lame duck servers":  s.lameFact(),
	}
	for _, in := range s.instances {
		facts["instance "+in.id] = fmt.Sprintf("sequence %d, seen %d, understands format %d, pending %d", in.sequence, in.seen, in.maxFormat, in.current)
	}
	facts["ended sessions"] = fmt.Sprintf("%d, digest %016x", s.fenceTable.count, s.fenceTable.sum)
	sum := uint64(0)
	for _, g := range s.gateways {
		sum += s.hashGateway(g) + deadlineHash(g.number, g.deadline)
	}
	facts["gateways"] = fmt.Sprintf("%d, digest %016x", len(s.gateways), sum)
	return facts
}

// UserDigests returns the digests of at most limit users, by their places from a
// number on, and the place behind the last of them, 0 where no more follow. A
// user's place changes when another is forgotten.
func (s *State) UserDigests(from, limit int) (page []protocol.UserDigest, next int) {
	list := s.users.list
	from = min(from, len(list))
	end := min(from+limit, len(list))
	for _, u := range list[from:end] {
		page = append(page, protocol.UserDigest{UserID: u.id, Digest: s.userDigest(u)})
	}
	if end < len(list) {
		next = end
	}
	return page, next
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
	for x := u.sessions; x != nil; x = x.next {
		sum += deadlineHash(x.number, x.deadline)
	}
	return fmt.Sprintf("%016x", sum)
}

// UserIDs returns who is known, sorted.
func (s *State) UserIDs() []string {
	ids := make([]string, 0, len(s.users.list))
	for _, u := range s.users.list {
		ids = append(ids, u.id)
	}
	slices.Sort(ids)
	return ids
}
