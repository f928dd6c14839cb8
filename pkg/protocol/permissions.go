package protocol

import "slices"

// Role says what a NATS user is to the service: which row of PROTOCOL 9 it is.
type Role string

const (
	// RoleUser is one user of the service; it can be nobody else.
	RoleUser Role = "user"
	// RoleGateway logs in many users, any user.
	RoleGateway Role = "gateway"
	// RoleReader is a service that only wants to know.
	RoleReader Role = "reader"
	// RoleOperator looks after the service, and may act as any user and gateway.
	RoleOperator Role = "operator"
	// RoleAnyone is whoever connects without credentials, where that is allowed:
	// it may act as any user, but can neither forge events nor take requests.
	RoleAnyone Role = "anyone"

	// RoleService is presenced in the clients' account.
	RoleService Role = "presenced"
	// RoleListener is presenced there too, where its answers and events leave by
	// a user of their own: it takes requests and answers discovery.
	RoleListener Role = "presenced-listener"
	// RoleSystem is presenced in the system account.
	RoleSystem Role = "presenced-system"
	// RoleJournal is presenced in the journal's account.
	RoleJournal Role = "presenced-journal"
)

// ClientRoles are those of PROTOCOL 9 that are not presenced's.
var ClientRoles = []Role{RoleUser, RoleGateway, RoleReader, RoleOperator}

// NameTemplate stands for the name in the permissions of a scoped signing key:
// the NATS server puts the name of a user's JWT in its place, so that name must
// be what Role.Name returns.
const NameTemplate = "{{name()}}"

// Name returns what somebody in a role is called in subjects: a user's token, and
// the ID of a gateway, reader or operator as it is. Nothing else may be called so
// in a list of permissions: a name such as "*" would be everybody. The error is
// ErrInvalidUserID or ErrInvalidRequest.
func (r Role) Name(id string) (string, error) {
	if r == RoleUser {
		return EncodeToken(id)
	}
	return id, CheckID(id, "the "+string(r)+"'s ID")
}

// InboxPrefix begins the subjects where the answers to somebody in a role arrive.
// Every role and name has its own: with the usual _INBOX.> all could read each
// other's answers. Presenced's roles share one and have no name.
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

// AllowDeny are subjects, with wildcards. Without Allow everything is allowed
// that Deny does not have. One to subscribe to may be followed by a space and
// queue groups.
type AllowDeny struct {
	Allow, Deny []string
}

// Permissions returns what somebody in a role may do: PROTOCOL 9, row by row. name
// is what Role.Name returned, or NameTemplate; presenced's roles and RoleAnyone
// have none.
func (s Subjects) Permissions(r Role, name string) Permissions {
	inbox := r.InboxPrefix(name) + ".>"
	allow := func(publish, subscribe []string) Permissions {
		return Permissions{Publish: AllowDeny{Allow: publish}, Subscribe: AllowDeny{Allow: subscribe}}
	}
	switch r {
	case RoleUser:
		p := allow(s.below("user."+name+".>", "get"), append(s.below("status.*", "self."+name), inbox))
		// In a queue group it would take a share of the events of others in it.
		p.Subscribe.Deny = s.below("status.* >")
		return p
	case RoleGateway:
		return allow(s.below("gateway."+name+".>", "get"), append(s.below("status.*"), inbox))
	case RoleReader:
		return allow(s.below("get", "list", "stats"), append(s.below("status.*"), inbox))
	case RoleOperator:
		return allow(append(s.RequestSubjects(), discovery), append(s.below("status.*", "self.*"), inbox))
	case RoleAnyone:
		// A subscription with a wider wildcard than a denied subject is accepted,
		// and the denied messages are left out of it.
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

// journalStreams are what the journal's account holds: the journal, its snapshots
// and the contacts.
var journalStreams = []string{"PRESENCE_JOURNAL", "OBJ_PRESENCE_SNAPSHOTS", "KV_PRESENCE_CONTACTS"}

// journalSubjects are what it takes to make, read, write and trim those: nothing can be
// done to others. Wildcards keep it short, because a user's JWT has it, and the NATS
// server closes a connection whose first line has more than 4 KiB.
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
	// discovery is where NATS micro services are asked who they are.
	discovery = "$SRV.>"
	// importedReplies is where answers to requests of other accounts go, which import
	// the service. The broker maps the caller's reply subject to one below it, and lets no
	// client name such a one as a reply subject.
	importedReplies = "_R_.>"
	// askWhoIAm is a request to the broker: presenced asks which account it is in.
	askWhoIAm = "$SYS.REQ.USER.INFO"
)

// brokerSubjects begin requests to the broker itself. An answer to
// discovery must not become one by a forged reply subject.
var brokerSubjects = []string{"$JS.>", "$SYS.>", "$KV.>", "$O.>"}

// monitorSubjects are requests that the broker answers to anyone with what it
// knows of all connections of the account, addresses included. A client has
// no business there; askWhoIAm, about itself, it may ask.
var monitorSubjects = []string{"$SYS.REQ.SERVER.>", "$SYS.REQ.ACCOUNT.>"}
