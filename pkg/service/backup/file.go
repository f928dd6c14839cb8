package backup

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash"
	"io"
	"regexp"
	"strconv"

	"github.com/cespare/xxhash/v2"
	"github.com/klauspost/compress/s2"
)

// A file is one line of text, and then parts:
//
//	presence backup 1 by presencectl 1.2.3\n   the form of the file, and who wrote it
//	H  Info, as JSON
//	S  a block of the state's snapshot, compressed (S2); as many as there are
//	C  contacts, compressed (S2): lines of {"user":"alice","contacts":["bob"]}
//	E  {"contacts":1,"sha256":"…"}: the end; the SHA-256 of everything before this part
//
// A part is its letter, the length of its content as 4 bytes, the content, and 8 bytes: the xxHash64
// of everything in the file up to there. Numbers are big-endian. So a changed, lost, moved or
// repeated byte is noticed by the part that it is in.

// form is the form of a file that this program writes, and the latest that it reads.
const form = 1

const (
	partInfo     = 'H'
	partState    = 'S'
	partContacts = 'C'
	partEnd      = 'E'
)

const (
	// maxPart bounds one part, in bytes, compressed or not.
	maxPart = 64 << 20
	// maxLine bounds the first line.
	maxLine = 200
	// contactsPart is about how many bytes of contacts one part has.
	contactsPart = 64 << 10
)

var firstLine = regexp.MustCompile(`^presence backup (\d{1,9}) by ([ -~]{1,150})\n$`)

// end is the last part.
type end struct {
	Contacts int    `json:"contacts"`
	Damaged  int    `json:"damagedContacts,omitempty"`
	SHA256   string `json:"sha256"`
}

// contact is a line of a partContacts.
type contact struct {
	User     string   `json:"user"`
	Contacts []string `json:"contacts"`
}

// writer writes the parts of a file.
type writer struct {
	out  *bufio.Writer
	sum  *xxhash.Digest
	sha  hash.Hash
	both io.Writer // out, sum, sha

	contacts bytes.Buffer // those of the next part
	buf      []byte
	n        int
}

func newWriter(w io.Writer, by string) (*writer, error) {
	x := &writer{out: bufio.NewWriterSize(w, 256<<10), sum: xxhash.New(), sha: sha256.New()}
	x.both = io.MultiWriter(x.out, x.sum, x.sha)
	line := fmt.Sprintf("presence backup %d by %s\n", form, by)
	if !firstLine.MatchString(line) {
		return nil, fmt.Errorf("%q cannot be named in a backup", by)
	}
	_, err := io.WriteString(x.both, line)
	return x, err
}

func (x *writer) part(kind byte, content []byte) error {
	if len(content) > maxPart {
		return fmt.Errorf("a part of %d bytes: a backup has parts of at most %d", len(content), maxPart)
	}
	x.both.Write(binary.BigEndian.AppendUint32([]byte{kind}, uint32(len(content)))) // errors stay in out
	x.both.Write(content)
	_, err := x.both.Write(binary.BigEndian.AppendUint64(nil, x.sum.Sum64()))
	return err
}

func (x *writer) json(kind byte, v any) error {
	content, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return x.part(kind, content)
}

func (x *writer) compressed(kind byte, content []byte) error {
	if len(content) > maxPart {
		return fmt.Errorf("a part of %d bytes: a backup has parts of at most %d", len(content), maxPart)
	}
	x.buf = s2.Encode(x.buf[:cap(x.buf)], content)
	return x.part(kind, x.buf)
}

// contact writes the contacts of a user, later.
func (x *writer) contact(userID string, users []string) error {
	x.n++
	if err := json.NewEncoder(&x.contacts).Encode(contact{userID, users}); err != nil {
		return err
	}
	if x.contacts.Len() < contactsPart {
		return nil
	}
	return x.flushContacts()
}

func (x *writer) flushContacts() error {
	if x.contacts.Len() == 0 {
		return nil
	}
	defer x.contacts.Reset()
	return x.compressed(partContacts, x.contacts.Bytes())
}

// end writes what is left, and the last part.
func (x *writer) end(damaged int) error {
	if err := x.flushContacts(); err != nil {
		return err
	}
	if err := x.json(partEnd, end{Contacts: x.n, Damaged: damaged, SHA256: hex.EncodeToString(x.sha.Sum(nil))}); err != nil {
		return err
	}
	return x.out.Flush()
}

// reader reads the parts of a file, and checks them.
type reader struct {
	in     *bufio.Reader
	sum    *xxhash.Digest
	sha    hash.Hash
	at     int64 // bytes read
	by     string
	info   *Info
	n      int  // users whose contacts were read
	behind byte // the kind of the first part behind the state, once that was read
	// content is that of the last part, before the SHA-256 of everything before it. plain is for
	// decompressed.
	content, before, plain []byte
}

// newReader reads up to the state.
func newReader(r io.Reader) (*reader, error) {
	x := &reader{in: bufio.NewReaderSize(r, 256<<10), sum: xxhash.New(), sha: sha256.New()}
	line, err := x.in.Peek(maxLine)
	if err != nil && err != io.EOF {
		return nil, fmt.Errorf("reading the backup: %w", err)
	}
	if i := bytes.IndexByte(line, '\n'); i >= 0 {
		line = line[:i+1]
	}
	m := firstLine.FindSubmatch(line)
	if m == nil {
		return nil, damaged("it does not begin as a backup of presence does")
	}
	x.by = string(m[2])
	if n, _ := strconv.Atoi(string(m[1])); n > form {
		return nil, fmt.Errorf("%w: %s wrote it, in form %d, and this program knows forms up to %d: use that version or a later one", ErrNewer, x.by, n, form)
	}
	if _, err := x.read(len(line)); err != nil {
		return nil, err
	}
	kind, err := x.part()
	if err != nil {
		return nil, err
	}
	x.info = &Info{}
	if err := json.Unmarshal(x.content, x.info); kind != partInfo || err != nil {
		return nil, damaged("it does not say what is in it")
	}
	return x, nil
}

// read reads n bytes, valid until the next call.
func (x *reader) read(n int) ([]byte, error) {
	var b bytes.Buffer // it grows as there is something: a wrong length takes no memory
	b.Grow(min(n, 1<<20))
	got, err := io.CopyN(&b, x.in, int64(n))
	x.at += got
	switch {
	case err == io.EOF:
		return nil, damaged("it ends at byte %d, in the middle: it was cut off, or the copying of it failed", x.at)
	case err != nil:
		return nil, fmt.Errorf("reading the backup at byte %d: %w", x.at, err)
	}
	x.sum.Write(b.Bytes())
	x.sha.Write(b.Bytes())
	return b.Bytes(), nil
}

// part reads the next part into content, and returns its kind.
func (x *reader) part() (kind byte, err error) {
	begun := x.at
	x.before = x.sha.Sum(x.before[:0])
	head, err := x.read(5)
	if err != nil {
		return 0, err
	}
	kind = head[0]
	n := binary.BigEndian.Uint32(head[1:])
	if n > maxPart {
		return 0, damaged("the part at byte %d is not what was written", begun)
	}
	if x.content, err = x.read(int(n)); err != nil {
		return 0, err
	}
	want := x.sum.Sum64()
	sum, err := x.read(8)
	if err != nil {
		return 0, err
	}
	if binary.BigEndian.Uint64(sum) != want {
		return 0, damaged("the part at byte %d is not what was written", begun)
	}
	return kind, nil
}

// decompressed returns the content in plain, valid until the next call.
func (x *reader) decompressed() (_ []byte, err error) {
	n, err := s2.DecodedLen(x.content)
	if err == nil && n > maxPart {
		err = fmt.Errorf("%d bytes are too many", n)
	}
	if err == nil {
		x.plain, err = s2.Decode(x.plain[:cap(x.plain)], x.content)
	}
	if err != nil {
		return nil, damaged("the part before byte %d cannot be decompressed: %w", x.at, err)
	}
	return x.plain, nil
}

// block returns the next block of the state, and io.EOF behind the last.
func (x *reader) block() ([]byte, error) {
	kind, err := x.part()
	if err != nil {
		return nil, err
	}
	if kind != partState {
		x.behind = kind
		return nil, io.EOF
	}
	return x.decompressed()
}

// rest reads what is behind the state, which was read up to its end: the contacts, and the end.
func (x *reader) rest(each func(userID string, users []string) error) error {
	for kind := x.behind; ; {
		switch kind {
		case partContacts:
			if err := x.eachContact(each); err != nil {
				return err
			}
		case partEnd:
			return x.end()
		default:
			return damaged("the part before byte %d does not belong there", x.at)
		}
		var err error
		if kind, err = x.part(); err != nil {
			return err
		}
	}
}

func (x *reader) eachContact(each func(string, []string) error) error {
	plain, err := x.decompressed()
	if err != nil {
		return err
	}
	for line := range bytes.Lines(plain) {
		var c contact
		if err := json.Unmarshal(line, &c); err != nil {
			return damaged("the contacts before byte %d: %w", x.at, err)
		}
		if err := each(c.User, c.Contacts); err != nil {
			return err
		}
		x.n++
	}
	return nil
}

// end checks the last part, and that nothing is behind it.
func (x *reader) end() error {
	var e end
	if err := json.Unmarshal(x.content, &e); err != nil {
		return damaged("its end: %w", err)
	}
	if got := hex.EncodeToString(x.before); got != e.SHA256 {
		return damaged("its SHA-256 is %s, and should be %s", got, e.SHA256)
	}
	if e.Contacts != x.n {
		return damaged("it has the contacts of %d users, and should have those of %d", x.n, e.Contacts)
	}
	x.info.Contacts, x.info.Damaged = e.Contacts, e.Damaged
	if _, err := x.in.ReadByte(); err != io.EOF {
		return damaged("there is more behind its end, at byte %d", x.at)
	}
	return nil
}
