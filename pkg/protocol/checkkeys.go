package protocol

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"unicode/utf16"
	"unicode/utf8"
)

// encoding/json is less strict than the contract in two ways. It accepts the name of a
// field in any mix of upper and lower case, where other receivers ignore names that they
// do not know. And it replaces invalid Unicode by U+FFFD, so two different texts may
// become the same. checkKeys handles both before the body is decoded.

// checkKeys returns the body, changed so that the decoder ignores every key that
// differs from the name of a field of v by case alone. The error says what is wrong
// with a text. The body need not be JSON: then the decoder refuses it.
func checkKeys(body []byte, v any) ([]byte, error) {
	if !utf8.Valid(body) {
		return nil, ErrInvalidRequest.With("the body is not valid UTF-8")
	}
	var names *fieldNames
	copied := false
	for i := 0; i < len(body); i++ {
		if body[i] != '"' {
			continue
		}
		begin := i + 1
		end, escaped, err := endOfString(body, begin)
		if err != nil {
			return nil, err
		}
		i = end
		if !isKey(body, end) {
			continue
		}
		if names == nil {
			names = fieldNamesOf(reflect.TypeOf(v))
		}
		if names.misspelled(body[begin:end], escaped) {
			if !copied {
				body, copied = bytes.Clone(body), true
			}
			body[begin] = '_' // no field begins with it, so the decoder ignores it
		}
	}
	return body, nil
}

// endOfString returns where the string that begins at i ends, and refuses half
// of a surrogate pair.
func endOfString(body []byte, i int) (end int, escaped bool, err error) {
	for ; i < len(body); i++ {
		switch body[i] {
		case '"':
			return i, escaped, nil
		case '\\':
			escaped = true
			r := escapedRune(body, i)
			i++ // what is escaped; of \uXXXX the rest are plain bytes
			if !utf16.IsSurrogate(r) {
				continue
			}
			if utf16.DecodeRune(r, escapedRune(body, i+5)) == utf8.RuneError {
				return 0, false, ErrInvalidRequest.With("a text contains half of a surrogate pair")
			}
			i += 10
		}
	}
	return len(body), escaped, nil
}

// escapedRune returns XXXX of a \uXXXX at i, and 0 where there is none.
func escapedRune(body []byte, i int) rune {
	if i+6 > len(body) || body[i] != '\\' || body[i+1] != 'u' {
		return 0
	}
	n, err := strconv.ParseUint(string(body[i+2:i+6]), 16, 16)
	if err != nil {
		return 0
	}
	return rune(n)
}

// isKey reports whether the string whose quote ends at i is the name of a field.
func isKey(body []byte, i int) bool {
	for i++; i < len(body); i++ {
		switch body[i] {
		case ' ', '\t', '\r', '\n':
		default:
			return body[i] == ':'
		}
	}
	return false
}

// fieldNames are the names of a message's fields, those of messages within it
// included.
type fieldNames struct {
	exact map[string]struct{}
	list  []string
}

var fieldNameCache sync.Map // reflect.Type → *fieldNames

func fieldNamesOf(t reflect.Type) *fieldNames {
	if n, ok := fieldNameCache.Load(t); ok {
		return n.(*fieldNames)
	}
	n := &fieldNames{exact: make(map[string]struct{})}
	n.add(t)
	fieldNameCache.Store(t, n)
	return n
}

func (n *fieldNames) add(t reflect.Type) {
	for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice {
		t = t.Elem()
	}
	if t.Kind() != reflect.Struct {
		return
	}
	for f := range t.Fields() {
		if name, _, _ := strings.Cut(f.Tag.Get("json"), ","); name != "" {
			n.exact[name] = struct{}{}
			n.list = append(n.list, name)
		}
		n.add(f.Type)
	}
}

// misspelled reports whether a key differs from a field's name by case alone.
func (n *fieldNames) misspelled(key []byte, escaped bool) bool {
	if _, ok := n.exact[string(key)]; ok {
		return false
	}
	name := string(key)
	if escaped {
		var text string
		if json.Unmarshal([]byte(`"`+name+`"`), &text) != nil {
			return false // the decoder refuses it
		}
		name = text
	}
	for _, f := range n.list {
		if name != f && strings.EqualFold(name, f) {
			return true
		}
	}
	return false
}
