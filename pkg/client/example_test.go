package client_test

import (
	"context"
	"fmt"
	"log"
	"time"

	"github.com/nats-io/nats.go"

	"presence/pkg/client"
	"presence/pkg/protocol"
)

func Example() {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	nc, err := nats.Connect(nats.DefaultURL, nats.MaxReconnects(-1))
	if err != nil {
		log.Fatal(err)
	}
	defer nc.Close()
	c, err := client.New(nc, client.Options{})
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = c.Close() }()

	session, err := c.Login(ctx, "alice", client.LoginOptions{Device: "laptop", Platform: "linux"})
	if err != nil {
		log.Fatal(err)
	}
	if _, err := session.SetSelfStatus(ctx, "in a meeting", client.ExpiresIn(time.Hour)); err != nil {
		log.Print(err)
	}

	c.OnUserStatusUpdated(func(list []protocol.Status) {
		for _, s := range list {
			fmt.Println(s.UserID, s.StatusType, s.CustomStatus)
		}
	})
	c.OnState(func(s client.State) { fmt.Println(s) })
	failures, err := c.SubscribeUserStatus(ctx, []string{"bob", "carol"})
	if err != nil {
		log.Fatal(err)
	}
	for _, f := range failures {
		fmt.Println(f.UserID, f.Err())
	}
}
