package natsconfig

import (
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"

	"presence/cmd/presencectl/natscontext"
)

// The contexts of the nats command, one for each client, are in files of their own. presencectl
// and nats read them by their paths. They have the names of clients; where two clients of
// different roles have the same name, the second one's has its role before it:
//
//	context/alice.json
//	context/operator-alice.json
const contextsDir = "context"

// context makes the file with a client's context. secret is the password; keys and
// credentials are in files of their own in dir, an absolute path. taken says which files
// there are already.
func (u user) context(auth Auth, dir, url, secret string, taken func(string) bool) (File, error) {
	c := &natscontext.Context{Name: u.name, URL: url, InboxPrefix: u.role.InboxPrefix(u.name),
		Description: "presence: " + string(u.role) + " " + u.name + " of " + dir}
	switch path := filepath.Join(dir, u.file+auth.ending()); auth {
	case Password:
		c.User, c.Password = u.name, secret
	case NKey:
		c.NKey = path
	case JWT:
		c.Creds = path
	}
	file := func() string { return filepath.Join(contextsDir, c.Name+".json") }
	if taken(file()) {
		c.Name = u.file
	}
	text, err := c.Marshal()
	return File{Name: file(), Data: text, Context: c}, err
}

// addContexts adds the contexts of clients.
func (w *writer) addContexts(users []user) error {
	taken := map[string]bool{}
	for _, u := range users {
		if u.ofPresenced() {
			continue
		}
		f, err := u.context(w.cfg.Auth, w.cfg.Dir, w.cfg.URL, w.passwords[u.name], func(file string) bool { return taken[file] })
		if err != nil {
			return err
		}
		taken[f.Name] = true
		w.files = append(w.files, f)
	}
	return nil
}

// clientURL is where a client on this machine connects; empty if the server chooses its port.
func clientURL(listen string) string {
	_, port, _ := net.SplitHostPort(listen)
	if n, err := strconv.Atoi(port); err == nil && n <= 0 {
		return ""
	}
	return localURL(listen, "")
}

// localURL is the URL on this machine of a server that listens there.
func localURL(listen, userinfo string) string {
	host, port, _ := net.SplitHostPort(listen)
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	return "nats://" + userinfo + net.JoinHostPort(host, port)
}

var listenLine = regexp.MustCompile(`(?m)^listen: "(.*)"$`)

// urlIn is where clients of the configuration in a directory connect; empty if that is not
// known.
func urlIn(dir string) string {
	text, err := os.ReadFile(filepath.Join(dir, ConfigFile))
	if err != nil {
		return ""
	}
	if m := listenLine.FindSubmatch(text); m != nil {
		return clientURL(string(m[1]))
	}
	return ""
}
