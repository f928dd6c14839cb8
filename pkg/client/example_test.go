package client_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"time"

	"presence/pkg/client"
	"presence/pkg/client/clienttest"
	"presence/pkg/protocol"
)

// The examples run against the fake of package clienttest. A program has a
// connection to NATS instead:
//
//	nc, err := nats.Connect(url, client.ConnectOptions()...)
//	c, err := client.New(nc, client.Options{})
var presence *clienttest.Service

// example returns a client of a service in which bob is ONLINE, and what ends both.
func example(opts clienttest.Options) (c *client.Client, end func()) {
	var err error
	if presence, err = clienttest.Start(opts); err != nil {
		log.Fatal(err)
	}
	presence.SetStatus("bob", protocol.Online, "in the office")
	return presence.Client(client.Options{}), presence.Close
}

func Example() {
	c, end := example(clienttest.Options{})
	defer end()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()

	session, err := c.Login(ctx, "alice", client.LoginOptions{Device: "laptop", Platform: "linux"})
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = session.Close(ctx) }() // logs out

	status, err := session.SetSelfStatus(ctx, "in a meeting", client.ExpiresIn(time.Hour), client.AndAvailability(protocol.Busy, time.Hour))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(status.UserID, status.StatusType, status.Availability, status.CustomStatus)

	result, err := c.GetUserStatus(ctx, []string{"bob", "carol"})
	if err != nil {
		log.Fatal(err)
	}
	for _, s := range result.SuccessUserList {
		fmt.Println(s.UserID, s.StatusType, s.CustomStatus)
	}
	// Output:
	// alice ONLINE busy in a meeting
	// bob ONLINE in the office
	// carol UNLOGINED
}

func ExampleClient_SubscribeUserStatus() {
	c, end := example(clienttest.Options{})
	defer end()

	changes := make(chan protocol.Status, 10)
	c.OnUserStatusUpdated(func(list []protocol.Status) {
		for _, s := range list {
			changes <- s
		}
	})
	failures, err := c.SubscribeUserStatus(context.Background(), []string{"bob"})
	if err != nil || len(failures) > 0 {
		log.Fatal(failures, err)
	}
	s := <-changes // as it is
	fmt.Println(s.UserID, s.StatusType, s.CustomStatus)

	presence.SetStatus("bob", protocol.Offline, "") // elsewhere, bob's connection breaks
	s = <-changes
	fmt.Println(s.UserID, s.StatusType)

	if _, err := c.UnsubscribeUserStatus(context.Background()); err != nil { // all of them
		log.Fatal(err)
	}
	// Output:
	// bob ONLINE in the office
	// bob OFFLINE
}

// Blind: the connection is gone, and nothing is known for certain.
func ExampleClient_OnState() {
	c, end := example(clienttest.Options{})
	defer end()
	if _, err := c.SubscribeUserStatus(context.Background(), []string{"bob"}); err != nil {
		log.Fatal(err)
	}
	blind, live := make(chan bool, 1), make(chan bool, 1)
	c.OnState(func(s client.State) {
		switch {
		case s.Live:
			live <- true
		case s.Reason == client.Disconnected:
			blind <- true
		}
	})
	show := func() {
		bob, _ := c.Watched("bob")
		fmt.Println(bob.StatusType)
	}
	presence.Cut()
	<-blind
	show()
	presence.SetStatus("bob", protocol.Offline, "")
	presence.Mend()
	<-live
	show()
	// Output:
	// UNKNOWN
	// OFFLINE
}

func ExampleClient_Await() {
	c, end := example(clienttest.Options{})
	defer end()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()

	go presence.SetStatus("carol", protocol.Online, "back")
	list, err := c.Await(ctx, []string{"bob", "carol"}, client.All, protocol.Online)
	if err != nil {
		log.Fatal(err)
	}
	for _, s := range list {
		fmt.Println(s.UserID, s.StatusType, s.CustomStatus)
	}
	// Output:
	// bob ONLINE in the office
	// carol ONLINE back
}

// Where the service's friend-notification switch is on, contacts of a user who is
// logged in are watched by themselves.
func ExampleClient_AddContacts() {
	c, end := example(clienttest.Options{FriendNotifications: true})
	defer end()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()

	friends := make(chan protocol.Status, 10)
	c.OnUserStatusUpdated(func(list []protocol.Status) {
		for _, s := range list {
			if s.UserID != "alice" { // alice's own changes are told too
				friends <- s
			}
		}
	})
	if _, err := c.Login(ctx, "alice", client.LoginOptions{}); err != nil {
		log.Fatal(err)
	}
	reply, err := c.AddContacts(ctx, "alice", "bob")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(reply.Contacts)
	bob := <-friends
	fmt.Println(bob.UserID, bob.StatusType, bob.CustomStatus)
	// Output:
	// [bob]
	// bob ONLINE in the office
}

// What an operator does, or another device, ends a session. It does not come back
// by itself.
func ExampleSession_EndReason() {
	c, end := example(clienttest.Options{})
	defer end()
	session, err := c.Login(context.Background(), "alice", client.LoginOptions{})
	if err != nil {
		log.Fatal(err)
	}
	presence.Kick("alice")
	<-session.Done()
	fmt.Println(errors.Is(session.Err(), protocol.ErrSessionReplaced), session.EndReason())
	fmt.Println(session.Err())
	// Output:
	// true kicked
	// session_replaced: an operator has ended the session
}

// A WebSocket server logs in the users who are connected to it.
func ExampleGateway() {
	c, end := example(clienttest.Options{})
	defer end()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()

	g, err := c.OpenGateway(ctx, "ws-3", client.GatewayOptions{
		OnSessionEnded: func(userID, sessionID string, err error) {
			fmt.Println("close the WebSocket of", userID, sessionID, err)
		},
	})
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = g.Close(ctx, client.LeaveSessions) }() // users come back to another gateway

	show := func() {
		r, err := c.GetUserStatus(ctx, []string{"alice"})
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(r.SuccessUserList[0].StatusType, r.SuccessUserList[0].CustomStatus)
	}
	// For each WebSocket, on its own goroutine:
	if err := g.Login(ctx, "alice", "b6f1c1d0", client.GatewayLogin{Device: "laptop", Platform: "web"}); err != nil {
		log.Fatal(err)
	}
	if err := g.SetStatus(ctx, "alice", "in a meeting", client.ExpiresIn(time.Hour)); err != nil {
		log.Fatal(err)
	}
	show()
	if err := g.Lost(ctx, "alice", "b6f1c1d0"); err != nil { // or Logout
		log.Fatal(err)
	}
	show()
	// Output:
	// ONLINE in a meeting
	// OFFLINE
}
