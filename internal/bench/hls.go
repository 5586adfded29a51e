package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	// maxPlaylist is the largest playlist that is read.
	maxPlaylist = 1 << 20
	// startBehind is how many segments before the end of a playlist players begin (RFC 8216 section 6.3.3 asks for three target
	// durations).
	startBehind = 3
)

// A hlsViewer plays by HLS: he polls the media playlist and takes each segment once. With low latency he has the server hold his
// requests for the playlist until the next part is there, and takes parts: a request for each.
type hlsViewer struct {
	*viewer
	conn   hlsConn
	firsts *firsts
	next   place // what to take next
	begun  bool
	chunk  []byte
	text   bytes.Buffer
}

// A place is a segment by its media sequence number, or a part of it; part is -1 for all of it.
type place struct {
	msn  uint64
	part int
}

func (p place) before(q place) bool { return p.msn < q.msn || p.msn == q.msn && p.part < q.part }

// watch plays until ctx ends.
func (v *hlsViewer) watch(ctx context.Context) {
	v.tally.mu.Lock()
	v.begin()
	v.tally.mu.Unlock()
	v.chunk = make([]byte, 64<<10)
	defer v.conn.close()
	err := v.play(ctx)
	v.tally.mu.Lock()
	defer v.tally.mu.Unlock()
	if ctx.Err() == nil {
		v.end(err)
	}
}

func (v *hlsViewer) play(ctx context.Context) error {
	at, err := url.Parse(v.target.url)
	if err != nil {
		return err
	}
	list, err := v.playlist(ctx, at)
	if err != nil {
		return err
	}
	if list.variant != "" { // the first is the one that players begin with
		if at, err = at.Parse(list.variant); err != nil {
			return err
		}
		if list, err = v.playlist(ctx, at); err != nil {
			return err
		}
	}
	low := v.target.proto == LLHLS
	if low && !list.blocks {
		return errors.New("no playlist of low-latency HLS")
	}
	for {
		if low {
			err = v.takeParts(ctx, at, list)
		} else {
			err = v.takeSegments(ctx, at, list)
		}
		if err != nil {
			return err
		}
		if list.ended {
			return io.EOF
		}
		next := at
		if low {
			u := *at
			u.RawQuery = strings.TrimPrefix(fmt.Sprintf("%s&_HLS_msn=%d&_HLS_part=%d", at.RawQuery, v.next.msn, v.next.part), "&")
			next = &u
		} else if !wait(ctx, max(list.target/2, 100*time.Millisecond)) {
			return ctx.Err()
		}
		if list, err = v.playlist(ctx, next); err != nil {
			return err
		}
	}
}

// takeSegments takes what is new in a playlist.
func (v *hlsViewer) takeSegments(ctx context.Context, base *url.URL, list *playlist) error {
	if !v.begun && len(list.segments) > 0 {
		v.begun = true
		v.next.msn = list.sequence + uint64(max(len(list.segments)-startBehind, 0))
	}
	if v.next.msn < list.sequence {
		v.gap()
		v.next.msn = list.sequence
	}
	for i, s := range list.segments {
		if list.sequence+uint64(i) != v.next.msn {
			continue
		}
		if err := v.take(ctx, base, s); err != nil {
			return err
		}
		v.next.msn++
	}
	return nil
}

// takeParts takes the parts that are new in a playlist, at first from the newest on that a decoder may start with.
func (v *hlsViewer) takeParts(ctx context.Context, base *url.URL, list *playlist) error {
	if !v.begun {
		for _, p := range list.parts {
			if p.independent {
				v.begun, v.next = true, p.place
			}
		}
		if !v.begun {
			return errors.New("no part to begin with")
		}
	}
	for _, p := range list.parts {
		if p.before(v.next) {
			continue
		}
		if p.place != v.next && p.place != (place{v.next.msn + 1, 0}) { // the end of a segment is known when the next begins
			v.gap()
		}
		if err := v.take(ctx, base, p.uri); err != nil {
			return err
		}
		v.next = place{p.msn, p.part + 1}
		v.firsts.arrived(p.uri, v.viewer)
	}
	if v.next.msn < list.sequence+uint64(len(list.segments)) {
		v.next = place{list.sequence + uint64(len(list.segments)), 0}
	}
	return nil
}

func (v *hlsViewer) gap() {
	v.tally.mu.Lock()
	defer v.tally.mu.Unlock()
	v.tally.gaps++
}

// take takes one segment or part. Its frames are known by their markers: nothing between them is looked at.
func (v *hlsViewer) take(ctx context.Context, base *url.URL, uri string) error {
	at, err := base.Parse(uri)
	if err != nil {
		return fmt.Errorf("an HLS playlist with a bad address: %w", err)
	}
	body, err := v.conn.get(ctx, at)
	if err != nil {
		return err
	}
	var marks []marker
	kept := 0 // of v.chunk: what may be the beginning of a marker
	for {
		n, err := body.Read(v.chunk[kept:])
		v.received(n)
		b := v.chunk[:kept+n]
		for {
			m, end, ok := findMarker(b)
			if !ok {
				break
			}
			marks = append(marks, m)
			b = b[end:]
		}
		kept = copy(v.chunk, b[max(0, len(b)-markerSize):])
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
	}
	v.tally.mu.Lock()
	defer v.tally.mu.Unlock()
	v.now = v.scene.now()
	if !v.joined {
		v.see()
	}
	for _, m := range marks {
		v.frame(m)
	}
	return nil
}

func (v *hlsViewer) received(n int) {
	if v.scene.measured(v.scene.now()) {
		v.tally.mu.Lock()
		v.tally.bytes += int64(n)
		v.tally.mu.Unlock()
	}
}

// firsts knows when each part was first held by a viewer: how much later the others have it is how fast it spreads.
type firsts struct {
	mu    sync.Mutex
	parts map[string]int64 // by URI; time of the clock
}

// keepFirsts is how many parts are remembered: more than all streams have new at a time.
const keepFirsts = 10_000

// arrived notes that v holds the part at uri, now.
func (f *firsts) arrived(uri string, v *viewer) {
	v.tally.mu.Lock()
	now := v.now
	v.tally.mu.Unlock()
	f.mu.Lock()
	first, seen := f.parts[v.target.path+uri]
	if !seen {
		if len(f.parts) >= keepFirsts {
			clear(f.parts)
		}
		f.parts[v.target.path+uri] = now
	}
	f.mu.Unlock()
	if seen && v.scene.measured(now) {
		v.tally.mu.Lock()
		v.tally.spread.add(time.Duration(now - first))
		v.tally.mu.Unlock()
	}
}

// A playlist is what a viewer needs of one.
type playlist struct {
	variant  string // of a multivariant playlist, the first
	sequence uint64
	target   time.Duration
	segments []string
	parts    []part
	blocks   bool // requests are held until the next part is there
	ended    bool
}

// A part is one of low-latency HLS.
type part struct {
	place
	uri         string
	independent bool
}

func (v *hlsViewer) playlist(ctx context.Context, at *url.URL) (*playlist, error) {
	body, err := v.conn.get(ctx, at)
	if err != nil {
		return nil, err
	}
	v.text.Reset()
	if _, err := v.text.ReadFrom(io.LimitReader(body, maxPlaylist)); err != nil {
		return nil, err
	}
	v.received(v.text.Len())
	return parsePlaylist(v.text.Bytes(), v.next)
}

// parsePlaylist reads a playlist (RFC 8216 section 4.3, RFC 8216bis section 4.4.4.9). Parts before from are left out.
func parsePlaylist(text []byte, from place) (*playlist, error) {
	if !bytes.HasPrefix(text, []byte("#EXTM3U")) {
		return nil, errors.New("what came is no HLS playlist")
	}
	list, multivariant, open := &playlist{target: time.Second}, false, 0
	for line := range bytes.Lines(text) {
		line := bytes.TrimSpace(line)
		tag, value, _ := bytes.Cut(line, []byte(":"))
		switch {
		case string(tag) == "#EXT-X-PART":
			if at := (place{list.sequence + uint64(len(list.segments)), open}); !at.before(from) {
				list.parts = append(list.parts, part{at, attribute(value, "URI"), bytes.Contains(value, []byte("INDEPENDENT=YES"))})
			}
			open++
		case string(tag) == "#EXT-X-STREAM-INF":
			multivariant = true
		case string(tag) == "#EXT-X-TARGETDURATION":
			seconds, err := strconv.ParseUint(string(value), 10, 16)
			if err != nil {
				return nil, errors.New("an HLS playlist without a target duration")
			}
			list.target = time.Duration(seconds) * time.Second
		case string(tag) == "#EXT-X-MEDIA-SEQUENCE":
			n, err := strconv.ParseUint(string(value), 10, 64)
			if err != nil {
				return nil, errors.New("an HLS playlist with a bad media sequence")
			}
			list.sequence = n
		case string(tag) == "#EXT-X-SERVER-CONTROL":
			list.blocks = bytes.Contains(value, []byte("CAN-BLOCK-RELOAD=YES"))
		case string(tag) == "#EXT-X-ENDLIST":
			list.ended = true
		case len(line) == 0 || line[0] == '#':
		case multivariant:
			list.variant = string(line)
			return list, nil
		default:
			list.segments = append(list.segments, string(line))
			open = 0
		}
	}
	return list, nil
}

// attribute returns the quoted value of an attribute of a tag.
func attribute(list []byte, name string) string {
	_, rest, _ := bytes.Cut(list, []byte(name+`="`))
	value, _, _ := bytes.Cut(rest, []byte(`"`))
	return string(value)
}
