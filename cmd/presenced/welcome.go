package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"

	"presence/cmd/internal/shell"
	"presence/cmd/presenced/internal/demo"
	"presence/pkg/broker"
	"presence/pkg/protocol"
)

// welcome says where the service is, and what to try first. The commands after "Try:" work
// as they are printed, from the directory in which presenced was started. If presenced
// knows no credentials of a client, they have placeholders.
// dashboard is the address of the dashboard; empty: there is none.
func welcome(cfg config, nats *connections, page *demo.Page, dashboard string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "presenced %s is ready on %s\n", versionText(), nats.url)
	if nats.ws != "" {
		fmt.Fprintf(&b, "Over WebSocket: %s%s\n", nats.ws, pages(cfg))
	}
	if nats.broker != nil && len(nats.broker.Exposed()) > 0 {
		fmt.Fprintf(&b, "INSECURE: anybody who reaches %s is a client and can act as any user (--insecure)\n", strings.Join(nats.broker.Exposed(), " or "))
	}
	if dashboard != "" {
		fmt.Fprintf(&b, "Dashboard: %s\n", dashboard)
	}
	if page != nil {
		fmt.Fprintf(&b, "Open %s in two browser tabs, or\n", page.URL())
	}
	w := welcomer{cfg, nats}
	user := w.access(protocol.RoleUser)
	if !user.known {
		fmt.Fprintf(&b, "Try, with credentials of yours:   %s watch alice\n", w.call(user))
		return b.String()
	}
	who := shell.Word(cmp.Or(user.id, "alice"))
	fmt.Fprintf(&b, "Try:   %s watch %s\n", w.call(user), who)
	fmt.Fprintf(&b, " and   %s login %s     in another terminal\n", w.call(user), who)
	operator, journal := w.access(protocol.RoleOperator), w.journal()
	if operator.known && journal != "" {
		fmt.Fprintf(&b, " and   %s verify %s     for whether all is as the journal says\n", w.call(operator), journal)
	}
	return b.String()
}

// pages says which web pages may connect over WebSocket. With a configuration file only that
// knows.
func pages(cfg config) string {
	switch {
	case cfg.natsConfig != "":
		return ""
	case len(cfg.origins) == 0:
		return ", from no web page (--origin)"
	}
	return ", from pages of " + strings.Join(cfg.origins, " and ")
}

// welcomer knows how presencectl can connect.
type welcomer struct {
	cfg  config
	nats *connections
}

// access is how a client of a role can connect.
type access struct {
	flags string // after the command
	url   string // where it connects by itself; empty for the default
	known bool   // it works as it is
	id    string // the only user that it can act for
}

// access returns how a client of a role can connect. If presencectl nats-config wrote the
// configuration file, contexts of the nats command are beside it, one for each client.
func (w welcomer) access(r protocol.Role) access {
	switch {
	case w.nats.broker != nil && w.nats.broker.Open():
		return access{known: true}
	case w.nats.broker != nil:
		return w.beside(r)
	case w.cfg.creds == "" && !strings.Contains(w.cfg.natsURL, "@"): // as presenced does
		return access{known: w.cfg.tlsCert == ""}
	case w.cfg.creds == "":
		return access{flags: placeholder + " --user NAME --password PASSWORD"}
	case isSeed(w.cfg.creds):
		return access{flags: placeholder + " --nkey FILE"}
	}
	return access{flags: placeholder + " --creds FILE"}
}

const placeholder = " --inbox-prefix _INBOX.ROLE.NAME"

// isSeed says that a file has an nkey and no JWT.
func isSeed(file string) bool {
	text, err := os.ReadFile(file)
	return err == nil && !strings.Contains(string(text), "BEGIN NATS USER JWT")
}

// beside finds the context of a client of a role beside the configuration file.
func (w welcomer) beside(r protocol.Role) access {
	dir := filepath.Dir(w.cfg.natsConfig)
	files, _ := filepath.Glob(filepath.Join(globEscaped(dir), "context", "*.json")) // the pattern is well-formed
	for _, file := range files {
		text, err := os.ReadFile(file)
		var c struct {
			URL         string `json:"url"`
			InboxPrefix string `json:"inbox_prefix"`
		}
		if err != nil || json.Unmarshal(text, &c) != nil {
			continue
		}
		name, ok := strings.CutPrefix(c.InboxPrefix, r.InboxPrefix(""))
		if !ok {
			continue
		}
		id := name
		if r == protocol.RoleUser {
			if id, err = protocol.DecodeToken(name); err != nil {
				continue
			}
		}
		return access{flags: " --context " + shell.Word(file), url: c.URL, known: true, id: id}
	}
	switch {
	case w.cfg.creds != "": // the file has an operator
		return access{flags: placeholder + " --creds FILE"}
	case w.nats.broker.Passwords():
		return access{flags: placeholder + " --user NAME --password PASSWORD"}
	}
	return access{flags: placeholder + " --nkey FILE"}
}

// globEscaped makes a pattern that only the path itself matches.
func globEscaped(path string) string {
	return regexp.MustCompile(`[*?\[\\]`).ReplaceAllString(path, `\$0`)
}

// journal are the flags by which verify reads the journal; empty if they are not known.
func (w welcomer) journal() string {
	switch {
	case w.cfg.singleAccount:
		return "--single-account"
	case w.cfg.journalCreds != "" && isSeed(w.cfg.journalCreds):
		return "--journal-nkey " + shell.Word(w.cfg.journalCreds)
	case w.cfg.journalCreds != "":
		return "--journal-creds " + shell.Word(w.cfg.journalCreds)
	case w.nats.broker == nil: // by a password in the environment
		return ""
	case w.cfg.natsConfig != "":
		return "--data " + shell.Word(w.nats.broker.DataDir())
	}
	return "--data " + shell.Word(w.cfg.data)
}

// call is how to call presencectl.
func (w welcomer) call(a access) string {
	var to strings.Builder
	to.WriteString(presencectl())
	if w.nats.url != cmp.Or(a.url, "nats://"+broker.DefaultListen) {
		to.WriteString(" --server " + w.nats.url)
	}
	to.WriteString(a.flags)
	if w.cfg.tlsCA != "" {
		to.WriteString(" --tlsca " + shell.Word(w.cfg.tlsCA))
	}
	if w.cfg.tlsCert != "" {
		to.WriteString(" --tlscert FILE --tlskey FILE")
	}
	if w.cfg.settings.Prefix != protocol.DefaultPrefix {
		to.WriteString(" --prefix " + w.cfg.settings.Prefix)
	}
	return to.String()
}

// presencectl returns how to call presencectl from here: by its name or, if it is beside
// presenced and not in PATH, by its path.
func presencectl() string {
	const name = "presencectl"
	if _, err := exec.LookPath(name); err == nil {
		return name
	}
	self, err := os.Executable()
	if err != nil {
		return name
	}
	path := filepath.Join(filepath.Dir(self), name)
	if _, err := os.Stat(path); err != nil {
		return name
	}
	if wd, err := os.Getwd(); err == nil {
		if relative, err := filepath.Rel(wd, path); err == nil && len(relative) < len(path) {
			return shell.Word(relative)
		}
	}
	return shell.Word(path)
}
