package bench

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"livego/internal/container/amf0"
	"livego/internal/container/flv"
	"livego/internal/proto/rtmp"
)

// A receivedMessage is what a client reports for a message.
type receivedMessage struct {
	typ    uint8
	time   uint32
	size   int
	mark   marker
	intact bool
}

// An exchange is what a server sends to one viewer, and what the viewer's client must report.
type exchange struct {
	name   string
	url    string
	bytes  []byte
	events int
	err    string // the error at the end
	reply  []string
}

const okResponse = "HTTP/1.1 200 OK\r\nContent-Type: video/x-flv\r\n\r\n"

// exchanges is the table of all clients; it also seeds the fuzzer.
func exchanges(tb testing.TB) []exchange {
	src, err := synthesize(400_000, 10, time.Second)
	if err != nil {
		tb.Fatal(err)
	}
	file := recordFLV(src, 1500*time.Millisecond)
	n := 0
	for r := flv.NewReader(bytes.NewReader(file), maxFileTag); ; n++ {
		if _, err := r.Next(); err != nil {
			break
		}
	}
	const http, ws, play = "http://h/live/x.flv", "ws://h/live/x.flv", "rtmp://h/live/x?token=t"
	return []exchange{
		{"flv", http, append([]byte(okResponse), file...), n, "", []string{"GET /live/x.flv HTTP/1.1\r\nHost: h\r\n"}},
		{"flv in chunks", http, append([]byte("HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n"), httpChunks(file)...),
			n, io.EOF.Error(), nil},
		{"flv by websocket", ws, append([]byte("HTTP/1.1 101 Switching Protocols\r\n\r\n"), webSocketFrames(file)...), n,
			io.EOF.Error(),
			[]string{"Upgrade: websocket", "\x8a\x82\x00\x00\x00\x00hi"}},
		{"not found", http, []byte("HTTP/1.1 404 Not Found\r\n\r\n"), 0, `HTTP response "404 Not Found"`, nil},
		{"no flv", http, []byte(okResponse + "<html><body>"), 0, errNotFLV.Error(), nil},
		{"bad chunk", http, []byte("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n"), 0,
			`invalid chunked coding: chunk size "xyz\r"`, nil},
		{"rtmp", play, rtmpExchange(file, 4096), n, "",
			[]string{"connect", "rtmp://h/live", "createStream", "x?token=t", "\x00\x07\x00\x00\x00\x2a"}},
		{"rtmp in small chunks", play, rtmpExchange(file, 128), n, "", nil},
		{"rtmp refused", play, append(handshake(), encodeCommand(20, "onStatus", 0, nil, amf0.Object{
			{Key: "level", Value: "error"}, {Key: "code", Value: "NetStream.Play.StreamNotFound"},
			{Key: "description", Value: "no"},
		})...), 0, "refused: NetStream.Play.StreamNotFound no", nil},
		{"rtmp ends", play, append(handshake(), encodeMessage(rtmp.Header{Type: 4}, []byte{0, 1, 0, 0, 0, 1})...), 0,
			io.EOF.Error(), nil},
		{"rtmp unknown chunk stream", play, append(handshake(), 0xC4), 0, "invalid RTMP chunk: unknown chunk stream", nil},
		{"rtmp chunk header forms", play, append(handshake(), audioInAllHeaderForms()...), 5, "", nil},
	}
}

// httpChunks splits b into HTTP chunks of growing size.
func httpChunks(b []byte) (out []byte) {
	for n := 1; len(b) > 0; n = n*3 + 1 {
		n := min(n, len(b))
		out = fmt.Appendf(out, "%x;x=y\r\n%s\r\n", n, b[:n])
		b = b[n:]
	}
	return append(out, "0\r\n\r\n"...)
}

// webSocketFrames splits b into WebSocket frames of every length format, with pings between and a
// close at the end.
func webSocketFrames(b []byte) (out []byte) {
	for _, n := range []int{1, 100, 200, 70000, len(b)} {
		n := min(n, len(b))
		switch {
		case n < 126:
			out = append(out, 0x82, byte(n))
		case n < 1<<16:
			out = binary.BigEndian.AppendUint16(append(out, 0x82, 126), uint16(n))
		default:
			out = binary.BigEndian.AppendUint64(append(out, 0x82, 127), uint64(n))
		}
		out = append(out, b[:n]...)
		out = append(out, 0x89, 2, 'h', 'i')
		b = b[n:]
	}
	return append(out, 0x88, 0)
}

func handshake() []byte {
	b := make([]byte, 1+2*rtmpHandshake)
	b[0] = 3
	return b
}

func encodeMessage(h rtmp.Header, body []byte) []byte {
	return bytes.Join(rtmp.AppendMessage(nil, h, body), nil)
}

// encodeCommand returns a command in one chunk, after raising the chunk size.
func encodeCommand(typ uint8, values ...any) []byte {
	b := encodeMessage(rtmp.Header{Type: rtmpSetChunkSize}, []byte{0, 0, 0x10, 0})
	return append(b, encodeMessage(rtmp.Header{Type: typ}, amf0.Append(nil, values...))...)
}

// rtmpExchange returns a whole session that plays file, in chunks of that size.
func rtmpExchange(file []byte, chunk int) []byte {
	b := append(handshake(), encodeCommand(20, "_result", 1, nil,
		amf0.Object{{Key: "code", Value: "NetConnection.Connect.Success"}})...)
	b = append(b, encodeMessage(rtmp.Header{Type: rtmpWindowAck}, []byte{0, 0, 0x80, 0})...)
	b = append(b, encodeMessage(rtmp.Header{Type: 20}, amf0.Append(nil, "_result", 2, nil, 1))...)
	b = append(b, encodeMessage(rtmp.Header{Type: 4}, []byte{0, 6, 0, 0, 0, 42})...)
	b = append(b, encodeMessage(rtmp.Header{Type: rtmpSetChunkSize}, binary.BigEndian.AppendUint32(nil, uint32(chunk)))...)
	r := flv.NewReader(bytes.NewReader(file), maxFileTag)
	for {
		tag, err := r.Next()
		if err != nil {
			return b
		}
		b = append(b, 0x40|3, 0, 0, 0) // type 1 first, on a new chunk stream
		b[len(b)-4] = tag.Type&3 | 0x04
		b = append(b[:len(b)-3], byte(tag.Timestamp>>16), byte(tag.Timestamp>>8), byte(tag.Timestamp))
		b = append(b, byte(len(tag.Body)>>16), byte(len(tag.Body)>>8), byte(len(tag.Body)), tag.Type, 1, 0, 0, 0)
		for i := 0; i < len(tag.Body); i += chunk {
			if i > 0 {
				b = append(b, 0xC0|tag.Type&3|0x04)
			}
			b = append(b, tag.Body[i:min(i+chunk, len(tag.Body))]...)
		}
	}
}

// audioInAllHeaderForms returns audio messages in each form of chunk header: two and three byte
// basic headers, timestamp deltas, extended timestamp.
func audioInAllHeaderForms() []byte {
	return slices.Concat(
		[]byte{0x00, 10, 0, 0, 5, 0, 0, 1, 8, 1, 0, 0, 0, 0xFF},                        // type 0, at 5
		[]byte{0x40, 10, 0, 0, 7, 0, 0, 1, 8, 0xFF},                                    // type 1, at 12
		[]byte{0x80, 10, 0, 0, 8, 0xFF},                                                // type 2, at 20
		[]byte{0xC0, 10, 0xFF},                                                         // type 3, at 28
		[]byte{0x01, 1, 2, 0xFF, 0xFF, 0xFF, 0, 0, 1, 8, 1, 0, 0, 0, 1, 0, 0, 0, 0xFF}, // type 0, at 2^24
	)
}

// feed passes b to a viewer's client in steps of that many bytes.
func (c exchange) feed(tb testing.TB, b []byte, step int) (events []receivedMessage, reply []byte, err error) {
	tb.Helper()
	t, err := parseTarget(c.url)
	if err != nil {
		tb.Fatal(err)
	}
	v := newViewer(t, &measurement{}, newViewerStats(), nil, true)
	see := func(m *message) {
		events = append(events, receivedMessage{m.typ, m.time, m.size, m.mark, m.hasMarker && m.sum == m.mark.sum})
	}
	switch w := v.client.(type) {
	case *httpClient:
		w.flv.deliver = see
	case *rtmpClient:
		w.deliver = see
	}
	reply = bytes.Clone(v.client.open())
	for len(b) > 0 && err == nil {
		n := min(step, len(b))
		var more []byte
		more, err = v.client.feed(bytes.Clone(b[:n]))
		reply, b = append(reply, more...), b[n:]
	}
	return events, reply, err
}

// TestClientsReadPiecesOfAnySize checks that each client reports the same messages whatever pieces
// they arrive in.
func TestClientsReadPiecesOfAnySize(t *testing.T) {
	for _, c := range exchanges(t) {
		t.Run(c.name, func(t *testing.T) {
			var first []receivedMessage
			for i, step := range []int{len(c.bytes), 1, 7, 64, 1460, 40000} {
				events, reply, err := c.feed(t, c.bytes, step)
				if got := fmt.Sprint(err); got != c.err && (err != nil || c.err != "") {
					t.Fatalf("in steps of %d: error %v, want %q", step, err, c.err)
				}
				if len(events) != c.events {
					t.Fatalf("in steps of %d: %d messages, want %d", step, len(events), c.events)
				}
				if i == 0 {
					first = events
				}
				if !slices.Equal(events, first) {
					t.Errorf("in steps of %d: not the messages of one piece", step)
				}
				for _, want := range c.reply {
					if !bytes.Contains(reply, []byte(want)) {
						t.Errorf("in steps of %d: did not send %q", step, want)
					}
				}
			}
			for _, e := range first {
				if e.mark.seq > 0 && (!e.intact || e.mark.sent != int64(e.mark.seq-1)*1e8) {
					t.Errorf("frame %d: intact %t, sent at %d", e.mark.seq, e.intact, e.mark.sent)
				}
			}
		})
	}
}

func TestChunkHeaders(t *testing.T) {
	c := exchange{url: "rtmp://h/live/x"}
	events, _, err := c.feed(t, append(handshake(), audioInAllHeaderForms()...), 1)
	var times []uint32
	for _, e := range events {
		times = append(times, e.time)
	}
	if want := []uint32{5, 12, 20, 28, 1 << 24}; err != nil || !slices.Equal(times, want) {
		t.Errorf("times %v, %v; want %v", times, err, want)
	}
}

// FuzzClients searches bytes that a client reports differently when they arrive in pieces.
func FuzzClients(f *testing.F) {
	for _, c := range exchanges(f) {
		f.Add(c.url, c.bytes[:min(len(c.bytes), 8<<10)], uint16(7))
	}
	f.Fuzz(func(t *testing.T, url string, b []byte, step uint16) {
		target, err := parseTarget(url)
		if err != nil || step == 0 || target.proto == HLS || target.proto == tcp {
			return
		}
		c := exchange{url: url}
		whole, _, err1 := c.feed(t, b, max(len(b), 1))
		pieces, _, err2 := c.feed(t, b, int(step))
		if !slices.Equal(whole, pieces) || (err1 == nil) != (err2 == nil) && !errors.Is(err1, io.EOF) &&
			!errors.Is(err2, io.EOF) {
			t.Errorf("in one piece %d messages and %v, in steps of %d %d and %v", len(whole), err1, step, len(pieces), err2)
		}
	})
}

// midStreamViewer returns a viewer in the middle of a stream, and the bytes of one second of it,
// which can be fed repeatedly.
func midStreamViewer(tb testing.TB, url string) (*viewer, []byte) {
	src, err := synthesize(2_670_000, 30, time.Second)
	if err != nil {
		tb.Fatal(err)
	}
	file := recordFLV(src, time.Second)
	target, err := parseTarget(url)
	if err != nil {
		tb.Fatal(err)
	}
	v := newViewer(target, &measurement{clock: newClock()}, newViewerStats(), nil, false)
	first, second := append([]byte(okResponse), file[:13]...), file[13:]
	if target.proto == RTMP {
		first = rtmpExchange(nil, 4096)
		second = rtmpExchange(file, 4096)[len(first):]
	}
	if _, err := v.receive(append(first, second...)); err != nil {
		tb.Fatal(err)
	}
	return v, second
}

// TestReceiveDoesNotAllocate checks the path that thousands of viewers share.
func TestReceiveDoesNotAllocate(t *testing.T) {
	for _, url := range []string{"http://h/live/x.flv", "rtmp://h/live/x"} {
		v, b := midStreamViewer(t, url)
		if r, ok := v.client.(*rtmpClient); ok {
			r.window = 0 // an acknowledgement may allocate every few seconds
		}
		if n := testing.AllocsPerRun(10, func() {
			if _, err := v.receive(b); err != nil {
				t.Fatal(err)
			}
		}); n != 0 {
			t.Errorf("%s: %v allocations a second of stream", url, n)
		}
	}
}

// BenchmarkReceive measures the cost of one second of stream for one viewer, without the kernel.
func BenchmarkReceive(b *testing.B) {
	for _, url := range []string{"http://h/live/x.flv", "rtmp://h/live/x"} {
		b.Run(url[:4], func(b *testing.B) {
			v, second := midStreamViewer(b, url)
			b.SetBytes(int64(len(second)))
			for b.Loop() {
				if _, err := v.receive(second); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// responses are HTTP responses in the forms that servers use.
var responses = []struct {
	name, text, body string
	close            bool
	err              string
}{
	{name: "length", text: "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", body: "hello"},
	{name: "lower case", text: "HTTP/1.1 200 OK\r\ncontent-length:5\r\nconnection: Close\r\n\r\nhello", body: "hello",
		close: true},
	{name: "empty", text: "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"},
	{name: "chunks", text: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n",
		body: "hello"},
	{name: "after chunks", text: "\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx", body: "x"},
	{name: "refused", text: "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", err: `HTTP response "404 Not Found"`},
	{name: "no length", text: "HTTP/1.1 200 OK\r\n\r\n", err: "invalid HTTP response: unknown length"},
	{name: "bad length", text: "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
		err: `invalid HTTP response: Content-Length "-1"`},
	{name: "too much", text: "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nxy",
		err: "invalid HTTP response: longer than its Content-Length"},
	{name: "endless", text: "HTTP/1.1 200 OK\r\n" + strings.Repeat("x", maxHTTPHead),
		err: "HTTP response head too long"},
}

// readResponse reads text in pieces of n bytes, up to the end of the response.
func readResponse(text string, n int) (body string, closes bool, err error) {
	var a responseReader
	for len(text) > 0 {
		k := min(n, len(text))
		whole, err := a.feed([]byte(text[:k]), func(p []byte) error { body += string(p); return nil })
		if text = text[k:]; whole || err != nil {
			return body, a.close, err
		}
	}
	return body, false, io.ErrUnexpectedEOF
}

func TestResponseReader(t *testing.T) {
	for _, tt := range responses {
		for _, n := range []int{1, 7, 1 << 20} {
			body, closes, err := readResponse(tt.text, n)
			if tt.name == "too much" && n == 1 { // the rest belongs to the next response
				continue
			}
			if got := fmt.Sprint(err); err != nil && got != tt.err || err == nil &&
				(tt.err != "" || body != tt.body || closes != tt.close) {
				t.Errorf("%s in pieces of %d: %q, closes %v, %v", tt.name, n, body, closes, err)
			}
		}
	}
}

// FuzzResponseReader checks that the body does not depend on the size of the pieces.
func FuzzResponseReader(f *testing.F) {
	for _, tt := range responses {
		f.Add(tt.text, 3)
	}
	f.Fuzz(func(t *testing.T, text string, n int) {
		if n < 1 || len(text) > 1<<16 {
			return
		}
		whole, _, err := readResponse(text, 1)
		pieces, _, perr := readResponse(text, n)
		if err == nil && perr == nil && whole != pieces {
			t.Errorf("%q byte by byte, %q in pieces of %d", whole, pieces, n)
		}
	})
}
