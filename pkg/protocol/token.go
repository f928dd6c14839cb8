package protocol

import (
	"cmp"
	"strings"
	"unicode"
	"unicode/utf8"
)

// A user ID is put into a subject as one token: bytes A-Z a-z 0-9 _ - stand
// for themselves, every other byte is '=' and two upper-case hex digits.
// There is exactly one token for a user ID. Any other spelling is refused, so that
// nobody can get around a permission on a token (PROTOCOL 1).

const upperHex = "0123456789ABCDEF"

// CheckUserID reports what is wrong with a user ID: 1 to MaxUserIDBytes bytes
// of valid UTF-8 without control characters. The error is ErrInvalidUserID
// with a message for people.
func CheckUserID(id string) error {
	switch {
	case id == "":
		return ErrInvalidUserID.With("the user ID is empty")
	case len(id) > MaxUserIDBytes:
		return ErrInvalidUserID.Withf("the user ID has %d bytes, at most %d are allowed", len(id), MaxUserIDBytes)
	}
	return checkText(id, ErrInvalidUserID, "the user ID")
}

// EncodeToken returns the subject token of a user ID, or ErrInvalidUserID.
func EncodeToken(userID string) (string, error) {
	if err := CheckUserID(userID); err != nil {
		return "", err
	}
	plain := 0
	for plain < len(userID) && isTokenByte(userID[plain]) {
		plain++
	}
	if plain == len(userID) {
		return userID, nil
	}
	var b strings.Builder
	b.Grow(len(userID) + 8)
	b.WriteString(userID[:plain])
	for i := plain; i < len(userID); i++ {
		c := userID[i]
		if isTokenByte(c) {
			b.WriteByte(c)
			continue
		}
		b.Write([]byte{'=', upperHex[c>>4], upperHex[c&15]})
	}
	return b.String(), nil
}

// DecodeToken is the exact inverse of EncodeToken. It returns
// ErrInvalidUserID for everything that EncodeToken does not return.
func DecodeToken(token string) (string, error) {
	// A token is at most three bytes for each byte of the user ID.
	if len(token) > 3*MaxUserIDBytes {
		return "", ErrInvalidUserID.With("the subject token of the user is too long")
	}
	plain := 0
	for plain < len(token) && isTokenByte(token[plain]) {
		plain++
	}
	if plain == len(token) {
		return token, CheckUserID(token)
	}
	b := make([]byte, 0, len(token))
	for i := 0; i < len(token); i++ {
		c := token[i]
		if c == '=' {
			if i+2 >= len(token) {
				return "", errToken
			}
			hi, lo := fromUpperHex(token[i+1]), fromUpperHex(token[i+2])
			if hi > 15 || lo > 15 {
				return "", errToken
			}
			c = hi<<4 | lo
			if isTokenByte(c) { // a second spelling of a byte that stands for itself
				return "", errToken
			}
			i += 2
		} else if !isTokenByte(c) {
			return "", errToken
		}
		b = append(b, c)
	}
	id := string(b)
	return id, CheckUserID(id)
}

// CompareTokens compares user IDs by their tokens, the order of list (PROTOCOL
// 4.8), without encoding them.
func CompareTokens(a, b string) int {
	n := min(len(a), len(b))
	i := 0
	for i < n && a[i] == b[i] {
		i++
	}
	if i == n {
		return cmp.Compare(len(a), len(b))
	}
	x, y := a[i], b[i]
	switch escaped := !isTokenByte(x); {
	case escaped && isTokenByte(y):
		x = '='
	case !escaped && !isTokenByte(y):
		y = '='
	}
	return cmp.Compare(x, y)
}

var errToken = ErrInvalidUserID.With("the subject token of the user is not in its canonical spelling")

func isTokenByte(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '_' || c == '-'
}

func fromUpperHex(c byte) byte {
	switch {
	case '0' <= c && c <= '9':
		return c - '0'
	case 'A' <= c && c <= 'F':
		return c - 'A' + 10
	}
	return 255
}

// checkText returns e with a message where s is not UTF-8 free of control
// characters.
func checkText(s string, e *Error, what string) error {
	ascii := true
	for i := 0; i < len(s); i++ {
		if c := s[i]; c < 0x20 || c == 0x7f {
			return e.With(what + " contains a control character")
		} else if c >= utf8.RuneSelf {
			ascii = false
		}
	}
	if ascii {
		return nil
	}
	if !utf8.ValidString(s) {
		return e.With(what + " is not valid UTF-8")
	}
	for _, r := range s {
		if unicode.IsControl(r) {
			return e.With(what + " contains a control character")
		}
	}
	return nil
}
