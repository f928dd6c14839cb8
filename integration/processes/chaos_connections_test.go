package processes

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"presence/integration/internal/wire"
	"presence/pkg/protocol"
	"presence/pkg/service/servicetest"
)

// What an operator may do to the connections of presenced by the configuration of the
// NATS servers. nats.go closes some of them for good, and others are refused until the
// configuration is put right. Every presenced serves again by itself.

const (
	// closedText is in presenced's log for each connection that nats.go closed, and
	// unknownText where it does not know a server's certificate.
	closedText  = "closed for good"
	unknownText = "certificate signed by unknown authority"

	// smallPayload is less than the answer for all talkers, and more than any request of
	// the load: a client's connection would be closed for good by one.
	smallPayload = "max_payload: 40KB"
	talkers      = 100
)

// talk is the long text of each talker.
var talk = strings.Repeat("x", protocol.MaxCustomStatusBytes)

// certificates are those that the servers of a chaos may have: presenced knows the
// authority of the first.
type certificates struct{ known, unknown func(name string) string }

func newCertificates(t testing.TB) certificates {
	t.Helper()
	return certificates{servicetest.Certificates(t), servicetest.Certificates(t)}
}

// use is the configuration of a server with a certificate. Clients may do without.
func use(file func(name string) string) string {
	return fmt.Sprintf("tls { cert_file: %q, key_file: %q, timeout: 10 }\nallow_non_tls: true", file("server.pem"), file("server.key"))
}

// tlsArgs are those of presenced i. The one that is plain does without TLS, so that it
// can notice a changed max_payload by itself; in some runs there is none.
func (c *chaos) tlsArgs(i int) []string {
	if i == c.plain {
		return nil
	}
	return []string{"--tlsca", c.certificates.known("ca.pem")}
}

// payloadLowered has the servers take less than some answers need. They tell nobody, and
// close the connection that such an answer comes by. That they take more again the plain
// presenced notices, and over TLS only who connects anew.
func (c *chaos) payloadLowered(testing.TB) fault {
	return fault{name: "max_payload lowered, and larger answers asked for", lasts: c.seconds(0, 8),
		begin: func(t testing.TB) {
			users := c.load.letTalk(t)
			before := c.said(closedText)
			c.reload(t, smallPayload)
			servicetest.Eventually(t, wire.Soon, "a connection to be closed for good", func() bool {
				inbox := c.load.nc.NewInbox() // nobody waits for the answers
				for range 4 {
					request, err := protocol.Marshal(protocol.GetRequest{UserIDList: users})
					if err != nil {
						t.Fatal(err)
					}
					_ = c.load.nc.PublishRequest(wire.Subjects.Get(), inbox, request) // it is asked again
				}
				return slices.ContainsFunc(c.increased(closedText, before), func(yes bool) bool { return yes })
			})
		},
		end: func(t testing.TB) {
			c.reload(t)
			c.reconnect(t, func(i int) bool { return i != c.plain })
			servicetest.Eventually(t, 3*wire.Soon, "the larger answers to come again", func() bool {
				for range 30 { // as in heal
					_, err := wire.AskWithin[protocol.GetReply](c.load.nc, patience, wire.Subjects.Get(), protocol.GetRequest{UserIDList: c.load.talkers})
					if err != nil {
						return false
					}
				}
				return true
			})
		}}
}

// certificateReplaced restarts a server with a certificate that presenced does not know,
// so that presenced goes on at others; it is put right by a reload.
func (c *chaos) certificateReplaced(testing.TB) fault {
	i := c.someone()
	s := c.Servers[i]
	return fault{name: fmt.Sprintf("NATS server %d restarted with an unknown certificate", i), lasts: c.seconds(1, 15), ofNATS: true,
		begin: func(t testing.TB) {
			s.Configure(t, use(c.certificates.unknown))
			s.Stop(t)
			s.Restart(t)
		},
		end: func(t testing.TB) { s.Reload(t) }}
}

// certificatesReplaced has all servers take such a certificate at once. The connections
// that are there stay, so they are cut: those over TLS cannot come back until the
// certificates are put right.
func (c *chaos) certificatesReplaced(testing.TB) fault {
	return fault{name: "all certificates replaced by unknown ones, and connections cut", lasts: c.seconds(1, 15),
		begin: func(t testing.TB) {
			before := c.said(unknownText)
			c.reload(t, use(c.certificates.unknown))
			c.reconnect(t, func(int) bool { return true })
			servicetest.Eventually(t, wire.Soon, "every presenced to say why it cannot connect", func() bool {
				refused := c.increased(unknownText, before)
				return !slices.ContainsFunc([]int{0, 1, 2}, func(i int) bool { return i != c.plain && !refused[i] })
			})
		},
		end: func(t testing.TB) { c.reload(t) }}
}

// reload has all servers go on with more lines of configuration.
func (c *chaos) reload(t testing.TB, more ...string) {
	t.Helper()
	for _, s := range c.Servers {
		s.Reload(t, more...)
	}
}

// reconnect cuts the connections of some presenced, which may come back at once.
func (c *chaos) reconnect(t testing.TB, which func(i int) bool) {
	t.Helper()
	for i := range c.daemons {
		if which(i) {
			networks := []network{c.near[i], c.back[i]}
			each(networks, (*servicetest.Proxy).Cut)(t)
			each(networks, (*servicetest.Proxy).Mend)(t)
		}
	}
}

// said counts how often each presenced has written something to its log, and increased
// tells which have more often than before.
func (c *chaos) said(text string) (times []int) {
	for _, d := range c.daemons {
		times = append(times, strings.Count(d.Stderr(), text))
	}
	return times
}

func (c *chaos) increased(text string, before []int) (which []bool) {
	for i, n := range c.said(text) {
		which = append(which, n > before[i])
	}
	return which
}

// letTalk sets the long texts, once, and returns whose they are.
func (l *load) letTalk(t testing.TB) []string {
	t.Helper()
	if l.talkers != nil {
		return l.talkers
	}
	l.talkers = wire.Names("talker", talkers)
	for _, id := range l.talkers {
		servicetest.Eventually(t, wire.Soon, "the text of "+id+" to be acknowledged", func() bool {
			_, err := wire.AskWithin[protocol.ChangeReply](l.nc, patience, wire.To(protocol.OpSet, id), protocol.SetRequest{CustomStatus: &talk})
			return err == nil
		})
	}
	return l.talkers
}

// checkTalkers checks that the long texts are there.
func (l *load) checkTalkers(t testing.TB) {
	t.Helper()
	if l.talkers == nil {
		return
	}
	for _, s := range wire.Fresh(t, l.nc, l.talkers...) {
		l.check(l.kept1, s.CustomStatus == talk, "%s has a text of %d bytes, want the long one", s.UserID, len(s.CustomStatus))
	}
}
