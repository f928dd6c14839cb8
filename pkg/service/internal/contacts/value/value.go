// Package value is what is stored of a user's contacts:
//
//	["bob","carol"]    valid user IDs, sorted by their bytes, each once
//
//	have, err := value.Decode(data)
//	want, added, removed := value.Edit(have, request)
//	data, err = value.Encode(want)
//
// It is a package of its own so that it can be fuzzed without a NATS server.
package value

import (
	"encoding/json"
	"errors"
	"fmt"
	"unicode/utf8"

	"presence/pkg/protocol"
)

// Encode writes contacts.
func Encode(users []string) ([]byte, error) { return protocol.Marshal(users) }

// Decode reads contacts. It refuses what Encode has not made of a sorted list: Edit would go wrong.
func Decode(data []byte) ([]string, error) {
	if !utf8.Valid(data) {
		return nil, errors.New("they are not text")
	}
	var users []string
	if err := json.Unmarshal(data, &users); err != nil {
		return nil, err
	}
	if users == nil {
		return nil, errors.New("they are null, and no list")
	}
	for i, id := range users {
		if err := protocol.CheckUserID(id); err != nil {
			return nil, fmt.Errorf("the one at %d: %w", i, err)
		}
		if i > 0 && users[i-1] >= id {
			return nil, fmt.Errorf("the one at %d is not sorted behind the one before it", i)
		}
	}
	return users, nil
}
