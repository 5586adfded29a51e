package resilience

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"livego/e2e/harness"
	"livego/e2e/mediacompare"
	"livego/e2e/rtmp"
)

// A viewer records what it receives on one connection, from its start to its end.
type viewer struct {
	proto, when string
	discard     bool      // keep nothing of what it receives
	throttle    *throttle // reading rate; nil: unlimited
	tlsConfig   *tls.Config
	// codecs are the FourCCs that it lists as playable, by RTMP; nil: it sends no list.
	codecs rtmp.StrictArray
	query  string // of its URL

	mu       sync.Mutex
	changed  chan struct{} // closed and replaced at each change
	tags     []receivedTag // by RTMP, HTTP-FLV and WebSocket
	segments []segment     // by HLS, as fragmented MP4 or MPEG-TS
	duration time.Duration // of segments

	done   chan struct{}
	err    error // why it ended, if that was not the clean end of the stream; read after done
	cancel context.CancelFunc
}

// legacyHEVC requests HEVC in the form that it had before it had a FourCC, which no ffmpeg of the
// tests decodes.
const legacyHEVC = "?hevc=12"

// A receivedTag is a tag that a viewer received.
type receivedTag struct {
	mediacompare.FLVTag
	at time.Time
}

// A segment is an HLS segment.
type segment struct {
	uri           string
	duration      time.Duration
	discontinuity bool
	init          []byte // content of the EXT-X-MAP file; nil for MPEG-TS
	body          []byte
}

func newViewer(proto, when string) *viewer {
	return &viewer{proto: proto, when: when, changed: make(chan struct{}), done: make(chan struct{})}
}

// secure reports whether the viewer uses TLS.
func (v *viewer) secure() bool {
	return v.proto == "rtmps" || v.proto == "https" || v.proto == "h2" || v.proto == "wss"
}

// segmented reports whether the viewer receives the stream in segments.
func (v *viewer) segmented() bool { return v.proto == "hls" || v.proto == "ts" }

func (v *viewer) String() string { return v.proto + ", " + v.when }

// start starts the viewer and stops it at the end of the test.
func (v *viewer) start(t *testing.T, s *harness.Server, room string) {
	v.connect(s, room)
	t.Cleanup(v.stop)
}

// connect starts the viewer. The caller must stop it.
func (v *viewer) connect(s *harness.Server, room string) {
	ctx, cancel := context.WithCancel(context.Background())
	v.cancel = cancel
	watch := map[string]func(context.Context, *harness.Server, string) error{
		"rtmp": v.rtmp, "flv": v.flv, "ws": v.ws, "hls": v.hls, "ts": v.hls, "rtmps": v.rtmp, "https": v.flv, "h2": v.flv,
		"wss": v.ws,
	}[v.proto]
	go func() {
		defer close(v.done)
		defer cancel()
		v.err = watch(ctx, s, room)
	}()
}

// stop disconnects the viewer.
func (v *viewer) stop() {
	v.cancel()
	v.throttle.setRate(unlimited)
	<-v.done
}

func (v *viewer) update(f func()) {
	v.mu.Lock()
	defer v.mu.Unlock()
	f()
	close(v.changed)
	v.changed = make(chan struct{})
}

// await waits until ok returns true, which it checks whenever the viewer has received something.
func (v *viewer) await(t *testing.T, ok func() bool) {
	t.Helper()
	watch, again := harness.StartStopwatch(), time.NewTicker(time.Second)
	defer again.Stop()
	for {
		v.mu.Lock()
		changed := v.changed
		v.mu.Unlock()
		if ok() {
			return
		}
		select {
		case <-changed:
		case <-v.done:
			if !ok() {
				t.Errorf("%v: disconnected: %v", v, v.err)
			}
			return
		case <-again.C:
			if watch.Exceeded(maxWait) {
				at, _ := v.progress()
				t.Errorf("%v: received nothing after %v of the stream for %v", v, at, maxWait)
				return
			}
		}
	}
}

// awaitProgress waits until the viewer, which has received something, has received d more of the
// stream.
func (v *viewer) awaitProgress(t *testing.T, d time.Duration) {
	t.Helper()
	at, _ := v.progress()
	v.await(t, func() bool { now, _ := v.progress(); return now >= at+d })
}

// awaitEnd waits until the viewer has ended.
func (v *viewer) awaitEnd(t *testing.T) {
	t.Helper()
	if !harness.WaitClosed(maxWait, v.done) {
		at, _ := v.progress()
		t.Fatalf("%v: not ended, received the stream up to %v", v, at)
	}
}

// progress returns the newest stream time that the viewer has received; by HLS the duration
// received. ok is false if it has received nothing.
func (v *viewer) progress() (at time.Duration, ok bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.segmented() {
		return v.duration, v.duration > 0
	}
	for i := len(v.tags) - 1; i >= 0; i-- {
		if t := v.tags[i]; t.isMedia() {
			return time.Duration(t.Time)*time.Millisecond + 1, true
		}
	}
	return 0, false
}

// lastTag returns the last tag that the viewer received.
func (v *viewer) lastTag() mediacompare.FLVTag {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.tags[len(v.tags)-1].FLVTag
}

func (t receivedTag) isMedia() bool { return t.Type != mediacompare.TagScript && !t.IsHeader() }

func (v *viewer) record(t mediacompare.FLVTag) {
	v.update(func() {
		if v.discard {
			v.tags = v.tags[:0]
		}
		v.tags = append(v.tags, receivedTag{t, time.Now()})
	})
}

// dial connects to the listener of a flag.
func (v *viewer) dial(ctx context.Context, s *harness.Server, flag string) (net.Conn, error) {
	nc, err := v.throttle.dial(ctx, s.Addr(flag))
	if err != nil || !v.secure() {
		return nc, err
	}
	trust := v.tlsConfig.Clone()
	if v.proto == "h2" {
		trust.NextProtos = []string{"h2"}
	}
	c := tls.Client(nc, trust)
	if err := c.HandshakeContext(ctx); err != nil {
		nc.Close()
		return nil, err
	}
	return c, nil
}

// listener returns the flag of the plain or of the TLS listener.
func (v *viewer) listener(plain, secure string) string {
	if v.secure() {
		return secure
	}
	return plain
}

// rtmp plays by RTMP. It waits for a stream that does not exist yet.
func (v *viewer) rtmp(ctx context.Context, s *harness.Server, room string) error {
	nc, err := v.dial(ctx, s, v.listener("rtmp_addr", "rtmps_addr"))
	if err != nil {
		return err
	}
	var more []any
	if v.codecs != nil {
		more = []any{"fourCcList", v.codecs}
	}
	c, err := rtmp.OpenConn(nc, "live", maxWait, more...)
	if err != nil {
		return err
	}
	defer c.NetConn.Close()
	defer context.AfterFunc(ctx, func() { c.NetConn.Close() })()
	if err := c.Play(room + v.query); err != nil {
		return err
	}
	c.NetConn.SetReadDeadline(time.Time{})
	for {
		m, err := c.Reader.ReadMessage()
		if err != nil {
			return err
		}
		switch {
		case m.Type == rtmp.Audio, m.Type == rtmp.Video, m.Type == rtmp.Data && m.IsData("onMetaData"):
			v.record(mediacompare.FLVTag{Type: m.Type, Time: m.Time, Body: m.Payload})
		case m.IsCommand("onStatus") && bytes.Contains(m.Payload, []byte("UnpublishNotify")):
			return nil
		case m.IsCommand("onStatus") && bytes.Contains(m.Payload, []byte("error")):
			return fmt.Errorf("%w: %q", rtmp.ErrRefused, m.Payload)
		}
	}
}

// flv plays by HTTP-FLV. It polls until the stream exists.
func (v *viewer) flv(ctx context.Context, s *harness.Server, room string) error {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return v.dial(ctx, s, v.listener("httpflv_addr", "https_addr"))
	}
	client := &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true, DialContext: dial, DialTLSContext: dial, ForceAttemptHTTP2: v.proto == "h2",
	}}
	url := v.listener("http", "https") + "://" + s.Addr(v.listener("httpflv_addr", "https_addr")) + "/live/" + room +
		".flv" + v.query
	resp, err := pollURL(ctx, client, url)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	return v.read(resp.Body)
}

// read reads FLV.
func (v *viewer) read(r io.Reader) error {
	in, err := mediacompare.NewFLVReader(r)
	if err != nil {
		return err
	}
	for {
		t, err := in.Next()
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		case t.Type == mediacompare.TagVideo && !in.HasVideo, t.Type == mediacompare.TagAudio && !in.HasAudio:
			return fmt.Errorf("a tag of type %d without a flag in the file header", t.Type)
		}
		v.record(t)
	}
}

// pollURL requests a URL until it exists.
func pollURL(ctx context.Context, client *http.Client, url string) (*http.Response, error) {
	again := time.NewTicker(50 * time.Millisecond)
	defer again.Stop()
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return nil, err
		}
		resp, err := client.Do(req)
		if err != nil || resp.StatusCode == http.StatusOK {
			return resp, err
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusNotFound {
			return nil, fmt.Errorf("%s: HTTP %d", url, resp.StatusCode)
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// ws plays by WebSocket. It waits for a stream that does not exist yet.
func (v *viewer) ws(ctx context.Context, s *harness.Server, room string) error {
	flag := v.listener("httpflv_addr", "https_addr")
	nc, err := v.dial(ctx, s, flag)
	if err != nil {
		return err
	}
	ws, err := harness.OpenWebSocketOn(ctx, nc,
		&url.URL{Scheme: v.proto, Host: s.Addr(flag), Path: "/live/" + room + ".flv",
			RawQuery: strings.TrimPrefix(v.query, "?")})
	if err != nil {
		return err
	}
	defer ws.Close()
	r, w := io.Pipe()
	parsed := make(chan error, 1)
	go func() { parsed <- v.read(r) }()
	for {
		message, err := ws.ReadMessage()
		if err == nil {
			_, err = w.Write(message)
		}
		var closed *harness.CloseError
		switch {
		case err == nil:
			continue
		case errors.As(err, &closed) && closed.Code == 1000:
			w.Close()
		default:
			w.CloseWithError(err)
		}
		return <-parsed
	}
}

// hls plays by HLS from the first listed segment to the end of the playlist.
func (v *viewer) hls(ctx context.Context, s *harness.Server, room string) error {
	dial := func(ctx context.Context, _, addr string) (net.Conn, error) { return v.throttle.dial(ctx, addr) }
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 1, DialContext: dial}}
	defer client.CloseIdleConnections()
	p := hlsPlayer{v: v, client: client}
	url := s.HLS(room)
	if v.proto == "ts" {
		url += "?format=ts"
	}
	resp, err := pollURL(ctx, client, url)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	master, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	variant := slices.IndexFunc(strings.Split(string(master), "\n"),
		func(l string) bool { return strings.HasPrefix(l, "#EXT-X-STREAM-INF:") })
	if p.media, err = resolve(url, strings.Split(string(master), "\n")[variant+1]); err != nil || variant < 0 {
		return fmt.Errorf("no multivariant playlist: %w\n%s", err, master)
	}
	again := time.NewTicker(200 * time.Millisecond)
	defer again.Stop()
	for {
		ended, err := p.load(ctx)
		if ended || err != nil {
			return err
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func resolve(base, ref string) (string, error) {
	b, err := url.Parse(base)
	if err != nil {
		return "", err
	}
	u, err := b.Parse(strings.TrimSpace(ref))
	if err != nil {
		return "", err
	}
	return u.String(), nil
}

// An hlsPlayer follows a media playlist. Everything that it requests must exist.
type hlsPlayer struct {
	v       *viewer
	client  *http.Client
	media   string
	started bool
	next    int // number of the next segment
	mapURI  string
	init    []byte
}

// load loads the playlist and its new segments. It reports whether the playlist has ended.
func (p *hlsPlayer) load(ctx context.Context) (ended bool, err error) {
	text, err := p.fetch(ctx, p.media)
	if err != nil {
		return false, err
	}
	var s segment
	var target float64
	number := 0
	for line := range strings.Lines(string(text)) {
		tag, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		switch tag {
		case "#EXT-X-TARGETDURATION":
			target, err = strconv.ParseFloat(value, 64)
		case "#EXT-X-MEDIA-SEQUENCE":
			number, err = strconv.Atoi(value)
		case "#EXT-X-DISCONTINUITY":
			s.discontinuity = true
		case "#EXT-X-ENDLIST":
			ended = true
		case "#EXT-X-MAP":
			_, rest, _ := strings.Cut(value, `URI="`)
			uri, _, _ := strings.Cut(rest, `"`)
			err = p.setMap(ctx, uri)
		case "#EXTINF":
			seconds, _, _ := strings.Cut(value, ",")
			var d float64
			d, err = strconv.ParseFloat(seconds, 64)
			s.duration = time.Duration(d * float64(time.Second))
		default:
			if tag == "" || tag[0] == '#' {
				continue
			}
			s.uri, s.init = strings.TrimSpace(line), p.init
			if s.duration.Round(time.Second).Seconds() > target {
				return false, fmt.Errorf("segment %d lasts %v, the target duration is %v s", number, s.duration, target)
			}
			err = p.fetchSegment(ctx, number, s)
			number, s = number+1, segment{}
		}
		if err != nil {
			return false, fmt.Errorf("%q: %w", line, err)
		}
	}
	if number < p.next {
		return false, fmt.Errorf("the playlist ended with segment %d, then with %d", p.next-1, number-1)
	}
	return ended, nil
}

func (p *hlsPlayer) setMap(ctx context.Context, uri string) (err error) {
	if uri == p.mapURI {
		return nil
	}
	p.mapURI = uri
	p.init, err = p.fetchRef(ctx, uri)
	return err
}

// fetchSegment fetches segment number, which is s, if it is new.
func (p *hlsPlayer) fetchSegment(ctx context.Context, number int, s segment) (err error) {
	if !p.started {
		p.started, p.next = true, number
	}
	switch {
	case number < p.next:
		if old, ok := p.knownURI(number); ok && old != s.uri && p.v.throttle == nil {
			return fmt.Errorf("segment %d was %s", number, old)
		}
		return nil
	case number > p.next && p.v.throttle == nil:
		return fmt.Errorf("segment %d left the playlist before it was listed here", p.next)
	case number > p.next:
		p.next = number // as players do that fall behind
	}
	p.next++
	if s.body, err = p.fetchRef(ctx, s.uri); err != nil {
		return err
	}
	if p.v.discard {
		s.body = nil
	}
	p.v.update(func() {
		p.v.segments = append(p.v.segments, s)
		p.v.duration += s.duration
	})
	return nil
}

// knownURI returns the URI that segment number had.
func (p *hlsPlayer) knownURI(number int) (string, bool) {
	i := len(p.v.segments) - (p.next - number)
	if i < 0 {
		return "", false
	}
	return p.v.segments[i].uri, true
}

func (p *hlsPlayer) fetchRef(ctx context.Context, ref string) ([]byte, error) {
	u, err := resolve(p.media, ref)
	if err != nil {
		return nil, err
	}
	return p.fetch(ctx, u)
}

func (p *hlsPlayer) fetch(ctx context.Context, url string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	resp, err := p.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("HTTP %d: %.100s", resp.StatusCode, body)
	}
	return body, err
}
