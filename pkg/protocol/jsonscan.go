package protocol

import (
	"strings"
	"unicode/utf8"
)

// A get of a hundred users spends half of its time in a general JSON decoder. So
// messages that come ten thousand times a second have a faster one. It reads JSON as
// most clients write it, and leaves everything else to the general decoder, which alone
// decides what is wrong with a body. FuzzJSONScan checks that both give the same result.

// jsonScanner is a message with such a decoder. scanJSON reports whether it could read
// the body. If not, the message is as it was.
type jsonScanner interface{ scanJSON(body []byte) bool }

func (r *GetRequest) scanJSON(body []byte) bool {
	p, got := jsonScan{rest: string(body)}, GetRequest{}
	p.open('{')
	for p.more('}') {
		switch p.name() {
		case "userIDList":
			if got.UserIDList != nil {
				return false
			}
			got.UserIDList = make([]string, 0, min(1+strings.Count(p.rest, ","), MaxUsersPerGet))
			p.open('[')
			for p.more(']') {
				got.UserIDList = append(got.UserIDList, p.text())
			}
		case "detail":
			got.Detail = p.flag()
		case "fresh":
			got.Fresh = p.flag()
		case "minRevision":
			got.MinRevision = p.number()
		case "epoch":
			got.Epoch = p.text()
		default:
			return false
		}
	}
	if !p.end() {
		return false
	}
	*r = got
	return true
}

func (r *SetRequest) scanJSON(body []byte) bool {
	p, got := jsonScan{rest: string(body)}, SetRequest{}
	p.open('{')
	for p.more('}') {
		switch p.name() {
		case "customStatus":
			got.CustomStatus = Ptr(p.text())
		case "expiresInSeconds":
			got.ExpiresInSeconds = Ptr(int64(p.number()))
		case "sessionID":
			got.SessionID = p.text()
		default:
			return false
		}
	}
	if !p.end() {
		return false
	}
	*r = got
	return true
}

func (r *RenewRequest) scanJSON(body []byte) bool {
	p, got := jsonScan{rest: string(body)}, RenewRequest{}
	p.open('{')
	for p.more('}') {
		switch p.name() {
		case "sessionID":
			got.SessionID = p.text()
		case "idle":
			got.Idle = Ptr(p.flag())
		default:
			return false
		}
	}
	if !p.end() {
		return false
	}
	*r = got
	return true
}

func (r *ApplyRequest) scanJSON(body []byte) bool {
	p, got := jsonScan{rest: string(body)}, ApplyRequest{}
	p.open('{')
	for p.more('}') {
		switch p.name() {
		case "process":
			got.Process = p.text()
		case "seq":
			got.Seq = p.number()
		case "ops":
			if got.Ops != nil {
				return false
			}
			got.Ops = make([]Op, 0, min(strings.Count(p.rest, "{"), MaxOpsPerApply))
			p.open('[')
			for p.more(']') {
				got.Ops = append(got.Ops, Op{})
				if !got.Ops[len(got.Ops)-1].scan(&p) {
					return false
				}
			}
		default:
			return false
		}
	}
	if !p.end() {
		return false
	}
	*r = got
	return true
}

// scan reads one op. It reports whether it knows all names.
func (o *Op) scan(p *jsonScan) bool {
	p.open('{')
	for p.more('}') {
		switch p.name() {
		case "op":
			o.Op = p.text()
		case "userID":
			o.UserID = p.text()
		case "sessionID":
			o.SessionID = p.text()
		case "device":
			o.Device = p.text()
		case "platform":
			o.Platform = p.text()
		case "idle":
			o.Idle = p.flag()
		case "customStatus":
			o.CustomStatus = Ptr(p.text())
		case "expiresInSeconds":
			o.ExpiresInSeconds = Ptr(int64(p.number()))
		default:
			return false
		}
	}
	return true
}

// jsonScan reads simple JSON: no text has an escape, numbers are a few digits, and the
// only white space is blanks. At anything else it sets failed, and reads nothing more.
// The texts that it returns share memory with the body.
type jsonScan struct {
	rest   string
	first  bool // of an object or a list
	failed bool
}

// take takes a byte, after blanks, and reports whether it was there.
func (p *jsonScan) take(c byte) bool {
	for len(p.rest) > 0 && p.rest[0] == ' ' {
		p.rest = p.rest[1:]
	}
	if p.failed || len(p.rest) == 0 || p.rest[0] != c {
		return false
	}
	p.rest = p.rest[1:]
	return true
}

func (p *jsonScan) want(c byte) {
	if !p.take(c) {
		p.failed = true
	}
}

// open begins an object or a list. more goes on to the next element, and reports
// whether there is one.
func (p *jsonScan) open(c byte) {
	p.want(c)
	p.first = true
}

func (p *jsonScan) more(end byte) bool {
	switch first := p.first; {
	case p.take(end):
		p.first = false
		return false
	case !first:
		p.want(',')
	}
	p.first = false
	return !p.failed
}

func (p *jsonScan) name() string {
	name := p.text()
	p.want(':')
	return name
}

func (p *jsonScan) text() string {
	p.want('"')
	ascii := true
	for i := 0; i < len(p.rest); i++ {
		switch c := p.rest[i]; {
		case c == '"':
			text := p.rest[:i]
			p.rest = p.rest[i+1:]
			p.failed = p.failed || !ascii && !utf8.ValidString(text)
			return text
		case c < ' ' || c == '\\':
			p.failed = true
			return ""
		case c >= utf8.RuneSelf:
			ascii = false
		}
	}
	p.failed = true
	return ""
}

func (p *jsonScan) flag() bool {
	for _, word := range []string{"true", "false"} {
		if p.take(word[0]) {
			if rest, ok := strings.CutPrefix(p.rest, word[1:]); ok {
				p.rest = rest
				return word == "true"
			}
			break
		}
	}
	p.failed = true
	return false
}

// number reads at most 18 digits, which always fit into 64 bits.
func (p *jsonScan) number() (n uint64) {
	if p.take('0') {
		return 0 // if a digit follows, more or end fails
	}
	digits := 0
	for ; digits < len(p.rest) && '0' <= p.rest[digits] && p.rest[digits] <= '9'; digits++ {
		n = n*10 + uint64(p.rest[digits]-'0')
	}
	p.failed = p.failed || digits == 0 || digits > 18
	p.rest = p.rest[digits:]
	return n
}

// end reports whether everything was read, and was simple.
func (p *jsonScan) end() bool {
	return !p.failed && strings.Trim(p.rest, " ") == ""
}
