package broker_test

import (
	"strings"
	"testing"
	"time"

	"presence/pkg/broker"

	"github.com/nats-io/nats.go"
)

func wantInterest(t *testing.T, b *broker.Broker, subject string, want bool, when string) {
	t.Helper()
	if got := b.Interested(subject); got != want {
		t.Errorf("Interested(%s) %s: got %v, want %v", subject, when, got, want)
	}
}

// TestInterested: each kind of subscription counts, at the latest when the server answers what its
// client sent next.
func TestInterested(t *testing.T) {
	b := start(t, broker.Config{})
	client, _ := dial(t, b)
	subject, _ := subjects.Event("alice")
	other, _ := subjects.Event("bob")
	wantInterest(t, b, subject, false, "without a subscriber")

	for pattern, subscribe := range map[string]func(string) (*nats.Subscription, error){
		subject:             client.SubscribeSync,
		subjects.AnyEvent(): client.SubscribeSync,
		">":                 client.SubscribeSync,
		"*.*.status.alice":  func(s string) (*nats.Subscription, error) { return client.QueueSubscribeSync(s, "workers") },
	} {
		sub, err := subscribe(pattern)
		if err == nil {
			err = client.Flush()
		}
		if err != nil {
			t.Fatal(err)
		}
		wantInterest(t, b, subject, true, "with a subscriber to "+pattern)
		wantInterest(t, b, other, !strings.Contains(pattern, "alice"), "with a subscriber to "+pattern)
		if err := sub.Unsubscribe(); err != nil {
			t.Fatal(err)
		}
		if err := client.Flush(); err != nil {
			t.Fatal(err)
		}
		wantInterest(t, b, subject, false, "after the end of the subscription to "+pattern)
	}
}

// TestInterested_Disconnect: who has lost the connection is not interested any more.
func TestInterested_Disconnect(t *testing.T) {
	b := start(t, broker.Config{})
	client, _ := dial(t, b)
	subject, _ := subjects.Self("alice")
	if _, err := client.SubscribeSync(subject); err != nil {
		t.Fatal(err)
	}
	if err := client.Flush(); err != nil {
		t.Fatal(err)
	}
	wantInterest(t, b, subject, true, "with a subscriber")
	client.Close()
	for begun := time.Now(); b.Interested(subject); time.Sleep(time.Millisecond) {
		if time.Since(begun) > waitFor {
			t.Fatalf("Interested(%s) is still true %v after the subscriber's connection was closed", subject, waitFor)
		}
	}
}

// TestInterested_File: an account that imports the events counts. If the server cannot know who is
// interested, everybody may be.
func TestInterested_File(t *testing.T) {
	const accounts = "accounts { " + journal + `
		APP { exports: [ { stream: "presence.v1.status.*" } ], users: [ { user: a, password: p } ] %s }
		DASH { imports: [ { stream: { account: APP, subject: "presence.v1.status.*" }, to: "dash.*" } ], users: [ { user: d, password: p } ] }
	}` + "\n"
	const alone = "server_name: s\ncluster { name: c, listen: \"127.0.0.1:-1\", routes: [\"nats://127.0.0.1:1\"] }\n"
	subject, _ := subjects.Event("alice")
	for name, c := range map[string]struct {
		more, inAccount string
		knows           bool
	}{
		"plain":      {knows: true},
		"leaf nodes": {more: "leafnodes { listen: \"127.0.0.1:-1\" }\n"},
		"cluster":    {more: alone},
		"gateway":    {more: alone + "gateway { name: c, listen: \"127.0.0.1:-1\" }\n"},
		"mappings":   {inAccount: `, mappings: { "presence.v1.status.*": "shown.{{wildcard(1)}}" }`},
		"maps":       {inAccount: `, Maps: { "presence.v1.status.*": "shown.{{wildcard(1)}}" }`},
	} {
		t.Run(name, func(t *testing.T) {
			b := startFile(t, loopback+stored+strings.Replace(accounts, "%s", c.inAccount, 1)+c.more)
			wantInterest(t, b, subject, !c.knows, "without a subscriber")
			nc, _ := dial(t, b, nats.UserInfo("d", "p"))
			if _, err := nc.SubscribeSync("dash.alice"); err != nil {
				t.Fatal(err)
			}
			if err := nc.Flush(); err != nil {
				t.Fatal(err)
			}
			wantInterest(t, b, subject, true, "with a subscriber in an account that imports it")
		})
	}
}
