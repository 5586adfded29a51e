//go:build linux

package fanout

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"os"
	"runtime"
	"sync"
	"testing"
	"time"
	"weak"

	"go.uber.org/goleak"

	"livego/internal/domain"
	"livego/internal/media"
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
	set(&o.WriteTimeout, 10*time.Second)
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
	r.broadcaster = New(r.hub, engine, "lines", o)
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

// overTransports runs test for each transport.
func overTransports(t *testing.T, test func(t *testing.T, newHarness func(*testing.T, Options) *harness)) {
	secure := testTLS(t)
	for _, tt := range []struct {
		name  string
		loops int
		tls   *tls.Config
	}{{"loops", 2, nil}, {"TLS in loops", 2, secure}, {"goroutines", 0, nil}, {"TLS in goroutines", 0, secure}} {
		t.Run(tt.name, func(t *testing.T) {
			test(t, func(t *testing.T, o Options) *harness {
				t.Helper()
				return newHarnessTLS(t, tt.loops, tt.tls, o)
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
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"localhost"}}
	der, err := x509.CreateCertificate(rand.Reader, c, c, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}},
		DynamicRecordSizingDisabled: true}
}

// read returns the next record as "kind payload", with long payloads truncated.
func (f *client) read() string {
	f.t.Helper()
	f.nc.SetReadDeadline(time.Now().Add(10 * time.Second))
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

func TestViewersGetTheSame(t *testing.T) {
	overTransports(t, func(t *testing.T, newHarness func(*testing.T, Options) *harness) {
		r := newHarness(t, Options{})
		r.frame("k1", true)
		r.frame("i2", false)
		first := r.viewer(conn{prefix: record('H', []byte("hello"))})
		first.want("H hello", "S 0s", "F k1", "F i2")
		r.frame("i3", false)
		second := r.viewer(conn{})
		second.want("S 0s", "F k1", "F i2", "F i3")
		r.frame("k4", true)
		first.want("F i3", "F k4") // so a viewer may start at k4
		second.want("F k4")
		third := r.viewer(conn{})
		third.want("S 120ms", "F k4")
		r.waitSent(first, 8)
		if n := r.hub.Viewers(movie, 0, make([]stream.ConnInfo, 4)); n != 3 {
			t.Errorf("%d viewers, want three", n)
		}
		r.pub.End(stream.Clean)
		for _, v := range []*client{first, second, third} {
			v.want("E EOF", "EOF")
			v.nc.Close()
			v.wantClosed(io.EOF)
		}
	})
}

// TestViewersAtSamePositionShareOneBatch has viewers that get the same coalesced batch, some of
// them in the middle of a node: all get the same frames. Those that do not read for a while fill
// their sockets in the middle of a batch.
func TestViewersAtSamePositionShareOneBatch(t *testing.T) {
	overTransports(t, func(t *testing.T, newHarness func(*testing.T, Options) *harness) {
		r := newHarness(t, Options{})
		r.frame("k1", true)
		var viewers []*client
		for range 10 * maxUncoalescedViewers { // so that each loop has more than the limit
			v := r.viewer(conn{})
			v.want("S 0s", "F k1")
			viewers = append(viewers, v)
		}
		body := bytes.Repeat([]byte("x"), 64<<10)
		for i := range 40 { // 2.5 MiB: more than most sockets hold
			copy(body, fmt.Sprintf("%039d|", i))
			r.frame(string(body), i%10 == 0)
			for _, v := range viewers[:len(viewers)/2] {
				v.want(fmt.Sprintf("F %039d|", i))
			}
		}
		for _, v := range viewers[len(viewers)/2:] {
			for i := range 40 {
				v.want(fmt.Sprintf("F %039d|", i))
			}
		}
		r.pub.End(stream.Clean)
		for _, v := range viewers {
			v.want("E EOF", "EOF")
		}
	})
}

func TestViewerStartsGOPsBack(t *testing.T) {
	overTransports(t, func(t *testing.T, newHarness func(*testing.T, Options) *harness) {
		r := newHarness(t, Options{GOPs: 2})
		warm := func() *client { return r.viewer(conn{}) }
		r.frame("k1", true)
		keep := warm() // keeps the feed
		keep.want("S 0s", "F k1")
		r.frame("k2", true)
		r.frame("k3", true)
		keep.want("F k2", "F k3")
		warm().want("S 40ms", "F k2", "F k3")
	})
}

// TestWaitingViewerStartsAtBeginning checks that a viewer that joined before the stream gets all of
// it, however late it wakes. Others start at the newest keyframe.
func TestWaitingViewerStartsAtBeginning(t *testing.T) {
	overTransports(t, func(t *testing.T, newHarness func(*testing.T, Options) *harness) {
		r := newHarness(t, Options{MaxLatency: 100 * time.Millisecond})
		r.frame("k1", true)
		r.frame("k2", true)
		r.frame("k3", true)
		v := r.viewer(conn{waited: true})
		v.want("S 0s", "F k1", "F k2", "F k3")
		r.viewer(conn{}).want("S 80ms", "F k3")
		r.viewer(conn{waited: true}).want("S 0s", "F k1", "F k2", "F k3")
		r.frame("k4", true) // and k1 is too old
		v.want("F k4")
		r.viewer(conn{waited: true}).want("S 40ms", "F k2", "F k3", "F k4")
	})
}

// TestLeadingPictures checks that leading pictures go to viewers that have received what was before
// the keyframe, and not to viewers that start with it.
func TestLeadingPictures(t *testing.T) {
	overTransports(t, func(t *testing.T, newHarness func(*testing.T, Options) *harness) {
		r := newHarness(t, Options{GOPs: 1})
		leading := func(payload string) {
			t.Helper()
			f := &media.Frame{Track: videoTrack, Meta: videoOnly, DTS: r.at, PTS: r.at, Payload: []byte(payload),
				Arrived: time.Now(), Leading: true}
			if err := r.pub.Write(f); err != nil {
				t.Fatal(err)
			}
			r.at += 40 * time.Millisecond
		}
		r.frame("k0", true)
		r.frame("a0", false)
		first := r.viewer(conn{})
		first.want("S 0s", "F k0", "F a0")
		r.frame("k1", true)
		leading("l1")
		leading("l1b")
		r.frame("a1", false)
		first.want("F k1", "F l1", "F l1b", "F a1")
		second := r.viewer(conn{})
		second.want("S 80ms", "F k1", "F a1")
		r.frame("k2", true)
		leading("l2")
		r.frame("a2", false)
		for _, f := range []*client{first, second} {
			f.want("F k2", "F l2", "F a2")
		}
		leading("the last, for now")
		third := r.viewer(conn{})
		third.want("S 240ms", "F k2", "F a2")
		r.frame("b2", false)
		third.want("F b2")
	})
}

// TestNoStartWithAnotherDefault has another video track become the default: viewers that join then do
// not start with the one before.
func TestNoStartWithAnotherDefault(t *testing.T) {
	r := newHarness(t, 1, Options{GOPs: 2})
	fd := newFeed(r.broadcaster, feedKey{movie, recordFormat{}}, func() {})
	v0, v1 := &media.Track{Kind: media.Video}, &media.Track{Kind: media.Video, ID: 1}
	write := func(track *media.Track, program *media.Program) {
		f := &media.Frame{Track: track, Program: program, RAP: media.Keyframe, Arrived: time.Now(), Payload: []byte("f")}
		fd.observe([]*media.Frame{f}, program)
		if err := fd.encodeAll([]*media.Frame{f}); err != nil {
			t.Fatal(err)
		}
	}
	one := media.NewProgram(v1)
	write(v1, one)
	if fd.startNode(false) != fd.last {
		t.Fatal("no start at the keyframe")
	}
	pending := one.WithDefault(v0)
	fd.observe([]*media.Frame{{Track: v1, Program: pending}}, pending)
	if fd.startNode(false) != nil {
		t.Error("a viewer starts with the track that was the default before")
	}
	write(v0, pending.With(v0))
	write(v0, pending.With(v0).WithDiscontinuity(1))
	write(v1, one.WithDiscontinuity(2))
	if len(fd.starts) != 3 {
		t.Errorf("%d starts, want those of all discontinuities", len(fd.starts))
	}
}

func TestAudioOnlyStartsOneSecondBack(t *testing.T) {
	overTransports(t, func(t *testing.T, newHarness func(*testing.T, Options) *harness) {
		r := newHarness(t, Options{})
		put := func(i int) {
			r.pub.Write(&media.Frame{Track: audioTrack, Meta: audioOnly, DTS: r.at, RAP: media.Keyframe,
				Payload: fmt.Append(nil, i), Arrived: time.Now()})
			r.at += 100 * time.Millisecond
		}
		put(0)
		keep := r.viewer(conn{})
		keep.want("S 0s", "F 0")
		for i := range 30 {
			put(i + 1)
			keep.want(fmt.Sprint("F ", i+1))
		}
		r.viewer(conn{}).want("S 2s", "F 20", "F 21")
	})
}

// TestSlowViewerGetsEveryByte has a viewer whose socket accepts little at a time.
func TestSlowViewerGetsEveryByte(t *testing.T) {
	overTransports(t, func(t *testing.T, newHarness func(*testing.T, Options) *harness) {
		r := newHarness(t, Options{})
		r.frame("k", true)
		v := r.viewer(conn{})
		v.want("S 0s", "F k")
		big := bytes.Repeat([]byte("x"), 256<<10)
		for i := range 80 { // 20 MiB: more than the kernel holds
			copy(big, fmt.Sprintf("%039d|", i))
			r.frame(string(big), false)
		}
		for i := range 80 {
			v.want(fmt.Sprintf("F %039d|", i))
		}
	})
}

// TestEncoderBurstMakesNoViewerLate has an encoder send more than MaxLatency at once, after a
// pause: no viewer skips, though the burst fills sockets.
func TestEncoderBurstMakesNoViewerLate(t *testing.T) {
	overTransports(t, func(t *testing.T, newHarness func(*testing.T, Options) *harness) {
		r := newHarness(t, Options{MaxLatency: 2 * time.Second})
		r.frame("k", true)
		v := r.viewer(conn{})
		v.want("S 0s", "F k")
		big := bytes.Repeat([]byte("x"), 256<<10)
		for i := range 80 { // 3.2 s of it, 20 MiB: more than the kernel holds
			copy(big, fmt.Sprintf("%039d|", i))
			r.frame(string(big), i%10 == 0)
		}
		for i := range 80 {
			v.want(fmt.Sprintf("F %039d|", i))
		}
	})
}

func TestSlowViewerSkipsToKeyframe(t *testing.T) {
	overTransports(t, func(t *testing.T, newHarness func(*testing.T, Options) *harness) {
		r := newHarness(t, Options{MaxLatency: time.Second})
		r.frame("k", true)
		v := r.viewer(conn{})
		v.want("S 0s", "F k")
		r.waitSent(v, 1) // it has reached the live edge, so that it can fall behind
		events, _, stop := r.hub.Observe(1000, true)
		defer stop()
		big := bytes.Repeat([]byte("x"), 200<<10)
		// 10 s in which it reads nothing: less than the hub's ring holds, and more than the kernel.
		for i := range 250 {
			copy(big, fmt.Sprintf("%039d|", i))
			r.frame(string(big), i%12 == 0)
		}
		r.frame("last", true)
		if len(r.broadcaster.engine.loops) == 0 {
			<-time.After(2 * time.Second) // its goroutine is in a write, and will notice
		} else {
			for (<-events).Type != stream.Skipped {
			}
		}
		last, again := -1, 0
		for {
			got := v.read()
			if got == "F last" {
				break
			}
			if got[0] == 'A' {
				again++
				continue
			}
			var i int
			if n, _ := fmt.Sscanf(got, "F %d|", &i); n != 1 || i <= last {
				t.Fatalf("%q after %d", got, last)
			}
			if i != last+1 && i%12 != 0 {
				t.Errorf("continues with %d after %d: not a keyframe", i, last)
			}
			last = i
		}
		var viewers [1]stream.ConnInfo
		if r.hub.Viewers(movie, 0, viewers[:]); again == 0 || viewers[0].Skips == 0 {
			t.Errorf("skipped %d times, counted %d", again, viewers[0].Skips)
		}
	})
}

// TestSkippingViewerKeepsNoNodes has a viewer that reads nothing skip: it keeps none of the stream
// that comes after, however long it takes to read what was sent.
func TestSkippingViewerKeepsNoNodes(t *testing.T) {
	for name, config := range map[string]*tls.Config{"plain": nil, "TLS": testTLS(t)} {
		t.Run(name, func(t *testing.T) {
			r := newHarnessTLS(t, 1, config, Options{MaxLatency: time.Second, WriteTimeout: time.Hour})
			r.frame("k", true)
			v := r.viewer(conn{})
			v.want("S 0s", "F k")
			r.waitSent(v, 1) // it has reached the live edge, so that it can fall behind
			events, _, stop := r.hub.Observe(1000, true)
			defer stop()
			payload := string(make([]byte, 200<<10))
			skipped := false
			for i := 0; i < 1000 && !skipped; i++ {
				r.frame(payload, i%12 == 0)
				select {
				case e := <-events:
					skipped = e.Type == stream.Skipped
				case <-time.After(5 * time.Millisecond):
				}
			}
			if !skipped {
				t.Fatal("the viewer has not skipped")
			}
			other := r.viewer(conn{})
			other.readRecords(2)
			kept := r.newestNode()
			for i := 0; kept.Value() != nil; i++ {
				if i == 100 {
					t.Fatal("the node is still kept")
				}
				r.frame(payload, true)
				other.readRecords(1)
				runtime.GC()
			}
		})
	}
}

// readRecords reads n records.
func (f *client) readRecords(n int) {
	f.t.Helper()
	for range n {
		if got := f.read(); got == "" || got[0] != 'S' && got[0] != 'F' {
			f.t.Fatalf("%q", got)
		}
	}
}

// newestNode returns the newest node of the feed, and does not keep it.
func (r *harness) newestNode() weak.Pointer[node] {
	r.broadcaster.mu.Lock()
	defer r.broadcaster.mu.Unlock()
	last, _ := r.broadcaster.feeds[feedKey{movie, recordFormat{}}].newest()
	return weak.Make(last)
}

func TestStalledViewerIsDisconnected(t *testing.T) {
	overTransports(t, func(t *testing.T, newHarness func(*testing.T, Options) *harness) {
		r := newHarness(t, Options{WriteTimeout: 100 * time.Millisecond})
		r.frame("k", true)
		v := r.viewer(conn{})
		v.want("S 0s", "F k")
		r.frame(string(make([]byte, 32<<20)), false) // and it reads nothing
		v.wantClosed(os.ErrDeadlineExceeded)
	})
}

// TestSlowViewerGetsStreamEnd has a viewer that reads slowly, and sends something in between: it
// gets the end of the stream that the kernel still holds, however short LingerTimeout is.
func TestSlowViewerGetsStreamEnd(t *testing.T) {
	overTransports(t, func(t *testing.T, newHarness func(*testing.T, Options) *harness) {
		r := newHarness(t, Options{LingerTimeout: time.Millisecond})
		r.frame("k", true)
		told := make(chan struct{})
		v := r.viewer(conn{onClose: func(error) []byte {
			close(told)
			return record('E', nil)
		}})
		v.want("S 0s", "F k")
		if err := v.nc.SetReadBuffer(4 << 10); err != nil {
			t.Fatal(err)
		}
		big := bytes.Repeat([]byte("x"), 160<<10) // more than the viewer's end holds
		r.frame(string(big), false)
		r.pub.End(stream.Clean)
		<-told
		select {
		case err := <-v.closed:
			t.Fatalf("the connection was closed: %v", err)
		case <-time.After(4 * tickIdle): // housekeep has run
		}
		if _, err := v.conn.Write([]byte("received")); err != nil {
			t.Fatal(err)
		}
		v.want("F "+string(big[:40]), "E ", "EOF")
		v.nc.Close()
		v.wantClosed(io.EOF)
	})
}

func TestKickedViewer(t *testing.T) {
	overTransports(t, func(t *testing.T, newHarness func(*testing.T, Options) *harness) {
		r := newHarness(t, Options{})
		r.frame("k", true)
		v := r.viewer(conn{})
		v.want("S 0s", "F k")
		why := domain.Errorf(domain.Denied, "enough")
		if err := r.hub.Kick(v.v.ID(), why); err != nil {
			t.Fatal(err)
		}
		v.want("E enough", "EOF")
		v.wantClosed(why) // even if it does not disconnect
	})
}

func TestViewerLeaves(t *testing.T) {
	overTransports(t, func(t *testing.T, newHarness func(*testing.T, Options) *harness) {
		r := newHarness(t, Options{})
		r.frame("k", true)
		for _, end := range []func(*client){
			func(v *client) { v.nc.Close() },
			func(v *client) { v.nc.SetLinger(0); v.nc.Close() },
			func(v *client) { v.nc.CloseWrite() },
		} {
			v := r.viewer(conn{})
			v.want("S 0s", "F k")
			end(v)
			select {
			case <-v.closed:
			case <-time.After(10 * time.Second):
				t.Fatal("the viewer is not closed")
			}
		}
		if r.broadcaster.mu.Lock(); len(r.broadcaster.feeds) != 0 {
			t.Errorf("%d feeds without viewers", len(r.broadcaster.feeds))
		}
		r.broadcaster.mu.Unlock()
		r.viewer(conn{}).want("S 0s", "F k") // a new feed
	})
}

func TestRepliesAreSentBetweenNodes(t *testing.T) {
	overTransports(t, func(t *testing.T, newHarness func(*testing.T, Options) *harness) {
		r := newHarness(t, Options{PingInterval: 50 * time.Millisecond})
		r.frame("k", true)
		var got []byte
		pings := 0
		v := r.viewer(conn{
			onReceive: func(b []byte) ([]byte, error) {
				got = append(got, b...)
				if bytes.HasSuffix(got, []byte("bye")) {
					return nil, io.ErrClosedPipe
				}
				return record('R', b), nil
			},
			onPing: func() []byte { pings++; return record('P', nil) },
		})
		v.want("S 0s", "F k")
		io.WriteString(v.conn, "ask")
		for seen := map[byte]bool{}; !seen['R'] || !seen['P']; {
			s := v.read()
			if s[0] != 'R' && s[0] != 'P' {
				t.Fatalf("got %q", s)
			}
			seen[s[0]] = true
		}
		io.WriteString(v.conn, "bye")
		v.wantClosed(io.ErrClosedPipe)
	})
}

// TestFloodingViewerIsDisconnected has a viewer that sends requests and reads no replies: their
// memory is bounded, and it does not delay another viewer.
func TestFloodingViewerIsDisconnected(t *testing.T) {
	overTransports(t, func(t *testing.T, newHarness func(*testing.T, Options) *harness) {
		r := newHarness(t, Options{WriteTimeout: time.Second})
		r.frame("k", true)
		other := r.viewer(conn{})
		other.want("S 0s", "F k")
		asked := 0
		v := r.viewer(conn{onReceive: func(b []byte) ([]byte, error) {
			asked += len(b)
			return bytes.Repeat(b, 5), nil
		}})
		v.want("S 0s", "F k")
		flood := make([]byte, 64<<10)
		go func() {
			for {
				if _, err := v.conn.Write(flood); err != nil {
					return
				}
			}
		}()
		r.frame("i", false)
		other.want("F i")
		v.wantClosed(os.ErrDeadlineExceeded)
		if asked > 8<<20 { // times five is far above what the kernel holds and maxReply
			t.Errorf("%d bytes were read of a viewer that does not read", asked)
		}
	})
}

// TestManyRequestsAreAnswered has a viewer that reads its replies: it may send any number of
// requests.
func TestManyRequestsAreAnswered(t *testing.T) {
	overTransports(t, func(t *testing.T, newHarness func(*testing.T, Options) *harness) {
		r := newHarness(t, Options{})
		r.frame("k", true)
		v := r.viewer(conn{onReceive: func(b []byte) ([]byte, error) { return b, nil }})
		v.want("S 0s", "F k")
		const n = 20000
		go func() {
			for i := range n {
				if _, err := v.conn.Write(record('Q', fmt.Append(nil, i))); err != nil {
					return
				}
			}
		}()
		for i := range n {
			v.want(fmt.Sprint("Q ", i))
		}
	})
}

func TestUnsupportedChangeDisconnectsViewers(t *testing.T) {
	overTransports(t, func(t *testing.T, newHarness func(*testing.T, Options) *harness) {
		r := newHarness(t, Options{})
		r.frame("k", true)
		v := r.viewer(conn{})
		v.want("S 0s", "F k")
		r.frame("break", false)
		v.want("E "+errBreak.Error(), "EOF")
		v.nc.Close()
		v.wantClosed(errBreak)
	})
}

func TestPanicEndsOneFeed(t *testing.T) {
	overTransports(t, func(t *testing.T, newHarness func(*testing.T, Options) *harness) {
		r := newHarness(t, Options{})
		r.frame("k", true)
		v := r.viewer(conn{})
		v.want("S 0s", "F k")
		r.frame("panic", false)
		v.want("E "+errPanic.Error(), "EOF")
		v.nc.Close()
		v.wantClosed(errPanic)
		r.frame("k2", true)
		r.viewer(conn{}).want("S 80ms", "F k2")
	})
}

func TestEngineCloseDisconnectsViewers(t *testing.T) {
	engine, err := NewEngine(1)
	if err != nil {
		t.Fatal(err)
	}
	r := newHarness(t, 1, Options{})
	r.broadcaster.engine = engine
	r.frame("k", true)
	v := r.viewer(conn{})
	v.want("S 0s", "F k")
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	engine.Close(ctx)
	v.wantClosed(context.Canceled)
}

// TestSlowViewerStaysWithoutNewerKeyframe has a viewer fall behind by more than MaxLatency in one
// GOP: it gets all of it, because a GOP is never split.
func TestSlowViewerStaysWithoutNewerKeyframe(t *testing.T) {
	overTransports(t, func(t *testing.T, newHarness func(*testing.T, Options) *harness) {
		r := newHarness(t, Options{MaxLatency: 100 * time.Millisecond})
		r.frame("k", true)
		v := r.viewer(conn{})
		v.want("S 0s", "F k")
		big := bytes.Repeat([]byte("x"), 256<<10)
		for i := range 40 { // 10 MiB: more than the kernel holds
			copy(big, fmt.Sprintf("%039d|", i))
			r.frame(string(big), false)
		}
		<-time.After(500 * time.Millisecond) // it is late
		for i := range 40 {
			v.want(fmt.Sprintf("F %039d|", i))
		}
	})
}

// TestBatchWindowCountsViewers has viewers of two formats join and leave: the batching window
// depends on all viewers of the stream by the protocol.
func TestBatchWindowCountsViewers(t *testing.T) {
	counts := make(chan int, 100)
	r := newHarness(t, 1, Options{BatchWindow: func(viewers int) (_, _ time.Duration) {
		counts <- viewers
		return 0, 0
	}})
	await := func(want int) {
		t.Helper()
		for {
			select {
			case n := <-counts:
				if n == want {
					return
				}
			case <-time.After(10 * time.Second):
				t.Fatalf("no window for %d viewers", want)
			}
		}
	}
	r.frame("k", true)
	first := r.viewer(conn{})
	first.want("S 0s", "F k")
	await(1)
	second := r.viewer(conn{all: true})
	second.want("S 0s", "F k")
	r.frame("i", false)
	await(2)
	first.want("F i")
	second.want("F i")
	second.nc.Close()
	<-second.closed
	r.frame("i", false)
	first.want("F i")
	await(1)
}

// TestLiveEdge has viewers start at the live edge, of a new feed and of one that exists: they get
// audio at once, and video from the next keyframe on.
func TestLiveEdge(t *testing.T) {
	overTransports(t, func(t *testing.T, newHarness func(*testing.T, Options) *harness) {
		r := newHarness(t, Options{GOPs: liveEdge})
		audio := func(payload string) {
			t.Helper()
			if err := r.pub.Write(&media.Frame{Track: audioTrack, Meta: videoOnly, DTS: r.at, RAP: media.Keyframe,
				Payload: []byte(payload), Arrived: time.Now()}); err != nil {
				t.Fatal(err)
			}
		}
		// start has v start at a frame of audio.
		start := func(v *client) {
			t.Helper()
			for {
				v.nc.SetReadDeadline(time.Now().Add(10 * time.Millisecond))
				if _, err := v.br.Peek(1); err == nil {
					break
				}
				audio("tick")
			}
			if got := v.read(); got[0] != 'S' {
				t.Fatalf("starts with %q", got)
			}
		}
		// wantNext checks the next record that is no tick.
		wantNext := func(v *client, want string) {
			t.Helper()
			got := "F tick"
			for got == "F tick" {
				got = v.read()
			}
			if got != want {
				t.Fatalf("%q, want %q", got, want)
			}
		}
		r.frame("k1", true)
		audio("before")
		first := r.viewer(conn{})
		start(first)
		r.frame("i2", false)
		audio("a2")
		wantNext(first, "F a2")
		r.frame("k3", true)
		wantNext(first, "F k3")
		second := r.viewer(conn{})
		start(second)
		r.frame("i4", false)
		audio("a4")
		wantNext(second, "F a4")
		wantNext(first, "F i4")
		wantNext(first, "F a4")
		r.frame("k5", true)
		audio("a5")
		for _, v := range []*client{first, second} {
			v.want("F k5", "F a5")
		}
	})
}
