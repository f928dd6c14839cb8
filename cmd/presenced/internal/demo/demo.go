// Package demo serves the demo page of presenced: a web page on which somebody logs in under any
// name, and watches others.
//
//	page := demo.New(listener.Addr(), "presence.v1")
//	mux.Handle("/demo/", page)
//	origins := page.Origins() // whom the broker has to let in over WebSocket
//	…
//	page.Serve("ws://127.0.0.1:9222") // once the broker is there
//
// The page is for the machine that presenced runs on, where anybody may act as any user. Pages of
// other origins must not have that. So the broker lets in only Origins, and this package answers
// only requests that name one of its hosts: a name of somebody else may lead here too (DNS
// rebinding), and what it then loads would have that name's origin.
//
// The files in page/ are made by "npm run demo" in pkg/client-js, but for this package's own.
package demo

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"html/template"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

//go:embed page
var files embed.FS

var index = template.Must(template.ParseFS(files, "page/index.html"))

// Path is where the page is.
const Path = "/demo/"

// Page is the demo page. Its methods are safe for concurrent use.
type Page struct {
	hosts  []string // host:port, as a browser names them
	prefix string
	index  atomic.Pointer[document] // nil until Serve
}

// document is the page as it is sent.
type document struct {
	text   []byte
	policy string // Content-Security-Policy
}

// New makes a page that is served at an address of loopback. prefix begins the subjects.
func New(address net.Addr, prefix string) *Page {
	host, port, err := net.SplitHostPort(address.String())
	if err != nil {
		return &Page{prefix: prefix} // it answers nobody
	}
	p := &Page{hosts: []string{net.JoinHostPort(host, port)}, prefix: prefix}
	if host == "127.0.0.1" || host == "::1" {
		p.hosts = append(p.hosts, net.JoinHostPort("localhost", port))
	}
	return p
}

// URL is the address of the page.
func (p *Page) URL() string {
	if len(p.hosts) == 0 {
		return ""
	}
	return "http://" + p.hosts[0] + Path
}

// Origins are those of the page, one for each name of its host.
func (p *Page) Origins() (list []string) {
	for _, h := range p.hosts {
		list = append(list, "http://"+h)
	}
	return list
}

// Serve says where the page connects by WebSocket. Before, it is answered that presenced starts.
func (p *Page) Serve(webSocket string) error {
	var text bytes.Buffer
	err := index.Execute(&text, struct{ WebSocket, Prefix string }{webSocket, p.prefix})
	if err != nil {
		return err
	}
	p.index.Store(&document{text.Bytes(), policy(webSocket)})
	return nil
}

// policy allows the page's own files and one connection. It has no script or style in its text.
func policy(webSocket string) string {
	return strings.Join([]string{
		"default-src 'none'", "script-src 'self'", "style-src 'self'", "img-src 'self'", "connect-src " + webSocket,
		"base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'", "require-trusted-types-for 'script'",
	}, "; ")
}

// ServeHTTP answers requests for the page and its files.
func (p *Page) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	document := p.index.Load()
	switch {
	case !p.ownHost(r.Host):
		http.Error(w, "this page is at "+p.URL()+" only", http.StatusMisdirectedRequest)
	case document == nil:
		w.Header().Set("Retry-After", "1")
		http.Error(w, "presenced is starting: try again in a moment", http.StatusServiceUnavailable)
	default:
		h := w.Header()
		h.Set("Content-Security-Policy", document.policy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Cache-Control", "no-cache") // not no-store, which bars a page from the back-forward cache
		p.file(w, r, document)
	}
}

func (p *Page) file(w http.ResponseWriter, r *http.Request, document *document) {
	name, text := strings.TrimPrefix(r.URL.Path, Path), document.text
	if name == "" {
		name = "index.html"
	} else {
		var err error
		if text, err = files.ReadFile("page/" + name); err != nil || name == "index.html" {
			http.NotFound(w, r)
			return
		}
	}
	sum := sha256.Sum256(text)
	w.Header().Set("ETag", strconv.Quote(hex.EncodeToString(sum[:16])))
	http.ServeContent(w, r, name, time.Time{}, bytes.NewReader(text))
}

// ownHost reports whether a request was sent to one of the page's hosts.
func (p *Page) ownHost(host string) bool {
	if _, _, err := net.SplitHostPort(host); err != nil {
		host += ":80" // browsers leave out the default
	}
	return slices.Contains(p.hosts, strings.ToLower(host))
}
