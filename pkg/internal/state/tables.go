package state

import (
	"encoding/binary"
	"hash/maphash"
	"strings"

	"presence/pkg/internal/entry"
	"presence/pkg/internal/table"
)

// tables have what a State has most of, without pointers. So the garbage collector passes over
// it, and a user with one session takes about 200 bytes.
//
// Records refer to each other by numbers, and 0 is none. These numbers, and the places of
// texts, are local: they depend on what this process did before. They reach neither the
// journal nor the digest nor a snapshot. (The number of a lease is another thing: all
// instances agree on it.)
//
// A record stays where it is until it is freed. So the rules work with pointers to records,
// such as u *user. Only what is kept has numbers.
type tables struct {
	users       users
	sessions    table.Blocks[session]
	connections connections
	rares       table.Blocks[rare]
	hiddens     table.Blocks[hidden]
	pendings    table.Blocks[pending]
	texts       *table.Arena
	names       table.Names // of platforms and NATS servers

	// These are so few that objects will do. They are kept by the number of the user.
	replaced   map[uint32]*replaced    // the first of the sessions that were ended, below format 3
	ends       map[uint32][]pendingEnd // ends of sessions to be announced, from format 3 on
	tombstones map[uint32]tombstone    // the erasures to be announced
}

func newTables() *tables {
	t := &tables{
		replaced: make(map[uint32]*replaced), ends: make(map[uint32][]pendingEnd), tombstones: make(map[uint32]tombstone),
	}
	t.texts = table.NewArena(t.textMoved)
	t.users.index = table.NewIndex(hashText, func(n uint32) string { return t.userID(t.user(n)) })
	t.connections.init(&t.names)
	return t
}

// seed makes the hashes of the indexes differ from process to process, so that nobody can choose
// user IDs that are slow to find.
var seed = maphash.MakeSeed()

func hashText(id string) uint64 { return maphash.String(seed, id) }

func (t *tables) user(n uint32) *user       { return t.users.table.At(n) }
func (t *tables) session(n uint32) *session { return t.sessions.At(n) }

// textOf says which text of a record a text is. An owner of a text is the number of the record
// and this.
type textOf uint32

const (
	ofUser textOf = iota // the ID
	ofStatus
	ofHidden
	ofSession // the ID
	ofDevice

	ownerBits = 3
)

// keep puts a text of a record into the arena.
func (t *tables) keep(n uint32, of textOf, text string) table.Text {
	if text == "" {
		return 0
	}
	return t.texts.Put(n<<ownerBits|uint32(of), text)
}

// textMoved notes that the arena moved a text.
func (t *tables) textMoved(owner uint32, to table.Text) {
	switch n := owner >> ownerBits; textOf(owner % (1 << ownerBits)) {
	case ofUser:
		t.user(n).id = to
	case ofStatus:
		t.user(n).text = to
	case ofHidden:
		t.hiddens.At(n).text = to
	case ofSession:
		t.session(n).id = textID(to)
	case ofDevice:
		t.session(n).device = to
	}
}

func (t *tables) userID(u *user) string       { return t.texts.Get(u.id) }
func (t *tables) text(u *user) string         { return t.texts.Get(u.text) }
func (t *tables) device(x *session) string    { return t.texts.Get(x.device) }
func (t *tables) platform(x *session) string  { return t.names.Get(x.platform) }
func (t *tables) userOf(x *session) *user     { return t.user(x.user) }
func (t *tables) first(u *user) *session      { return t.session(u.sessions) }
func (t *tables) after(x *session) *session   { return t.session(x.next) }
func (t *tables) server(c *connection) string { return t.names.Get(c.server) }

// numberOf returns the number of a user: the arena has it as the owner of the ID.
func (t *tables) numberOf(u *user) uint32 { return t.texts.Owner(u.id) >> ownerBits }

// users are all users of whom anything is remembered.
type users struct {
	table table.Blocks[user]
	index *table.Index[string] // by ID
	order *order               // for List, see reorder; nil: nobody asked for one
}

// get returns the user with an ID, or nil.
func (us *users) get(id string) *user { return us.table.At(us.index.Find(id)) }

// fetch reads what the next commands need of their users, and changes nothing. With many users
// most of a command is waiting for memory. Here the processor waits for several users at once, as
// in Statuses. There are at most table.Several commands.
func (s *State) fetch(commands []entry.Command) {
	var ids [table.Several]string
	var numbers, sessions [table.Several]uint32
	var texts, statuses [table.Several]table.Text
	for i := range commands {
		ids[i] = commands[i].User
	}
	s.users.index.Likely(ids[:len(commands)], &numbers)
	for i := range commands {
		if u := s.user(numbers[i]); u != nil {
			texts[i], statuses[i], sessions[i] = u.id, u.text, u.sessions
			s.fetched += int64(u.presence) // it is in another part of the record
		}
	}
	for i := range commands {
		if x := s.session(sessions[i]); x != nil {
			s.fetched += x.deadline // without a use the compiler would leave the reading out
		}
		s.fetched += int64(s.texts.Length(texts[i]) + s.texts.Length(statuses[i]))
	}
}

// addUser adds a user of whom nothing is remembered. It includes a call of change.
func (s *State) addUser(id string) *user {
	u := s.newUser(id)
	n := s.numberOf(u)
	s.users.index.Add(n)
	if s.snapshot != nil {
		s.snapshot.written.set(n) // it is not in that one
	}
	s.note(u)
	return u
}

// newUser returns a user who cannot be found yet.
func (t *tables) newUser(id string) *user {
	n, u := t.users.table.New()
	u.id = t.texts.Put(n<<ownerBits|uint32(ofUser), id)
	u.idleSince, u.lasting = instantOf(-1), entry.Available
	return u
}

// dropUser forgets a user who has no sessions and waits nowhere.
func (t *tables) dropUser(u *user) {
	n := t.numberOf(u)
	if t.users.order != nil {
		t.users.order.tree.Delete(n)
	}
	t.users.index.Remove(n)
	if h := t.hidden(u); h != nil {
		t.dropHidden(u)
	}
	t.dropReplaced(u)
	t.dropTombstone(u)
	t.dropRare(u)
	t.texts.Free(u.text)
	t.texts.Free(u.id)
	t.users.table.Free(n)
}

// indexUsers makes all users found by their IDs, at once. It returns an ID that two of them have.
func (t *tables) indexUsers() (twice string, ok bool) {
	t.users.index.Grow(t.users.table.Len())
	numbers := make([]uint32, 0, table.Several)
	for n := range t.users.table.All() {
		if numbers = append(numbers, n); len(numbers) == table.Several {
			if twice, ok = t.indexSome(numbers); !ok {
				return twice, false
			}
			numbers = numbers[:0]
		}
	}
	return t.indexSome(numbers)
}

// indexSome is indexUsers for at most table.Several users.
func (t *tables) indexSome(numbers []uint32) (twice string, ok bool) {
	var ids [table.Several]string
	var likely [table.Several]uint32
	for i, n := range numbers {
		ids[i] = t.userID(t.user(n))
	}
	t.users.index.Likely(ids[:len(numbers)], &likely) // so that the memory of all is there at once
	for i, n := range numbers {
		if t.users.index.Find(ids[i]) != 0 {
			return ids[i], false
		}
		t.users.index.Add(n)
	}
	return "", true
}

// setText changes the text of a user, and when it expires by wall time; 0: never.
func (t *tables) setText(u *user, text string, until int64) {
	if t.text(u) != text {
		t.texts.Free(u.text)
		u.text = t.keep(t.numberOf(u), ofStatus, text)
	}
	if t.rare(u).textUntil != until {
		t.needRare(u).textUntil = until
	}
}

// setDevice and setPlatform change what a session says of itself.
func (s *State) setDevice(x *session, device string) {
	if s.device(x) == device {
		return
	}
	s.texts.Free(x.device)
	x.device = s.keep(uint32(s.holderOf(&x.lease)), ofDevice, device)
}

func (t *tables) setPlatform(x *session, platform string) {
	before := x.platform
	x.platform = t.names.Take(platform)
	t.names.Release(before)
}

// tidy gives back the room of what was freed. Texts move, and names lose their numbers, so no
// rule may be at work. A snapshot that is being taken refers to names.
func (s *State) tidy() {
	s.texts.Tidy()
	if s.snapshot == nil {
		s.names.Tidy()
	}
}

// rare has the fields that few users need.
type rare struct {
	textUntil     int64              // wall time at which the text expires; 0: never
	overrideUntil int64              // wall time at which override ends
	expiryBucket  int64              // where the user waits in the calendar expiries; 0: nowhere
	hidden        uint32             // the public view; 0: everybody sees the owner's view
	override      entry.Availability // Keep: none
	// These say that the user is in the map of that name.
	replaced, ends, tombstone bool
}

// rare returns the fields that few users need.
func (t *tables) rare(u *user) (r rare) {
	if u.rare != 0 {
		r = *t.rares.At(u.rare)
	}
	return r
}

// needRare returns the same to be changed. dropRare must be called later.
func (t *tables) needRare(u *user) *rare {
	if u.rare != 0 {
		return t.rares.At(u.rare)
	}
	n, r := t.rares.New()
	u.rare = n
	return r
}

// dropRare gives the room back if nothing rare is left of a user.
func (t *tables) dropRare(u *user) {
	if u.rare != 0 && *t.rares.At(u.rare) == (rare{}) {
		t.rares.Free(u.rare)
		u.rare = 0
	}
}

// hidden returns the public view of a user who is hidden; nil for any other.
func (t *tables) hidden(u *user) *hidden {
	if u.rare == 0 {
		return nil
	}
	return t.hiddens.At(t.rares.At(u.rare).hidden)
}

// instant is a time in milliseconds, in the room of 48 bits: enough for 4,000 years before and after
// 1970.
type instant [3]uint16

func instantOf(ms int64) instant { return instant{uint16(ms), uint16(ms >> 16), uint16(ms >> 32)} }

func (at instant) ms() int64 {
	return int64(int16(at[2]))<<32 | int64(at[1])<<16 | int64(at[0])
}

// sessionKey is the ID of a session in 16 bytes: a UUID, which most are, or where the text is.
// The two cannot be mistaken for each other: a UUID's ninth byte is above 0x7f.
type sessionKey [16]byte

func textID(text table.Text) (k sessionKey) {
	binary.LittleEndian.PutUint32(k[:], uint32(text))
	return k
}

func (k *sessionKey) isUUID() bool { return k[8] > 0x7f }

func (k *sessionKey) text() table.Text { return table.Text(binary.LittleEndian.Uint32(k[:])) }

// setID sets the ID of a new session.
func (t *tables) setID(n uint32, x *session, id sessionID) {
	if id.isUUID() {
		copy(x.id[:], id)
		return
	}
	x.id = textID(t.keep(n, ofSession, string(id)))
}

// is reports whether a session has an ID.
func (t *tables) is(x *session, id sessionID) bool {
	if x.id.isUUID() {
		return string(x.id[:]) == string(id)
	}
	return t.texts.Get(x.id.text()) == string(id)
}

// sessionID returns the ID of a session, packed.
func (t *tables) sessionID(x *session) sessionID {
	if x.id.isUUID() {
		return sessionID(x.id[:])
	}
	return sessionID(strings.Clone(t.texts.Get(x.id.text())))
}

// newSession adds a session, behind all others of its user.
func (t *tables) newSession(u *user, id sessionID) (uint32, *session) {
	n, x := t.sessions.New()
	x.user = t.numberOf(u)
	t.setID(n, x, id)
	end := &u.sessions
	for *end != 0 {
		end = &t.session(*end).next
	}
	*end = n
	return n, x
}

// dropSession takes a session from its user and forgets it.
func (t *tables) dropSession(n uint32, x *session) {
	at := &t.userOf(x).sessions
	for *at != n {
		at = &t.session(*at).next
	}
	*at = x.next
	if !x.id.isUUID() {
		t.texts.Free(x.id.text())
	}
	t.texts.Free(x.device)
	t.names.Release(x.platform)
	t.sessions.Free(n)
}

// forgetBucket returns where a user waits in the calendar forgets; nil: there is no such user.
func (t *tables) forgetBucket(n uint32) *uint32 {
	if u := t.users.table.Get(n); u != nil {
		return &u.forgetBucket
	}
	return nil
}

// expiryBucket is the same for the calendar expiries. Who waits there has a rare record.
func (t *tables) expiryBucket(n uint32) *int64 {
	if u := t.users.table.Get(n); u != nil && u.rare != 0 {
		return &t.rares.At(u.rare).expiryBucket
	}
	return nil
}
