package main

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"strconv"
	"strings"
	"time"
)

// tokens are texts that say who somebody is, until they expire: the user ID, the time and a
// signature. Nobody but who made them can make them. Several instances of an application share
// the key; this one makes a key at each start.
type tokens struct {
	key   []byte
	lives time.Duration
}

func newTokens(lives time.Duration) tokens {
	key := make([]byte, 32)
	rand.Read(key) // it never fails
	return tokens{key, lives}
}

var text = base64.RawURLEncoding

func (t tokens) make(userID string) string {
	body := text.EncodeToString([]byte(userID)) + "." + strconv.FormatInt(time.Now().Add(t.lives).UnixMilli(), 10)
	return body + "." + t.sign(body)
}

var errToken = errors.New("not a token of ours, or an old one")

// check returns whose token it is.
func (t tokens) check(token string) (userID string, err error) {
	i := strings.LastIndex(token, ".")
	if i < 0 || !hmac.Equal([]byte(token[i+1:]), []byte(t.sign(token[:i]))) {
		return "", errToken
	}
	who, until, _ := strings.Cut(token[:i], ".")
	ms, err := strconv.ParseInt(until, 10, 64)
	id, idErr := text.DecodeString(who)
	if err != nil || idErr != nil || time.Now().UnixMilli() >= ms {
		return "", errToken
	}
	return string(id), nil
}

func (t tokens) sign(body string) string {
	mac := hmac.New(sha256.New, t.key)
	mac.Write([]byte(body))
	return text.EncodeToString(mac.Sum(nil))
}
