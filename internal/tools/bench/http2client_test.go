package bench

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

const (
	endHeaders = http2.FlagHeadersEndHeaders
	endStream  = http2.FlagDataEndStream
	padded     = http2.FlagHeadersPadded

	frameData    = http2.FrameData
	frameHeaders = http2.FrameHeaders
)

// h2Frame returns a frame.
func h2Frame(typ http2.FrameType, flags http2.Flags, stream uint32, payload ...byte) []byte {
	b := []byte{byte(len(payload) >> 16), byte(len(payload) >> 8), byte(len(payload)), byte(typ), byte(flags)}
	return append(binary.BigEndian.AppendUint32(b, stream), payload...)
}

// h2Fields returns a header section of names and values.
func h2Fields(list ...string) []byte {
	var b bytes.Buffer
	e := hpack.NewEncoder(&b)
	for i := 0; i < len(list); i += 2 {
		_ = e.WriteField(hpack.HeaderField{Name: list[i], Value: list[i+1]})
	}
	return b.Bytes()
}

func concat(frames ...[]byte) []byte { return bytes.Join(frames, nil) }

// http2Responses are what servers send, and what the client below HTTP/2 must be passed.
var http2Responses = []struct {
	name  string
	bytes []byte
	want  string
	err   string
	reply string // frame types
}{
	{
		name: "length", want: "HTTP/1.1 200 OK|Content-Length: 5||hello",
		bytes: concat(h2Frame(http2.FrameSettings, 0, 0), h2Frame(frameHeaders, endHeaders, 1, h2Fields(":status", "200",
			"content-length", "5")...), h2Frame(frameData, endStream, 1, []byte("hello")...)),
		reply: "4",
	},
	{
		name: "no length", want: "HTTP/1.1 200 OK|Transfer-Encoding: chunked||3|hel|2|lo|0||",
		bytes: concat(h2Frame(frameHeaders, endHeaders, 1, h2Fields(":status", "200")...),
			h2Frame(frameData, 0, 1, []byte("hel")...), h2Frame(frameData, 0, 1),
			h2Frame(frameData, endStream, 1, []byte("lo")...)),
	},
	{
		name: "padding, priority, continuation", want: "HTTP/1.1 200 OK|Content-Length: 2||hi",
		bytes: concat(h2Frame(frameHeaders, padded|http2.FlagHeadersPriority, 1, append(append([]byte{3, 0, 0, 0, 0, 9},
			h2Fields(":status", "200")...), 0, 0, 0)...),
			h2Frame(http2.FrameContinuation, endHeaders, 1, h2Fields("content-length", "2")...),
			h2Frame(frameData, padded|endStream, 1, 4, 'h', 'i', 0, 0, 0, 0)),
	},
	{
		name: "informational, trailers", want: "HTTP/1.1 200 OK|Transfer-Encoding: chunked||1|x|0||",
		bytes: concat(h2Frame(frameHeaders, endHeaders, 1, h2Fields(":status", "103")...),
			h2Frame(frameHeaders, endHeaders, 1, h2Fields(":status", "200")...), h2Frame(frameData, 0, 1, 'x'),
			h2Frame(frameHeaders, endHeaders|endStream, 1, h2Fields("x", "y")...)),
	},
	{
		name: "no body", want: "HTTP/1.1 404 Not Found|Content-Length: 0||",
		bytes: h2Frame(frameHeaders, endHeaders|endStream, 1, h2Fields(":status", "404")...),
	},
	{
		name: "another stream", want: "",
		bytes: concat(h2Frame(frameHeaders, endHeaders, 3, h2Fields(":status", "200")...),
			h2Frame(frameData, endStream, 3, 'x')),
	},
	{name: "ping", bytes: h2Frame(http2.FramePing, 0, 0, []byte("12345678")...), reply: "6"},
	{name: "reset", bytes: h2Frame(http2.FrameRSTStream, 0, 1, 0, 0, 0, 8),
		err: "the server reset the HTTP/2 stream: CANCEL"},
	{name: "goaway", bytes: h2Frame(http2.FrameGoAway, 0, 0, make([]byte, 8)...), err: errClosed.Error()},
	{name: "too long", bytes: []byte{0, 0x40, 1, 0, 0, 0, 0, 0, 1}, err: "invalid HTTP/2 frame: http2: frame too large"},
	{name: "bad padding", bytes: h2Frame(frameHeaders, padded|endHeaders, 1, 2, 0),
		err: "invalid HTTP/2 frame: stream error: stream ID 1; PROTOCOL_ERROR"},
	{name: "bad header", bytes: h2Frame(frameHeaders, endHeaders, 1, 0xff),
		err: "invalid HTTP/2 frame: connection error: COMPRESSION_ERROR"},
}

// A recorder is a client that records what it is passed.
type recorder struct {
	singleResponse
	got []byte
}

func (r *recorder) open() []byte { return []byte("GET /x?y HTTP/1.1\r\nHost: h:1\r\n\r\n") }
func (r *recorder) feed(p []byte) ([]byte, error) {
	r.got = append(r.got, p...)
	return nil, nil
}

// feedHTTP2 passes b to a new client in pieces of n bytes.
func feedHTTP2(b []byte, n int) (got string, replies string, err error) {
	r := &recorder{}
	h := newHTTP2Client(r)
	h.open()
	for len(b) > 0 && err == nil {
		k := min(n, len(b))
		var reply []byte
		reply, err = h.feed(bytes.Clone(b[:k]))
		for len(reply) > 0 {
			replies += fmt.Sprint(reply[3])
			reply = reply[h2FrameHeader+int(uint24(reply)):]
		}
		b = b[k:]
	}
	return string(r.got), replies, err
}

func TestHTTP2Client(t *testing.T) {
	first := newHTTP2Client(&recorder{}).open()
	if !bytes.HasPrefix(first, []byte(http2.ClientPreface)) || !bytes.Contains(first, []byte("/x?y")) && len(first) < 80 {
		t.Errorf("the client starts with %q", first)
	}
	for _, tt := range http2Responses {
		for _, n := range []int{1, 3, 1 << 20} {
			got, reply, err := feedHTTP2(tt.bytes, n)
			want := strings.ReplaceAll(tt.want, "|", "\r\n")
			if n == 1 && strings.Contains(want, "chunked") { // a chunk for each piece
				want, got = unchunk(t, want), unchunk(t, got)
			}
			if n == 3 && tt.name == "no length" {
				continue // the pieces are not those of the frames
			}
			if text := fmt.Sprint(err); got != want || reply != tt.reply || err != nil && text != tt.err ||
				err == nil && tt.err != "" {
				t.Errorf("%s in pieces of %d: passed %q, want %q; replies %q, %v", tt.name, n, got, want, reply, err)
			}
		}
	}
}

// unchunk returns the body of a response.
func unchunk(t *testing.T, response string) string {
	t.Helper()
	body, _, err := readResponse(response, len(response))
	if err != nil {
		t.Errorf("%q: %v", response, err)
	}
	return body
}

// FuzzHTTP2Client checks that the result does not depend on the size of the pieces.
func FuzzHTTP2Client(f *testing.F) {
	for _, tt := range http2Responses {
		f.Add(tt.bytes, 3)
	}
	f.Fuzz(func(t *testing.T, b []byte, n int) {
		if n < 1 || len(b) > 1<<16 {
			return
		}
		whole, replies, err1 := feedHTTP2(b, len(b)+1)
		pieces, others, err2 := feedHTTP2(b, n)
		if (err1 == nil) != (err2 == nil) || err1 == nil && replies != others {
			t.Fatalf("in one piece %q and %v, in pieces of %d %q and %v", replies, err1, n, others, err2)
		}
		if body, _, err := readResponse(whole, max(len(whole), 1)); err == nil && err1 == nil {
			if other, _, err := readResponse(pieces, max(len(pieces), 1)); err != nil && !errors.Is(err, io.ErrUnexpectedEOF) ||
				body != other {
				t.Errorf("body %q in one piece, %q in pieces of %d, %v", body, other, n, err)
			}
		}
	})
}
