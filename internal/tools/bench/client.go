package bench

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// A client is the viewer's side of a protocol. It is fed received bytes in pieces of any size, and
// buffers as little of them as possible.
type client interface {
	// open returns the first bytes to send on a new connection.
	open() []byte
	// feed processes received bytes and returns the bytes to reply, usually none. It does not keep
	// p. io.EOF is the end of the stream.
	feed(p []byte) (reply []byte, err error)
	// closed returns errReconnect if the viewer continues after its connection failed with err, and
	// err if not.
	closed(err error) error
	// resume returns the bytes to send when the pause until viewer.resumeAt is over.
	resume() []byte
}

// A singleResponse is the part of a client that plays one endless response: it neither pauses nor
// continues on another connection.
type singleResponse struct{}

func (singleResponse) closed(err error) error { return err }
func (singleResponse) resume() []byte         { return nil }

// onMessage is called for each message when its last byte has arrived. m is valid until it returns.
type onMessage func(m *message)

const (
	flvFileHeader = 9
	flvTagHeader  = 11
	flvTagSize    = 4
)

// An flvParser reads FLV tags.
type flvParser struct {
	deliver    onMessage
	msg        message
	headerRead bool
	inBody     bool // reading a tag's body
	n          int
	head       [flvTagSize + flvTagHeader]byte // PreviousTagSize and tag header, or file header
}

var errNotFLV = errors.New("the response is not an FLV stream")

func (f *flvParser) feed(p []byte) error {
	for len(p) > 0 {
		if f.inBody {
			n := min(f.msg.left, len(p))
			f.msg.write(p[:n])
			p = p[n:]
			f.endBody()
			continue
		}
		want := len(f.head)
		if !f.headerRead {
			want = flvFileHeader
		}
		n := copy(f.head[f.n:want], p)
		f.n += n
		p = p[n:]
		if f.n < want {
			return nil
		}
		f.n = 0
		if !f.headerRead {
			if !bytes.HasPrefix(f.head[:], []byte("FLV\x01")) {
				return errNotFLV
			}
			f.headerRead = true
			continue
		}
		h := f.head[flvTagSize:]
		size := int(binary.BigEndian.Uint32(h) & 0xFFFFFF)
		f.msg.start(h[0], binary.BigEndian.Uint32(h[3:])&0xFFFFFF|uint32(h[7])<<24, size)
		f.inBody = true
		f.endBody()
	}
	return nil
}

func (f *flvParser) endBody() {
	if f.msg.left == 0 {
		f.inBody = false
		f.deliver(&f.msg)
	}
}

// maxHTTPHead is the longest accepted head of an HTTP response, in bytes.
const maxHTTPHead = 16 << 10

// An httpClient requests a stream by HTTP or WebSocket and extracts it from the response.
type httpClient struct {
	singleResponse
	flv      flvParser
	request  []byte
	response responseReader
	ws       wsDecoder
}

// newHTTPClient returns the client of a viewer of t.
func newHTTPClient(t *target, sums bool, deliver onMessage) *httpClient {
	host, path, status := t.host, t.path, "200"
	var b strings.Builder
	fmt.Fprintf(&b, "GET %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: livego-bench\r\n", path, host)
	if t.proto == WS { // the key is any 16 bytes in base64 (RFC 6455 section 4.1)
		status = "101"
		b.WriteString("Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " +
			"bGl2ZWdvLWJlbmNoLi4uLg==\r\n")
	}
	b.WriteString("\r\n")
	return &httpClient{flv: flvParser{deliver: deliver, msg: message{sums: sums}}, request: []byte(b.String()),
		response: responseReader{stream: status}}
}

func (h *httpClient) open() []byte { return h.request }

func (h *httpClient) feed(p []byte) (reply []byte, err error) {
	body := h.flv.feed
	if h.response.stream == "101" {
		body = func(p []byte) (err error) {
			reply, err = h.ws.feed(p, h.flv.feed)
			return err
		}
	}
	whole, err := h.response.feed(p, body)
	if err == nil && whole {
		err = io.EOF
	}
	return reply, err
}

// A chunkedDecoder decodes the chunked transfer coding (RFC 9112 section 7.1).
type chunkedDecoder struct {
	left int // bytes left of a chunk and the line break after it
	line []byte
}

// feed decodes p. The error is io.EOF at the end.
func (c *chunkedDecoder) feed(p []byte, stream func([]byte) error) error {
	const lineEnd = 2
	for len(p) > 0 {
		if c.left > 0 {
			n := min(c.left, len(p))
			if data := min(n, c.left-lineEnd); data > 0 {
				if err := stream(p[:data]); err != nil {
					return err
				}
			}
			c.left -= n
			p = p[n:]
			continue
		}
		n := bytes.IndexByte(p, '\n')
		if n < 0 {
			c.line = append(c.line, p...)
			if len(c.line) > maxHTTPHead {
				return errors.New("invalid chunked coding: no chunk size")
			}
			return nil
		}
		text, _, _ := strings.Cut(string(append(c.line, p[:n]...)), ";")
		size, err := strconv.ParseUint(strings.TrimSpace(text), 16, 31)
		if err != nil {
			return fmt.Errorf("invalid chunked coding: chunk size %q", text)
		}
		if size == 0 {
			return io.EOF
		}
		c.line, c.left, p = c.line[:0], int(size)+lineEnd, p[n+1:]
	}
	return nil
}

// A wsDecoder decodes WebSocket frames of a server (RFC 6455 section 5.2).
type wsDecoder struct {
	head [10]byte
	n    int
	left uint64
	op   byte
	ping []byte
}

const (
	wsClose = 8
	wsPing  = 9
	wsPong  = 10
)

func (w *wsDecoder) feed(p []byte, stream func([]byte) error) (reply []byte, err error) {
	for len(p) > 0 {
		if w.left == 0 {
			w.head[w.n] = p[0]
			w.n++
			p = p[1:]
			if w.n < 2 || w.n < w.headerSize() {
				continue
			}
			if err := w.readHeader(); err != nil {
				return reply, err
			}
		}
		n := min(w.left, uint64(len(p)))
		switch {
		case w.op == wsPing:
			w.ping = append(w.ping, p[:n]...)
		case w.op < wsClose:
			err = stream(p[:n])
		}
		if err != nil {
			return reply, err
		}
		w.left -= n
		p = p[n:]
		if w.left == 0 && w.op == wsPing {
			// The masking key may have any value, and zeros leave the payload as it is.
			reply = append(append(reply, 0x80|wsPong, 0x80|byte(len(w.ping)), 0, 0, 0, 0), w.ping...)
			w.ping = w.ping[:0]
		}
	}
	return reply, nil
}

// headerSize returns the length of the frame header that starts with w.head.
func (w *wsDecoder) headerSize() int {
	switch w.head[1] & 0x7F {
	case 126:
		return 4
	case 127:
		return 10
	}
	return 2
}

// readHeader reads a complete frame header.
func (w *wsDecoder) readHeader() error {
	w.op = w.head[0] & 0xF
	switch w.n {
	case 4:
		w.left = uint64(binary.BigEndian.Uint16(w.head[2:]))
	case 10:
		w.left = binary.BigEndian.Uint64(w.head[2:])
	default:
		w.left = uint64(w.head[1] & 0x7F)
	}
	w.n = 0
	switch {
	case w.head[1]&0x80 != 0:
		return errors.New("invalid WebSocket frame: masked by the server")
	case w.op == wsClose:
		return io.EOF
	case w.op == wsPing && w.left > 125:
		return errors.New("invalid WebSocket ping: above 125 bytes")
	}
	return nil
}
