// Package dashboard serves the page of presenced that is made for looking: how many users there
// are, what they ask for, how long that takes, and what is wrong, over the last hour.
//
//	d := dashboard.New(look)       // look tells how the daemon is doing
//	go d.Run(ctx)                  // takes a sample every 5 s
//	mux.Handle("GET /dashboard/", d)
//
// Samples are taken whether somebody looks or not, so that the last hour is there when somebody
// does. They are kept in memory only. An hour takes about 100 KB, and a sample costs the same with
// one user and with a million: it reads counters.
//
// The page gets them as server-sent events from /dashboard/events: "hour" once, with the samples of
// the last hour, and "sample" for each later one. Both say how the daemon is doing now, too. At most
// MaxStreams are open at a time. The next one is refused with 503. A stream whose reader is slow is
// closed; the page opens another.
//
// Nothing of it names a user.
package dashboard

import (
	"bytes"
	"context"
	"embed"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"
)

// Path is where the page is.
const Path = "/dashboard/"

const (
	// Every is the time between two samples.
	Every = 5 * time.Second
	// Kept is how many samples are kept: those of an hour.
	Kept = int(time.Hour / Every)
	// MaxStreams is how many pages may be open at a time.
	MaxStreams = 32

	// queued is how many events wait for the reader of a stream. One more closes it.
	queued = 4
	// writeWithin is how long an event may take to be written.
	writeWithin = 10 * time.Second
)

//go:embed page
var files embed.FS

// policy allows the page's own files and events. It has no script or style in its text.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"

// Dashboard is the page. Its methods are safe for concurrent use.
type Dashboard struct {
	look func() State

	mu      sync.Mutex
	before  State
	hour    []Sample // the last Kept ones, oldest first
	now     Now
	streams map[chan []byte]struct{}
}

// New makes a page. look must not wait: it is called every 5 s.
func New(look func() State) *Dashboard {
	return &Dashboard{look: look, hour: make([]Sample, 0, Kept), streams: make(map[chan []byte]struct{})}
}

// Run takes samples until ctx is done. Then it closes the streams.
func (d *Dashboard) Run(ctx context.Context) {
	tick := time.NewTicker(Every)
	defer tick.Stop()
	for {
		d.sample()
		select {
		case <-ctx.Done():
			d.mu.Lock()
			defer d.mu.Unlock()
			for queue := range d.streams {
				d.drop(queue)
			}
			return
		case <-tick.C:
		}
	}
}

// sample takes a sample and sends it to all streams.
func (d *Dashboard) sample() {
	state := d.look()
	d.mu.Lock()
	defer d.mu.Unlock()
	s := sampleOf(d.before, state)
	d.now, d.before = nowOf(state), state
	if len(d.hour) == Kept {
		copy(d.hour, d.hour[1:])
		d.hour = d.hour[:Kept-1]
	}
	d.hour = append(d.hour, s)
	if len(d.streams) == 0 {
		return
	}
	e := event("sample", map[string]any{"sample": s, "now": d.now})
	for queue := range d.streams {
		select {
		case queue <- e:
		default:
			d.drop(queue) // its reader is slow
		}
	}
}

// drop ends a stream. The lock is held.
func (d *Dashboard) drop(queue chan []byte) {
	if _, ok := d.streams[queue]; ok {
		delete(d.streams, queue)
		close(queue)
	}
}

// open begins a stream with what it is to be sent first; false: there are too many.
func (d *Dashboard) open() (queue chan []byte, first []byte, ok bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.streams) >= MaxStreams {
		return nil, nil, false
	}
	queue = make(chan []byte, queued)
	d.streams[queue] = struct{}{}
	return queue, event("hour", map[string]any{"samples": d.hour, "now": d.now, "every": Every.Seconds()}), true
}

func (d *Dashboard) close(queue chan []byte) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.drop(queue)
}

// event makes a server-sent event.
func event(name string, data any) []byte {
	text, err := json.Marshal(data)
	if err != nil { // such as a figure that is not a number: a defect
		text = []byte(`{"error":"the figures cannot be encoded"}`)
	}
	return fmt.Appendf(nil, "event: %s\ndata: %s\n\n", name, text)
}

// ServeHTTP answers requests for the page, its files and its events.
func (d *Dashboard) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Security-Policy", policy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Cache-Control", "no-store")
	switch name := strings.TrimPrefix(r.URL.Path, Path); name {
	case "events":
		d.serveEvents(w, r)
	case "index.html":
		http.NotFound(w, r)
	case "":
		serveFile(w, r, "index.html")
	default:
		serveFile(w, r, name)
	}
}

func serveFile(w http.ResponseWriter, r *http.Request, name string) {
	text, err := files.ReadFile("page/" + name)
	if err != nil {
		http.NotFound(w, r)
		return
	}
	http.ServeContent(w, r, name, time.Time{}, bytes.NewReader(text))
}

// serveEvents writes the events of a stream until its reader is gone or slow, or Run ends.
func (d *Dashboard) serveEvents(w http.ResponseWriter, r *http.Request) {
	queue, text, ok := d.open()
	if !ok {
		w.Header().Set("Retry-After", "10")
		http.Error(w, fmt.Sprintf("%d pages are open, which is the most: close one", MaxStreams), http.StatusServiceUnavailable)
		return
	}
	defer d.close(queue)
	w.Header().Set("Content-Type", "text/event-stream")
	c := http.NewResponseController(w)
	for ok {
		// The server's own limit is for a whole answer.
		if c.SetWriteDeadline(time.Now().Add(writeWithin)) != nil {
			return
		}
		if _, err := w.Write(text); err != nil || c.Flush() != nil {
			return
		}
		select {
		case <-r.Context().Done():
			return
		case text, ok = <-queue:
		}
	}
}
