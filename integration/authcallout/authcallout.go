// Package authcallout is a recipe: how NATS asks a service of yours who somebody
// is, and gives them the permissions of PROTOCOL 9. Users are then neither in the
// NATS configuration nor need credentials files; they connect with whatever your
// service understands, the token of your web session for example.
//
//	s := authcallout.Service{Issuer: issuer, Account: "APP", Who: func(o jwt.ConnectOptions) (protocol.Role, string, error) {
//		userID, err := sessions.Verify(o.Token)
//		return protocol.RoleUser, userID, err
//	}}
//	sub, err := s.Serve(nc)   // nc is in the account AUTH
//
// To a configuration of presencectl nats-config --auth nkey (or password) this is
// added, with the public halves of a user key, for nc, and of the account key Issuer:
//
//	accounts { …, AUTH { users: [ { nkey: UC… } ] } }
//	authorization { auth_callout { issuer: AB…, account: AUTH, auth_users: [ UC… ] } }
//
// auth_users are not asked about; a presenced beside the server is another of them
// (inside it is by itself). Copy it; it is one file. A client sets the inbox prefix
// Role.InboxPrefix(name), as with any configuration. While this service is away, or slower than the
// server's authorization timeout, everybody who connects is refused: clients connect with
// client.ConnectOptions, or nats.go closes their connections for good after two refusals.
package authcallout

import (
	"presence/pkg/protocol"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"
)

// Service answers the NATS server's question who somebody is.
type Service struct {
	// Issuer is the account key that the configuration names as issuer.
	Issuer nkeys.KeyPair
	// Account is that of the clients.
	Account string
	// Prefix is that of presence's subjects.
	Prefix string
	// Who says who somebody is by what they connected with, or that they are not
	// let in. It is called for one connection at a time.
	Who func(jwt.ConnectOptions) (protocol.Role, string, error)
}

// Serve answers until the subscription ends. Several instances share the work.
func (s Service) Serve(nc *nats.Conn) (*nats.Subscription, error) {
	return nc.QueueSubscribe("$SYS.REQ.USER.AUTH", "auth", func(m *nats.Msg) {
		request, err := jwt.DecodeAuthorizationRequestClaims(string(m.Data))
		if err != nil {
			return // not the server's; it refuses whom nobody vouches for
		}
		response := jwt.NewAuthorizationResponseClaims(request.UserNkey)
		response.Audience = request.Server.ID
		if response.Jwt, err = s.vouch(request); err != nil {
			response.Error = "not let in" // the client learns no more; log err
		}
		if reply, err := response.Encode(s.Issuer); err == nil {
			_ = m.Respond([]byte(reply))
		}
	})
}

// vouch returns the JWT of a user with the permissions of their role.
func (s Service) vouch(request *jwt.AuthorizationRequestClaims) (string, error) {
	role, id, err := s.Who(request.ConnectOptions)
	if err != nil {
		return "", err
	}
	name, err := role.Name(id) // a user's token: an ID may have dots and wildcards
	if err != nil {
		return "", err
	}
	p := protocol.NewSubjects(s.Prefix).Permissions(role, name)
	user := jwt.NewUserClaims(request.UserNkey)
	user.Name, user.Audience = name, s.Account
	user.Permissions = jwt.Permissions{
		Pub: jwt.Permission{Allow: p.Publish.Allow, Deny: p.Publish.Deny},
		Sub: jwt.Permission{Allow: p.Subscribe.Allow, Deny: p.Subscribe.Deny},
	}
	return user.Encode(s.Issuer)
}
