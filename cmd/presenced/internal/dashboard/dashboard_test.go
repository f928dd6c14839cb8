package dashboard

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"presence/pkg/service"
)

// These tests are white-box: an hour of samples passes at once.

// waitFor is how long a test waits for what takes milliseconds.
const waitFor = 20 * time.Second

// figures returns those of a service that has answered some requests, each within half a ms to one.
func figures(changes, queries, refused uint64) *service.Figures {
	h := func(n uint64) service.Histogram {
		return service.Histogram{Bounds: []time.Duration{500 * time.Microsecond, time.Millisecond}, Counts: []uint64{0, n}, Count: n}
	}
	return &service.Figures{Endpoints: []service.EndpointFigures{
		{Name: "set", Latency: h(changes), Errors: map[string]uint64{"rate_limited": refused}},
		{Name: "get", Kind: service.KindQuery, Latency: h(queries)},
	}}
}

func at(seconds int64) time.Time { return time.Unix(1_800_000_000+seconds, 0) }

func TestSample(t *testing.T) {
	t.Parallel()
	before := State{At: at(0), Figures: figures(100, 50, 5)}
	s := sampleOf(before, State{At: at(5), Figures: figures(200, 50, 10)})
	if s.Changes != 20 || s.Queries != 0 || s.Refused != 1 || s.ChangeP50 != 0.75 || s.QueryP50 != 0 {
		t.Errorf("got %+v, want 20 changes of 0.75 ms and 1 refusal a second, and no query", s)
	}
	// The service was made anew: its counters began at 0.
	if s := sampleOf(before, State{At: at(5), Figures: figures(10, 0, 0)}); s.Changes != 2 || s.ChangeP99 < 0.5 || s.ChangeP99 > 1 {
		t.Errorf("after a restart: got %+v, want 2 changes a second", s)
	}
	if s := sampleOf(before, State{At: at(5)}); s.Served || s.Changes != 0 {
		t.Errorf("without a service: got %+v", s)
	}
	// What took longer than all bounds counts as the last one.
	slow := figures(100, 50, 5)
	slow.Endpoints[0].Latency.Count += 1000
	if s := sampleOf(before, State{At: at(5), Figures: slow}); s.ChangeP99 != 1 {
		t.Errorf("above all bounds: got %v ms, want 1", s.ChangeP99)
	}
}

func TestWarnings(t *testing.T) {
	t.Parallel()
	wrong := figures(0, 0, 0)
	wrong.Mismatches, wrong.InAmnesty = 2, true
	for _, c := range []struct {
		state State
		want  []string
	}{
		{State{Figures: figures(0, 0, 0)}, nil},
		{State{NotReady: errors.New("starting")}, []string{"not ready: starting"}},
		{State{Beside: "a connection is lost", Figures: wrong}, []string{"2 times", "a connection is lost", "amnesty"}},
	} {
		got := nowOf(c.state).Warnings
		if len(got) != len(c.want) {
			t.Errorf("got %v, want %q", got, c.want)
			continue
		}
		for i, w := range got {
			if !strings.Contains(w.Text, c.want[i]) {
				t.Errorf("got %q, want %q", w.Text, c.want[i])
			}
		}
	}
}

// The last hour is there, and no more, whether somebody looks or not.
func TestHour(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		changes := uint64(0)
		d := New(func() State { changes += 5; return State{At: time.Now(), Figures: figures(changes, 0, 0)} })
		ctx, stop := context.WithCancel(t.Context())
		go d.Run(ctx)
		time.Sleep(3 * time.Hour)
		synctest.Wait()
		queue, first, ok := d.open()
		if !ok {
			t.Fatal("no stream")
		}
		var hour struct{ Samples []Sample }
		read(t, first, "hour", &hour)
		if n := len(hour.Samples); n != Kept || hour.Samples[n-1].At-hour.Samples[0].At != (time.Hour-Every).Milliseconds() || hour.Samples[0].Changes != 1 {
			t.Errorf("got %d samples, want %d in an hour", n, Kept)
		}
		if len(first) > 200_000 {
			t.Errorf("the hour takes %d bytes", len(first))
		}
		// A slow reader's stream ends: nothing waits for it.
		time.Sleep((queued + 1) * Every)
		synctest.Wait()
		for range queued {
			read(t, <-queue, "sample", &struct{}{})
		}
		if _, open := <-queue; open {
			t.Error("the stream of a slow reader goes on")
		}
		// At the end all streams are closed.
		queue, _, _ = d.open()
		stop()
		synctest.Wait()
		if _, open := <-queue; open {
			t.Error("a stream goes on after the end")
		}
	})
}

// read reads a server-sent event.
func read(t *testing.T, text []byte, name string, data any) {
	t.Helper()
	body, ok := strings.CutPrefix(string(text), "event: "+name+"\ndata: ")
	if !ok || strings.Count(body, "\n") != 2 || !strings.HasSuffix(body, "\n\n") {
		t.Fatalf("got %.100q, want one event %q", text, name)
	}
	if err := json.Unmarshal([]byte(body), data); err != nil {
		t.Fatal(err)
	}
}

// The number of streams is bounded. One that was refused is let in when another has ended.
func TestStreams(t *testing.T) {
	t.Parallel()
	d := New(func() State { return State{At: time.Now()} })
	d.sample()
	server := httptest.NewUnstartedServer(d)
	server.Config.ReadTimeout, server.Config.WriteTimeout = 200*time.Millisecond, 200*time.Millisecond
	server.Start()
	defer server.Close()
	defer server.CloseClientConnections() // or Close waits for the streams
	get := func() *http.Response {
		ctx, cancel := context.WithTimeout(t.Context(), waitFor)
		t.Cleanup(cancel)
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, server.URL+Path+"events", nil)
		if err != nil {
			t.Fatal(err)
		}
		reply, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { reply.Body.Close() })
		return reply
	}
	var streams []*http.Response
	for range MaxStreams {
		r := get()
		if r.StatusCode != http.StatusOK || r.Header.Get("Content-Type") != "text/event-stream" {
			t.Fatalf("got %d", r.StatusCode)
		}
		streams = append(streams, r)
	}
	refused := get()
	text, _ := io.ReadAll(refused.Body)
	if refused.StatusCode != http.StatusServiceUnavailable || !strings.Contains(string(text), "close one") {
		t.Errorf("one more: got %d %q, want 503 and what to do", refused.StatusCode, text)
	}
	streams[0].Body.Close()
	for end := time.Now().Add(waitFor); get().StatusCode != http.StatusOK; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("none is let in after another has ended")
		}
	}
	// A stream outlives the server's limits for a request.
	lines := bufio.NewScanner(streams[1].Body)
	lines.Buffer(nil, 1<<20)
	time.Sleep(2 * server.Config.ReadTimeout)
	d.sample()
	for lines.Scan() {
		if lines.Text() == "event: sample" {
			return
		}
	}
	t.Errorf("no sample came: %v", lines.Err())
}

// Every answer keeps the browser from running or sending what is not the page's own.
func TestHeaders(t *testing.T) {
	t.Parallel()
	d := New(func() State { return State{} })
	for path, want := range map[string]int{
		"": 200, "dashboard.js": 200, "dashboard.css": 200, "icon.svg": 200,
		"index.html": 404, "no": 404, "../dashboard.go": 404, "page/index.html": 404,
	} {
		w := httptest.NewRecorder()
		r := httptest.NewRequest(http.MethodGet, Path, nil)
		r.URL.Path += path
		d.ServeHTTP(w, r)
		if w.Code != want {
			t.Errorf("%s: got %d, want %d", path, w.Code, want)
		}
		for name, value := range map[string]string{
			"Content-Security-Policy": "default-src 'none'", "X-Content-Type-Options": "nosniff",
			"Referrer-Policy": "no-referrer", "Cache-Control": "no-store",
		} {
			if !strings.Contains(w.Header().Get(name), value) {
				t.Errorf("%s: %s is %q, want %q", path, name, w.Header().Get(name), value)
			}
		}
		if strings.Contains(w.Header().Get("Content-Security-Policy"), "unsafe") {
			t.Error("the policy allows what is unsafe")
		}
	}
}
