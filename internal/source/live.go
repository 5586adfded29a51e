package source

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"livego/internal/codec/accessunit"
	"livego/internal/container/flv"
	"livego/internal/container/mp4"
	"livego/internal/container/ts"
	"livego/internal/media"
	"livego/internal/proto/rtmp"
)

const (
	dialTimeout = 10 * time.Second
	maxMessage  = 16 << 20 // bytes of a tag or message
	maxPlaylist = 1 << 20
	maxSegment  = 64 << 20
	maxSegments = 4 // segments of a playlist that are read
)

// Dial opens the live stream at an rtmp, rtmps, http or https URL. An HTTP response is HLS if it
// is a playlist, else HTTP-FLV. ctx ends the stream. Errors name the URL without user and query,
// which may be secret.
func Dial(ctx context.Context, address string) (*Source, error) {
	u, err := url.Parse(address)
	if err != nil {
		return nil, errors.New("malformed URL")
	}
	name := u.Scheme + "://" + u.Host + u.Path
	var s *Source
	if strings.HasPrefix(u.Scheme, "rtmp") {
		s, err = dialRTMP(ctx, u)
	} else {
		s, err = dialHTTP(ctx, u)
	}
	if err != nil {
		if ue, ok := errors.AsType[*url.Error](err); ok {
			err = ue.Err
		}
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	s.Name, s.Live = name, true
	return s, nil
}

// Connect connects to an rtmp or rtmps URL. It returns the connection, the app and the stream
// name in the URL, and the URL up to the app.
func Connect(ctx context.Context, address string) (nc net.Conn, app, name, tcURL string, err error) {
	u, err := url.Parse(address)
	if err != nil {
		return nil, "", "", "", rtmp.ErrInvalidAddress
	}
	a, err := rtmp.ParseAddress(u)
	if err != nil {
		return nil, "", "", "", err
	}
	d := &net.Dialer{Timeout: dialTimeout}
	if a.TLS {
		nc, err = (&tls.Dialer{NetDialer: d}).DialContext(ctx, "tcp", a.Host)
	} else {
		nc, err = d.DialContext(ctx, "tcp", a.Host)
	}
	return nc, a.App, a.Name, a.TCURL, err
}

// errNoData is the error for a server that sends nothing.
var errNoData = fmt.Errorf("no data for %v: is the stream published?", dialTimeout)

// messageReader returns the frames of FLV messages.
type messageReader struct {
	next     nextMessage
	demux    flv.Demuxer
	join     accessunit.Joiner
	ready    []*media.Frame // frames of the last message that were not returned yet
	firstErr error
	skipped  uint64
	program  *media.Program // of the frames returned
	tags     *flv.Reader    // nil for RTMP
}

type nextMessage func() (typ uint8, timestamp uint32, body []byte, err error)

func newMessageReader(next nextMessage) *messageReader {
	return &messageReader{next: next, demux: flv.Demuxer{Skips: new(media.Skips)}, program: new(media.Program)}
}

// Next returns the next frame.
func (m *messageReader) Next() (*media.Frame, error) {
	for len(m.ready) == 0 {
		typ, timestamp, body, err := m.next()
		if err != nil {
			if f := m.join.Flush(); f != nil {
				m.ready = append(m.ready, f)
				break
			}
			return nil, err
		}
		frames, err := m.demux.Message(typ, timestamp, body, time.Now())
		m.ready = m.join.Add(frames)
		if errors.Is(err, flv.ErrSkip) {
			if m.skipped++; m.firstErr == nil {
				m.firstErr = err
			}
			err = nil
		}
		if err != nil {
			return nil, err
		}
	}
	f := m.ready[0]
	m.ready = m.ready[1:]
	m.program = m.program.With(f.Track)
	return f, nil
}

// Streams returns the tracks of the frames returned so far.
func (m *messageReader) Streams() (list []media.Stream) {
	for _, t := range m.program.Tracks {
		list = append(list, media.Stream{Track: t})
	}
	return list
}

func (m *messageReader) problems() string {
	var parts []string
	if m.skipped > 0 {
		parts = append(parts, fmt.Sprintf("%d malformed messages, the first: %v", m.skipped, m.firstErr))
	}
	if m.tags != nil && m.tags.Anomalies != (flv.Anomalies{}) {
		parts = append(parts, m.tags.Anomalies.String())
	}
	return strings.Join(parts, "; ")
}

func dialRTMP(ctx context.Context, u *url.URL) (*Source, error) {
	within, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	nc, app, name, tcURL, err := Connect(within, u.String())
	if err != nil {
		return nil, err
	}
	c := rtmp.NewClientConn(nc, rtmp.Options{MaxMessage: maxMessage})
	if err = c.Connect(within, app, tcURL); err == nil {
		err = c.Play(within, name)
	}
	if err != nil {
		nc.Close()
		if ctx.Err() == nil && errors.Is(err, context.DeadlineExceeded) {
			err = errNoData
		}
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { nc.Close() })
	m := newMessageReader(func() (uint8, uint32, []byte, error) {
		msg, err := c.ReadMessage()
		if err != nil && ctx.Err() != nil {
			err = ctx.Err()
		}
		return msg.Type, msg.Timestamp, msg.Payload, err
	})
	return &Source{Container: "rtmp", frames: m, problems: m.problems, skips: m.demux.Skips,
		close: func() error {
			stop()
			return nc.Close()
		}}, nil
}

func dialHTTP(ctx context.Context, u *url.URL) (*Source, error) {
	resp, err := get(ctx, u)
	if err != nil {
		return nil, err
	}
	body := bufio.NewReaderSize(resp.Body, sniffSize)
	head, _ := body.Peek(7) // the next read says what is wrong
	switch {
	case bytes.HasPrefix(head, []byte("FLV")):
		r := flv.NewReader(body, maxMessage)
		m := newMessageReader(func() (uint8, uint32, []byte, error) {
			t, err := r.Next()
			if err != nil && ctx.Err() != nil {
				err = ctx.Err()
			}
			return t.Type, t.Timestamp, t.Body, err
		})
		m.tags = r
		return &Source{Container: "http-flv", frames: m, problems: m.problems, skips: m.demux.Skips,
			close: resp.Body.Close}, nil
	case bytes.HasPrefix(head, []byte("#EXTM3U")):
		text, err := io.ReadAll(io.LimitReader(body, maxPlaylist))
		resp.Body.Close()
		if err != nil {
			return nil, err
		}
		return dialHLS(ctx, resp.Request.URL, text)
	}
	resp.Body.Close()
	return nil, errors.New("the response is neither FLV nor an HLS playlist")
}

// get requests u and returns the response, whose status must be 200.
func get(ctx context.Context, u *url.URL) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, err
	}
	client := http.Client{Transport: &http.Transport{
		DialContext: (&net.Dialer{Timeout: dialTimeout}).DialContext, ResponseHeaderTimeout: dialTimeout,
		DisableCompression: true, DisableKeepAlives: true,
	}}
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		defer resp.Body.Close()
		reason, _ := io.ReadAll(io.LimitReader(resp.Body, 200)) // only for the error message
		return nil, fmt.Errorf("HTTP %s: %s", resp.Status, strings.TrimSpace(string(reason)))
	}
	return resp, nil
}

// fetch returns the body of a response of at most limit bytes.
func fetch(ctx context.Context, u *url.URL, limit int64) ([]byte, error) {
	resp, err := get(ctx, u)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, limit+1))
	if err == nil && int64(len(b)) > limit {
		err = fmt.Errorf("the response exceeds %d bytes", limit)
	}
	return b, err
}

// A playlist holds the needed parts of an HLS playlist (RFC 8216 section 4.3).
type playlist struct {
	variant   *url.URL // the first variant of a multivariant playlist
	init      *url.URL // init segment of fragmented MP4
	segments  []*url.URL
	byteRange bool
}

func parsePlaylist(at *url.URL, text []byte) (*playlist, error) {
	p := &playlist{}
	multivariant := false
	lines := bufio.NewScanner(bytes.NewReader(text))
	lines.Buffer(nil, maxPlaylist)
	for lines.Scan() {
		line := strings.TrimSpace(lines.Text())
		tag, value, _ := strings.Cut(line, ":")
		switch {
		case tag == "#EXT-X-STREAM-INF":
			multivariant = true
		case tag == "#EXT-X-BYTERANGE", tag == "#EXT-X-MAP" && strings.Contains(value, "BYTERANGE"):
			p.byteRange = true
		case tag == "#EXT-X-MAP":
			if _, uri, ok := strings.Cut(value, `URI="`); ok {
				uri, _, _ = strings.Cut(uri, `"`)
				u, err := at.Parse(uri)
				if err != nil {
					return nil, errors.New("HLS playlist with an invalid URL")
				}
				p.init = u
			}
		case tag == "#EXT-X-KEY" && !strings.Contains(value, "METHOD=NONE"):
			return nil, errors.New("HLS segments are encrypted")
		case line == "" || line[0] == '#':
		default:
			u, err := at.Parse(line)
			if err != nil {
				return nil, errors.New("HLS playlist with an invalid URL")
			}
			if multivariant {
				p.variant = u
				return p, nil
			}
			p.segments = append(p.segments, u)
		}
	}
	return p, lines.Err()
}

// dialHLS reads the last segments of a playlist, which is enough to find its tracks.
func dialHLS(ctx context.Context, at *url.URL, text []byte) (*Source, error) {
	list, err := parsePlaylist(at, text)
	if err != nil {
		return nil, err
	}
	if list.variant != nil {
		if text, err = fetch(ctx, list.variant, maxPlaylist); err != nil {
			return nil, err
		}
		if list, err = parsePlaylist(list.variant, text); err != nil {
			return nil, err
		}
	}
	switch {
	case list.byteRange:
		return nil, errors.New("HLS segments with byte ranges are not supported")
	case len(list.segments) == 0:
		return nil, errors.New("HLS playlist without a segment")
	}
	var file []byte
	if list.init != nil {
		if file, err = fetch(ctx, list.init, maxSegment); err != nil {
			return nil, err
		}
	}
	for _, u := range list.segments[max(0, len(list.segments)-maxSegments):] {
		b, err := fetch(ctx, u, maxSegment)
		if err != nil {
			return nil, fmt.Errorf("segment %s: %w", baseName(u.Path), err)
		}
		file = append(file, b...)
	}
	return readHLS(file, list.init != nil)
}

// readHLS reads concatenated segments.
func readHLS(file []byte, fragmented bool) (*Source, error) {
	r, size := bytes.NewReader(file), int64(len(file))
	if fragmented {
		m, err := mp4.NewReader(r, size)
		if err != nil {
			return nil, err
		}
		return &Source{Container: "hls (fmp4)", frames: m}, nil
	}
	t, err := ts.NewReader(r, size)
	if err != nil {
		return nil, err
	}
	return &Source{Container: "hls (ts)", frames: t, problems: t.Problems}, nil
}

func baseName(path string) string { return path[strings.LastIndex(path, "/")+1:] }

// ParseDuration parses a non-negative time: seconds, with or without a fraction, after optional
// hours and minutes with colons (1:02:03.5), or Go's form (90s, 1m30s).
func ParseDuration(s string) (time.Duration, error) {
	if d, err := time.ParseDuration(s); err == nil && d >= 0 {
		return d, nil
	}
	parts := strings.Split(s, ":")
	if len(parts) > 3 {
		return 0, fmt.Errorf("invalid time %q", s)
	}
	total := 0.0
	for _, p := range parts {
		n, err := strconv.ParseFloat(p, 64)
		if err != nil || !(0 <= n && n <= 1e7) { // in this form NaN fails too
			return 0, fmt.Errorf("invalid time %q", s)
		}
		total = total*60 + n
	}
	return time.Duration(total * float64(time.Second)), nil
}
