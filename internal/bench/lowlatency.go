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

// A lowLatencyWire plays low-latency HLS by one connection, a request at a time, as hls.js does: it has the server hold its request for
// the playlist until the next part is there, and then asks for the part. Most answers are read where they lie: of parts only the markers
// are looked at.
type lowLatencyWire struct {
	viewer *viewer
	firsts *firsts
	base   url.URL // of the playlist
	host   string
	next   place // what to take next
	begun  bool

	todo  []part // of the playlist that was read last
	takes bool   // a part is being read, the first of todo; else a playlist
	list  *playlist
	out   []byte // the request

	answer answerReader
	text   []byte // a playlist that comes in pieces
	kept   []byte // of a part that comes in pieces, what may be the beginning of a marker
	marks  []marker
}

// errAgain tells that the server is done with the connection, but not with the viewer: what open returns is for another.
var errAgain = errors.New("the server wants another connection")

func newLowLatencyWire(t *target, v *viewer, f *firsts) *lowLatencyWire {
	w := &lowLatencyWire{viewer: v, firsts: f, host: t.host}
	if at, err := url.Parse(t.url); err == nil { // as it was when it became a target
		w.base = *at
	}
	w.ask(t.path)
	return w
}

func (w *lowLatencyWire) open() []byte { return w.out }

// ask makes the request for a path.
func (w *lowLatencyWire) ask(path string) {
	w.out = append(append(w.out[:0], "GET "...), path...)
	w.out = append(append(w.out, " HTTP/1.1\r\nHost: "...), w.host...)
	w.out = append(w.out, "\r\nUser-Agent: livego-bench\r\n\r\n"...)
}

func (w *lowLatencyWire) feed(p []byte) ([]byte, error) {
	whole, err := w.answer.feed(p, w.body)
	if err != nil || !whole {
		return nil, err
	}
	if w.takes {
		w.taken()
	} else if err := w.listed(); err != nil {
		return nil, err
	}
	if err := w.ahead(); err != nil {
		return nil, err
	}
	if w.answer.close {
		w.answer.close = false
		return nil, errAgain
	}
	return w.out, nil
}

// body takes a piece of an answer.
func (w *lowLatencyWire) body(p []byte) error {
	if !w.takes {
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
func (w *lowLatencyWire) scan(b []byte, before int) {
	for at := 0; ; {
		m, end, ok := findMarker(b[at:])
		if !ok || at+end-markerText >= before {
			return
		}
		w.marks = append(w.marks, m)
		at += end
	}
}

// taken counts a part that is here.
func (w *lowLatencyWire) taken() {
	v, p := w.viewer, w.todo[0]
	if !v.joined {
		v.see()
	}
	for _, m := range w.marks {
		v.frame(m)
	}
	w.marks, w.kept, w.todo = w.marks[:0], w.kept[:0], w.todo[1:]
	w.next = place{p.msn, p.part + 1}
	w.firsts.arrived(p.uri, v)
}

// listed reads the playlist that has come.
func (w *lowLatencyWire) listed() error {
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
	if !list.blocks {
		return errors.New("no playlist of low-latency HLS")
	}
	if !w.begun { // at first from the newest part on that a decoder may start with
		for _, p := range list.parts {
			if p.independent {
				w.begun, w.next = true, p.place
			}
		}
		if !w.begun {
			return errors.New("no part to begin with")
		}
	}
	w.list, w.todo = list, list.parts
	for len(w.todo) > 0 && w.todo[0].before(w.next) {
		w.todo = w.todo[1:]
	}
	return nil
}

// ahead makes the request for what comes next: a part, or the playlist. io.EOF is the stream's end.
func (w *lowLatencyWire) ahead() error {
	if w.takes = len(w.todo) > 0; w.takes {
		p := w.todo[0]
		if p.place != w.next && p.place != (place{w.next.msn + 1, 0}) { // the end of a segment is known when the next begins
			w.viewer.tally.gaps++
		}
		at, err := w.base.Parse(p.uri)
		if err != nil {
			return fmt.Errorf("an HLS playlist with a bad address: %w", err)
		}
		w.ask(at.RequestURI())
		return nil
	}
	if w.list == nil { // it is led elsewhere
		w.ask(w.base.RequestURI())
		return nil
	}
	if w.list.ended {
		return io.EOF
	}
	if newest := w.list.sequence + uint64(len(w.list.segments)); w.next.msn < newest {
		w.next = place{newest, 0}
	}
	u := w.base
	u.RawQuery = strings.TrimPrefix(fmt.Sprintf("%s&_HLS_msn=%d&_HLS_part=%d", u.RawQuery, w.next.msn, w.next.part), "&")
	w.ask(u.RequestURI())
	return nil
}

// An answerReader reads the answers to one request after the other on a connection that is kept.
type answerReader struct {
	head    []byte // as far as it has come, where it comes in pieces
	within  bool   // the body is being read
	left    int64  // of the body, where its length was said
	chunked *chunkedFraming
	close   bool // the server closes after this answer
}

// feed takes what was received, of one answer, and gives its body on in pieces. It reports whether that was the last.
func (a *answerReader) feed(p []byte, body func([]byte) error) (whole bool, err error) {
	if !a.within {
		if p, err = a.begin(p); err != nil || !a.within {
			return false, err
		}
	}
	if a.chunked != nil {
		if _, err := a.chunked.feed(p, body); !errors.Is(err, io.EOF) {
			return false, err
		}
		a.chunked, a.within = nil, false
		return true, nil
	}
	if int64(len(p)) > a.left {
		return false, errors.New("an HTTP answer longer than it says")
	}
	if a.left -= int64(len(p)); a.left == 0 {
		a.within = false
	}
	if len(p) > 0 {
		err = body(p)
	}
	return a.left == 0, err
}

var endOfHead = []byte("\r\n\r\n")

// begin reads the head, if it is there, and returns what follows it.
func (a *answerReader) begin(p []byte) ([]byte, error) {
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
	a.head, a.within = a.head[:0], true
	return rest, a.judge(head)
}

// judge reads what a head says.
func (a *answerReader) judge(head []byte) error {
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
			a.chunked = &chunkedFraming{}
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

// firsts knows when each part was first held by a viewer: how much later the others have it is how fast it spreads.
type firsts struct {
	mu    sync.Mutex
	parts map[string]int64 // by URI; time of the clock
}

func newFirsts() *firsts { return &firsts{parts: map[string]int64{}} }

// keepFirsts is how many parts are remembered: more than all streams have new at a time.
const keepFirsts = 10_000

// arrived notes that v holds the part at uri, now.
func (f *firsts) arrived(uri string, v *viewer) {
	key := v.target.path + uri
	f.mu.Lock()
	first, seen := f.parts[key]
	if !seen {
		if len(f.parts) >= keepFirsts {
			clear(f.parts)
		}
		f.parts[key] = v.now
	}
	f.mu.Unlock()
	if seen && v.scene.measured(v.now) {
		v.tally.spread.add(time.Duration(max(0, v.now-first)))
	}
}
