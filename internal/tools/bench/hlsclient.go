package bench

import (
	"errors"
	"fmt"
	"io"
	"math"
	"net/url"
	"strings"
	"sync"
	"time"
)

// An hlsClient plays HLS, one request at a time. With low latency it requests the playlist, which
// the server holds until the next part is available, and then the part, as hls.js does. Otherwise
// it polls the playlist and requests each segment once. It parses most responses in the receive
// buffer; of parts and segments it reads the markers only.
type hlsClient struct {
	viewer     *viewer
	lowLatency bool
	arrivals   *partArrivals
	base       url.URL  // the address of the playlist
	next       position // what to fetch next
	started    bool

	parts       []part // to fetch, from the last playlist: parts or whole segments
	readingPart bool   // reading the first of parts; else a playlist
	list        *playlist
	request     []byte // the request to send

	used     bool // the connection has delivered a response
	response responseReader
	text     []byte // a playlist that arrives in pieces
	kept     []byte // bytes of a part that may be the start of a marker
	marks    []marker
}

// errReconnect means that the viewer continues on another connection, to its target: open returns
// the request to send.
var errReconnect = errors.New("the server closes the connection")

func newHLSClient(t *target, v *viewer, f *partArrivals) *hlsClient {
	w := &hlsClient{viewer: v, arrivals: f, lowLatency: t.proto == LLHLS}
	if at, err := url.Parse(t.url); err == nil { // parseTarget has checked it
		w.base = *at
	}
	w.writeRequest(&w.base)
	return w
}

func (w *hlsClient) open() []byte   { return w.request }
func (w *hlsClient) resume() []byte { return w.request }

func (w *hlsClient) writeRequest(at *url.URL) {
	w.request = append(append(w.request[:0], "GET "...), at.RequestURI()...)
	w.request = append(append(w.request, " HTTP/1.1\r\nHost: "...), at.Host...)
	w.request = append(w.request, "\r\nUser-Agent: livego-bench\r\n\r\n"...)
}

// setRequest sets the request for at. It reports whether that needs another connection.
func (w *hlsClient) setRequest(at *url.URL) (reconnect bool, err error) {
	w.writeRequest(at)
	old := w.viewer.target
	if at.Host == old.host && (at.Scheme == "https") == old.tls {
		return false, nil
	}
	t, err := parseTarget(at.Scheme + "://" + at.Host + "/")
	if err != nil {
		return false, err
	}
	t.proto, t.http2 = old.proto, old.http2 && t.tls
	w.viewer.target = t
	return true, nil
}

func (w *hlsClient) feed(p []byte) ([]byte, error) {
	whole, err := w.response.feed(p, w.body)
	if err != nil || !whole {
		return nil, err
	}
	w.used = true
	if w.readingPart {
		w.partDone()
	} else if err := w.playlistDone(); err != nil {
		return nil, err
	}
	reconnect, err := w.requestNext()
	if err != nil {
		return nil, err
	}
	if reconnect || w.response.close {
		w.used, w.response.close = false, false
		return nil, errReconnect
	}
	if w.viewer.resumeAt > 0 {
		return nil, nil
	}
	return w.request, nil
}

// closed lets the viewer continue if the server closed the connection between two responses.
func (w *hlsClient) closed(err error) error {
	if !w.used || w.response.started() {
		return err
	}
	w.used = false
	return errReconnect
}

// body processes a piece of a response body.
func (w *hlsClient) body(p []byte) error {
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
func (w *hlsClient) scan(b []byte, before int) {
	for at := 0; ; {
		m, end, ok := findMarker(b[at:])
		if !ok || at+end-markerText >= before {
			return
		}
		w.marks = append(w.marks, m)
		at += end
	}
}

// partDone counts a complete part or segment.
func (w *hlsClient) partDone() {
	v, p := w.viewer, w.parts[0]
	if !v.joined {
		v.markJoined()
	}
	for _, m := range w.marks {
		v.countFrame(m)
	}
	w.marks, w.kept, w.parts = w.marks[:0], w.kept[:0], w.parts[1:]
	if !w.lowLatency {
		w.next = position{p.msn + 1, wholeSegment}
		return
	}
	w.next = position{p.msn, p.part + 1}
	w.arrivals.record(w.base.Path+p.uri, v)
}

// playlistDone parses a complete playlist.
func (w *hlsClient) playlistDone() error {
	from := w.next
	if !w.lowLatency {
		from.msn = math.MaxUint64 // no parts
	}
	list, err := parsePlaylist(w.text, from)
	w.text = w.text[:0]
	if err != nil {
		return err
	}
	w.list, w.parts = list, list.parts
	switch {
	case list.variant != "": // players start with the first
		at, err := w.base.Parse(list.variant)
		if err != nil {
			return fmt.Errorf("invalid URI in an HLS playlist: %w", err)
		}
		w.list, w.base = nil, *at
		return nil
	case w.lowLatency:
		return w.chooseParts()
	}
	w.chooseSegments()
	return nil
}

// chooseParts chooses the parts to fetch. It starts with the newest independent one.
func (w *hlsClient) chooseParts() error {
	if !w.list.blocking {
		return errors.New("not a low-latency HLS playlist: no CAN-BLOCK-RELOAD")
	}
	if !w.started {
		for _, p := range w.parts {
			if p.independent {
				w.started, w.next = true, p.position
			}
		}
		if !w.started {
			return errors.New("no independent part in the playlist")
		}
	}
	for len(w.parts) > 0 && w.parts[0].before(w.next) {
		w.parts = w.parts[1:]
	}
	return nil
}

// chooseSegments chooses the segments to fetch.
func (w *hlsClient) chooseSegments() {
	list := w.list
	if !w.started && len(list.segments) > 0 {
		w.started = true
		w.next = position{list.sequence + uint64(max(len(list.segments)-startBehind, 0)), wholeSegment}
	}
	if w.next.msn < list.sequence {
		w.viewer.stats.gaps++
		w.next.msn = list.sequence
	}
	for i, uri := range list.segments {
		if at := (position{list.sequence + uint64(i), wholeSegment}); !at.before(w.next) {
			w.parts = append(w.parts, part{position: at, uri: uri})
		}
	}
}

// minPollInterval is the shortest time between two polls of a playlist.
const minPollInterval = 100 * time.Millisecond

// requestNext sets the next request: a part, or the playlist. It reports whether that needs another
// connection. io.EOF is the end of the stream.
func (w *hlsClient) requestNext() (reconnect bool, err error) {
	if w.readingPart = len(w.parts) > 0; w.readingPart {
		p := w.parts[0]
		// the end of a segment is known when the next starts
		if w.lowLatency && p.position != w.next && p.position != (position{w.next.msn + 1, 0}) {
			w.viewer.stats.gaps++
		}
		at, err := w.base.Parse(p.uri)
		if err != nil {
			return false, fmt.Errorf("invalid URI in an HLS playlist: %w", err)
		}
		return w.setRequest(at)
	}
	u := w.base
	switch {
	case w.list == nil: // the multivariant playlist leads to another playlist
	case w.list.ended:
		return false, io.EOF
	case w.lowLatency:
		if newest := w.list.sequence + uint64(len(w.list.segments)); w.next.msn < newest {
			w.next = position{newest, 0}
		}
		u.RawQuery = strings.TrimPrefix(fmt.Sprintf("%s&_HLS_msn=%d&_HLS_part=%d", u.RawQuery, w.next.msn, w.next.part), "&")
	default:
		w.viewer.resumeAt = w.viewer.now + int64(max(w.list.target/2, minPollInterval))
	}
	return w.setRequest(&u)
}

// A partArrivals records when the first viewer had each part, to measure how much later the other
// viewers have it.
type partArrivals struct {
	mu    sync.Mutex
	parts map[string]int64 // by path; nanoseconds of the clock
}

func newPartArrivals() *partArrivals { return &partArrivals{parts: map[string]int64{}} }

// maxPartArrivals is how many parts are remembered: more than all streams have new at a time.
const maxPartArrivals = 10_000

// record records that v has the part at uri now.
func (f *partArrivals) record(uri string, v *viewer) {
	f.mu.Lock()
	first, seen := f.parts[uri]
	if !seen {
		if len(f.parts) >= maxPartArrivals {
			clear(f.parts)
		}
		f.parts[uri] = v.now
	}
	f.mu.Unlock()
	if seen && v.measurement.measured(v.now) {
		v.stats.partSpread.add(time.Duration(max(0, v.now-first)))
	}
}
