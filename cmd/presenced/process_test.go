package main

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"presence/pkg/protocol"
	"presence/pkg/service/servicetest"

	"github.com/nats-io/nats.go"
)

var subjects = protocol.NewSubjects("")

func request(t *testing.T, nc *nats.Conn, subject, body string) []byte {
	t.Helper()
	m, err := nc.Request(subject, []byte(body), waitFor)
	if err != nil {
		t.Fatalf("%s: %v", subject, err)
	}
	if m.Header.Get(protocol.ErrorHeader) != "" {
		t.Fatalf("%s: %s", subject, m.Data)
	}
	return m.Data
}

func login(t *testing.T, nc *nats.Conn, user, body string) {
	t.Helper()
	subject, _ := subjects.Login(user)
	request(t, nc, subject, body)
}

func status(t *testing.T, nc *nats.Conn, user string) protocol.Status {
	t.Helper()
	var reply protocol.GetReply
	if err := json.Unmarshal(request(t, nc, subjects.Get(), `{"userIDList":["`+user+`"]}`), &reply); err != nil {
		t.Fatal(err)
	}
	return reply.SuccessUserList[0]
}

func TestSecondDaemon(t *testing.T) {
	d := servicetest.StartDaemon(t)
	code, stdout, stderr := servicetest.RunDaemon(t, "--data", d.DataDir, "--listen", "127.0.0.1:0")
	if code != 1 || stdout != "" {
		t.Errorf("on the same data: got exit code %d and %q on stdout, want 1 and nothing", code, stdout)
	}
	wantOneLine(t, "on the same data", stderr, d.DataDir, fmt.Sprintf("pid %d", d.PID()))

	address := strings.TrimPrefix(d.URL, "nats://")
	code, _, stderr = servicetest.RunDaemon(t, "--data", t.TempDir(), "--listen", address)
	if code != 1 {
		t.Errorf("on the same port: got exit code %d, want 1", code)
	}
	wantOneLine(t, "on the same port", stderr, address, "in use")

	login(t, d.Connect(t), "alice", "{}") // the first did not notice
}

func TestSignalsEndGracefully(t *testing.T) {
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		d := servicetest.StartDaemon(t)
		d.Signal(t, sig)
		if code := d.Wait(t); code != 0 {
			t.Errorf("%v: got exit code %d, want 0:\n%s", sig, code, d.Stderr())
		}
		for line := range strings.Lines(d.Stderr()) {
			if strings.Contains(line, "level=ERROR") || strings.Contains(line, "level=WARN") {
				t.Errorf("%v: an ordinary life logs %s", sig, line)
			}
		}
	}
}

// What was acknowledged is there after SIGKILL; the lock was of the process.
func TestG01_RestartAfterKill(t *testing.T) {
	d := servicetest.StartDaemon(t)
	nc := d.Connect(t)
	login(t, nc, "alice", `{"sessionID":"phone","ttlSeconds":3600}`)
	set, _ := subjects.Set("alice")
	request(t, nc, set, `{"customStatus":"hello"}`)
	url := d.URL
	d.Kill(t)
	d.Restart(t)
	if d.URL != url {
		t.Errorf("URL after Restart: got %s, want %s", d.URL, url)
	}
	servicetest.Eventually(t, waitFor, "the client to reconnect", nc.IsConnected)
	if s := status(t, nc, "alice"); s.StatusType != protocol.Online || s.CustomStatus != "hello" {
		t.Errorf("after SIGKILL: got %+v, want ONLINE with a text", s)
	}
	d.Stop(t)
}

// systemd is told when the daemon serves, and when it begins to end.
func TestNotifiesSystemd(t *testing.T) {
	path := filepath.Join(t.TempDir(), "notify")
	socket, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	t.Setenv("NOTIFY_SOCKET", path)
	log := (&config{logFormat: formatText}).logger(t.Output(), slog.LevelInfo)
	for _, want := range []string{"READY=1", "STOPPING=1"} {
		notify(log, want)
		b := make([]byte, 100)
		socket.SetReadDeadline(time.Now().Add(waitFor))
		n, err := socket.Read(b)
		if got := string(b[:n]); err != nil || got != want {
			t.Errorf("notify: got %q, %v, want %q", got, err, want)
		}
	}
}

// onServer is the command line of a presenced on somebody else's server.
func onServer(s *servicetest.Server, more ...string) []string {
	return append([]string{
		"--nats-url", s.URLAs(servicetest.ClientsUser),
		"--journal-url", s.URLAs(servicetest.JournalUser),
	}, more...)
}

func TestExternalServer(t *testing.T) {
	s := servicetest.StartNATS(t)
	d := servicetest.StartDaemon(t, onServer(s, "--system-url", s.URLAs(servicetest.SystemUser), "--grace", "100ms")...)
	if strings.Contains(d.Stdout()+d.Stderr(), servicetest.Password) {
		t.Errorf("presenced shows a password:\n%s%s", d.Stdout(), d.Stderr())
	}
	if want := " --inbox-prefix _INBOX.ROLE.NAME --user NAME --password PASSWORD watch alice"; !strings.Contains(d.Stdout(), want) {
		t.Errorf("got the welcome\n%swant it to say %q", d.Stdout(), want)
	}
	watcher := s.Connect(t)
	events, err := watcher.SubscribeSync(subjects.AnyEvent())
	if err != nil {
		t.Fatal(err)
	}

	// A session ends with its connection: the account's name was found out.
	phone := s.Connect(t)
	id, _ := phone.GetClientID()
	login(t, phone, "alice", fmt.Sprintf(`{"connection":{"serverID":%q,"clientID":%d}}`, phone.ConnectedServerId(), id))
	phone.Close()
	for _, want := range []protocol.StatusType{protocol.Online, protocol.Offline} {
		m, err := events.NextMsg(waitFor)
		if err != nil {
			t.Fatalf("waiting for %v: %v", want, err)
		}
		var e protocol.Event
		if err := json.Unmarshal(m.Data, &e); err != nil || e.StatusType != want {
			t.Errorf("event: got %s, want %v", m.Data, want)
		}
	}

	// The server restarts under it.
	login(t, watcher, "bob", `{"ttlSeconds":3600}`)
	s.Restart(t)
	servicetest.Eventually(t, waitFor, "the service to answer", func() bool {
		m, err := watcher.Request(subjects.Get(), []byte(`{"userIDList":["bob"],"fresh":true}`), time.Second)
		return err == nil && m.Header.Get(protocol.ErrorHeader) == ""
	})
	if got := status(t, watcher, "bob").StatusType; got != protocol.Online {
		t.Errorf("after the server's restart: got %v, want ONLINE", got)
	}
	d.Stop(t)
}

func TestExternalServerRefused(t *testing.T) {
	s := servicetest.StartNATS(t)
	for _, c := range []struct {
		args []string
		says string
	}{
		{[]string{"--nats-url", s.URLAs(servicetest.BothUser), "--journal-url", s.URLAs(servicetest.BothUser)}, "both in the account ONE"},
		{onServer(s, "--system-url", s.URLAs(servicetest.ClientsUser)), "not of the system account"},
		{[]string{"--nats-url", s.URLAs("nobody"), "--single-account"}, "Authorization"},
		{[]string{"--nats-url", s.URLAs(servicetest.ClientsUser), "--single-account"}, "the journal's account has no JetStream"},
		{onServer(s, "--system-creds", "/does/not/exist.creds"), "exist.creds"},
	} {
		code, _, stderr := servicetest.RunDaemon(t, c.args...)
		lines := strings.SplitAfter(strings.TrimSuffix(stderr, "\n"), "\n")
		if last := lines[len(lines)-1]; code != 1 || !strings.Contains(last, c.says) {
			t.Errorf("presenced %q: got exit code %d and %s, want 1 and %q", c.args, code, stderr, c.says)
		}
	}
	s.Stop(t)
	if code, _, stderr := servicetest.RunDaemon(t, onServer(s)...); code != 1 {
		t.Errorf("without a server: got exit code %d, want 1: %s", code, stderr)
	} else {
		wantOneLine(t, "without a server", stderr, "there is no NATS server at "+s.URL())
	}
}

func TestSingleAccount(t *testing.T) {
	s := servicetest.StartNATS(t)
	url := s.URLAs(servicetest.BothUser)
	d := servicetest.StartDaemon(t, "--nats-url", url, "--single-account")
	nc, err := nats.Connect(url)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	login(t, nc, "alice", "{}")
	if got := status(t, nc, "alice").StatusType; got != protocol.Online {
		t.Errorf("got %v, want ONLINE", got)
	}
	d.Stop(t)
	warnings := slices.DeleteFunc(strings.Split(d.Stderr(), "\n"), func(l string) bool { return !strings.Contains(l, "level=WARN") })
	if text := strings.Join(warnings, "\n"); len(warnings) != 2 || !strings.Contains(text, "single-account") || !strings.Contains(text, "system account") {
		t.Errorf("got the warnings\n%s\nwant one about --single-account and one about the system account", text)
	}
}

// A journal out of reach keeps a graceful end waiting, for 2 s and more; a second
// signal does not wait for it.
func TestSecondSignalEndsAtOnce(t *testing.T) {
	s := servicetest.StartNATS(t)
	d := servicetest.StartDaemon(t, onServer(s)...)
	s.Stop(t)
	d.Signal(t, syscall.SIGTERM)
	servicetest.Eventually(t, waitFor, "the graceful end to begin", func() bool { return strings.Contains(d.Stderr(), "stopping") })
	for ended := false; !ended; {
		d.Signal(t, syscall.SIGTERM)
		select {
		case <-d.Exited():
			ended = true
		case <-time.After(10 * time.Millisecond): // the first of these may come while the handler is being removed
		}
	}
	if code := d.Wait(t); code != -1 {
		t.Errorf("got exit code %d, want the end by a signal", code)
	}
}
