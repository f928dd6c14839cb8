package protocol

import (
	"bytes"
	"encoding/json"
	"iter"
	"strconv"
	"unicode/utf8"
)

// Messages that are sent ten thousand times a second, or that carry a thousand
// changes, are encoded by hand. That halves the cost of a get and of an event. A
// test compares the result with encoding/json's, byte by byte.

// appender is a message that encodes itself.
type appender interface{ appendJSON(b []byte) []byte }

// Marshal returns v as JSON without escaping HTML (PROTOCOL 1).
func Marshal(v any) ([]byte, error) {
	return AppendMarshal(make([]byte, 0, 512), v)
}

// AppendMarshal appends what Marshal returns to b. On an error it returns b.
func AppendMarshal(b []byte, v any) ([]byte, error) {
	if a, ok := v.(appender); ok {
		return a.appendJSON(b), nil
	}
	data, err := marshal(v)
	return append(b, data...), err
}

// marshal is Marshal by encoding/json.
func marshal(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

func (s *Status) appendJSON(b []byte) []byte {
	return append(s.appendFields(append(b, '{')), '}')
}

// appendFields appends the fields without the braces, so that Event can add its own.
func (s *Status) appendFields(b []byte) []byte {
	b = appendString(append(b, `"userID":`...), s.UserID)
	b = strconv.AppendUint(append(b, `,"statusType":`...), uint64(s.StatusType), 10)
	b = appendString(append(b, `,"customStatus":`...), s.CustomStatus)
	if s.CustomStatusExpiresAt != 0 {
		b = s.CustomStatusExpiresAt.appendJSON(append(b, `,"customStatusExpiresAt":`...))
	}
	if s.Availability != "" {
		b = appendString(append(b, `,"availability":`...), string(s.Availability))
	}
	if s.LastSeenAt != 0 {
		b = s.LastSeenAt.appendJSON(append(b, `,"lastSeenAt":`...))
	}
	if len(s.Platforms) > 0 {
		b = append(b, `,"platforms":[`...)
		for i, p := range s.Platforms {
			if i > 0 {
				b = append(b, ',')
			}
			b = appendString(b, p)
		}
		b = append(b, ']')
	}
	b = strconv.AppendUint(append(b, `,"revision":`...), s.Revision, 10)
	if s.UpdatedAt != 0 {
		b = s.UpdatedAt.appendJSON(append(b, `,"updatedAt":`...))
	}
	return b
}

func (e *Event) appendJSON(b []byte) []byte {
	b = e.Status.appendFields(append(b, '{'))
	b = appendString(append(b, `,"epoch":`...), e.Epoch)
	b = strconv.AppendUint(append(b, `,"previousRevision":`...), e.PreviousRevision, 10)
	b = appendString(append(b, `,"cause":`...), string(e.Cause))
	return append(b, '}')
}

// appendJSON encodes only the type status by hand: every change of a status sends one.
func (e *SelfEvent) appendJSON(b []byte) []byte {
	if e.Type != SelfStatus || e.Status == nil {
		var rare any = (*rareSelfEvent)(e)
		if e.Type == SelfContacts && e.Version != 0 {
			rare = &contactsEvent{(*rareSelfEvent)(e), e.PreviousVersion}
		}
		data, err := marshal(rare)
		if err != nil { // its fields can always be encoded
			return append(b, `{}`...)
		}
		return append(b, data...)
	}
	b = e.Status.appendJSON(append(b, `{"type":"status","status":`...))
	if e.Cause != "" {
		b = appendString(append(b, `,"cause":`...), string(e.Cause))
	}
	if e.Revision != 0 {
		b = strconv.AppendUint(append(b, `,"revision":`...), e.Revision, 10)
	}
	if e.Epoch != "" {
		b = appendString(append(b, `,"epoch":`...), e.Epoch)
	}
	return append(b, '}')
}

// rareSelfEvent is a SelfEvent without its method.
type rareSelfEvent SelfEvent

// contactsEvent is a SelfEvent of the type contacts. It has a PreviousVersion even if that
// is 0, as before the first change.
type contactsEvent struct {
	*rareSelfEvent
	PreviousVersion uint64 `json:"previousVersion"`
}

func (r *ChangeReply) appendJSON(b []byte) []byte {
	b = r.Status.appendJSON(append(b, `{"status":`...))
	b = strconv.AppendUint(append(b, `,"revision":`...), r.Revision, 10)
	b = appendString(append(b, `,"epoch":`...), r.Epoch)
	if r.Final {
		b = append(b, `,"final":true`...)
	}
	return append(b, '}')
}

func (r *GetReply) appendJSON(b []byte) []byte {
	return AppendGetReply(b, r, func(yield func(*Status) bool) {
		for i := range r.SuccessUserList {
			if !yield(&r.SuccessUserList[i]) {
				return
			}
		}
	})
}

// AppendGetReply appends a reply that has these statuses instead of its SuccessUserList. So
// nobody has to make a list of them first.
func AppendGetReply(b []byte, r *GetReply, statuses iter.Seq[*Status]) []byte {
	b = append(b, `{"successUserList":[`...)
	first := len(b)
	for st := range statuses {
		if len(b) > first {
			b = append(b, ',')
		}
		b = st.appendJSON(b)
	}
	b = append(b, `],"failureUserList":[`...)
	for i := range r.FailureUserList {
		if i > 0 {
			b = append(b, ',')
		}
		b = r.FailureUserList[i].appendJSON(b)
	}
	b = strconv.AppendUint(append(b, `],"revision":`...), r.Revision, 10)
	b = appendString(append(b, `,"epoch":`...), r.Epoch)
	if r.AsOf != 0 {
		b = r.AsOf.appendJSON(append(b, `,"asOf":`...))
	}
	b = strconv.AppendBool(append(b, `,"stale":`...), r.Stale)
	return append(b, '}')
}

func (f *UserFailure) appendJSON(b []byte) []byte {
	return append(f.appendFields(append(b, '{')), '}')
}

// appendFields appends the fields without the braces, so that OpFailure can begin with another.
func (f *UserFailure) appendFields(b []byte) []byte {
	b = appendString(append(b, `"userID":`...), f.UserID)
	b = strconv.AppendInt(append(b, `,"code":`...), int64(f.Code), 10)
	b = appendString(append(b, `,"error":`...), f.Name)
	return appendString(append(b, `,"message":`...), f.Message)
}

func (r *ApplyRequest) appendJSON(b []byte) []byte {
	b = appendString(append(b, `{"process":`...), r.Process)
	b = strconv.AppendUint(append(b, `,"seq":`...), r.Seq, 10)
	if r.Ops == nil {
		return append(b, `,"ops":null}`...)
	}
	b = append(b, `,"ops":[`...)
	for i := range r.Ops {
		if i > 0 {
			b = append(b, ',')
		}
		b = r.Ops[i].appendJSON(b)
	}
	return append(b, `]}`...)
}

func (o *Op) appendJSON(b []byte) []byte {
	b = appendString(append(b, `{"op":`...), o.Op)
	b = appendString(append(b, `,"userID":`...), o.UserID)
	if o.SessionID != "" {
		b = appendString(append(b, `,"sessionID":`...), o.SessionID)
	}
	if o.Device != "" {
		b = appendString(append(b, `,"device":`...), o.Device)
	}
	if o.Platform != "" {
		b = appendString(append(b, `,"platform":`...), o.Platform)
	}
	if o.Idle {
		b = append(b, `,"idle":true`...)
	}
	if o.CustomStatus != nil {
		b = appendString(append(b, `,"customStatus":`...), *o.CustomStatus)
	}
	if o.ExpiresInSeconds != nil {
		b = strconv.AppendInt(append(b, `,"expiresInSeconds":`...), *o.ExpiresInSeconds, 10)
	}
	if o.Availability != nil {
		b = appendString(append(b, `,"availability":`...), string(*o.Availability))
	}
	if o.AvailabilityExpiresInSeconds != nil {
		b = strconv.AppendInt(append(b, `,"availabilityExpiresInSeconds":`...), *o.AvailabilityExpiresInSeconds, 10)
	}
	if o.IfRevision != nil {
		b = strconv.AppendUint(append(b, `,"ifRevision":`...), *o.IfRevision, 10)
	}
	return append(b, '}')
}

func (r *ApplyReply) appendJSON(b []byte) []byte {
	b = strconv.AppendInt(append(b, `{"applied":`...), int64(r.Applied), 10)
	if r.Failures == nil {
		b = append(b, `,"failures":null`...)
	} else {
		b = append(b, `,"failures":[`...)
		for i := range r.Failures {
			if i > 0 {
				b = append(b, ',')
			}
			b = r.Failures[i].appendJSON(b)
		}
		b = append(b, ']')
	}
	b = strconv.AppendUint(append(b, `,"revision":`...), r.Revision, 10)
	b = appendString(append(b, `,"epoch":`...), r.Epoch)
	return append(b, '}')
}

func (f *OpFailure) appendJSON(b []byte) []byte {
	b = strconv.AppendInt(append(b, `{"index":`...), int64(f.Index), 10)
	return append(f.UserFailure.appendFields(append(b, ',')), '}')
}

func (t Time) appendJSON(b []byte) []byte {
	b = append(b, '"')
	b, _ = t.AppendText(b) // never fails
	return append(b, '"')
}

// appendString appends a JSON string. It copies a text that needs no change, and leaves
// every other to encoding/json.
func appendString(b []byte, s string) []byte {
	if isCopied(s) {
		return append(append(append(b, '"'), s...), '"')
	}
	quoted, err := marshal(s)
	if err != nil { // a string can always be encoded
		return append(b, `""`...)
	}
	return append(b, quoted...)
}

// isCopied reports whether a text is the same within a JSON string. It first looks at
// eight bytes at a time, of which the last eight overlap those before.
func isCopied(s string) bool {
	for len(s) >= 8 {
		if needsCare(word(s)) {
			break
		}
		if len(s) == 8 {
			return true
		}
		s = s[min(8, len(s)-8):]
	}
	for _, r := range s {
		switch {
		case r < ' ', r == '"', r == '\\', r == utf8.RuneError, r == '\u2028', r == '\u2029':
			return false
		}
	}
	return true
}

// word returns the first eight bytes as a number, by one load.
func word(s string) uint64 {
	_ = s[7]
	return uint64(s[0]) | uint64(s[1])<<8 | uint64(s[2])<<16 | uint64(s[3])<<24 |
		uint64(s[4])<<32 | uint64(s[5])<<40 | uint64(s[6])<<48 | uint64(s[7])<<56
}

// needsCare reports whether one of eight bytes is a control character, a quote, a
// backslash or not ASCII. To subtract n from an ASCII byte below n sets its highest bit.
// It may also set the highest bit of the byte after it, which changes nothing.
func needsCare(w uint64) bool {
	const ones = 0x0101010101010101
	quote, backslash := w^('"'*ones), w^('\\'*ones) // a byte of these is 0 where w has it
	below := (w - ' '*ones) | (quote - ones) | (backslash - ones)
	return (w|below)&(0x80*ones) != 0
}
