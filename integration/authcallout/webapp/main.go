// Command webapp is an example: a web application whose users log in to it, and whose page then
// connects to NATS as that user, by a token that the application gives it. Copy what you need.
//
//	presencectl nats-config DIR --auth nkey       users of NATS and their permissions
//	webapp setup DIR                              adds what lets this application vouch for users
//	presenced --nats-config DIR/nats.conf
//	webapp run DIR --page PAGE                    serves the files in PAGE, and vouches
//
// A page of it does this:
//
//	POST /login?user=alice   logs in. Here nobody has to prove anything: put your own login there
//	GET  /me                 {"userID":"alice"}, or 401
//	POST /presence-token     what to connect to NATS with, for a minute: {"servers":…,"token":…}
//
// When the page connects, NATS asks this application whose token that is (auth callout), and gives
// the page the permissions of that user and no others.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"presence/integration/authcallout"
	"presence/pkg/protocol"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "webapp:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) < 2 || args[0] != "setup" && args[0] != "run" {
		return errors.New("usage: webapp setup|run DIR [--listen ADDRESS] [--websocket ADDRESS] [--nats URL] [--page PAGE]")
	}
	dir, flags := args[1], flag.NewFlagSet("webapp", flag.ContinueOnError)
	listen := flags.String("listen", "127.0.0.1:8080", "`ADDRESS` of the application")
	webSocket := flags.String("websocket", "127.0.0.1:9222", "`ADDRESS` of NATS for its page")
	url := flags.String("nats", nats.DefaultURL, "`URL` of NATS for the application itself")
	page := flags.String("page", ".", "`DIRECTORY` of its page")
	if err := flags.Parse(args[2:]); err != nil {
		return err
	}
	if args[0] == "setup" {
		return setup(dir, *webSocket, "http://"+*listen)
	}
	app, err := newApp(filepath.Join(dir, issuerFile), "ws://"+*webSocket)
	if err != nil {
		return err
	}
	nc, err := app.vouch(*url, filepath.Join(dir, ownFile))
	if err != nil {
		return err
	}
	defer nc.Close()
	l, err := net.Listen("tcp", *listen)
	if err != nil {
		return err
	}
	fmt.Printf("webapp is ready on http://%s\n", l.Addr())
	server := &http.Server{Handler: app.handler(*page), ReadTimeout: 10 * time.Second, WriteTimeout: 10 * time.Second}
	context.AfterFunc(ctx, func() { server.Close() })
	if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// app is the application.
type app struct {
	issuer   nkeys.KeyPair
	sessions tokens // cookies
	tickets  tokens // for NATS
	servers  string
}

func newApp(issuerFile, servers string) (*app, error) {
	seed, err := os.ReadFile(issuerFile)
	if err != nil {
		return nil, err
	}
	issuer, err := nkeys.FromSeed(seed)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", issuerFile, err)
	}
	return &app{issuer, newTokens(12 * time.Hour), newTokens(time.Minute), servers}, nil
}

// vouch answers NATS, until the connection that it returns is closed.
func (a *app) vouch(url, seedFile string) (*nats.Conn, error) {
	own, err := nats.NkeyOptionFromSeed(seedFile)
	if err != nil {
		return nil, err
	}
	// While NATS is away the application goes on, and answers when it is back.
	nc, err := nats.Connect(url, own, nats.Name("webapp"), nats.RetryOnFailedConnect(true), nats.MaxReconnects(-1), nats.IgnoreAuthErrorAbort())
	if err != nil {
		return nil, err
	}
	_, err = authcallout.Service{Issuer: a.issuer, Account: "APP", Who: a.who}.Serve(nc)
	if err != nil {
		nc.Close()
		return nil, err
	}
	return nc, nil
}

// who says whose token somebody connects with.
func (a *app) who(o jwt.ConnectOptions) (protocol.Role, string, error) {
	userID, err := a.tickets.check(o.Token)
	return protocol.RoleUser, userID, err
}
