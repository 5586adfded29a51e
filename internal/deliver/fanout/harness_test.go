//go:build linux

package fanout

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"livego/internal/domain"
	"livego/internal/media"
	"livego/internal/ops/certtest"
	"livego/internal/ops/netx"
	"livego/internal/stream"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	movie      = domain.Name{App: "live", Room: "movie"}
	videoTrack = &media.Track{Kind: media.Video, Codec: media.H264, Timescale: 90000}
	audioTrack = &media.Track{Kind: media.Audio, Codec: media.AAC, Timescale: 48000}
	videoOnly  = &media.Meta{HasVideo: true}
	audioOnly  = &media.Meta{HasAudio: true}
)

// recordFormat encodes each frame as a record: a kind, a length and the payload. It fails for the
// payload "break" and panics for "panic".
type recordFormat struct{ all bool }

func (f recordFormat) NewEncoder() Encoder { return recordEncoder{} }

func (f recordFormat) AllTracks() bool { return f.all }

type recordEncoder struct{}

var errBreak = domain.Errorf(domain.Unavailable, "the stream has changed: reconnect")

func record(kind byte, payload []byte) []byte {
	return append(binary.BigEndian.AppendUint32([]byte{kind}, uint32(len(payload))), payload...)
}

func (recordEncoder) StartHeader(f *media.Frame, _ *media.Program) []byte {
	return record('S', []byte(f.DTS.String()))
}

func (recordEncoder) ResumeHeader(f *media.Frame, _ *media.Program) []byte {
	return record('A', []byte(f.DTS.String()))
}

func (recordEncoder) AppendFrames(parts [][]byte, frames []*media.Frame, _ *media.Program) ([][]byte, error) {
	for _, f := range frames {
		switch string(f.Payload) {
		case "break":
			return parts, errBreak
		case "panic":
			panic("requested by the test")
		}
		parts = append(parts, record('F', f.Payload)[:5], f.Payload)
	}
	return parts, nil
}

// conn is what a test needs of a viewer's protocol.
type conn struct {
	prefix    []byte
	waited    bool
	all       bool // all tracks
	onReceive func(b []byte) ([]byte, error)
	onPing    func() []byte
	onClose   func(reason error) []byte
	closed    chan<- error
	leave     func()
}

func (c conn) Receive(b []byte) ([]byte, error) {
	if c.onReceive == nil {
		return nil, nil
	}
	return c.onReceive(b)
}

func (c conn) Ping(bool) ([]byte, error) {
	if c.onPing == nil {
		return nil, nil
	}
	return c.onPing(), nil
}

func (c conn) Close(reason error) []byte {
	if c.onClose == nil {
		return record('E', []byte(reason.Error()))
	}
	return c.onClose(reason)
}

func (c conn) Closed(err error) {
	c.leave()
	c.closed <- err
}

// harness is a hub with a publisher and a Broadcaster.
type harness struct {
	t           *testing.T
	hub         *stream.Hub
	pub         *stream.Publisher
	broadcaster *Broadcaster
	serve       func(net.Conn, Viewer)
	tls         *tls.Config // of the server; nil without TLS
	ln          net.Listener
	at          time.Duration
}

// liveEdge is the value of Options.GOPs in these tests for the live edge.
const liveEdge = -1

// newHarness returns a harness whose viewers are served by this many loops; 0: each has a goroutine.
func newHarness(t *testing.T, loops int, o Options) *harness {
	t.Helper()
	return newHarnessTLS(t, loops, nil, o)
}

// newHarnessTLS is newHarness for viewers that use TLS, unless config is nil.
func newHarnessTLS(t *testing.T, loops int, config *tls.Config, o Options) *harness {
	t.Helper()
	switch o.GOPs {
	case 0:
		o.GOPs = 1
	case liveEdge:
		o.GOPs = 0
	}
	o.Log = slog.New(slog.DiscardHandler)
	set := func(d *time.Duration, to time.Duration) {
		if *d == 0 {
			*d = to
		}
	}
	set(&o.WriteTimeout, time.Hour) // viewers that the test does not read for a while stay, however slow the machine is
	set(&o.PingInterval, time.Hour)
	set(&o.LingerTimeout, time.Second)
	set(&o.MaxLatency, time.Hour)
	set(&o.RingTime, time.Hour)
	if o.RingBytes == 0 {
		o.RingBytes = 1 << 30
	}
	r := &harness{t: t, tls: config, hub: stream.NewHub(stream.Options{
		// a feed misses nothing, however fast the test publishes
		TrackWait: 1, KeepTime: time.Hour, RingTime: time.Hour, RingBytes: 1 << 30,
	})}
	engine, err := NewEngine(loops)
	if err != nil {
		t.Fatal(err)
	}
	r.broadcaster = New(r.hub, engine, "test", o)
	var serving sync.WaitGroup
	r.serve = func(nc net.Conn, v Viewer) { serving.Go(func() { r.broadcaster.Serve(nc, v) }) }
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	limiter := netx.NewLimiter(netx.LimitOptions{})
	r.ln = limiter.Listen(ln, netx.ListenOptions{})
	if config != nil {
		r.ln = netx.ListenTLS(r.ln, config)
	}
	if r.pub, err = r.hub.Publish(t.Context(), movie, stream.PublishOptions{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		r.hub.Close()
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		engine.Close(ctx)
		r.ln.Close()
		serving.Wait()
		limiter.Close()
	})
	return r
}

// overTransports runs test for each transport, all at a time: some tests wait most of their time.
func overTransports(t *testing.T, test func(t *testing.T, newHarness func(*testing.T, Options) *harness)) {
	secure := testTLS(t)
	var running sync.WaitGroup
	defer running.Wait()
	for _, tt := range []struct {
		name  string
		loops int
		tls   *tls.Config
	}{{"loops", 2, nil}, {"TLS in loops", 2, secure}, {"goroutines", 0, nil}, {"TLS in goroutines", 0, secure}} {
		running.Go(func() {
			t.Run(tt.name, func(t *testing.T) {
				test(t, func(t *testing.T, o Options) *harness {
					t.Helper()
					return newHarnessTLS(t, tt.loops, tt.tls, o)
				})
			})
		})
	}
}

// frame publishes a video frame 40 ms after the last one.
func (r *harness) frame(payload string, key bool) {
	r.t.Helper()
	f := &media.Frame{Track: videoTrack, Meta: videoOnly, DTS: r.at, PTS: r.at, Payload: []byte(payload),
		Arrived: time.Now()}
	if key {
		f.RAP = media.Keyframe
	}
	if err := r.pub.Write(f); err != nil {
		r.t.Fatal(err)
	}
	r.at += 40 * time.Millisecond
}

// client is the far end of a viewer's connection.
type client struct {
	t      *testing.T
	nc     *net.TCPConn
	conn   net.Conn // nc, or TLS over it
	br     *bufio.Reader
	v      *stream.Viewer
	closed chan error
}

// watch starts a stream, and a viewer that has received its keyframe.
func (r *harness) watch() (*harness, *client) {
	r.t.Helper()
	r.frame("k", true)
	v := r.viewer(conn{})
	v.want("S 0s", "F k")
	return r, v
}

func (r *harness) viewer(c conn) *client {
	r.t.Helper()
	nc, err := net.Dial("tcp", r.ln.Addr().String())
	if err != nil {
		r.t.Fatal(err)
	}
	far := &client{t: r.t, nc: nc.(*net.TCPConn), conn: nc, br: bufio.NewReader(nc), closed: make(chan error, 1)}
	r.t.Cleanup(func() { nc.Close() })
	near, err := r.ln.Accept()
	if err != nil {
		r.t.Fatal(err)
	}
	if r.tls != nil {
		far.startTLS(near.(*tls.Conn))
	}
	if far.v, err = r.hub.Join(movie, stream.ViewerOptions{Proto: "test"}); err != nil {
		r.t.Fatal(err)
	}
	c.closed, c.leave = far.closed, far.v.Leave
	r.serve(near, Viewer{Name: movie, Format: recordFormat{c.all}, Stats: far.v, Waited: c.waited, Prefix: c.prefix,
		Protocol: c})
	return far
}

// startTLS does the handshake of both ends.
func (f *client) startTLS(server *tls.Conn) {
	f.t.Helper()
	secure := tls.Client(f.nc, &tls.Config{InsecureSkipVerify: true})
	done := make(chan error)
	go func() { done <- secure.Handshake() }()
	if err := errors.Join(server.Handshake(), <-done); err != nil {
		f.t.Fatal(err)
	}
	f.conn, f.br = secure, bufio.NewReader(secure)
}

// testTLS returns the configuration of a server with a new certificate.
func testTLS(t *testing.T) *tls.Config {
	t.Helper()
	return &tls.Config{Certificates: []tls.Certificate{certtest.New(t)}, DynamicRecordSizingDisabled: true}
}

// read returns the next record as "kind payload", with long payloads truncated.
func (f *client) read() string {
	f.t.Helper()
	f.nc.SetReadDeadline(time.Now().Add(time.Minute))
	var head [5]byte
	if _, err := io.ReadFull(f.br, head[:]); err != nil {
		return err.Error()
	}
	payload := make([]byte, binary.BigEndian.Uint32(head[1:]))
	if _, err := io.ReadFull(f.br, payload); err != nil {
		return err.Error()
	}
	if len(payload) > 40 {
		payload = payload[:40]
	}
	return fmt.Sprintf("%c %s", head[0], payload)
}

// waitSent waits until v has been sent that many payload bytes of video.
func (r *harness) waitSent(v *client, bytes uint64) {
	r.t.Helper()
	var info [1]stream.ConnInfo
	for deadline := time.Now().Add(10 * time.Second); ; <-time.After(time.Millisecond) {
		if r.hub.Viewers(movie, v.v.ID()-1, info[:]); info[0].VideoBytes == bytes {
			return
		}
		if time.Now().After(deadline) {
			r.t.Fatalf("%d bytes were sent, want %d", info[0].VideoBytes, bytes)
		}
	}
}

func (f *client) want(records ...string) {
	f.t.Helper()
	for i, w := range records {
		if got := f.read(); got != w {
			f.t.Fatalf("record %d: %q, want %q", i, got, w)
		}
	}
}

func (f *client) wantClosed(err error) {
	f.t.Helper()
	select {
	case got := <-f.closed:
		if !errors.Is(got, err) {
			f.t.Errorf("closed with %v, want %v", got, err)
		}
	case <-time.After(10 * time.Second):
		f.t.Fatal("the viewer is not closed")
	}
}
