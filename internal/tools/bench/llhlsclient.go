package bench

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"
)

// An llhlsClient plays low-latency HLS on one connection, one request at a time, as hls.js does: it
// requests the playlist, which the server holds until the next part is available, and then the
// part. It parses most responses in the receive buffer; of parts it reads the markers only.
type llhlsClient struct {
	viewer   *viewer
	arrivals *partArrivals
	base     url.URL // the address of the playlist
	host     string
	next     position // what to fetch next
	started  bool

	parts       []part // to fetch, from the last playlist
	readingPart bool   // reading the first of parts; else a playlist
	list        *playlist
	request     []byte // the request to send

	response responseReader
	text     []byte // a playlist that arrives in pieces
	kept     []byte // bytes of a part that may be the start of a marker
	marks    []marker
}

// errReconnect means that the server closes the connection but the viewer continues: open returns
// the request to send for another connection.
var errReconnect = errors.New("the server closes the connection")

func newLLHLSClient(t *target, v *viewer, f *partArrivals) *llhlsClient {
	w := &llhlsClient{viewer: v, arrivals: f, host: t.host}
	if at, err := url.Parse(t.url); err == nil { // parseTarget has checked it
		w.base = *at
	}
	w.setRequest(t.path)
	return w
}

func (w *llhlsClient) open() []byte { return w.request }

// setRequest sets the request for a path.
func (w *llhlsClient) setRequest(path string) {
	w.request = append(append(w.request[:0], "GET "...), path...)
	w.request = append(append(w.request, " HTTP/1.1\r\nHost: "...), w.host...)
	w.request = append(w.request, "\r\nUser-Agent: livego-bench\r\n\r\n"...)
}

func (w *llhlsClient) feed(p []byte) ([]byte, error) {
	whole, err := w.response.feed(p, w.body)
	if err != nil || !whole {
		return nil, err
	}
	if w.readingPart {
		w.partDone()
	} else if err := w.playlistDone(); err != nil {
		return nil, err
	}
	if err := w.requestNext(); err != nil {
		return nil, err
	}
	if w.response.close {
		w.response.close = false
		return nil, errReconnect
	}
	return w.request, nil
}

// body processes a piece of a response body.
func (w *llhlsClient) body(p []byte) error {
	if !w.readingPart {
		if len(w.text)+len(p) > maxPlaylist {
			return errors.New("HLS playlist too long")
		}
		w.text = append(w.text, p...)
		return nil
	}
	if len(w.kept) > 0 { // a marker may span two pieces
		n := min(len(p), markerText)
		across := append(w.kept, p[:n]...)
		w.scan(across, len(w.kept))
		if n < markerText {
			w.kept = append(w.kept[:0], across[max(0, len(across)-markerText+1):]...)
			return nil
		}
	}
	w.scan(p, len(p))
	w.kept = append(w.kept[:0], p[max(0, len(p)-markerText+1):]...)
	return nil
}

// scan records the markers in b that start before an index.
func (w *llhlsClient) scan(b []byte, before int) {
	for at := 0; ; {
		m, end, ok := findMarker(b[at:])
		if !ok || at+end-markerText >= before {
			return
		}
		w.marks = append(w.marks, m)
		at += end
	}
}

// partDone counts a complete part.
func (w *llhlsClient) partDone() {
	v, p := w.viewer, w.parts[0]
	if !v.joined {
		v.markJoined()
	}
	for _, m := range w.marks {
		v.countFrame(m)
	}
	w.marks, w.kept, w.parts = w.marks[:0], w.kept[:0], w.parts[1:]
	w.next = position{p.msn, p.part + 1}
	w.arrivals.record(p.uri, v)
}

// playlistDone parses a complete playlist.
func (w *llhlsClient) playlistDone() error {
	list, err := parsePlaylist(w.text, w.next)
	w.text = w.text[:0]
	if err != nil {
		return err
	}
	if list.variant != "" { // players start with the first
		w.list = nil
		at, err := w.base.Parse(list.variant)
		if err != nil {
			return fmt.Errorf("invalid URI in an HLS playlist: %w", err)
		}
		if at.Host != w.base.Host || at.Scheme != w.base.Scheme {
			return errors.New("low-latency HLS playlist at another host: not supported")
		}
		w.base = *at
		return nil
	}
	if !list.blocking {
		return errors.New("not a low-latency HLS playlist: no CAN-BLOCK-RELOAD")
	}
	if !w.started { // start with the newest independent part
		for _, p := range list.parts {
			if p.independent {
				w.started, w.next = true, p.position
			}
		}
		if !w.started {
			return errors.New("no independent part in the playlist")
		}
	}
	w.list, w.parts = list, list.parts
	for len(w.parts) > 0 && w.parts[0].before(w.next) {
		w.parts = w.parts[1:]
	}
	return nil
}

// requestNext sets the next request: a part, or the playlist. io.EOF is the end of the stream.
func (w *llhlsClient) requestNext() error {
	if w.readingPart = len(w.parts) > 0; w.readingPart {
		p := w.parts[0]
		// the end of a segment is known when the next starts
		if p.position != w.next && p.position != (position{w.next.msn + 1, 0}) {
			w.viewer.stats.gaps++
		}
		at, err := w.base.Parse(p.uri)
		if err != nil {
			return fmt.Errorf("invalid URI in an HLS playlist: %w", err)
		}
		w.setRequest(at.RequestURI())
		return nil
	}
	if w.list == nil { // the multivariant playlist leads to another playlist
		w.setRequest(w.base.RequestURI())
		return nil
	}
	if w.list.ended {
		return io.EOF
	}
	if newest := w.list.sequence + uint64(len(w.list.segments)); w.next.msn < newest {
		w.next = position{newest, 0}
	}
	u := w.base
	u.RawQuery = strings.TrimPrefix(fmt.Sprintf("%s&_HLS_msn=%d&_HLS_part=%d", u.RawQuery, w.next.msn, w.next.part), "&")
	w.setRequest(u.RequestURI())
	return nil
}

// A responseReader reads successive responses on a persistent connection.
type responseReader struct {
	head    []byte // a head that arrives in pieces
	inBody  bool   // reading the body
	left    int64  // bytes left of a body with a known length
	chunked *chunkedDecoder
	close   bool // the server closes after this response
}

// feed processes received bytes of one response, and passes its body to body in pieces. It reports
// whether the response is complete.
func (a *responseReader) feed(p []byte, body func([]byte) error) (whole bool, err error) {
	if !a.inBody {
		if p, err = a.readHead(p); err != nil || !a.inBody {
			return false, err
		}
	}
	if a.chunked != nil {
		if _, err := a.chunked.feed(p, body); !errors.Is(err, io.EOF) {
			return false, err
		}
		a.chunked, a.inBody = nil, false
		return true, nil
	}
	if int64(len(p)) > a.left {
		return false, errors.New("invalid HTTP response: longer than its Content-Length")
	}
	if a.left -= int64(len(p)); a.left == 0 {
		a.inBody = false
	}
	if len(p) > 0 {
		err = body(p)
	}
	return a.left == 0, err
}

var endOfHead = []byte("\r\n\r\n")

// readHead reads the response head if it is complete, and returns what follows it.
func (a *responseReader) readHead(p []byte) ([]byte, error) {
	if len(a.head) > 0 || !bytes.HasPrefix(p, []byte("HTTP/1.1 ")) {
		a.head = append(a.head, p...)
		p = bytes.TrimLeft(a.head, "\r\n") // may be left of a chunked body
	}
	head, rest, found := bytes.Cut(p, endOfHead)
	if !found {
		if len(a.head) == 0 {
			a.head = append(a.head, p...)
		}
		if len(p) > maxHTTPHead {
			return nil, errors.New("HTTP response head too long")
		}
		return nil, nil
	}
	a.head, a.inBody = a.head[:0], true
	return rest, a.parseHead(head)
}

// parseHead parses a response head.
func (a *responseReader) parseHead(head []byte) error {
	line, fields, _ := bytes.Cut(head, []byte("\r\n"))
	if status, ok := bytes.CutPrefix(line, []byte("HTTP/1.1 ")); !ok || !bytes.HasPrefix(status, []byte("200")) {
		return statusError(status)
	}
	a.left = -1
	for len(fields) > 0 {
		var field []byte
		field, fields, _ = bytes.Cut(fields, []byte("\r\n"))
		name, value, _ := bytes.Cut(field, []byte(":"))
		value = bytes.TrimSpace(value)
		switch {
		case is(name, "Content-Length"):
			n, err := strconv.ParseInt(string(value), 10, 62)
			if err != nil || n < 0 {
				return fmt.Errorf("invalid HTTP response: Content-Length %q", value)
			}
			a.left = n
		case is(name, "Transfer-Encoding") && is(value, "chunked"):
			a.chunked = &chunkedDecoder{}
		case is(name, "Connection") && is(value, "close"):
			a.close = true
		}
	}
	if a.left < 0 && a.chunked == nil {
		return errors.New("invalid HTTP response: unknown length")
	}
	return nil
}

// is compares without regard to case.
func is(b []byte, name string) bool { return len(b) == len(name) && strings.EqualFold(string(b), name) }

// A partArrivals records when the first viewer had each part, to measure how much later the other
// viewers have it.
type partArrivals struct {
	mu    sync.Mutex
	parts map[string]int64 // by URI; nanoseconds of the clock
}

func newPartArrivals() *partArrivals { return &partArrivals{parts: map[string]int64{}} }

// maxPartArrivals is how many parts are remembered: more than all streams have new at a time.
const maxPartArrivals = 10_000

// record records that v has the part at uri now.
func (f *partArrivals) record(uri string, v *viewer) {
	key := v.target.path + uri
	f.mu.Lock()
	first, seen := f.parts[key]
	if !seen {
		if len(f.parts) >= maxPartArrivals {
			clear(f.parts)
		}
		f.parts[key] = v.now
	}
	f.mu.Unlock()
	if seen && v.measurement.measured(v.now) {
		v.stats.partSpread.add(time.Duration(max(0, v.now-first)))
	}
}
