package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strconv"
	"time"
)

const (
	// maxPlaylist is the largest playlist that is read, in bytes.
	maxPlaylist = 1 << 20
	// startBehind is how many segments before the end of a playlist players start (RFC 8216 section
	// 6.3.3 asks for three target durations).
	startBehind = 3
)

// An hlsViewer plays by HLS: it polls the media playlist and fetches each segment once.
type hlsViewer struct {
	*viewer
	conn    hlsConn
	next    position // what to fetch next
	started bool
	chunk   []byte
	text    bytes.Buffer
}

// A position is a segment by its media sequence number, or a part of it; part is -1 for the whole
// segment.
type position struct {
	msn  uint64
	part int
}

func (p position) before(q position) bool { return p.msn < q.msn || p.msn == q.msn && p.part < q.part }

// run plays until ctx ends.
func (v *hlsViewer) run(ctx context.Context) {
	v.stats.mu.Lock()
	v.start()
	v.stats.mu.Unlock()
	v.chunk = make([]byte, 64<<10)
	defer v.conn.close()
	err := v.play(ctx)
	v.stats.mu.Lock()
	defer v.stats.mu.Unlock()
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
	if list.variant != "" { // players start with the first
		if at, err = at.Parse(list.variant); err != nil {
			return err
		}
		if list, err = v.playlist(ctx, at); err != nil {
			return err
		}
	}
	for {
		if err := v.fetchSegments(ctx, at, list); err != nil {
			return err
		}
		if list.ended {
			return io.EOF
		}
		if !sleep(ctx, max(list.target/2, 100*time.Millisecond)) {
			return ctx.Err()
		}
		if list, err = v.playlist(ctx, at); err != nil {
			return err
		}
	}
}

// fetchSegments fetches the new segments of a playlist.
func (v *hlsViewer) fetchSegments(ctx context.Context, base *url.URL, list *playlist) error {
	if !v.started && len(list.segments) > 0 {
		v.started = true
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
		if err := v.fetch(ctx, base, s); err != nil {
			return err
		}
		v.next.msn++
	}
	return nil
}

func (v *hlsViewer) gap() {
	v.stats.mu.Lock()
	defer v.stats.mu.Unlock()
	v.stats.gaps++
}

// fetch fetches one segment or part. It finds frames by their markers and ignores all other bytes.
func (v *hlsViewer) fetch(ctx context.Context, base *url.URL, uri string) error {
	at, err := base.Parse(uri)
	if err != nil {
		return fmt.Errorf("invalid URI in an HLS playlist: %w", err)
	}
	body, err := v.conn.get(ctx, at)
	if err != nil {
		return err
	}
	var marks []marker
	kept := 0 // bytes of v.chunk that may be the start of a marker
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
	v.stats.mu.Lock()
	defer v.stats.mu.Unlock()
	v.now = v.measurement.now()
	if !v.joined {
		v.markJoined()
	}
	for _, m := range marks {
		v.countFrame(m)
	}
	return nil
}

func (v *hlsViewer) received(n int) {
	if v.measurement.measured(v.measurement.now()) {
		v.stats.mu.Lock()
		v.stats.bytes += int64(n)
		v.stats.mu.Unlock()
	}
}

// A playlist is what a viewer needs of one.
type playlist struct {
	variant  string // the first one of a multivariant playlist
	sequence uint64
	target   time.Duration
	segments []string
	parts    []part
	blocking bool // blocking playlist reload is supported
	ended    bool
}

// A part is a partial segment of low-latency HLS.
type part struct {
	position
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

// parsePlaylist parses a playlist (RFC 8216 section 4.3, RFC 8216bis section 4.4.4.9). Parts before
// from are omitted.
func parsePlaylist(text []byte, from position) (*playlist, error) {
	if !bytes.HasPrefix(text, []byte("#EXTM3U")) {
		return nil, errors.New("the response is not an HLS playlist")
	}
	list, multivariant, open := &playlist{target: time.Second}, false, 0
	for line := range bytes.Lines(text) {
		line := bytes.TrimSpace(line)
		tag, value, _ := bytes.Cut(line, []byte(":"))
		switch {
		case string(tag) == "#EXT-X-PART":
			if at := (position{list.sequence + uint64(len(list.segments)), open}); !at.before(from) {
				list.parts = append(list.parts, part{at, attribute(value, "URI"), bytes.Contains(value, []byte("INDEPENDENT=YES"))})
			}
			open++
		case string(tag) == "#EXT-X-STREAM-INF":
			multivariant = true
		case string(tag) == "#EXT-X-TARGETDURATION":
			seconds, err := strconv.ParseUint(string(value), 10, 16)
			if err != nil {
				return nil, errors.New("invalid HLS playlist: bad target duration")
			}
			list.target = time.Duration(seconds) * time.Second
		case string(tag) == "#EXT-X-MEDIA-SEQUENCE":
			n, err := strconv.ParseUint(string(value), 10, 64)
			if err != nil {
				return nil, errors.New("invalid HLS playlist: bad media sequence number")
			}
			list.sequence = n
		case string(tag) == "#EXT-X-SERVER-CONTROL":
			list.blocking = bytes.Contains(value, []byte("CAN-BLOCK-RELOAD=YES"))
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
