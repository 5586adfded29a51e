package api

import (
	"bufio"
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"livego/internal/control/auth"
	"livego/internal/domain"
)

// addEvents adds an event of each of some types.
func (s *fixture) addEvents() {
	for _, e := range []domain.Event{
		{Type: domain.EventStreamStarted, App: "live", Room: "movie", At: time.Unix(1e9, 0)},
		{Type: domain.EventDenied, App: "live", Room: "movie", Reason: "no", At: time.Unix(1e9+1, 0)},
		{Type: domain.EventViewerJoined, App: "live", Room: "other", Session: "7", At: time.Unix(1e9+2, 0)},
		{Type: domain.EventStreamEnded, App: "quiet", Room: "movie", At: time.Unix(1e9+3, 0)},
	} {
		s.options.Events.Add(e)
	}
}

func TestListEvents(t *testing.T) {
	s := newFixture(t, nil)
	if w := s.get("/api/v1/events"); w.Code != 200 || w.Body.String() != `{"events":[]}` {
		t.Errorf("no events: %d %s", w.Code, w.Body)
	}
	s.addEvents()
	since := url.QueryEscape(time.Unix(1e9+2, 0).UTC().Format(time.RFC3339))
	for query, want := range map[string]string{
		"":                              "stream.ended viewer.joined denied stream.started",
		"?type=denied":                  "denied",
		"?type=stream":                  "stream.ended stream.started",
		"?type=stream.ended,viewer":     "stream.ended viewer.joined",
		"?app=live":                     "viewer.joined denied stream.started",
		"?app=live&room=movie":          "denied stream.started",
		"?room=nobody":                  "",
		"?since=" + since:               "stream.ended viewer.joined",
		"?type=denied&app=live&limit=1": "denied",
	} {
		list := decode[struct {
			Events []domain.Event
			Next   string
		}](t, s.get("/api/v1/events"+query), 200)
		var got []string
		for _, e := range list.Events {
			got = append(got, string(e.Type))
		}
		if strings.Join(got, " ") != want || list.Next != "" {
			t.Errorf("%s: %q, next %q; want %q", query, got, list.Next, want)
		}
	}
	for _, query := range []string{
		"?type=str", "?type=stream.", "?type=all", "?since=yesterday", "?limit=0", "?limit=1001", "?cursor=x", "?sort=at",
		"?sort=id,",
		"?type=denied&type=stream", "?unknown=1", "?cursor=" + strings.Repeat("1", 2049),
	} {
		if w := s.get("/api/v1/events" + query); w.Code != 400 {
			t.Errorf("%s: %d %s", query, w.Code, w.Body)
		}
	}
}

// TestEventPages follows the cursor while events are added.
func TestEventPages(t *testing.T) {
	s := newFixture(t, nil)
	s.addEvents()
	var got []string
	for cursor := ""; ; {
		page := decode[struct {
			Events []domain.Event
			Next   string
		}](t, s.get("/api/v1/events?limit=2&type=stream,viewer&cursor="+cursor), 200)
		for _, e := range page.Events {
			got = append(got, string(e.Type))
		}
		s.options.Events.Add(domain.Event{Type: domain.EventStreamHeld})
		if cursor = page.Next; cursor == "" {
			break
		}
	}
	if want := "stream.ended viewer.joined stream.started"; strings.Join(got, " ") != want {
		t.Errorf("pages have %q", got)
	}
}

// revocable authorizes requests until it is revoked.
type revocable struct {
	allowAll
	revoked atomic.Bool
}

func (a *revocable) Authorize(*http.Request, auth.Access) error {
	if a.revoked.Load() {
		return domain.Errorf(domain.Denied, "expired")
	}
	return nil
}

// An eventReader reads server-sent events.
type eventReader struct {
	t     *testing.T
	lines *bufio.Scanner
}

// openEvents opens a stream of events of a server that runs s.
func (s *fixture) openEvents(t *testing.T, srv *httptest.Server, query, lastID string) eventReader {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	r, err := http.NewRequestWithContext(ctx, "GET", srv.URL+"/api/v1/events/stream"+query, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	if lastID != "" {
		r.Header.Set("Last-Event-ID", lastID)
	}
	resp, err := srv.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	if resp.StatusCode != 200 || resp.Header.Get("Content-Type") != "text/event-stream" {
		t.Fatalf("%d %s", resp.StatusCode, resp.Header)
	}
	return eventReader{t, bufio.NewScanner(resp.Body)}
}

// next returns the next line that is not empty; "" at the end.
func (r eventReader) next() string {
	for r.lines.Scan() {
		if line := r.lines.Text(); line != "" {
			return line
		}
	}
	if err := r.lines.Err(); err != nil && !errors.Is(err, context.Canceled) {
		r.t.Errorf("the stream ends with %v", err)
	}
	return ""
}

func newEventServer(t *testing.T, change func(*Options)) (*fixture, *httptest.Server) {
	s := newFixture(t, change)
	srv := httptest.NewUnstartedServer(s.handler)
	srv.Config.ReadTimeout, srv.Config.WriteTimeout = 50*time.Millisecond, 50*time.Millisecond // for short requests
	srv.Start()
	t.Cleanup(srv.Close)
	return s, srv
}

// TestStreamEvents receives events as they happen, for longer than the server's timeouts, resumes
// after a Last-Event-ID, and gets the end when the server stops.
func TestStreamEvents(t *testing.T) {
	s, srv := newEventServer(t, func(o *Options) { o.HeartbeatInterval = 20 * time.Millisecond })
	r := s.openEvents(t, srv, "?type=stream", "")
	for range 5 { // 100 ms
		if line := r.next(); line != ": heartbeat" {
			t.Fatalf("received %q", line)
		}
	}
	s.addEvents()
	var lines []string
	for len(lines) < 4 {
		if line := r.next(); line == "" {
			t.Fatal("the stream ends")
		} else if line != ": heartbeat" {
			lines = append(lines, line)
		}
	}
	first, ok := strings.CutPrefix(lines[0], "id: ")
	data := `data: {"id":` + first + `,"at":"2001-09-09T01:46:40Z","type":"stream.started","app":"live","room":"movie"}`
	if !ok || lines[1] != data ||
		!strings.Contains(lines[3], `"stream.ended"`) {
		t.Fatalf("received %q", lines)
	}
	resumed := s.openEvents(t, srv, "", first)
	if id, data := resumed.next(), resumed.next(); !strings.HasPrefix(id, "id: ") || !strings.Contains(data, `"denied"`) {
		t.Errorf("after %s: %q %q", first, id, data)
	}
	s.options.Events.Close()
	for line := "-"; line != ""; {
		line = r.next()
	}
	if w := s.get("/api/v1/events/stream"); w.Code != 503 {
		t.Errorf("after the end: %d %s", w.Code, w.Body)
	}
	if w := s.get("/api/v1/events/stream", "Last-Event-ID: x"); w.Code != 400 {
		t.Errorf("an invalid Last-Event-ID: %d %s", w.Code, w.Body)
	}
}

// TestStreamEventsByHTTP2 receives events over HTTP/2, where nothing happens for longer than a client may take to
// accept an event.
func TestStreamEventsByHTTP2(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFixture(t, func(o *Options) { o.HeartbeatInterval = 2 * eventWriteTimeout })
		near, far := net.Pipe()
		protocols := new(http.Protocols)
		protocols.SetUnencryptedHTTP2(true)
		accepted := make(chan net.Conn, 1)
		accepted <- far
		srv := &http.Server{Handler: s.handler, Protocols: protocols}
		go srv.Serve(pipeListener(accepted)) // ends with the listener
		defer srv.Close()
		transport := &http.Transport{Protocols: protocols,
			DialContext: func(context.Context, string, string) (net.Conn, error) { return near, nil }}
		defer transport.CloseIdleConnections()
		resp, err := (&http.Client{Transport: transport}).Get("http://localhost:8090/api/v1/events/stream")
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		line, err := bufio.NewReader(resp.Body).ReadString('\n')
		if resp.ProtoMajor != 2 || line != ": heartbeat\n" || err != nil {
			t.Errorf("received %q by %s: %v", line, resp.Proto, err)
		}
	})
}

// A pipeListener accepts the connections that are sent to it.
type pipeListener chan net.Conn

func (l pipeListener) Accept() (net.Conn, error) {
	c, ok := <-l
	if !ok {
		return nil, net.ErrClosed
	}
	return c, nil
}

func (l pipeListener) Close() error   { close(l); return nil }
func (l pipeListener) Addr() net.Addr { return &net.TCPAddr{} }

// TestStreamEndsWithRights ends a stream of events when the credential of its client has expired,
// also while there are events all the time.
func TestStreamEndsWithRights(t *testing.T) {
	var rights revocable
	s, srv := newEventServer(t, func(o *Options) {
		o.HeartbeatInterval = 20 * time.Millisecond
		o.Auth = func() Auth { return &rights }
	})
	r := s.openEvents(t, srv, "", "")
	if line := r.next(); line != ": heartbeat" {
		t.Fatalf("received %q", line)
	}
	rights.revoked.Store(true)
	for line := "-"; line != ""; { // each event that the client receives causes the next
		s.options.Events.Add(domain.Event{Type: domain.EventDenied})
		line = r.next()
	}
}
