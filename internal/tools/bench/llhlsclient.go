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

// A llhlsClient plays low-latency HLS by one connection, a request at a time, as hls.js does: it
// has the server hold its request for the playlist until the next part is there, and then asks for
// the part. Most answers are read where they lie: of parts only the markers are looked at.
type llhlsClient struct {
	viewer   *viewer
	arrivals *partArrivals
	base     url.URL // of the playlist
	host     string
	next     position // what to take next
	started  bool

	parts       []part // of the playlist that was read last
	readingPart bool   // a part is being read, the first of todo; else a playlist
	list        *playlist
	request     []byte // the request

	response responseReader
	text     []byte // a playlist that comes in pieces
	kept     []byte // of a part that comes in pieces, what may be the beginning of a marker
	marks    []marker
}

// errReconnect tells that the server is done with the connection, but not with the viewer: what
// open returns is for another.
var errReconnect = errors.New("the server wants another connection")

func newLLHLSClient(t *target, v *viewer, f *partArrivals) *llhlsClient {
	w := &llhlsClient{viewer: v, arrivals: f, host: t.host}
	if at, err := url.Parse(t.url); err == nil { // as it was when it became a target
		w.base = *at
	}
	w.setRequest(t.path)
	return w
}

func (w *llhlsClient) open() []byte { return w.request }

// setRequest makes the request for a path.
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

// body takes a piece of an answer.
func (w *llhlsClient) body(p []byte) error {
	if !w.readingPart {
		if len(w.text)+len(p) > maxPlaylist {
			return errors.New("an HLS playlist that is too long")
		}
		w.text = append(w.text, p...)
		return nil
	}
	if len(w.kept) > 0 { // what lies across the border of two pieces
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

// scan notes the markers in b that begin before an index.
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

// partDone counts a part that is here.
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

// playlistDone reads the playlist that has come.
func (w *llhlsClient) playlistDone() error {
	list, err := parsePlaylist(w.text, w.next)
	w.text = w.text[:0]
	if err != nil {
		return err
	}
	if list.variant != "" { // the first is the one that players begin with
		w.list = nil
		at, err := w.base.Parse(list.variant)
		if err != nil {
			return fmt.Errorf("an HLS playlist with a bad address: %w", err)
		}
		if at.Host != w.base.Host || at.Scheme != w.base.Scheme {
			return errors.New("a playlist of low-latency HLS at another host, which is not followed")
		}
		w.base = *at
		return nil
	}
	if !list.blocking {
		return errors.New("no playlist of low-latency HLS")
	}
	if !w.started { // at first from the newest part on that a decoder may start with
		for _, p := range list.parts {
			if p.independent {
				w.started, w.next = true, p.position
			}
		}
		if !w.started {
			return errors.New("no part to begin with")
		}
	}
	w.list, w.parts = list, list.parts
	for len(w.parts) > 0 && w.parts[0].before(w.next) {
		w.parts = w.parts[1:]
	}
	return nil
}

// requestNext makes the request for what comes next: a part, or the playlist. io.EOF is the stream's end.
func (w *llhlsClient) requestNext() error {
	if w.readingPart = len(w.parts) > 0; w.readingPart {
		p := w.parts[0]
		// the end of a segment is known when the next begins
		if p.position != w.next && p.position != (position{w.next.msn + 1, 0}) {
			w.viewer.stats.gaps++
		}
		at, err := w.base.Parse(p.uri)
		if err != nil {
			return fmt.Errorf("an HLS playlist with a bad address: %w", err)
		}
		w.setRequest(at.RequestURI())
		return nil
	}
	if w.list == nil { // it is led elsewhere
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

// An responseReader reads the answers to one request after the other on a connection that is kept.
type responseReader struct {
	head    []byte // as far as it has come, where it comes in pieces
	inBody  bool   // the body is being read
	left    int64  // of the body, where its length was said
	chunked *chunkedDecoder
	close   bool // the server closes after this answer
}

// feed takes what was received, of one answer, and gives its body on in pieces. It reports whether that was the last.
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
		return false, errors.New("an HTTP answer longer than it says")
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

// readHead reads the head, if it is there, and returns what follows it.
func (a *responseReader) readHead(p []byte) ([]byte, error) {
	if len(a.head) > 0 || !bytes.HasPrefix(p, []byte("HTTP/1.1 ")) {
		a.head = append(a.head, p...)
		p = bytes.TrimLeft(a.head, "\r\n") // which may be left of a body in chunks
	}
	head, rest, found := bytes.Cut(p, endOfHead)
	if !found {
		if len(a.head) == 0 {
			a.head = append(a.head, p...)
		}
		if len(p) > maxHTTPHead {
			return nil, errors.New("the head of the HTTP answer does not end")
		}
		return nil, nil
	}
	a.head, a.inBody = a.head[:0], true
	return rest, a.parseHead(head)
}

// parseHead reads what a head says.
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
				return fmt.Errorf("an HTTP answer with a length of %q", value)
			}
			a.left = n
		case is(name, "Transfer-Encoding") && is(value, "chunked"):
			a.chunked = &chunkedDecoder{}
		case is(name, "Connection") && is(value, "close"):
			a.close = true
		}
	}
	if a.left < 0 && a.chunked == nil {
		return errors.New("an HTTP answer that does not say its length")
	}
	return nil
}

// is compares without regard to case.
func is(b []byte, name string) bool { return len(b) == len(name) && strings.EqualFold(string(b), name) }

// partArrivals knows when each part was first held by a viewer: how much later the others have it
// is how fast it spreads.
type partArrivals struct {
	mu    sync.Mutex
	parts map[string]int64 // by URI; time of the clock
}

func newPartArrivals() *partArrivals { return &partArrivals{parts: map[string]int64{}} }

// maxPartArrivals is how many parts are remembered: more than all streams have new at a time.
const maxPartArrivals = 10_000

// record notes that v holds the part at uri, now.
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
