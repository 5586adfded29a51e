package http2

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	h2 "golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	testStreams = 4
	testHeader  = 4 << 10
)

// newTestServer returns a server whose handler does what handlers may do.
func newTestServer() *Server {
	return New(&http.Server{Handler: http.HandlerFunc(testHandler), ReadHeaderTimeout: testHeaderTime,
		IdleTimeout: testIdleTime, MaxHeaderBytes: testHeader,
		HTTP2: &http.HTTP2Config{MaxConcurrentStreams: testStreams}}, testStall)
}

func testHandler(w http.ResponseWriter, r *http.Request) {
	rc := http.NewResponseController(w)
	body := func(s string) {
		w.Header().Set("Content-Length", fmt.Sprint(len(s)))
		io.WriteString(w, s)
	}
	switch r.URL.Path {
	case "/hi":
		body("hi")
	case "/large":
		body(strings.Repeat("x", 200_000))
	case "/block":
		<-r.Context().Done()
	case "/late":
		select {
		case <-r.Context().Done():
		case <-time.After(time.Second):
		}
		fallthrough
	case "/body":
		b, err := io.ReadAll(r.Body)
		if err != nil {
			http.Error(w, "the body ends", http.StatusInternalServerError)
			return
		}
		body(string(b))
	case "/304":
		w.Header().Set("Content-Length", "3")
		w.WriteHeader(http.StatusNotModified)
		if _, err := io.WriteString(w, "abc"); !errors.Is(err, http.ErrBodyNotAllowed) {
			panic("a body for a status without one")
		}
	case "/flushed":
		io.WriteString(w, "a")
		_ = rc.Flush()
		io.WriteString(w, "b")
	case "/short":
		w.Header().Set("Content-Length", "3")
		io.WriteString(w, "ab")
		if _, err := io.WriteString(w, "cd"); !errors.Is(err, http.ErrContentLength) {
			panic("more than Content-Length")
		}
	case "/panic":
		panic(http.ErrAbortHandler)
	case "/deadline":
		_ = rc.SetWriteDeadline(time.Now().Add(testStall))
		body("deadline")
	case "/echo":
		w.Header().Set("Content-Type", "text/plain")
		w.Header().Set("Connection", "close")
		w.Header().Set("X", " a\r\nb ")
		fmt.Fprintf(w, "%s %s %q %s %q %s %d %s", r.Method, r.RequestURI, r.URL, r.Host, r.Header, r.Proto,
			r.ContentLength, r.RemoteAddr)
	default:
		http.Error(w, "nothing there", http.StatusNotFound)
	}
}

// lingerTime is how long a client may take to read why the connection is closed.
const lingerTime = 500 * time.Millisecond

// A pipe is a Transport over a net.Conn.
type pipe struct{ net.Conn }

func (p pipe) Send(b []byte, deadline time.Time) error {
	_ = p.SetWriteDeadline(deadline)
	_, err := p.Write(b)
	return err
}

func (p pipe) Linger() {
	_ = p.SetReadDeadline(time.Now().Add(lingerTime))
	_, _ = io.Copy(io.Discard, p)
}

// TestRFC9113 sends frames as clients may and may not, and checks what comes back.
func TestRFC9113(t *testing.T) {
	for _, tt := range testCases {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				got := exchange(t, tt.in)
				if tt.want == calm {
					got = got[max(0, len(got)-len(calm)):]
				}
				if got != tt.want {
					t.Errorf("received %.900s\nwant     %.900s", got, tt.want)
				}
			})
		})
	}
}

// TestOneGoroutineWaits sends requests one after another, which share a goroutine, and two at once, of
// whose goroutines one ends.
func TestOneGoroutineWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var got []int
		count := func(*Conn) {
			stacks := make([]byte, 1<<20)
			stacks = stacks[:runtime.Stack(stacks, true)]
			got = append(got, bytes.Count(stacks, []byte("http2.(*Conn).open.func1(")))
		}
		exchange(t, []step{preface, settings(), count, hi(1), count, hi(3), count,
			request(5, "GET", "/late"), request(7, "GET", "/late"), count, 2 * time.Second, count})
		if want := []int{0, 1, 1, 2, 1}; !slices.Equal(got, want) {
			t.Errorf("%d goroutines, want %d", got, want)
		}
	})
}

// exchange takes the steps of a client, and returns what it received.
func exchange(t *testing.T, steps []step) string {
	near, far := net.Pipe()
	c := newTestServer().NewConn(t.Context(), pipe{far}, "192.0.2.1:1", nil)
	var wg sync.WaitGroup
	wg.Go(func() {
		c.Serve()
		far.Close()
	})
	var got string
	wg.Go(func() { got = describe(near) })
	for _, s := range steps {
		switch s := s.(type) {
		case []byte:
			_, _ = near.Write(s) // the server may have closed
		case time.Duration:
			time.Sleep(s)
		case func(*Conn):
			s(c)
		}
		synctest.Wait()
	}
	time.Sleep(lingerTime) // the server waits for the client to close
	synctest.Wait()
	near.Close()
	wg.Wait()
	return got
}

// describe reads what a server sends until it or the client closes, without its preface, and returns
// it in words. DATA frames of a stream in a row count as one.
func describe(r io.Reader) string {
	f := h2.NewFramer(nil, r)
	f.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	var all []string
	add := func(format string, args ...any) { all = append(all, fmt.Sprintf(format, args...)) }
	acknowledged := false
	for {
		frame, err := f.ReadFrame()
		if err != nil {
			if errors.Is(err, io.EOF) {
				add("EOF")
			} else if !errors.Is(err, io.ErrClosedPipe) {
				add("%v", err)
			}
			return strings.Join(all, "; ")
		}
		switch f := frame.(type) {
		case *h2.SettingsFrame:
			switch {
			case f.IsAck() && acknowledged:
				add("SETTINGS ack")
			case f.IsAck():
				acknowledged = true
			}
		case *h2.MetaHeadersFrame:
			add("HEADERS %d %s%s", f.StreamID, f.PseudoValue("status"), ending(f.StreamEnded()))
		case *h2.DataFrame:
			n := len(f.Data())
			if k := len(all) - 1; k >= 0 {
				var id uint32
				var before int
				if _, err := fmt.Sscanf(all[k], "DATA %d %d", &id, &before); err == nil && id == f.StreamID {
					n, all = n+before, all[:k]
				}
			}
			add("DATA %d %d%s", f.StreamID, n, ending(f.StreamEnded()))
		case *h2.RSTStreamFrame:
			add("RST %d %s", f.StreamID, f.ErrCode)
		case *h2.GoAwayFrame:
			add("GOAWAY %d %s", f.LastStreamID, f.ErrCode)
		case *h2.PingFrame:
			add("PING ack %x", f.Data)
		case *h2.WindowUpdateFrame:
			add("WINDOW %d %d", f.StreamID, f.Increment)
		default:
			add("%v", f)
		}
	}
}

func ending(end bool) string {
	if end {
		return " end"
	}
	return ""
}

// TestRequestAllocations limits the allocations of a request like those that players repeat, with a
// response of 200 kB.
func TestRequestAllocations(t *testing.T) {
	const want = 36
	near, far := net.Pipe()
	srv := newTestServer()
	data := make([]byte, 200_000)
	srv.http.Handler = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header()["Content-Length"] = []string{"200000"}
		w.Header()["Content-Type"] = []string{"video/mp4"}
		_, _ = w.Write(data)
	})
	c := srv.NewConn(t.Context(), pipe{far}, "192.0.2.1:1", nil)
	var wg sync.WaitGroup
	wg.Go(func() {
		c.Serve()
		far.Close()
	})
	defer wg.Wait()
	defer near.Close()
	f := h2.NewFramer(nil, near)
	f.SetReuseFrames()
	ask := concat(frame(h2.FrameHeaders, end|endHeaders, 1, section(":method", "GET", ":scheme", "https", ":authority",
		"example.com", ":path", "/live/movie/1-2.m4s", "user-agent", "player", "accept", "*/*", "range", "bytes=0-")...),
		window(0, uint32(len(data))))
	asks := make(chan []byte, 2)
	wg.Go(func() {
		for b := range asks {
			if _, err := near.Write(b); err != nil {
				t.Error(err)
			}
		}
	})
	defer close(asks)
	asks <- concat(preface, settings(setting(h2.SettingInitialWindowSize, 1<<20)))
	id := uint32(1)
	got := testing.AllocsPerRun(200, func() {
		binary.BigEndian.PutUint32(ask[5:], id)
		id += 2
		asks <- ask
		for {
			frame, err := f.ReadFrame()
			if err != nil {
				t.Error(err)
				return
			}
			if d, ok := frame.(*h2.DataFrame); ok && d.StreamEnded() {
				return
			}
		}
	})
	if got > want {
		t.Errorf("%v allocations, want at most %v", got, want)
	}
}

// TestWindowsWakeOnlyStreamsThatCanSend has a client open the window of a connection in small steps,
// or the windows of streams back and forth, while the other window is closed: the handlers that wait
// do not wake up for it.
func TestWindowsWakeOnlyStreamsThatCanSend(t *testing.T) {
	wakes := func(st *stream) int {
		n := len(st.wakeUp)
		for range n {
			<-st.wakeUp
		}
		return n
	}
	c := newTestServer().NewConn(t.Context(), pipe{}, "", nil)
	update := &h2.WindowUpdateFrame{Increment: 1}
	c.initial, c.window = 0, 0
	st := &stream{conn: c, id: 1, wakeUp: make(chan struct{}, 1)}
	c.streams[1], c.lastID = st, 1
	for _, tt := range []struct {
		name string
		do   func() error
		want int
	}{
		{"connection opened for a closed stream", func() error { return c.processWindowUpdate(update) }, 0},
		{"connection extended", func() error { return c.processWindowUpdate(update) }, 0},
		{"stream opened", func() error { return c.setInitialWindow(1) }, 1},
		{"stream extended", func() error { return c.setInitialWindow(2) }, 0},
		{"stream closed", func() error { return c.setInitialWindow(0) }, 0},
		{"negative stream extended", func() error { c.window, st.window = 0, -5; return c.setInitialWindow(4) }, 0},
		{"stream opened on a closed connection", func() error { return c.setInitialWindow(9) }, 0},
		{"connection opened", func() error { return c.processWindowUpdate(update) }, 1},
	} {
		if err := tt.do(); err != nil {
			t.Fatal(err)
		}
		if n := wakes(st); n != tt.want {
			t.Errorf("%s: %d wake-ups, want %d", tt.name, n, tt.want)
		}
	}
}
