package demo_test

import (
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strings"
	"testing"

	"presence/cmd/presenced/internal/demo"
)

const webSocket = "ws://127.0.0.1:9222"

func newPage(t *testing.T, ip string, port int) *demo.Page {
	t.Helper()
	page := demo.New(&net.TCPAddr{IP: net.ParseIP(ip), Port: port}, "presence.v1")
	if err := page.Serve(webSocket); err != nil {
		t.Fatal(err)
	}
	return page
}

func get(page http.Handler, host, path string, headers ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodGet, path, nil)
	r.Host = host
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	page.ServeHTTP(w, r)
	return w
}

// Whatever name leads to this machine, the page is that of its own hosts only: another name is
// the origin of somebody else (DNS rebinding).
func TestHosts(t *testing.T) {
	page := newPage(t, "127.0.0.1", 8222)
	for host, want := range map[string]int{
		"127.0.0.1:8222":              http.StatusOK,
		"localhost:8222":              http.StatusOK,
		"LOCALHOST:8222":              http.StatusOK,
		"localhost:8223":              http.StatusMisdirectedRequest,
		"localhost":                   http.StatusMisdirectedRequest,
		"127.0.0.1":                   http.StatusMisdirectedRequest,
		"[::1]:8222":                  http.StatusMisdirectedRequest,
		"rebound.example:8222":        http.StatusMisdirectedRequest,
		"localhost.evil.example:8222": http.StatusMisdirectedRequest,
		"":                            http.StatusMisdirectedRequest,
	} {
		for _, path := range []string{"/demo/", "/demo/demo.js", "/demo/no"} {
			w := get(page, host, path)
			if ok := w.Code != http.StatusMisdirectedRequest; ok != (want == http.StatusOK) {
				t.Errorf("%s%s: got %d, want %d", host, path, w.Code, want)
			}
		}
	}
	for _, c := range []struct {
		ip      string
		port    int
		origins string
		host    string
	}{
		{"127.0.0.1", 8222, "http://127.0.0.1:8222 http://localhost:8222", "localhost:8222"},
		{"::1", 8222, "http://[::1]:8222 http://localhost:8222", "[::1]:8222"},
		{"127.1.2.3", 8222, "http://127.1.2.3:8222", "127.1.2.3:8222"}, // localhost leads elsewhere
		{"127.0.0.1", 80, "http://127.0.0.1:80 http://localhost:80", "localhost"},
	} {
		page := newPage(t, c.ip, c.port)
		if got := strings.Join(page.Origins(), " "); got != c.origins {
			t.Errorf("%s: got the origins %s, want %s", c.ip, got, c.origins)
		}
		if w := get(page, c.host, "/demo/"); w.Code != http.StatusOK {
			t.Errorf("%s: got %d for the host %s", c.ip, w.Code, c.host)
		}
	}
}

// The page loads nothing from elsewhere, and connects to the one address.
func TestPolicy(t *testing.T) {
	w := get(newPage(t, "127.0.0.1", 8222), "localhost:8222", "/demo/")
	policy := w.Header().Get("Content-Security-Policy")
	for _, want := range []string{"default-src 'none'", "script-src 'self'", "connect-src " + webSocket, "frame-ancestors 'none'", "require-trusted-types-for 'script'"} {
		if !strings.Contains(policy, want) {
			t.Errorf("the policy %s has no %s", policy, want)
		}
	}
	for _, no := range []string{"unsafe", "*", "data:", "https:"} {
		if strings.Contains(policy, no) {
			t.Errorf("the policy %s has %s", policy, no)
		}
	}
	text := w.Body.String()
	if !strings.Contains(text, `data-servers="`+webSocket+`" data-prefix="presence.v1"`) {
		t.Errorf("the page does not say where to connect:\n%.300s", text)
	}
	if m := regexp.MustCompile(`(?i) (on\w+|style)=|<style|<script(?: type="module")?>|https?://`).FindString(text); m != "" {
		t.Errorf("the page has %q, which the policy does not allow", m)
	}
	for header, want := range map[string]string{"X-Content-Type-Options": "nosniff", "Cross-Origin-Resource-Policy": "same-origin", "Cache-Control": "no-cache"} {
		if got := w.Header().Get(header); got != want {
			t.Errorf("%s: got %q, want %q", header, got, want)
		}
	}
}

// What is put into the page is text there, whatever it is.
func TestPrefixIsText(t *testing.T) {
	page := demo.New(&net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1}, `"><script>`)
	if err := page.Serve(webSocket); err != nil {
		t.Fatal(err)
	}
	if text := get(page, "localhost:1", "/demo/").Body.String(); strings.Contains(text, `"><script>`) {
		t.Errorf("the prefix ends its attribute:\n%.300s", text)
	}
}

func TestFiles(t *testing.T) {
	page := newPage(t, "127.0.0.1", 8222)
	made, err := os.ReadDir("page")
	if err != nil {
		t.Fatal(err)
	}
	kinds := map[string]string{".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
	for _, f := range made {
		if f.Name() == "index.html" {
			continue
		}
		w := get(page, "localhost:8222", "/demo/"+f.Name())
		kind := kinds[f.Name()[strings.LastIndex(f.Name(), "."):]]
		if w.Code != http.StatusOK || !strings.HasPrefix(w.Header().Get("Content-Type"), kind) || w.Body.Len() == 0 {
			t.Errorf("%s: got %d, %s, %d bytes", f.Name(), w.Code, w.Header().Get("Content-Type"), w.Body.Len())
		}
		if again := get(page, "localhost:8222", "/demo/"+f.Name(), "If-None-Match", w.Header().Get("ETag")); again.Code != http.StatusNotModified {
			t.Errorf("%s, unchanged: got %d", f.Name(), again.Code)
		}
	}
	for _, path := range []string{"/demo/index.html", "/demo/no.js", "/demo/../demo.go", "/demo/%2e%2e/demo.go", "/demo//", "/demo/page"} {
		if w := get(page, "localhost:8222", path); w.Code != http.StatusNotFound {
			t.Errorf("%s: got %d, want 404", path, w.Code)
		}
	}
}

// While there is no broker the page says so.
func TestStarting(t *testing.T) {
	page := demo.New(&net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1}, "presence.v1")
	if w := get(page, "localhost:1", "/demo/"); w.Code != http.StatusServiceUnavailable || !strings.Contains(w.Body.String(), "starting") {
		t.Errorf("got %d %q", w.Code, w.Body)
	}
}
