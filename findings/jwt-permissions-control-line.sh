#!/usr/bin/env bash
# A NATS user's JWT is part of the CONNECT line, and a server reads at most max_control_line bytes
# of a line: 4096 by default. So a JWT grows out of the default limit with its own list of
# permissions, although no tool that makes or checks JWTs says a word.
#
# Versions: nats-server 2.15.2, nats.go 1.55.0, jwt 2.8.2, nkeys 0.4.16.
# Seen: a user with 20 subjects of 30 bytes connects. With 80 the JWT is valid for the library
# (no blocking issue), the credentials are well formed, and connecting fails with "maximum control
# line exceeded". The same user connects to a server with max_control_line: 16384.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
cat > go.mod <<'MOD'
module finding

go 1.26

require (
	github.com/nats-io/jwt/v2 v2.8.2
	github.com/nats-io/nats-server/v2 v2.15.2
	github.com/nats-io/nats.go v1.55.0
	github.com/nats-io/nkeys v0.4.16
)
MOD
cat > main.go <<'GO'
package main

import (
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"
)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func main() {
	operator, account := must(nkeys.CreateOperator()), must(nkeys.CreateAccount())
	oc := jwt.NewOperatorClaims(must(operator.PublicKey()))
	ac := jwt.NewAccountClaims(must(account.PublicKey()))
	accountJWT := must(ac.Encode(operator))
	start := func(maxLine int32) *server.Server {
		resolver := &server.MemAccResolver{}
		if err := resolver.Store(ac.Subject, accountJWT); err != nil {
			panic(err)
		}
		s := must(server.NewServer(&server.Options{Host: "127.0.0.1", Port: -1, NoSigs: true, NoLog: true, MaxControlLine: maxLine,
			TrustedOperators: []*jwt.OperatorClaims{must(jwt.DecodeOperatorClaims(must(oc.Encode(operator))))}, AccountResolver: resolver}))
		s.Start()
		if !s.ReadyForConnections(10 * time.Second) {
			panic("the server did not start")
		}
		return s
	}
	connect := func(s *server.Server, subjects int) string {
		user := must(nkeys.CreateUser())
		uc := jwt.NewUserClaims(must(user.PublicKey()))
		for i := range subjects {
			uc.Permissions.Pub.Allow.Add(fmt.Sprintf("orders.region-%02d.warehouse.%04d", i, i))
		}
		uc.IssuerAccount = ac.Subject
		issues := jwt.CreateValidationResults()
		uc.Validate(issues)
		if issues.IsBlocking(true) {
			return "the library refuses the JWT"
		}
		token := must(uc.Encode(account))
		nc, err := nats.Connect(s.ClientURL(), nats.UserJWT(func() (string, error) { return token, nil }, user.Sign))
		if err != nil {
			return strings.ToLower(err.Error())
		}
		nc.Close()
		return "connected"
	}
	byDefault, larger := start(0), start(16384)
	defer byDefault.Shutdown()
	defer larger.Shutdown()
	ok := true
	check := func(what, got, want string) {
		fmt.Printf("%-45s %s\n", what, got)
		ok = ok && strings.Contains(got, want)
	}
	check("20 subjects, default max_control_line:", connect(byDefault, 20), "connected")
	check("80 subjects, default max_control_line:", connect(byDefault, 80), "maximum control line exceeded")
	check("80 subjects, max_control_line 16384:", connect(larger, 80), "connected")
	if !ok {
		fmt.Println("the behaviour has changed")
		os.Exit(1)
	}
}
GO
go mod tidy >/dev/null 2>&1
go run .
