// Package fanout sends a stream to many viewers. Viewers of one stream in one wire format share a
// feed, which encodes each frame once, batches, and knows where a viewer may start. A viewer is a
// position in its feed. One set of rules decides where it starts, when it skips and how it ends;
// transports only move its bytes. The package knows no protocol: an Encoder encodes frames, and a
// Protocol handles what a viewer sends.
//
// A few goroutines per process write to all TCP sockets on Linux, plain or with TLS, by system calls
// that never block, for little more than the cost of these calls. They remove the sockets from the
// runtime's poller, whose write events and scheduler hand-offs cost more than the writes. Any other
// connection has a goroutine of its own.
package fanout

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"math"
	"net"
	"os"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"livego/internal/domain"
	"livego/internal/media"
	"livego/internal/ops/netx"
	"livego/internal/stream"
)

// A Format is a wire format: viewers whose formats are equal get the same bytes. Its type must be
// comparable.
type Format interface {
	// NewEncoder returns an Encoder for one stream.
	NewEncoder() Encoder
	// AllTracks reports whether the format carries every track, and not only the default of each kind.
	AllTracks() bool
}

// An Encoder encodes the frames of one stream. program is the newest of the stream: it may have
// tracks that come later. Only one goroutine uses it.
type Encoder interface {
	// StartHeader returns what a viewer that starts with f gets first, and ResumeHeader what a
	// viewer that continues with f after a skip gets first. Both are shared and not modified later.
	StartHeader(f *media.Frame, program *media.Program) []byte
	ResumeHeader(f *media.Frame, program *media.Program) []byte
	// AppendFrames appends the encoded frames to parts, each after the headers that changed before
	// it. The parts are not modified later; they may be the frames' own payloads. An error ends the
	// feed: its viewers are closed with it.
	AppendFrames(parts [][]byte, frames []*media.Frame, program *media.Program) ([][]byte, error)
}

// Options of a Broadcaster. A zero value has the default that its comment gives.
type Options struct {
	WriteTimeout  time.Duration // the longest time in which a viewer receives nothing; 10 s
	PingInterval  time.Duration // between calls of Protocol.Ping; 15 s
	LingerTimeout time.Duration // for a viewer to read the close message; 1 s
	MaxLatency    time.Duration // how far behind a viewer may fall before it skips to a newer start; 4 s
	RingTime      time.Duration // what is kept for slow viewers, in stream time; 30 s
	RingBytes     int           // and in bytes; 64 MiB
	// GOPs is the start of new viewers, counted back from the newest; 0: the live edge, with audio
	// now and video from the next start on.
	GOPs int
	// BatchWindow returns the batching window of a stream that has so many viewers by the
	// Broadcaster's protocol: how long frames are collected before they are sent. audio is how long
	// an audio frame waits for the next picture, if the stream has video. nil: no batching.
	BatchWindow func(viewers int) (window, audio time.Duration)
	Log         *slog.Logger
}

func (o *Options) defaults() {
	o.WriteTimeout = cmp.Or(o.WriteTimeout, 10*time.Second)
	o.PingInterval = cmp.Or(o.PingInterval, 15*time.Second)
	o.LingerTimeout = cmp.Or(o.LingerTimeout, time.Second)
	o.MaxLatency = cmp.Or(o.MaxLatency, 4*time.Second)
	o.RingTime = cmp.Or(o.RingTime, 30*time.Second)
	o.RingBytes = cmp.Or(o.RingBytes, 64<<20)
	if o.BatchWindow == nil {
		o.BatchWindow = func(int) (_, _ time.Duration) { return 0, 0 }
	}
}

// A Protocol is the part of a viewer's protocol that is not media. Its methods are called one at a
// time and must not block.
type Protocol interface {
	// Receive handles received bytes, which are valid during the call, and returns a reply. After an
	// error nothing more is received, and the viewer is disconnected: after it has been sent the
	// reply, if there is one.
	Receive(b []byte) (reply []byte, err error)
	// Ping returns what to send at each PingInterval. late reports that more time has passed: the
	// viewer could not receive, or this process was stopped. An error disconnects the viewer.
	Ping(late bool) ([]byte, error)
	// Close returns the last bytes to send. reason is io.EOF at the end of the stream, or why the
	// viewer must leave.
	Close(reason error) []byte
	// Closed is called last, when the connection is closed. err is the reason of Close, or why the
	// viewer has left.
	Closed(err error)
}

// A Viewer is a viewer to serve.
type Viewer struct {
	Name   domain.Name
	Format Format
	Stats  *stream.Viewer
	// Waited marks a viewer that came before the stream started. It starts at the oldest kept start.
	Waited bool
	Prefix []byte // sent first
	Protocol
}

// A Broadcaster serves the viewers by one protocol.
type Broadcaster struct {
	hub    *stream.Hub
	proto  string
	opt    atomic.Pointer[Options]
	engine *Engine

	mu    sync.Mutex
	feeds map[feedKey]*feed
}

// A feedKey identifies a feed.
type feedKey struct {
	name   domain.Name
	format Format
}

// New returns a Broadcaster of hub's streams for viewers by proto. Without an engine each viewer has
// a goroutine.
func New(hub *stream.Hub, engine *Engine, proto string, o Options) *Broadcaster {
	if engine == nil {
		engine = new(Engine)
	}
	f := &Broadcaster{hub: hub, proto: proto, engine: engine, feeds: make(map[feedKey]*feed)}
	f.SetOptions(o)
	return f
}

// SetOptions replaces the options, for viewers that are watching too.
func (f *Broadcaster) SetOptions(o Options) {
	o.defaults()
	f.opt.Store(&o)
}

func (f *Broadcaster) options() *Options { return f.opt.Load() }

// acquire returns the feed of a viewer; the caller must release it. If the feed is new, it starts at
// the beginning of the stream for a viewer that waited, and otherwise where the viewer starts, so
// that a viewer does not meet again what the feed before could not carry.
func (f *Broadcaster) acquire(c *Viewer) *feed {
	f.mu.Lock()
	defer f.mu.Unlock()
	key := feedKey{c.Name, c.Format}
	if fd := f.feeds[key]; fd != nil {
		fd.refs++
		return fd
	}
	gops := f.options().GOPs
	if c.Waited && gops > 0 {
		gops = math.MaxInt
	}
	ctx, cancel := context.WithCancel(context.Background())
	fd := newFeed(f, key, cancel)
	f.feeds[key] = fd
	f.engine.wg.Go(func() { fd.run(ctx, gops) })
	return fd
}

// release drops one reference to fd, which ends at the last one.
func (f *Broadcaster) release(fd *feed) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if fd.refs--; fd.refs == 0 {
		fd.cancel()
		f.forget(fd)
	}
}

// forget makes the next viewer with the key of fd create a new feed. The caller holds f.mu.
func (f *Broadcaster) forget(fd *feed) {
	if f.feeds[fd.feedKey] == fd {
		delete(f.feeds, fd.feedKey)
	}
}

// Serve serves a viewer on nc, and takes ownership of nc. It returns when another goroutine serves
// the viewer, or when the viewer has left. In both cases it is Protocol.Closed that reports the end.
func (f *Broadcaster) Serve(nc net.Conn, c Viewer) {
	if v := newViewer(f.acquire(&c), c); !f.engine.add(v, nc) {
		newBlockingConn(v, nc).serve()
	}
}

// ServeWriter serves a viewer whose transport is write, which blocks, until ctx ends. nc is the
// connection below it, for measurements; it may be nil.
func (f *Broadcaster) ServeWriter(ctx context.Context, nc net.Conn, write func(net.Buffers) error, c Viewer) {
	b := newBlockingConn(newViewer(f.acquire(&c), c), nc)
	b.write, b.shared = write, true
	b.release(b.run(ctx))
}

// Await waits up to wait for name to start; a negative wait has no limit. Meanwhile it handles what
// the viewer of p sends on nc. waited reports whether the stream had not started before. After an
// error, nc is closed: the viewer has left, or has been refused. The end of ctx does not end the
// wait: the hub ends it when the server stops.
func (f *Broadcaster) Await(ctx context.Context, name domain.Name, wait time.Duration, nc net.Conn,
	p Protocol) (waited bool, err error) {
	if f.hub.Ready(name) {
		return false, nil
	}
	ctx, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	defer cancel(nil)
	waiting, stopWaiting := context.WithCancel(ctx)
	served := make(chan struct{})
	go func() {
		defer close(served)
		if err := f.serveInput(waiting, nc, p); waiting.Err() == nil {
			cancel(err)
		}
	}()
	err = f.hub.Await(ctx, name, wait)
	stopWaiting()
	<-served
	if cause := context.Cause(ctx); cause != nil {
		nc.Close()
		return true, cause
	}
	if err != nil {
		f.Refuse(nc, p, err)
	}
	return true, err
}

// Refuse sends the close message for reason on nc, lets the viewer read it, and closes nc.
func (f *Broadcaster) Refuse(nc net.Conn, p Protocol, reason error) {
	defer nc.Close()
	f.sendLast(nc, p.Close(reason))
}

// serveInput handles what a viewer that waits sends on nc. When ctx ends, it returns the error of
// ctx, and what arrives later can be read from nc. Any other error is the reason why the viewer
// left.
func (f *Broadcaster) serveInput(ctx context.Context, nc net.Conn, p Protocol) error {
	interrupted := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(interrupted)
		nc.SetReadDeadline(time.Unix(1, 0))
	})
	defer func() {
		if !stop() {
			<-interrupted
		}
		nc.SetReadDeadline(time.Time{})
	}()
	var buf [256]byte
	pingAt := time.Now().Add(f.options().PingInterval)
	for {
		nc.SetReadDeadline(pingAt)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		n, err := nc.Read(buf[:])
		reply, failure := f.receive(p, buf[:n])
		now := time.Now()
		switch {
		case failure != nil:
			f.sendLast(nc, reply)
			return failure
		case ctx.Err() != nil && len(reply) == 0:
			return ctx.Err()
		case errors.Is(err, os.ErrDeadlineExceeded) && !now.Before(pingAt):
			ping, err := p.Ping(now.Sub(pingAt) > maxPingDelay)
			if err != nil {
				return err
			}
			reply, pingAt = append(reply, ping...), now.Add(f.options().PingInterval)
		case err != nil && !errors.Is(err, os.ErrDeadlineExceeded):
			return err
		}
		if len(reply) == 0 {
			continue
		}
		if _, err := netx.WriteBuffers(nc, &net.Buffers{reply}, f.options().WriteTimeout); err != nil {
			return err
		}
	}
}

// maxPingDelay is how much later than PingInterval a ping may be without being late.
const maxPingDelay = time.Second

// sendLast sends the last bytes to a viewer, and waits until it has read them.
func (f *Broadcaster) sendLast(nc net.Conn, last []byte) {
	if len(last) == 0 {
		return
	}
	if _, err := netx.WriteBuffers(nc, &net.Buffers{last}, f.options().WriteTimeout); err != nil {
		return
	}
	netx.CloseWrite(nc)
	netx.Linger(nc, f.options().LingerTimeout, f.options().WriteTimeout)
}

var (
	errPanic      = errors.New("fanout: internal error")
	errViewerLeft = errors.New("the viewer left")
)

// receive is p.Receive, but a panic ends only this viewer.
func (f *Broadcaster) receive(p Protocol, b []byte) (reply []byte, err error) {
	defer f.recoverTo(&err, slog.String("proto", f.proto))
	return p.Receive(b)
}

// recoverTo turns a panic into errPanic, and logs it with attr. It must be deferred.
func (f *Broadcaster) recoverTo(err *error, attr slog.Attr) {
	if r := recover(); r != nil {
		f.options().Log.LogAttrs(context.Background(), slog.LevelError, "panic", slog.Any("panic", r), attr,
			slog.String("stack", string(debug.Stack())))
		*err = errPanic
	}
}
