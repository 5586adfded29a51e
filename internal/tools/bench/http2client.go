package bench

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/http"
	"strconv"

	"golang.org/x/net/http2/hpack"
)

// Frames of HTTP/2 (RFC 9113 section 6).
const (
	h2Data         = 0
	h2Headers      = 1
	h2Reset        = 3
	h2Settings     = 4
	h2Ping         = 6
	h2GoAway       = 7
	h2WindowUpdate = 8
	h2Continuation = 9

	h2EndStream  = 0x1
	h2Ack        = 0x1
	h2EndHeaders = 0x4
	h2Padded     = 0x8
	h2Priority   = 0x20

	h2FrameHeader = 9
	h2MaxFrame    = 16 << 10 // the default of SETTINGS_MAX_FRAME_SIZE
	h2MaxWindow   = 1<<31 - 1
	h2MaxHead     = 4 * h2MaxFrame // of all frames of a header section
	h2Replenish   = 1 << 20        // received bytes for which one WINDOW_UPDATE is sent

	h2HeaderTableSize = 1
	h2EnablePush      = 2
	h2InitialWindow   = 4
)

const h2Preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

// An http2Client is the HTTP/2 below a client that speaks HTTP/1.1: it translates requests and
// responses. It has one request at a time, and passes bodies on in the pieces that arrive.
type http2Client struct {
	inner client

	stream  uint32 // of the current request
	encoder *hpack.Encoder
	encoded bytes.Buffer
	decoder *hpack.Decoder
	out     []byte

	head    [h2FrameHeader]byte
	n       int // bytes of head
	left    int // bytes left of the frame
	payload []byte
	padding int // of a DATA frame; -1: not read yet

	block    []byte // the header section so far
	ends     bool   // the response ends with its header section
	chunked  bool   // the response has no Content-Length
	complete bool   // the response has ended
	scratch  []byte

	// Received bytes that no WINDOW_UPDATE has returned, of the connection and of the stream.
	unacked, streamUnacked uint32
}

func newHTTP2Client(inner client) *http2Client { return &http2Client{inner: inner} }

func (h *http2Client) open() []byte {
	*h = http2Client{inner: h.inner, decoder: hpack.NewDecoder(4096, nil)}
	h.encoder = hpack.NewEncoder(&h.encoded)
	h.out = append(h.out, h2Preface...)
	settings := []byte{0, h2EnablePush, 0, 0, 0, 0}
	settings = binary.BigEndian.AppendUint32(append(settings, 0, h2InitialWindow), h2MaxWindow)
	h.writeFrame(h2Settings, 0, 0, settings)
	h.writeFrame(h2WindowUpdate, 0, 0, binary.BigEndian.AppendUint32(nil, h2MaxWindow-(1<<16-1)))
	h.writeRequest(h.inner.open())
	return h.flush()
}

func (h *http2Client) resume() []byte {
	h.writeRequest(h.inner.resume())
	return h.flush()
}

func (h *http2Client) closed(err error) error { return h.inner.closed(err) }

// flush returns the bytes to send.
func (h *http2Client) flush() []byte {
	out := h.out
	h.out = h.out[:0]
	return out
}

func (h *http2Client) writeFrame(typ, flags byte, stream uint32, payload []byte) {
	h.out = append(h.out, byte(len(payload)>>16), byte(len(payload)>>8), byte(len(payload)), typ, flags)
	h.out = append(binary.BigEndian.AppendUint32(h.out, stream), payload...)
}

// writeRequest writes a GET request in the form of HTTP/1.1, as the clients of this package send it.
func (h *http2Client) writeRequest(request []byte) {
	line, rest, _ := bytes.Cut(request, []byte("\r\n"))
	path, _, _ := bytes.Cut(bytes.TrimPrefix(line, []byte("GET ")), []byte(" "))
	host, _, _ := bytes.Cut(bytes.TrimPrefix(rest, []byte("Host: ")), []byte("\r\n"))
	h.encoded.Reset()
	for _, f := range [...]hpack.HeaderField{
		{Name: ":method", Value: http.MethodGet}, {Name: ":scheme", Value: "https"},
		{Name: ":authority", Value: string(host)}, {Name: ":path", Value: string(path)},
		{Name: "user-agent", Value: "livego-bench"},
	} {
		_ = h.encoder.WriteField(f) // writes to memory
	}
	h.stream += 2
	if h.stream == 2 { // the first
		h.stream = 1
	}
	h.complete, h.streamUnacked = false, 0
	h.writeFrame(h2Headers, h2EndStream|h2EndHeaders, h.stream, h.encoded.Bytes())
}

func (h *http2Client) feed(p []byte) ([]byte, error) {
	for len(p) > 0 {
		if h.n < h2FrameHeader {
			n := copy(h.head[h.n:], p)
			h.n += n
			p = p[n:]
			if h.n < h2FrameHeader {
				break
			}
			if err := h.startFrame(); err != nil {
				return nil, err
			}
			if h.left > 0 && len(p) == 0 {
				break
			}
		}
		n := min(h.left, len(p))
		if err := h.readPayload(p[:n]); err != nil {
			return nil, err
		}
		p = p[n:]
	}
	return h.flush(), nil
}

// startFrame prepares for the payload of the frame of h.head.
func (h *http2Client) startFrame() error {
	h.left = int(uint24(h.head[:]))
	if h.left > h2MaxFrame {
		return fmt.Errorf("invalid HTTP/2 frame: %d bytes", h.left)
	}
	h.payload, h.padding = h.payload[:0], 0
	if h.typ() == h2Data {
		h.unacked += uint32(h.left)
		if h.isCurrent() {
			h.streamUnacked += uint32(h.left)
		}
		if h.flag(h2Padded) {
			h.padding = -1
		}
	}
	return nil
}

func (h *http2Client) typ() byte           { return h.head[3] }
func (h *http2Client) flag(flag byte) bool { return h.head[4]&flag != 0 }

// readPayload processes a piece of a frame's payload, and the frame if it is complete.
func (h *http2Client) readPayload(p []byte) error {
	h.left -= len(p)
	if h.typ() == h2Data {
		if err := h.readData(p); err != nil {
			return err
		}
	} else {
		h.payload = append(h.payload, p...)
	}
	if h.left > 0 {
		return nil
	}
	h.n = 0
	return h.endFrame()
}

// readData passes a piece of a DATA frame to the inner client.
func (h *http2Client) readData(p []byte) error {
	if h.padding < 0 && len(p) > 0 {
		h.padding, p = int(p[0]), p[1:]
	}
	p = p[:max(0, len(p)-max(0, h.padding-h.left))]
	if len(p) == 0 || h.complete || !h.isCurrent() {
		return nil
	}
	if !h.chunked {
		return h.pass(p)
	}
	h.scratch = append(strconv.AppendInt(h.scratch[:0], int64(len(p)), 16), "\r\n"...)
	if err := h.pass(h.scratch); err != nil {
		return err
	}
	if err := h.pass(p); err != nil {
		return err
	}
	return h.pass([]byte("\r\n"))
}

// isCurrent reports whether the frame belongs to the current request. The end of the one before may
// come after its body.
func (h *http2Client) isCurrent() bool {
	return binary.BigEndian.Uint32(h.head[5:])&h2MaxWindow == h.stream
}

// pass passes bytes of HTTP/1.1 to the inner client and sends its next request.
func (h *http2Client) pass(p []byte) error {
	request, err := h.inner.feed(p)
	if err == nil && len(request) > 0 {
		h.writeRequest(request)
	}
	return err
}

// endFrame processes a complete frame.
func (h *http2Client) endFrame() error {
	switch h.typ() {
	case h2Data:
		return h.endData()
	case h2Headers, h2Continuation:
		return h.readHeaders()
	case h2Settings:
		if !h.flag(h2Ack) {
			h.applySettings()
			h.writeFrame(h2Settings, h2Ack, 0, nil)
		}
	case h2Ping:
		if !h.flag(h2Ack) {
			h.writeFrame(h2Ping, h2Ack, 0, h.payload)
		}
	case h2Reset:
		if h.isCurrent() && !h.complete {
			return fmt.Errorf("the server reset the HTTP/2 stream: error code %x", h.payload)
		}
	case h2GoAway:
		return h.inner.closed(errClosed)
	}
	return nil
}

// endData replenishes the flow-control windows, and ends the response with its last frame.
func (h *http2Client) endData() error {
	h.returnCredit(0, &h.unacked)
	if h.isCurrent() && !h.flag(h2EndStream) {
		h.returnCredit(h.stream, &h.streamUnacked)
	}
	if h.flag(h2EndStream) && h.isCurrent() && !h.complete {
		return h.endResponse()
	}
	return nil
}

// returnCredit sends a WINDOW_UPDATE when enough bytes have been received.
func (h *http2Client) returnCredit(stream uint32, received *uint32) {
	if *received >= h2Replenish {
		h.scratch = binary.BigEndian.AppendUint32(h.scratch[:0], *received)
		h.writeFrame(h2WindowUpdate, 0, stream, h.scratch)
		*received = 0
	}
}

// endResponse ends a response without Content-Length.
func (h *http2Client) endResponse() error {
	h.complete = true
	if h.chunked {
		return h.pass([]byte("0\r\n\r\n"))
	}
	return nil
}

func (h *http2Client) applySettings() {
	for p := h.payload; len(p) >= 6; p = p[6:] {
		if binary.BigEndian.Uint16(p) == h2HeaderTableSize {
			h.encoder.SetMaxDynamicTableSizeLimit(binary.BigEndian.Uint32(p[2:]))
		}
	}
}

// readHeaders reads a HEADERS or CONTINUATION frame, and passes the head of the response on when it
// is complete.
func (h *http2Client) readHeaders() error {
	p := h.payload
	if h.typ() == h2Headers {
		h.block, h.ends = h.block[:0], h.flag(h2EndStream)
		skip, padding := 0, 0
		if h.flag(h2Padded) && len(p) > 0 {
			skip, padding = 1, int(p[0])
		}
		if h.flag(h2Priority) {
			skip += 5
		}
		if skip+padding > len(p) {
			return fmt.Errorf("invalid HTTP/2 HEADERS frame: %d bytes", len(p))
		}
		p = p[skip : len(p)-padding]
	}
	if h.block = append(h.block, p...); len(h.block) > h2MaxHead {
		return fmt.Errorf("invalid HTTP/2 header section: longer than %d bytes", h2MaxHead)
	}
	if !h.flag(h2EndHeaders) {
		return nil
	}
	fields, err := h.decoder.DecodeFull(h.block)
	if err != nil {
		return fmt.Errorf("invalid HTTP/2 header section: %w", err)
	}
	if !h.isCurrent() || h.complete {
		return nil
	}
	return h.startResponse(fields)
}

// startResponse passes the head of the response on. A trailer section ends the response.
func (h *http2Client) startResponse(fields []hpack.HeaderField) error {
	status, length := 0, ""
	for _, f := range fields {
		switch f.Name {
		case ":status":
			status, _ = strconv.Atoi(f.Value)
		case "content-length":
			length = f.Value
		}
	}
	if status == 0 && h.ends {
		return h.endResponse()
	}
	if status < http.StatusOK { // informational
		return nil
	}
	head := fmt.Appendf(nil, "HTTP/1.1 %d %s\r\n", status, http.StatusText(status))
	h.chunked = false
	switch {
	case length != "":
		head = fmt.Appendf(head, "Content-Length: %s\r\n\r\n", length)
	case h.ends:
		head = append(head, "Content-Length: 0\r\n\r\n"...)
	default:
		h.chunked = true
		head = append(head, "Transfer-Encoding: chunked\r\n\r\n"...)
	}
	h.complete = h.ends
	return h.pass(head)
}
