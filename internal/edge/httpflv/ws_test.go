package httpflv

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gorilla/websocket"

	"livego/internal/container/flv"
	"livego/internal/deliver/fanout"
	"livego/internal/domain"
	"livego/internal/media"
	"livego/internal/stream"
)

// dial opens a WebSocket to srv.
func dial(t *testing.T, srv *httptest.Server, path string) *websocket.Conn {
	t.Helper()
	d := websocket.Dialer{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
	c, resp, err := d.DialContext(t.Context(), "ws"+strings.TrimPrefix(srv.URL, "http")+path,
		http.Header{"Origin": {"https://elsewhere.example"}})
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	t.Cleanup(func() { c.Close() })
	return c
}

// readBinary reads the next message, which must be binary.
func readBinary(t *testing.T, c *websocket.Conn) []byte {
	t.Helper()
	c.SetReadDeadline(time.Now().Add(20 * time.Second))
	typ, msg, err := c.ReadMessage()
	if err != nil || typ != websocket.BinaryMessage {
		t.Fatalf("message of type %d, %v", typ, err)
	}
	return msg
}

// readToClose reads until the server closes. It returns the media and the close error.
func readToClose(t *testing.T, c *websocket.Conn) (media []byte, end *websocket.CloseError) {
	t.Helper()
	c.SetReadDeadline(time.Now().Add(20 * time.Second))
	for {
		_, msg, err := c.ReadMessage()
		if errors.As(err, &end) {
			return media, end
		} else if err != nil {
			t.Fatalf("closed without a close frame: %v", err)
		}
		media = append(media, msg...)
	}
}

// TestWebSocketMatchesHTTP: the messages of a WebSocket are the file that HTTP serves.
func TestWebSocketMatchesHTTP(t *testing.T) {
	for _, tt := range []struct {
		name, scheme string
		tls          bool
	}{{"plain", "ws://", false}, {"TLS", "wss://", true}} {
		t.Run(tt.name, func(t *testing.T) {
			hub, srv := newTestServer(t, tt.tls)
			p := publish(t, hub)
			p.Write(video(0, "key", true))
			p.Write(audio(0, "a0"))
			byHTTP := get(t, srv, "GET", "/live/movie.flv")
			header := make([]byte, len(flv.FileHeader(true, true))) // once these are read, the start of the viewer is fixed
			if _, err := io.ReadFull(byHTTP.Body, header); err != nil {
				t.Fatal(err)
			}
			bySocket := dial(t, srv, "/live/movie.flv?token=x")
			media := readBinary(t, bySocket)
			if head := flv.FileHeader(true, true); !bytes.HasPrefix(media, head) || len(media) == len(head) {
				t.Errorf("the first message is %q", media)
			}
			viewers := listViewers(hub)
			if len(viewers) != 2 {
				t.Fatalf("%d viewers", len(viewers))
			}
			if v := viewers[1]; v.Proto != "ws" || v.URL != tt.scheme+srv.Listener.Addr().String()+"/live/movie.flv" {
				t.Errorf("the viewer is %+v", v)
			}
			large := strings.Repeat("x", 200<<10) // needs a 64-bit length
			p.Write(video(40*time.Millisecond, "inter", false))
			p.Write(video(time.Second, large, true))
			p.Write(audio(time.Second, "a1"))
			p.End(stream.Clean)

			more, end := readToClose(t, bySocket)
			if end.Code != websocket.CloseNormalClosure || end.Text != "the stream has ended" {
				t.Errorf("closed by %v", end)
			}
			want, err := io.ReadAll(byHTTP.Body)
			if err != nil {
				t.Fatal(err)
			}
			want = append(header, want...)
			if got := append(media, more...); !bytes.Equal(got, want) {
				t.Errorf("%d bytes by WebSocket, %d by HTTP:\n%.200q\n%.200q", len(got), len(want), got, want)
			}
		})
	}
}

// TestWebSocketBatch: what the publisher writes while a viewer waits arrives at once, in one
// message or few.
func TestWebSocketBatch(t *testing.T) {
	hub, srv := newTestServer(t, false)
	c := dial(t, srv, "/live/movie.flv") // before there is a publisher
	p := publish(t, hub)
	p.Write(video(0, "key", true))
	p.Write(audio(0, "a0"))
	media := readBinary(t, c)
	for !bytes.Contains(media, []byte("a0")) {
		media = append(media, readBinary(t, c)...)
	}
	p.Write(video(40*time.Millisecond, "inter", false))
	if msg := readBinary(t, c); !bytes.Contains(msg, []byte("inter")) {
		t.Errorf("message %q", msg)
	}
}

func TestWebSocketEnds(t *testing.T) {
	for _, tt := range []struct {
		name string
		end  func(*stream.Hub, *stream.Publisher)
		code int
		text string
	}{
		{"clean end", func(_ *stream.Hub, p *stream.Publisher) { p.End(stream.Clean) }, 1000, "the stream has ended"},
		{"server stops", func(hub *stream.Hub, _ *stream.Publisher) { hub.Close() }, 1000, "the stream has ended"},
		{"kick", func(hub *stream.Hub, _ *stream.Publisher) {
			hub.Kick(listViewers(hub)[0].ID, domain.Errorf(domain.Denied, "enough"))
		}, 1008, "enough"},
		{"long reason", func(hub *stream.Hub, _ *stream.Publisher) {
			hub.Kick(listViewers(hub)[0].ID, domain.Errorf(domain.Denied, "%s", strings.Repeat("é", 100)))
		}, 1008, strings.Repeat("é", 61)},
		{"late track", func(_ *stream.Hub, p *stream.Publisher) { p.Write(audio(0, "late")) },
			1012, "new track is not in the FLV file header"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			hub, srv := newTestServer(t, false)
			p := publish(t, hub)
			f := video(0, "key", true)
			f.Meta = &media.Meta{HasVideo: true}
			p.Write(f)
			c := dial(t, srv, "/live/movie.flv")
			readBinary(t, c)
			tt.end(hub, p)
			if _, end := readToClose(t, c); end.Code != tt.code || end.Text != tt.text {
				t.Errorf("closed by %v, want %d %s", end, tt.code, tt.text)
			}
		})
	}
}

// TestWebSocketRefusals: the reason for a refused token is in a close frame, which pages can read,
// and over HTTP in a header.
func TestWebSocketRefusals(t *testing.T) {
	hub, srv := newTestServer(t, false)
	publish(t, hub).Write(video(0, "key", true))
	for token, want := range map[string]struct {
		status, code int
		text         string
	}{
		"old":   {401, 4401, "token_expired: token expired"},
		"other": {403, 4403, "token_wrong_stream: token is for another app or room"},
		"full":  {429, 4429, "token_viewer_limit: token viewer limit reached (1)"},
	} {
		media, end := readToClose(t, dial(t, srv, "/live/movie.flv?token="+token))
		if end.Code != want.code || end.Text != want.text || len(media) != 0 {
			t.Errorf("%s: closed by %v after %d bytes, want %+v", token, end, len(media), want)
		}
		resp := get(t, srv, "GET", "/live/movie.flv?token="+token)
		code, reason, _ := strings.Cut(want.text, ": ")
		body, _ := io.ReadAll(resp.Body)
		if resp.StatusCode != want.status || resp.Header.Get("Livego-Error") != code || string(body) != reason+"\n" {
			t.Errorf("%s over HTTP: %d %v %q", token, resp.StatusCode, resp.Header, body)
		}
	}
}

// TestWebSocketHandshake: invalid handshakes, and viewers without access, get an HTTP response.
func TestWebSocketHandshake(t *testing.T) {
	hub, srv := newTestServer(t, false)
	p := publish(t, hub)
	p.Write(video(0, "key", true))
	for _, tt := range []struct {
		name, path, drop, header, value string
		status                          int
	}{
		{"no key", "/live/movie.flv", "Sec-Websocket-Key", "", "", 400},
		{"short key", "/live/movie.flv", "", "Sec-Websocket-Key", "c2hvcnQ=", 400},
		{"version 12", "/live/movie.flv", "", "Sec-Websocket-Version", "12", 426},
		{"no version", "/live/movie.flv", "Sec-Websocket-Version", "", "", 426},
		{"upgrade lost on the way", "/live/movie.flv", "Upgrade", "", "", 400},
		{"connection lost on the way", "/live/movie.flv", "Connection", "", "", 400},
		{"bad Origin", "/live/movie.flv", "", "Origin", "null", 101},
		{"another protocol", "/live/none.flv", "Sec-Websocket-Key", "Upgrade", "h2c", 404},
		{"bad token", "/live/movie.flv?token=bad", "", "", "", 403},
		{"bad name", "/live/..flv", "", "", "", 400},
	} {
		t.Run(tt.name, func(t *testing.T) {
			req, err := http.NewRequestWithContext(t.Context(), "GET", srv.URL+tt.path, nil)
			if err != nil {
				t.Fatal(err)
			}
			for k, v := range map[string]string{
				"Connection": "Upgrade", "Upgrade": "websocket", "Sec-Websocket-Version": "13",
				"Sec-Websocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
			} {
				req.Header.Set(k, v)
			}
			req.Header.Del(tt.drop)
			if tt.header != "" {
				req.Header.Set(tt.header, tt.value)
			}
			resp, err := srv.Client().Do(req)
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if resp.StatusCode != tt.status {
				t.Errorf("HTTP %d, want %d", resp.StatusCode, tt.status)
			}
			if v := resp.Header.Get("Sec-Websocket-Version"); (v == "13") != (tt.status == 426) {
				t.Errorf("HTTP %d with version %q", resp.StatusCode, v)
			}
		})
	}
}

// inbound is what a viewer sends, and the close code that it gets; 0 if it is not closed.
var inbound = []struct {
	name string
	send []byte
	code int
}{
	{"ping", frame(0x89, []byte("ping")), 0},
	{"pong unasked", frame(0x8a, nil), 0},
	{"a few messages", bytes.Repeat(frame(0x81, []byte("hello")), maxMessages), 0},
	{"message of 4 KiB", frame(0x82, make([]byte, maxInbound)), 0},
	{"close", frame(0x88, []byte{0x03, 0xe8}), 1000},
	{"close without a code", frame(0x88, nil), 1005},
	{"unmasked", []byte{0x81, 2, 'h', 'i'}, 1002},
	{"RSV bit", frame(0xc1, []byte("hi")), 1002},
	{"reserved opcode", frame(0x83, []byte("hi")), 1002},
	{"length of 2^63", []byte{0x82, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4}, 1009},
	{"length of 2^62", []byte{0x82, 0xff, 0x40, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4}, 1009},
	{"more than 4 KiB", frame(0x82, make([]byte, maxInbound+1)), 1009},
	{"more than 4 KiB in fragments", append(frame(0x02, make([]byte, maxInbound)), frame(0x80, []byte{0})...), 1009},
	{"fragmented control", frame(0x09, nil), 1002},
	{"control of 126 bytes", frame(0x89, make([]byte, 126)), 1002},
	{"continuation first", frame(0x80, []byte("hi")), 1002},
	{"text inside a message", append(frame(0x01, nil), frame(0x81, nil)...), 1002},
	{"text that is not UTF-8", frame(0x81, []byte{0xff, 0xfe}), 1007},
	{"100,000 empty frames", bytes.Repeat(frame(0x81, nil), 100_000), 1008},
	{"close code 999", frame(0x88, []byte{0x03, 0xe7}), 1002},
	{"media", bytes.Repeat(frame(0x82, []byte("FLV\x01\x05\x00\x00\x00\x09")), maxMessages+1), 1008},
}

// frame returns a frame of a client, masked with zeros.
func frame(first byte, payload []byte) []byte {
	b := []byte{first}
	switch n := len(payload); {
	case n < 126:
		b = append(b, 0x80|byte(n))
	default:
		b = binary.BigEndian.AppendUint16(append(b, 0x80|126), uint16(n))
	}
	return append(append(b, 0, 0, 0, 0), payload...)
}

func TestWebSocketInbound(t *testing.T) {
	hub, srv := newTestServer(t, false)
	p := publish(t, hub)
	p.Write(video(0, "key", true))
	p.Write(audio(0, "a"))
	for _, tt := range inbound {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c := dial(t, srv, "/live/movie.flv")
			readBinary(t, c)
			pong := make(chan string, 1)
			c.SetPongHandler(func(s string) error {
				pong <- s
				return nil
			})
			c.NetConn().Write(tt.send) // the server may have closed before the end
			if tt.code == 0 {          // the server still replies
				c.NetConn().Write(frame(0x89, []byte("still there?")))
				go func() { // its handlers get the pongs
					for err := error(nil); err == nil; {
						_, _, err = c.ReadMessage()
					}
				}()
				for s := range pong {
					if s == "still there?" {
						break
					}
				}
				return
			}
			if _, end := readToClose(t, c); end.Code != tt.code {
				t.Errorf("closed by %v, want %d", end, tt.code)
			}
		})
	}
}

// pipeListener accepts connections in memory, for tests in a synctest bubble.
type pipeListener struct {
	conns chan net.Conn
	done  chan struct{}
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error   { close(l.done); return nil }
func (l *pipeListener) Addr() net.Addr { return &net.TCPAddr{} }

func (l *pipeListener) dial(context.Context, string, string) (net.Conn, error) {
	client, server := net.Pipe()
	l.conns <- server
	return client, nil
}

// inBubble runs f with a hub and a viewer of movie, in a synctest bubble.
func inBubble(t *testing.T, o Options, f func(t *testing.T, hub *stream.Hub, c *websocket.Conn)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		hub := stream.NewHub(stream.Options{})
		defer hub.Close()
		o.Log = slog.New(slog.DiscardHandler)
		s := New(hub, testAuthorizer{}, o)
		l := &pipeListener{make(chan net.Conn), make(chan struct{})}
		srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter,
			r *http.Request) {
			s.Serve(w, r, "live", "movie")
		})}
		served := make(chan struct{})
		go func() {
			defer close(served)
			_ = srv.Serve(l)
		}()
		defer func() {
			srv.Close()
			<-served
		}()
		d := websocket.Dialer{NetDialContext: l.dial}
		c, resp, err := d.DialContext(t.Context(), "ws://server/live/movie.flv", nil)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		defer c.Close()
		f(t, hub, c)
		synctest.Wait()
	})
}

// TestWebSocketPing: a viewer that replies stays, also while there is nothing to play. One that
// does not is closed when the second ping is due.
func TestWebSocketPing(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, _ *stream.Hub, c *websocket.Conn) {
		start, pings := time.Now(), 0
		answer := c.PingHandler()
		c.SetPingHandler(func(s string) error {
			if pings++; pings > 10 {
				return nil
			}
			return answer(s)
		})
		_, _, err := c.ReadMessage()
		if took := time.Since(start); pings != 11 || took != 12*15*time.Second {
			t.Errorf("%d pings, gone after %v: %v", pings, took, err)
		}
	})
}

func TestWebSocketPlayWait(t *testing.T) {
	inBubble(t, Options{PlayWait: 40 * time.Second},
		func(t *testing.T, _ *stream.Hub, c *websocket.Conn) {
			start := time.Now()
			_, _, err := c.ReadMessage()
			var end *websocket.CloseError
			if !errors.As(err, &end) || end.Code != 4404 || end.Text != "nobody is publishing live/movie" ||
				time.Since(start) != 40*time.Second {
				t.Errorf("after %v: %v", time.Since(start), err)
			}
		})
}

// TestWebSocketStopWhileWaiting: a viewer that waits when the server stops is asked to reconnect.
func TestWebSocketStopWhileWaiting(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, hub *stream.Hub, c *websocket.Conn) {
		synctest.Wait()
		hub.Close()
		_, _, err := c.ReadMessage()
		if !websocket.IsCloseError(err, websocket.CloseServiceRestart) {
			t.Errorf("closed by %v", err)
		}
	})
}

// TestWebSocketStall: a viewer that reads nothing is closed after the write timeout, and one that
// does not reply to the close frame soon after it.
func TestWebSocketStall(t *testing.T) {
	inBubble(t, Options{Fanout: fanout.Options{GOPs: 1}}, func(t *testing.T, hub *stream.Hub, _ *websocket.Conn) {
		events, _, stop := hub.Observe(16, true)
		defer stop()
		p := publish(t, hub)
		p.Write(video(0, "key", true))
		p.Write(audio(0, "a"))
		synctest.Wait()
		start := time.Now()
		for e := range events {
			if e.Type == stream.Left {
				break
			}
		}
		if took := time.Since(start); took != 10*time.Second {
			t.Errorf("left after %v", took)
		}
	})
}

// TestWebSocketLinger: a viewer that does not reply to the close frame is closed after linger.
func TestWebSocketLinger(t *testing.T) {
	inBubble(t, Options{Fanout: fanout.Options{GOPs: 1}}, func(t *testing.T, hub *stream.Hub, c *websocket.Conn) {
		p := publish(t, hub)
		p.Write(video(0, "key", true))
		p.Write(audio(0, "a"))
		readBinary(t, c)
		p.End(stream.Clean)
		start := time.Now()
		c.SetCloseHandler(func(int, string) error { return nil })
		readToClose(t, c)
		_, _ = c.NetConn().Read(make([]byte, 1))
		if took := time.Since(start); took != time.Second {
			t.Errorf("closed after %v", took)
		}
	})
}

// TestWebSocketFlood: viewers send endless control frames and empty fragments. Few pings get a
// reply, and then the connection is closed.
func TestWebSocketFlood(t *testing.T) {
	hub, srv := newTestServer(t, false)
	p := publish(t, hub)
	p.Write(video(0, "key", true))
	p.Write(audio(0, "a"))
	for name, send := range map[string][]byte{
		"pings":           bytes.Repeat(frame(0x89, nil), 40_000),
		"pongs":           bytes.Repeat(frame(0x8a, []byte("x")), 40_000),
		"empty fragments": append(frame(0x02, nil), bytes.Repeat(frame(0x00, nil), 40_000)...),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := dial(t, srv, "/live/movie.flv")
			readBinary(t, c)
			start, pongs := time.Now(), 0
			c.SetPongHandler(func(string) error {
				pongs++
				return nil
			})
			sent := make(chan struct{})
			go func() {
				defer close(sent)
				c.NetConn().Write(send) // the server may have closed before the end
			}()
			if _, end := readToClose(t, c); end.Code != websocket.ClosePolicyViolation {
				t.Errorf("closed by %v", end)
			}
			if most := maxPongs * (2 + int(time.Since(start).Seconds())); pongs > most {
				t.Errorf("%d pongs, want at most %d", pongs, most)
			}
			c.Close()
			<-sent
		})
	}
}
