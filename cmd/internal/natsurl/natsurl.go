// Package natsurl reads lists of NATS server URLs, as nats.go takes them:
//
//	list, err := natsurl.Parse("10.0.0.5, nats://user:secret@10.0.0.6:4223")
//	natsurl.Host(list[0])      // 10.0.0.5:4222
//	natsurl.WithoutUsers(list) // nats://10.0.0.5,nats://10.0.0.6:4223
package natsurl

import (
	"cmp"
	"errors"
	"net"
	"net/url"
	"strings"
)

// Parse reads URLs that are separated by commas. One without a scheme begins with nats://.
// The error contains no part of the text, which may be a password.
func Parse(text string) (list []*url.URL, err error) {
	for s := range strings.SplitSeq(text, ",") {
		if s = strings.TrimSpace(s); s == "" {
			continue
		}
		if !strings.Contains(s, "://") {
			s = "nats://" + s
		}
		u, err := url.Parse(s)
		if err != nil || u.Host == "" {
			return nil, errors.New("the URL of the NATS server is not valid: it must be like nats://127.0.0.1:4222")
		}
		list = append(list, u)
	}
	if len(list) == 0 {
		return nil, errors.New("the URL of the NATS server is empty")
	}
	return list, nil
}

// Host returns the host and the port of a URL; the port is 4222 if it has none.
func Host(u *url.URL) string {
	return net.JoinHostPort(u.Hostname(), cmp.Or(u.Port(), "4222"))
}

// WithoutUsers writes a list of URLs without users and passwords.
func WithoutUsers(list []*url.URL) string {
	texts := make([]string, len(list))
	for i, u := range list {
		without := *u
		without.User = nil
		texts[i] = without.String()
	}
	return strings.Join(texts, ",")
}
