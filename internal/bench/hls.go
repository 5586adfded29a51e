package bench

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

const (
	// maxPlaylist is the largest playlist that is read.
	maxPlaylist = 1 << 20
	// startBehind is how many segments before the end of a playlist players begin (RFC 8216 section 6.3.3 asks for three target
	// durations).
	startBehind = 3
	hlsTimeout  = 15 * time.Second
)

// hlsClient returns what viewers of HLS share. Connections are kept, as many as there are viewers.
func hlsClient(viewers int, insecure bool) *http.Client {
	d := &net.Dialer{Timeout: connectTimeout}
	return &http.Client{
		Timeout: hlsTimeout,
		Transport: &http.Transport{
			DialContext:         d.DialContext,
			MaxIdleConns:        viewers,
			MaxIdleConnsPerHost: viewers,
			TLSClientConfig:     tlsConfig(insecure),
			DisableCompression:  true,
		},
	}
}

// A hlsViewer plays by HLS: he polls the media playlist and takes each segment once.
type hlsViewer struct {
	*viewer
	client *http.Client
	next   uint64 // media sequence number of the segment to take
	begun  bool
	chunk  []byte
}

// watch plays until ctx ends.
func (v *hlsViewer) watch(ctx context.Context) {
	v.tally.mu.Lock()
	v.begin()
	v.tally.mu.Unlock()
	v.chunk = make([]byte, 32<<10)
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
	if list.variant != nil { // the first is the one that players begin with
		at = list.variant
		if list, err = v.playlist(ctx, at); err != nil {
			return err
		}
	}
	for {
		if err := v.takeAll(ctx, list); err != nil {
			return err
		}
		if list.ended {
			return io.EOF
		}
		if !wait(ctx, max(list.target/2, 100*time.Millisecond)) {
			return ctx.Err()
		}
		if list, err = v.playlist(ctx, at); err != nil {
			return err
		}
	}
}

// takeAll takes what is new in a playlist.
func (v *hlsViewer) takeAll(ctx context.Context, list *playlist) error {
	if !v.begun && len(list.segments) > 0 {
		v.begun = true
		v.next = list.sequence + uint64(max(len(list.segments)-startBehind, 0))
	}
	if v.next < list.sequence {
		v.tally.mu.Lock()
		v.tally.gaps++
		v.tally.mu.Unlock()
		v.next = list.sequence
	}
	for i, s := range list.segments {
		if list.sequence+uint64(i) != v.next {
			continue
		}
		if err := v.segment(ctx, s); err != nil {
			return err
		}
		v.next++
	}
	return nil
}

// segment takes one segment. Its frames are known by their markers: nothing between them is looked at.
func (v *hlsViewer) segment(ctx context.Context, at *url.URL) error {
	body, err := v.get(ctx, at)
	if err != nil {
		return err
	}
	defer body.Close()
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

func (v *hlsViewer) get(ctx context.Context, at *url.URL) (io.ReadCloser, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, at.String(), nil)
	if err != nil {
		return nil, err
	}
	resp, err := v.client.Do(req)
	if err != nil {
		if ue, ok := errors.AsType[*url.Error](err); ok { // the address differs for each
			err = ue.Err
		}
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		resp.Body.Close()
		return nil, fmt.Errorf("HTTP answer %q", resp.Status)
	}
	return resp.Body, nil
}

// A playlist is what a viewer needs of one.
type playlist struct {
	variant  *url.URL // of a multivariant playlist, the first
	sequence uint64
	target   time.Duration
	segments []*url.URL
	ended    bool
}

func (v *hlsViewer) playlist(ctx context.Context, at *url.URL) (*playlist, error) {
	body, err := v.get(ctx, at)
	if err != nil {
		return nil, err
	}
	defer body.Close()
	text, err := io.ReadAll(io.LimitReader(body, maxPlaylist))
	if err != nil {
		return nil, err
	}
	v.received(len(text))
	return parsePlaylist(text, at)
}

// parsePlaylist reads a playlist (RFC 8216 section 4.3) that came from at.
func parsePlaylist(text []byte, at *url.URL) (*playlist, error) {
	if !bytes.HasPrefix(text, []byte("#EXTM3U")) {
		return nil, errors.New("what came is no HLS playlist")
	}
	list, multivariant := &playlist{target: time.Second}, false
	lines := bufio.NewScanner(bytes.NewReader(text))
	for lines.Scan() {
		line := strings.TrimSpace(lines.Text())
		tag, value, _ := strings.Cut(line, ":")
		switch {
		case tag == "#EXT-X-STREAM-INF":
			multivariant = true
		case tag == "#EXT-X-TARGETDURATION":
			seconds, err := strconv.ParseUint(value, 10, 16)
			if err != nil {
				return nil, errors.New("an HLS playlist without a target duration")
			}
			list.target = time.Duration(seconds) * time.Second
		case tag == "#EXT-X-MEDIA-SEQUENCE":
			n, err := strconv.ParseUint(value, 10, 64)
			if err != nil {
				return nil, errors.New("an HLS playlist with a bad media sequence")
			}
			list.sequence = n
		case tag == "#EXT-X-ENDLIST":
			list.ended = true
		case line == "" || line[0] == '#':
		default:
			u, err := at.Parse(line)
			if err != nil {
				return nil, fmt.Errorf("an HLS playlist with a bad address: %w", err)
			}
			if multivariant {
				list.variant = u
				return list, nil
			}
			list.segments = append(list.segments, u)
		}
	}
	return list, lines.Err()
}
