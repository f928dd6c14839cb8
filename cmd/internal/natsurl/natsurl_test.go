package natsurl

import (
	"slices"
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	list, err := Parse("nats://a, tls://u:p@b:1 ,[::1]:2,,127.0.0.1,u:p@c")
	if err != nil {
		t.Fatal(err)
	}
	var hosts []string
	for _, u := range list {
		hosts = append(hosts, Host(u))
	}
	if want := []string{"a:4222", "b:1", "[::1]:2", "127.0.0.1:4222", "c:4222"}; !slices.Equal(hosts, want) {
		t.Errorf("hosts: got %v, want %v", hosts, want)
	}
	if got, want := WithoutUsers(list), "nats://a,tls://b:1,nats://[::1]:2,nats://127.0.0.1,nats://c"; got != want {
		t.Errorf("WithoutUsers: got %s, want %s", got, want)
	}
	if list[1].User == nil {
		t.Error("WithoutUsers changed the URLs")
	}
	for _, text := range []string{"", " , ", "nats://", "nats://u:se/krit@127.0.0.1:4222", "nats://u:krit@:x"} {
		if list, err := Parse(text); err == nil || strings.Contains(err.Error(), "krit") {
			t.Errorf("Parse(%q): got %v, %v, want an error without a password", text, list, err)
		}
	}
}
