package protocol

import "slices"

// Role says what a NATS user is to the service. Each is a row of the table in PROTOCOL 9.
type Role string

const (
	// RoleUser is one user of the service, and can act for no other.
	RoleUser Role = "user"
	// RoleGateway logs in many users, and may log in any.
	RoleGateway Role = "gateway"
	// RoleReader is a service that only reads.
	RoleReader Role = "reader"
	// RoleOperator looks after the service, and may act as any user and gateway.
	RoleOperator Role = "operator"
	// RoleAnyone is a client without credentials, where those are allowed: it may act
	// as any user, but can neither forge events nor take requests.
	RoleAnyone Role = "anyone"

	// RoleService is presenced in the clients' account.
	RoleService Role = "presenced"
	// RoleListener is presenced in the clients' account, if another NATS user sends its
	// answers and events: it takes requests and answers discovery.
	RoleListener Role = "presenced-listener"
	// RoleSystem is presenced in the system account.
	RoleSystem Role = "presenced-system"
	// RoleJournal is presenced in the journal's account.
	RoleJournal Role = "presenced-journal"
)

// ClientRoles are the roles that are not presenced's.
var ClientRoles = []Role{RoleUser, RoleGateway, RoleReader, RoleOperator}

// NameTemplate stands for the name in the permissions of a scoped signing key. The NATS
// server replaces it by the name in a user's JWT, which must be what Role.Name returns.
const NameTemplate = "{{name()}}"

// Name returns the name of a client in subjects: the token of a user, or the ID of a
// gateway, reader or operator as it is. Put no other text into permissions: a name such
// as "*" would stand for everybody. The error is ErrInvalidUserID or ErrInvalidRequest.
func (r Role) Name(id string) (string, error) {
	if r == RoleUser {
		return EncodeToken(id)
	}
	return id, CheckID(id, "the "+string(r)+"'s ID")
}

// InboxPrefix begins the subjects on which a client gets its answers. Every role and
// name has its own: with the usual _INBOX.> clients could read each other's answers.
// The roles of presenced share one prefix and have no name.
func (r Role) InboxPrefix(name string) string {
	switch r {
	case RoleService, RoleListener, RoleSystem, RoleJournal:
		return "_INBOX." + string(RoleService)
	}
	return "_INBOX." + string(r) + "." + name
}

// Permissions are what a NATS user may publish and subscribe to, as the NATS
// server understands it.
type Permissions struct {
	Publish, Subscribe AllowDeny
}

// AllowDeny are subjects, with wildcards. If Allow is empty, everything is allowed but
// what Deny has. A subject to subscribe to may be followed by a space and queue groups.
type AllowDeny struct {
	Allow, Deny []string
}

// Permissions returns what a NATS user in a role may do, as PROTOCOL 9 says. name is what
// Role.Name returned, or NameTemplate. RoleAnyone and the roles of presenced have no name.
func (s Subjects) Permissions(r Role, name string) Permissions {
	inbox := r.InboxPrefix(name) + ".>"
	allow := func(publish, subscribe []string) Permissions {
		return Permissions{Publish: AllowDeny{Allow: publish}, Subscribe: AllowDeny{Allow: subscribe}}
	}
	switch r {
	case RoleUser:
		p := allow(s.below("user."+name+".>", "get"), append(s.below("status.*", "self."+name), inbox))
		// In a queue group it would take events away from the other members.
		p.Subscribe.Deny = s.below("status.* >")
		return p
	case RoleGateway:
		return allow(s.below("gateway."+name+".>", "get"), append(s.below("status.*"), inbox))
	case RoleReader:
		return allow(s.below("get", "list", "stats"), append(s.below("status.*"), inbox))
	case RoleOperator:
		return allow(append(s.RequestSubjects(), discovery), append(s.below("status.*", "self.*"), inbox))
	case RoleAnyone:
		// The server accepts a subscription whose wildcard is wider than a denied
		// subject, but delivers no message of that subject to it.
		return Permissions{
			Publish:   AllowDeny{Deny: slices.Concat(s.EventSubjects(), monitorSubjects)},
			Subscribe: AllowDeny{Deny: s.RequestSubjects()},
		}
	case RoleService:
		return allow(
			append(s.EventSubjects(), "_INBOX.>", importedReplies, askWhoIAm),
			append(s.RequestSubjects(), discovery, inbox))
	case RoleListener:
		return Permissions{Publish: AllowDeny{Deny: slices.Concat(s.RequestSubjects(), s.EventSubjects(), brokerSubjects)}}
	case RoleSystem:
		return allow(
			[]string{"$SYS.REQ.SERVER.*.CONNZ", "$SYS.REQ.SERVER.PING"},
			[]string{"$SYS.ACCOUNT.*.DISCONNECT", "$SYS.SERVER.*.LAMEDUCK", inbox})
	case RoleJournal:
		// Any inbox: nobody else is there, and an operator's tools have their own.
		p := allow(journalSubjects(), []string{"_INBOX.>"})
		p.Publish.Deny = []string{"$JS.API.STREAM.DELETE.>"}
		return p
	}
	return Permissions{Publish: AllowDeny{Deny: []string{">"}}, Subscribe: AllowDeny{Deny: []string{">"}}}
}

// below puts the prefix before subjects.
func (s Subjects) below(names ...string) []string {
	for i, n := range names {
		names[i] = s.prefix + "." + n
	}
	return names
}

// journalStreams are the streams in the journal's account: the journal, its snapshots
// and the contacts.
var journalStreams = []string{"PRESENCE_JOURNAL", "OBJ_PRESENCE_SNAPSHOTS", "KV_PRESENCE_CONTACTS"}

// journalSubjects are the subjects by which those streams, and no others, are made, read,
// written and trimmed. Wildcards keep the list short. It is part of a user's JWT, and the
// NATS server closes a connection whose first line has more than 4 KiB.
func journalSubjects() []string {
	list := []string{"PRESENCE_JOURNAL.entries", "$O.PRESENCE_SNAPSHOTS.>", "$KV.PRESENCE_CONTACTS.>",
		askWhoIAm, "$JS.API.INFO", "$JS.API.STREAM.NAMES", "$JS.API.STREAM.LIST", "$JS.FC.>", "$JS.ACK.>"}
	for _, s := range journalStreams {
		list = append(list, "$JS.API.STREAM.*."+s, "$JS.API.STREAM.MSG.GET."+s, "$JS.API.DIRECT.GET."+s, "$JS.API.DIRECT.GET."+s+".>",
			"$JS.API.CONSUMER.*."+s, "$JS.API.CONSUMER.*."+s+".>", "$JS.API.CONSUMER.MSG.NEXT."+s+".>")
	}
	return list
}

const (
	// discovery has the subjects on which NATS micro services are asked who they are.
	discovery = "$SRV.>"
	// importedReplies has the reply subjects of callers in other accounts, which import
	// the service. The broker makes such a subject for each request, and lets no client
	// give one of its own.
	importedReplies = "_R_.>"
	// askWhoIAm is a request to the broker: presenced asks which account it is in.
	askWhoIAm = "$SYS.REQ.USER.INFO"
)

// brokerSubjects are requests to the broker itself. A forged reply subject must not turn
// an answer to discovery into one.
var brokerSubjects = []string{"$JS.>", "$SYS.>", "$KV.>", "$O.>"}

// monitorSubjects are requests by which any client can learn about all connections of the
// account, addresses included. Clients do not need them. They may ask askWhoIAm, which is
// about themselves.
var monitorSubjects = []string{"$SYS.REQ.SERVER.>", "$SYS.REQ.ACCOUNT.>"}
