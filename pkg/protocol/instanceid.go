package protocol

import "strings"

// A writer is one start of one instance. Its ID is in each of its journal entries, is
// never given twice, and says which instance it was, also when that is gone:
//
//	presence-1:1=2E4=2E0:5f3a9c0e1b2d4f67
//
// These are the host and the version, each encoded as a user ID is for a subject, and
// what tells this start from all others. The whole is one subject token (PROTOCOL 4.9).
// Earlier versions of the service have IDs without the first two.

// Limits of what is in an instance's ID, in bytes, before it is encoded.
const (
	MaxHostBytes    = 63
	MaxVersionBytes = 63
)

// InstanceID is what the ID of an instance tells.
type InstanceID struct {
	Host, Version string // empty: not known
	Start         string // letters, digits, _ and -
}

// CheckHost returns ErrInvalidRequest for what cannot be the name of an instance: 1 to
// MaxHostBytes of UTF-8 without control characters.
func CheckHost(host string) error {
	if host == "" || len(host) > MaxHostBytes {
		return ErrInvalidRequest.Withf("the name of an instance must have 1 to %d bytes", MaxHostBytes)
	}
	return checkText(host, ErrInvalidRequest, "the name of an instance")
}

// String returns the instance's ID. What cannot be in it is left out, and what is too long is
// cut.
func (w InstanceID) String() string {
	host, version := instanceIDPart(w.Host, MaxHostBytes), instanceIDPart(w.Version, MaxVersionBytes)
	if host == "" && version == "" {
		return w.Start
	}
	return host + ":" + version + ":" + w.Start
}

// instanceIDPart encodes a part of an ID.
func instanceIDPart(s string, limit int) string {
	token, err := EncodeToken(strings.ToValidUTF8(s[:min(len(s), limit)], ""))
	if err != nil {
		return ""
	}
	return token
}

// ParseInstanceID reads an ID. Of one that says less, the whole is the Start.
func ParseInstanceID(id string) InstanceID {
	parts := strings.Split(id, ":")
	if len(parts) != 3 || parts[2] == "" {
		return InstanceID{Start: id}
	}
	w := InstanceID{Start: parts[2]}
	for i, to := range []*string{&w.Host, &w.Version} {
		if parts[i] == "" {
			continue
		}
		var err error
		if *to, err = DecodeToken(parts[i]); err != nil {
			return InstanceID{Start: id}
		}
	}
	return w
}

// shownStart is as much of a Start as people need to tell two from each other.
const shownStart = 8

// Name is how people call the writer: its host, and the beginning of what tells this
// start from others. Two lines with the same name are of the same start.
func (w InstanceID) Name() string {
	if w.Host == "" {
		return w.Start
	}
	return w.Host + "/" + w.Start[:min(len(w.Start), shownStart)]
}
