package bench

import (
	"bytes"
	"fmt"
	"net/http"
	"strconv"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

const (
	h2FrameHeader = 9
	h2MaxFrame    = 16 << 10 // the default of SETTINGS_MAX_FRAME_SIZE
	h2MaxWindow   = 1<<31 - 1
	h2MaxHead     = 4 * h2MaxFrame // of all frames of a header section
	h2Replenish   = 1 << 20        // received bytes for which one WINDOW_UPDATE is sent
)

// An http2Client is the HTTP/2 below a client that speaks HTTP/1.1: it translates requests and
// responses. It has one request at a time. Its writes to framer, encoder and buffers do not fail:
// they write to memory.
type http2Client struct {
	inner client

	in, out bytes.Buffer
	framer  *http2.Framer // reads complete frames from in, and writes to out
	encoder *hpack.Encoder
	encoded bytes.Buffer

	stream   uint32 // of the current request
	chunked  bool   // the response has no Content-Length
	complete bool   // the response has ended

	// Received bytes that no WINDOW_UPDATE has returned, of the connection and of the stream.
	unacked, streamUnacked uint32
}

func newHTTP2Client(inner client) *http2Client { return &http2Client{inner: inner} }

func (h *http2Client) open() []byte {
	*h = http2Client{inner: h.inner}
	h.framer = http2.NewFramer(&h.out, &h.in)
	h.framer.SetReuseFrames()
	h.framer.SetMaxReadFrameSize(h2MaxFrame)
	h.framer.ReadMetaHeaders, h.framer.MaxHeaderListSize = hpack.NewDecoder(4096, nil), h2MaxHead
	h.encoder = hpack.NewEncoder(&h.encoded)
	h.out.WriteString(http2.ClientPreface)
	_ = h.framer.WriteSettings(http2.Setting{ID: http2.SettingEnablePush, Val: 0},
		http2.Setting{ID: http2.SettingInitialWindowSize, Val: h2MaxWindow})
	_ = h.framer.WriteWindowUpdate(0, h2MaxWindow-(1<<16-1))
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
	out := h.out.Bytes()
	h.out.Reset()
	return out
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
		_ = h.encoder.WriteField(f)
	}
	h.stream += 2
	if h.stream == 2 { // the first
		h.stream = 1
	}
	h.complete, h.streamUnacked = false, 0
	_ = h.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: h.stream, BlockFragment: h.encoded.Bytes(),
		EndStream: true, EndHeaders: true})
}

func (h *http2Client) feed(p []byte) ([]byte, error) {
	h.in.Write(p)
	for h.hasFrame() {
		f, err := h.framer.ReadFrame()
		if err != nil {
			return nil, fmt.Errorf("invalid HTTP/2 frame: %w", err)
		}
		if err := h.handleFrame(f); err != nil {
			return nil, err
		}
	}
	return h.flush(), nil
}

// hasFrame reports whether a frame is complete, a HEADERS frame with those that continue it, or can
// be rejected.
func (h *http2Client) hasFrame() bool {
	b := h.in.Bytes()
	for at := 0; len(b)-at >= h2FrameHeader; {
		typ, flags, size := http2.FrameType(b[at+3]), http2.Flags(b[at+4]), int(uint24(b[at:]))
		headers := typ == http2.FrameHeaders || typ == http2.FrameContinuation
		switch at += h2FrameHeader + size; {
		case size > h2MaxFrame || at > h2MaxHead:
			return true
		case at > len(b):
			return false
		case !headers || flags.Has(http2.FlagHeadersEndHeaders):
			return true
		}
	}
	return false
}

// handleFrame processes a frame.
func (h *http2Client) handleFrame(f http2.Frame) error {
	switch f := f.(type) {
	case *http2.DataFrame:
		return h.readData(f)
	case *http2.MetaHeadersFrame:
		return h.readHeaders(f)
	case *http2.SettingsFrame:
		if !f.IsAck() {
			if size, ok := f.Value(http2.SettingHeaderTableSize); ok {
				h.encoder.SetMaxDynamicTableSizeLimit(size)
			}
			_ = h.framer.WriteSettingsAck()
		}
	case *http2.PingFrame:
		if !f.IsAck() {
			_ = h.framer.WritePing(true, f.Data)
		}
	case *http2.RSTStreamFrame:
		if f.StreamID == h.stream && !h.complete {
			return fmt.Errorf("the server reset the HTTP/2 stream: %v", f.ErrCode)
		}
	case *http2.GoAwayFrame:
		return h.inner.closed(errClosed)
	}
	return nil
}

// readData passes the data of a frame to the inner client, replenishes the flow-control windows, and
// ends the response with its last frame. The end of the request before may come after its body.
func (h *http2Client) readData(f *http2.DataFrame) error {
	h.unacked += f.Length
	if f.StreamID == h.stream && !h.complete {
		h.streamUnacked += f.Length
		if err := h.passData(f.Data()); err != nil {
			return err
		}
	}
	h.returnCredit(0, &h.unacked)
	switch {
	case f.StreamID != h.stream || h.complete: // by its data, the request may be another now
		return nil
	case f.StreamEnded():
		return h.endResponse()
	}
	h.returnCredit(h.stream, &h.streamUnacked)
	return nil
}

// passData passes a piece of a body to the inner client.
func (h *http2Client) passData(p []byte) error {
	if len(p) == 0 {
		return nil
	}
	if h.chunked {
		p = append(append(append(strconv.AppendInt(nil, int64(len(p)), 16), "\r\n"...), p...), "\r\n"...)
	}
	return h.pass(p)
}

// pass passes bytes of HTTP/1.1 to the inner client and sends its next request.
func (h *http2Client) pass(p []byte) error {
	request, err := h.inner.feed(p)
	if err == nil && len(request) > 0 {
		h.writeRequest(request)
	}
	return err
}

// returnCredit sends a WINDOW_UPDATE when enough bytes have been received.
func (h *http2Client) returnCredit(stream uint32, received *uint32) {
	if *received >= h2Replenish {
		_ = h.framer.WriteWindowUpdate(stream, *received)
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

// readHeaders passes the head of the response on. A trailer section ends the response.
func (h *http2Client) readHeaders(f *http2.MetaHeadersFrame) error {
	if f.StreamID != h.stream || h.complete {
		return nil
	}
	status, _ := strconv.Atoi(f.PseudoValue("status"))
	if status == 0 && f.StreamEnded() {
		return h.endResponse()
	}
	if status < http.StatusOK { // informational
		return nil
	}
	length := ""
	for _, field := range f.RegularFields() {
		if field.Name == "content-length" {
			length = field.Value
		}
	}
	head := fmt.Appendf(nil, "HTTP/1.1 %d %s\r\n", status, http.StatusText(status))
	h.chunked = false
	switch {
	case length != "":
		head = fmt.Appendf(head, "Content-Length: %s\r\n\r\n", length)
	case f.StreamEnded():
		head = append(head, "Content-Length: 0\r\n\r\n"...)
	default:
		h.chunked = true
		head = append(head, "Transfer-Encoding: chunked\r\n\r\n"...)
	}
	h.complete = f.StreamEnded()
	return h.pass(head)
}
