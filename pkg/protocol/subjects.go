package protocol

import (
	"cmp"
	"fmt"
	"strings"
)

// DefaultPrefix begins every subject unless configured otherwise.
const DefaultPrefix = "presence.v1"

// ServiceName is the name of the NATS micro service, and of the queue group of its
// instances.
const ServiceName = "presence"

// Subjects builds and parses every subject of the contract; nothing else in
// the project does. The shapes, with the prefix left out:
//
//	user.<user>.login|renew|logout|set|status   requests about one user (PROTOCOL 4.1 to 4.5)
//	user.<user>.contacts                        whom the user knows (PROTOCOL 4.6)
//	get                                         statuses of many (PROTOCOL 4.5)
//	gateway.<gw>.open|renew|apply|close         many users behind one connection (PROTOCOL 4.7)
//	stats, list, explain                        operators' questions (PROTOCOL 4.8)
//	admin.kick, admin.erase                     operators' changes (PROTOCOL 4.8)
//	admin.instances, admin.instance.<writer>    what instances hold (PROTOCOL 4.9)
//	status.<user>                               the public event (PROTOCOL 5)
//	self.<user>                                 the owner's event (PROTOCOL 5)
//
// <user> is a token (EncodeToken), <gw> a gateway's ID as it is. Make one by NewSubjects.
type Subjects struct {
	prefix string // without the final dot
}

// NewSubjects returns the subjects below a prefix; an empty one means DefaultPrefix.
// Nobody answers below a prefix that CheckPrefix refuses.
func NewSubjects(prefix string) Subjects {
	prefix = cmp.Or(prefix, DefaultPrefix)
	return Subjects{prefix: prefix}
}

// CheckPrefix reports what is wrong with a configured prefix: one or more
// tokens of A-Z a-z 0-9 _ - joined by dots, at most 64 bytes.
func CheckPrefix(prefix string) error {
	if prefix == "" || len(prefix) > 64 {
		return fmt.Errorf("the subject prefix %q must have 1 to 64 bytes", prefix)
	}
	for token := range strings.SplitSeq(prefix, ".") {
		if token == "" || strings.ContainsFunc(token, func(r rune) bool { return r > 127 || !isTokenByte(byte(r)) }) {
			return fmt.Errorf("the subject prefix %q must be tokens of A-Z a-z 0-9 _ - joined by dots", prefix)
		}
	}
	return nil
}

// Prefix returns the prefix without a final dot.
func (s Subjects) Prefix() string { return s.prefix }

// The kinds of request about one user, and of a gateway: the last token of
// their subjects.
const (
	OpLogin  = "login"
	OpRenew  = "renew"
	OpLogout = "logout"
	OpSet    = "set"
	OpStatus = "status"
	OpOpen   = "open"
	OpApply  = "apply"
	OpClose  = "close"

	OpContacts = "contacts"
)

// User returns the subject of a request about one user: op is one of the
// Op constants. The error is ErrInvalidUserID.
func (s Subjects) User(userID, op string) (string, error) {
	return s.about(".user.", userID, "."+op)
}

// Login, Renew, Logout, Set, Contacts and OwnStatus are User with the op of
// their name.
func (s Subjects) Login(userID string) (string, error)     { return s.User(userID, OpLogin) }
func (s Subjects) Renew(userID string) (string, error)     { return s.User(userID, OpRenew) }
func (s Subjects) Logout(userID string) (string, error)    { return s.User(userID, OpLogout) }
func (s Subjects) Set(userID string) (string, error)       { return s.User(userID, OpSet) }
func (s Subjects) Contacts(userID string) (string, error)  { return s.User(userID, OpContacts) }
func (s Subjects) OwnStatus(userID string) (string, error) { return s.User(userID, OpStatus) }

// Gateway returns the subject of a gateway's request: op is OpOpen, OpRenew,
// OpApply or OpClose. The error is ErrInvalidRequest.
func (s Subjects) Gateway(gateway, op string) (string, error) {
	if err := CheckID(gateway, "the gateway's ID"); err != nil {
		return "", err
	}
	return s.prefix + ".gateway." + gateway + "." + op, nil
}

// AnyGateway is the subject a service listens on for one op of every gateway.
func (s Subjects) AnyGateway(op string) string { return s.prefix + ".gateway.*." + op }

// ParseGateway returns the gateway of a request subject
// <prefix>.gateway.<gw>.<op>. The error is ErrInvalidRequest.
func (s Subjects) ParseGateway(subject string) (string, error) {
	rest, _ := strings.CutPrefix(subject, s.prefix+".gateway.")
	gateway, _, _ := strings.Cut(rest, ".")
	return gateway, CheckID(gateway, "the gateway's ID")
}

// Get is the subject of the query for many users.
func (s Subjects) Get() string { return s.prefix + ".get" }

// Stats, List, Explain, Kick and Erase are the subjects of operators' requests.
func (s Subjects) Stats() string   { return s.prefix + ".stats" }
func (s Subjects) List() string    { return s.prefix + ".list" }
func (s Subjects) Explain() string { return s.prefix + ".explain" }
func (s Subjects) Kick() string    { return s.prefix + ".admin.kick" }
func (s Subjects) Erase() string   { return s.prefix + ".admin.erase" }

// Every instance answers on Instances. On Instance one does: the one with that ID, see
// InstanceID.
func (s Subjects) Instances() string             { return s.prefix + ".admin.instances" }
func (s Subjects) Instance(writer string) string { return s.prefix + ".admin.instance." + writer }

// AnyUser is the subject a service listens on for one op of every user.
func (s Subjects) AnyUser(op string) string { return s.prefix + ".user.*." + op }

// Event returns the subject of a user's public events.
func (s Subjects) Event(userID string) (string, error) { return s.about(".status.", userID, "") }

// Self returns the subject of a user's own events.
func (s Subjects) Self(userID string) (string, error) { return s.about(".self.", userID, "") }

func (s Subjects) about(kind, userID, op string) (string, error) {
	token, err := EncodeToken(userID)
	if err != nil {
		return "", err
	}
	return s.prefix + kind + token + op, nil
}

// AnyEvent and AnySelf are the subjects of all users' events. Permissions on
// them use these shapes, never a deeper wildcard (PROTOCOL 9).
func (s Subjects) AnyEvent() string { return s.prefix + ".status.*" }
func (s Subjects) AnySelf() string  { return s.prefix + ".self.*" }

// RequestSubjects are the wildcards that cover every request subject. Only the service
// may subscribe to them, and it must never publish on them (PROTOCOL 9).
func (s Subjects) RequestSubjects() []string {
	return s.below("user.>", "gateway.>", "get", "list", "stats", "explain", "admin.>")
}

// EventSubjects are the wildcards that cover every event subject. Only the service may
// publish on them (PROTOCOL 9).
func (s Subjects) EventSubjects() []string {
	return s.below("status.>", "self.>")
}

// ParseUser returns the user of a request subject <prefix>.user.<token>.<op>.
// The error is ErrInvalidUserID where the token is not canonical.
func (s Subjects) ParseUser(subject string) (string, error) {
	rest, ok := strings.CutPrefix(subject, s.prefix+".user.")
	token, _, ok2 := strings.Cut(rest, ".")
	if !ok || !ok2 {
		return "", ErrInvalidUserID.With("the subject names no user")
	}
	return DecodeToken(token)
}

// UserToken returns the token in the subject of a request about one user, and an empty
// text for other subjects. The token need not be valid.
func (s Subjects) UserToken(subject string) string {
	rest, ok := strings.CutPrefix(subject, s.prefix+".user.")
	if !ok {
		return ""
	}
	token, _, _ := strings.Cut(rest, ".")
	return token
}

// ParseEvent returns the user of an event subject <prefix>.status.<token>,
// and false for any other subject.
func (s Subjects) ParseEvent(subject string) (string, bool) {
	return s.parseLast(subject, ".status.")
}

// ParseSelf is ParseEvent for <prefix>.self.<token>.
func (s Subjects) ParseSelf(subject string) (string, bool) {
	return s.parseLast(subject, ".self.")
}

func (s Subjects) parseLast(subject, kind string) (string, bool) {
	token, ok := strings.CutPrefix(subject, s.prefix+kind)
	if !ok || strings.Contains(token, ".") {
		return "", false
	}
	id, err := DecodeToken(token)
	return id, err == nil
}

// ReplyAllowed reports whether the service may answer on a reply subject. A subject below
// the prefix, or one that begins with $, could turn the answer into a request or an event
// in the service's name: the broker does not check the reply subjects of clients against
// their permissions (PROTOCOL 1, G13).
func (s Subjects) ReplyAllowed(reply string) bool {
	return !strings.HasPrefix(reply, s.prefix) && !strings.HasPrefix(reply, "$")
}
