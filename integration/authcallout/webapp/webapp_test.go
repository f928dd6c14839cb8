package main

import (
	"strings"
	"testing"
	"time"
)

func TestTokens(t *testing.T) {
	ours, others := newTokens(time.Minute), newTokens(time.Minute)
	for _, id := range []string{"alice", "alice@example.com", "a.b.c", "用户1", "*"} {
		token := ours.make(id)
		if got, err := ours.check(token); err != nil || got != id {
			t.Errorf("%q: got %q, %v", id, got, err)
		}
		body, _, _ := strings.Cut(token, ".")
		rest := strings.TrimPrefix(token, body)
		for _, forged := range []string{"", ".", "..", token + "A", token[1:], rest, text.EncodeToString([]byte("mallory")) + rest, others.make(id)} {
			if got, err := ours.check(forged); err == nil {
				t.Errorf("the token %q was taken for %q's", forged, got)
			}
		}
	}
	if id, err := newTokens(0).check(newTokens(0).make("alice")); err == nil {
		t.Errorf("an old token was taken for %q's", id)
	}
	old := tokens{ours.key, 0}
	if id, err := ours.check(old.make("alice")); err == nil {
		t.Errorf("an old token was taken for %q's", id)
	}
}
