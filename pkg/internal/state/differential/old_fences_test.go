package differential

import (
	"crypto/sha256"
	"encoding/binary"
	"math/bits"
	"slices"
)

// fences remember which sessions were ended by somebody else than their clients. Their
// clients must not open them again for 24 hours (PROTOCOL 4.1). In force from format 3 on;
// below it user.replaced remembers them.
//
// A fence names neither the user nor the session: it has a hash of both. So it takes 20
// bytes, plus about 2 in the index, and it can outlive what is known of the user.
//
// The number of fences is bounded by rates. Each fence is an ended session, which had to
// be opened before. A user may make 20 changes in 5 s. One who only logs in and logs all
// sessions out makes 172,800 fences in 24 hours: 4 MB. Operators and gateways are trusted,
// and make as many as their requests end. Of sessions that a login of their device
// replaced, only the last ones of a user are kept, see trimFences.
//
// Fences are numbered in the order of their ends. They are forgotten in the same order,
// because all are kept equally long. 256 numbers are a page. A page keeps no gaps for
// forgotten fences, so it takes memory only for those that are left.
type fences struct {
	pages       []*fencePage // of the numbers from first on; nil: nothing is left of it
	first, next uint32       // the oldest number in use, and the next new one; they may wrap
	count       int
	sum         uint64 // of the fences' hashes, for the digest

	// heads is a hash table with chains. It has the newest fence of each chain. It grows
	// and shrinks by one chain at a time (linear hashing), so no command waits for a
	// rebuild of the whole table.
	heads []uint32
}

// fence is one ended session. Links are numbers. The link 0, or to a forgotten fence,
// ends a chain.
type fence struct {
	key   fenceKey
	meta  uint16 // the reason in the lowest 2 bits, then the seconds since fencePage.since
	chain uint32 // the next older in the same chain of the hash table
	prev  uint32 // the next older that was replaced, of the same user
}

// fenceKey is a hash of a user and a session. A collision refuses a login that should be
// accepted. With a million fences, and a million new sessions a second for a year, the
// chance of one collision is 1 in 30,000. Nobody can cause a collision for somebody else:
// that takes 2^80 attempts at SHA-256, for a session ID that is not used yet.
type fenceKey [10]byte

// fencePage holds the fences of 256 numbers in a row.
type fencePage struct {
	list  []fence   // those that are left, in the order of their numbers
	has   [4]uint64 // a bit for each number
	since uint32    // lease clock in seconds: the end of the first one's time
}

const (
	pageBits = 8
	pageSize = 1 << pageBits
	// maxSince is how much later than the first of its page a fence may end.
	maxSince = 1<<14 - 1
	// minChains is the least number of chains. A larger table has as many that a chain has
	// between minLength and maxLength fences on average.
	minChains            = 16
	minLength, maxLength = 2, 3
	// maxReplacedFences is how many fences of a user's replaced sessions are kept at
	// least. At twice as many the older half is forgotten at once.
	maxReplacedFences = 1024
)

func newFences() fences { return fences{first: 1, next: 1} }

func keyOf(user string, session sessionID) (k fenceKey) {
	var room [256]byte
	b := append(room[:0], user...)
	b = append(b, 0) // in no user ID
	b = append(b, session...)
	sum := sha256.Sum256(b)
	copy(k[:], sum[:])
	return k
}

func (k *fenceKey) index() uint32 { return binary.LittleEndian.Uint32(k[:]) }

func (f *fence) reason() endReason { return endReason(f.meta & 3) }

// hash is what a fence adds to the digest.
func (f *fence) hash(until uint32) uint64 {
	return deadlineHash(until<<2|uint32(f.reason()), int64(binary.LittleEndian.Uint64(f.key[:])^uint64(f.key[8])<<32^uint64(f.key[9])<<40))
}

// add adds a fence that ends at a second of the lease clock, and returns its number. until
// must not be before the end of the fence that was added last.
func (fs *fences) add(key fenceKey, reason endReason, until, prev uint32) uint32 {
	page := fs.lastPage()
	if page == nil || until-page.since > maxSince {
		if page != nil {
			fs.next += pageSize - fs.next%pageSize // the rest of the page stays empty
		}
		if fs.next == 0 {
			fs.next = 1 // they wrapped
		}
		page = &fencePage{since: until}
		fs.pages = append(fs.pages, page)
		if fs.count == 0 {
			fs.pages, fs.first = []*fencePage{page}, fs.next
		}
	}
	number := fs.next
	fs.next++
	f := fence{key: key, meta: uint16(until-page.since)<<2 | uint16(reason), prev: prev}
	page.has[number%pageSize/64] |= 1 << (number % 64)
	page.list = append(page.list, f)
	fs.count++
	fs.sum += f.hash(until)
	fs.link(number)
	if fs.count > maxLength*len(fs.heads) {
		fs.grow()
	}
	return number
}

// lastPage returns the page of the next number; nil: it needs a new page.
func (fs *fences) lastPage() *fencePage {
	if fs.next%pageSize == 0 || len(fs.pages) == 0 {
		return nil
	}
	return fs.pages[len(fs.pages)-1]
}

// has reports whether a number was given and may still be in use.
func (fs *fences) has(number uint32) bool { return number-fs.first < fs.next-fs.first }

// get returns the fence of a number and its page; nil where it is forgotten.
func (fs *fences) get(number uint32) (*fence, *fencePage) {
	if number == 0 || !fs.has(number) {
		return nil, nil
	}
	page := fs.pages[fs.pageOf(number)]
	if page == nil || page.has[number%pageSize/64]&(1<<(number%64)) == 0 {
		return nil, nil
	}
	return &page.list[page.rank(number)], page
}

func (fs *fences) pageOf(number uint32) uint32 {
	return (number>>pageBits - fs.first>>pageBits) & (1<<(32-pageBits) - 1)
}

// rank returns a number's index in the list of its page.
func (p *fencePage) rank(number uint32) (n int) {
	word := number % pageSize / 64
	for _, w := range p.has[:word] {
		n += bits.OnesCount64(w)
	}
	return n + bits.OnesCount64(p.has[word]&(1<<(number%64)-1))
}

func (p *fencePage) until(f *fence) uint32 { return p.since + uint32(f.meta>>2) }

// find returns until when a session is refused, in seconds of the lease clock.
func (fs *fences) find(key fenceKey) (until uint32, ok bool) {
	if fs.count == 0 {
		return 0, false
	}
	number := fs.heads[fs.chainOf(key.index())]
	for {
		f, page := fs.get(number)
		if f == nil {
			return 0, false
		}
		if f.key == key {
			return page.until(f), true
		}
		number = f.chain
	}
}

// remove forgets the fence of a number.
func (fs *fences) remove(number uint32) {
	f, page := fs.get(number)
	fs.sum -= f.hash(page.until(f))
	fs.unlink(number, f)
	i := page.rank(number)
	page.list = slices.Delete(page.list, i, i+1)
	page.has[number%pageSize/64] &^= 1 << (number % 64)
	switch {
	case len(page.list) == 0 && page != fs.lastPage():
		fs.pages[fs.pageOf(number)] = nil
	case cap(page.list) > 2*len(page.list)+8:
		page.list = slices.Clone(page.list)
	}
	fs.count--
	if len(fs.heads) > minChains && fs.count < minLength*len(fs.heads) {
		fs.shrink()
	}
}

// oldest returns the number of the fence that is forgotten first, and until when it is
// kept; 0 where there is none.
func (fs *fences) oldest() (number, until uint32) {
	for fs.count > 0 {
		if f, page := fs.get(fs.first); f != nil {
			return fs.first, page.until(f)
		}
		fs.skip()
	}
	return 0, 0
}

// skip passes over the first number, whose fence is forgotten, or the rest of its
// page where nothing is left of that.
func (fs *fences) skip() {
	before := fs.first >> pageBits
	if fs.pages[0] == nil {
		fs.first |= pageSize - 1
	}
	fs.first++
	if fs.first>>pageBits != before {
		fs.pages = fs.pages[1:] // append makes a new array in time
	}
	if fs.first == 0 {
		fs.first = 1
	}
}

// chainOf returns the chain of a key's index. It takes as many bits of the index as the
// number of chains has. Where that chain does not exist yet, it takes one bit less.
func (fs *fences) chainOf(index uint32) uint32 {
	n := uint32(len(fs.heads))
	wide := uint32(1)<<bits.Len32(n-1) - 1
	if c := index & wide; c < n {
		return c
	}
	return index & (wide >> 1)
}

func (fs *fences) link(number uint32) {
	if fs.heads == nil {
		fs.heads = make([]uint32, minChains)
	}
	f, _ := fs.get(number)
	head := &fs.heads[fs.chainOf(f.key.index())]
	f.chain, *head = *head, number
}

func (fs *fences) unlink(number uint32, f *fence) {
	p := &fs.heads[fs.chainOf(f.key.index())]
	for *p != number {
		before, _ := fs.get(*p)
		p = &before.chain
	}
	*p = f.chain
}

// grow adds a chain. It splits an existing chain between the two.
func (fs *fences) grow() {
	n := uint32(len(fs.heads))
	fs.heads = append(fs.heads, 0)
	split := n & (1<<(bits.Len32(n)-1) - 1)
	fs.relink(split)
}

// shrink removes the last chain, and moves its fences to the chain that it once split.
func (fs *fences) shrink() {
	last := len(fs.heads) - 1
	number := fs.heads[last]
	fs.heads = fs.heads[:last]
	if 4*cap(fs.heads) > 5*last {
		fs.heads = slices.Clone(fs.heads)
	}
	fs.linkAll(number)
}

func (fs *fences) relink(chain uint32) {
	number := fs.heads[chain]
	fs.heads[chain] = 0
	fs.linkAll(number)
}

// linkAll puts a fence, and all behind it in its chain, into the chains where they belong.
func (fs *fences) linkAll(number uint32) {
	for number != 0 {
		f, _ := fs.get(number)
		behind := f.chain
		fs.link(number)
		number = behind
	}
}
