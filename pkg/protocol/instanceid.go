package protocol

import "strings"

// Each start of an instance has an ID of its own. It is in every journal entry of that
// start, and tells later which instance it was:
//
//	presence-1:1=2E4=2E0:5f3a9c0e1b2d4f67
//
// Its parts are the host and the version, each encoded as a user ID is for a subject, and
// a text that no other start has. The ID is one subject token (PROTOCOL 4.9). Earlier
// versions of the service have IDs without the first two parts.

// Limits of the parts of an instance's ID, in bytes, before they are encoded.
const (
	MaxHostBytes    = 63
	MaxVersionBytes = 63
)

// InstanceID is the ID of one start of an instance, in its parts.
type InstanceID struct {
	Host, Version string // empty: not known
	Start         string // letters, digits, _ and -
}

// CheckHost returns ErrInvalidRequest unless host can be the name of an instance: 1 to
// MaxHostBytes bytes of UTF-8 without control characters.
func CheckHost(host string) error {
	if host == "" || len(host) > MaxHostBytes {
		return ErrInvalidRequest.Withf("the name of an instance must have 1 to %d bytes", MaxHostBytes)
	}
	return checkText(host, ErrInvalidRequest, "the name of an instance")
}

// String returns the ID as text. It leaves out a part that is not valid, and cuts one that
// is too long.
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

// ParseInstanceID reads an ID. If it does not have three valid parts, all of it is the Start.
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

// shownStart is how many characters of a Start people are shown: enough to tell two apart.
const shownStart = 8

// Name is a short name for people: the host, and the beginning of the Start.
func (w InstanceID) Name() string {
	if w.Host == "" {
		return w.Start
	}
	return w.Host + "/" + w.Start[:min(len(w.Start), shownStart)]
}
