// Package fanout sends one stream to many plain TCP sockets for little more than the cost of the
// system calls: all viewers at the same position get the same contiguous bytes, from a few
// goroutines that write to sockets without blocking. It knows no protocol: an Encoder encodes
// frames, and what a viewer sends goes to the callbacks of its Conn.
//
// It removes sockets from the runtime's poller, whose write events and scheduler hand-offs cost
// more than the writes. Edges serve what is not a plain TCP socket on Linux with a goroutine each.
package fanout

import (
	"context"
	"errors"
	"log/slog"
	"math"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"livego/internal/domain"
	"livego/internal/media"
	"livego/internal/stream"
)

// An Encoder encodes the frames of one stream. program is the newest of the stream: it may have
// tracks that come later. Only one goroutine uses it.
type Encoder interface {
	// StartHeader returns what a viewer that starts with f gets first, and ResumeHeader what a
	// viewer that continues with f after a skip gets first. Both are shared and not modified later.
	StartHeader(f *media.Frame, program *media.Program) []byte
	ResumeHeader(f *media.Frame, program *media.Program) []byte
	// AppendFrames appends the encoded frames to parts, each after the headers that changed before
	// it. The parts are not modified later; they may be the frames' own payloads. It returns nil if
	// the viewers cannot continue and must reconnect.
	AppendFrames(parts [][]byte, frames []*media.Frame, program *media.Program) [][]byte
}

// Options of a Broadcaster.
type Options struct {
	WriteTimeout  time.Duration // the longest time in which a viewer receives nothing
	PingInterval  time.Duration // between calls of Conn.Ping
	LingerTimeout time.Duration // for a viewer to read the close message
	MaxLatency    time.Duration // how far behind a viewer may fall before it skips to a newer start
	RingTime      time.Duration // what is kept for slow viewers, in stream time
	RingBytes     int           // and in bytes
	Log           *slog.Logger
	GOPs          int // start of new viewers, counted back from the newest; at least 1
}

// A Conn is a viewer and its socket. Its functions are called one at a time and must not block.
type Conn struct {
	Viewer *stream.Viewer
	// Waited marks a viewer that joined before the stream started. It starts at the oldest kept
	// start.
	Waited bool
	Prefix []byte // sent first
	// OnReceive handles received bytes, which are valid during the call, and returns a reply. nil:
	// they are ignored.
	OnReceive func(b []byte) (reply []byte, err error)
	Ping      func() []byte // returns what to send at each PingInterval; may be nil
	// CloseMessage returns the last bytes to send. reason is io.EOF at the end of the stream, or
	// why the viewer must leave.
	CloseMessage func(reason error) []byte
	// OnClose is called when the socket is closed; err is io.EOF after the end of the stream.
	OnClose func(err error)
}

// A node holds some encoded frames and leads to the next node, so it keeps all later nodes in
// memory.
type node struct {
	next  atomic.Pointer[node]
	parts [][]byte
	size  int // of all parts
	// start and resume precede parts for a viewer that starts here, or skips to here; nil if none
	// may.
	start, resume []byte
	at            time.Time
	dts           time.Duration // of its last frame
	total         uint64        // bytes of all nodes up to this
	video, audio  int           // payload bytes
	gop           uint64        // number of starts up to this
	leading       bool          // not for viewers that started with this gop
	end           error         // set in the last node, which has no parts: why the stream ended
}

// A feed is the nodes of one stream.
type feed struct {
	broadcaster *Broadcaster
	name        domain.Name
	startGOPs   int // where the feed starts
	cancel      context.CancelFunc

	refs int // under Broadcaster.mu

	viewers []atomic.Int32 // number of viewers in each loop of the engine

	mu    sync.Mutex
	video bool // only keyframes are starts
	last  *node
	// starts are the nodes where viewers may start, oldest first: Options.GOPs of them, and those
	// that are not older than MaxLatency.
	starts []*node

	parts [][]byte // of the goroutine that encodes
}

// A Broadcaster holds the feeds in one wire format.
type Broadcaster struct {
	hub     *stream.Hub
	proto   string
	opt     Options
	encoder func() Encoder
	engine  *Engine

	mu    sync.Mutex
	feeds map[domain.Name]*feed
}

// New returns a Broadcaster of hub's streams for viewers by proto. Each feed gets an Encoder from
// encoder. Without an engine, New returns nil, which serves no viewers.
func New(hub *stream.Hub, engine *Engine, proto string, encoder func() Encoder, o Options) *Broadcaster {
	if engine == nil {
		return nil
	}
	return &Broadcaster{hub: hub, proto: proto, opt: o, encoder: encoder, engine: engine,
		feeds: make(map[domain.Name]*feed)}
}

var errNoStream = errors.New("fanout: no such stream")

// acquire returns the feed of name; the caller must release it. If the feed is new, it starts at
// the beginning of the stream for a viewer that waited, and otherwise where the viewer starts, so
// that a viewer does not meet again what the feed before could not carry.
func (f *Broadcaster) acquire(name domain.Name, waited bool) (*feed, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if fd := f.feeds[name]; fd != nil {
		fd.refs++
		return fd, nil
	}
	if !f.hub.Has(name) {
		return nil, errNoStream
	}
	ctx, cancel := context.WithCancel(context.Background())
	gops := max(1, f.opt.GOPs)
	if waited {
		gops = math.MaxInt
	}
	fd := &feed{broadcaster: f, name: name, startGOPs: gops, cancel: cancel, refs: 1, last: new(node),
		viewers: make([]atomic.Int32, f.engine.size())}
	f.feeds[name] = fd
	f.engine.wg.Go(func() { fd.run(ctx) })
	return fd, nil
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

// forget makes the next viewer of that name create a new feed. The caller holds f.mu.
func (f *Broadcaster) forget(fd *feed) {
	if f.feeds[fd.name] == fd {
		delete(f.feeds, fd.name)
	}
}

// maxNodeFrames is the most frames of one node.
const maxNodeFrames = 256

// run encodes the stream until it ends or has no viewers.
func (fd *feed) run(ctx context.Context) {
	defer fd.cancel()
	err := fd.readSafely(ctx)
	fd.broadcaster.mu.Lock()
	fd.broadcaster.forget(fd)
	fd.broadcaster.mu.Unlock()
	fd.append(&node{end: err, at: time.Now()}, false)
	fd.broadcaster.engine.wake(fd)
}

var errPanic = errors.New("fanout: internal error")

// readSafely is read, but a panic ends only this feed and its viewers.
func (fd *feed) readSafely(ctx context.Context) (err error) {
	defer func() {
		if r := recover(); r != nil {
			fd.broadcaster.opt.Log.Error("panic", "panic", r, "stream", fd.name.String(), "stack", string(debug.Stack()))
			err = errPanic
		}
	}()
	return fd.read(ctx)
}

func (fd *feed) read(ctx context.Context) error {
	f := fd.broadcaster
	sub, err := f.hub.Subscribe(ctx, fd.name, stream.SubscribeOptions{
		Viewer: stream.ViewerOptions{Proto: f.proto, Internal: true}, GOPs: fd.startGOPs,
	})
	if err != nil {
		return err
	}
	defer sub.Leave()
	enc := f.encoder()
	buf := make([]*media.Frame, maxNodeFrames)
	for {
		n, err := sub.Next(ctx, buf)
		if err != nil {
			return err
		}
		program := sub.Program()
		video := program.Has(media.Video)
		for from := 0; from < n; {
			to := from + 1
			for to < n && !isStart(buf[to], video) && buf[to].Leading == buf[from].Leading {
				to++
			}
			if err := fd.encode(enc, buf[from:to], program); err != nil {
				return err
			}
			from = to
		}
		clear(buf[:n])
		f.engine.wake(fd)
	}
}

// isStart reports whether a viewer may start at fr, so that a new node must start there. Without
// video, a viewer may start at any frame, which is no reason to split a node.
func isStart(fr *media.Frame, video bool) bool {
	return video && fr.Track.Kind == media.Video && fr.RAP != media.NoRandomAccess
}

var errReconnect = domain.Errorf(domain.Unavailable, "the stream has changed: reconnect")

func (fd *feed) encode(enc Encoder, frames []*media.Frame, program *media.Program) error {
	parts := enc.AppendFrames(fd.parts[:0], frames, program)
	if parts == nil {
		return errReconnect
	}
	nd := &node{parts: slices.Clone(parts), at: frames[0].Arrived, dts: frames[len(frames)-1].DTS,
		leading: frames[0].Leading}
	for _, p := range parts {
		nd.size += len(p)
	}
	clear(parts)
	fd.parts = parts
	for _, f := range frames {
		switch f.Track.Kind {
		case media.Video:
			nd.video += len(f.Payload)
		case media.Audio:
			nd.audio += len(f.Payload)
		}
	}
	video := program.Has(media.Video)
	if !video || isStart(frames[0], video) {
		nd.start, nd.resume = enc.StartHeader(frames[0], program), enc.ResumeHeader(frames[0], program)
	}
	fd.append(nd, video)
	return nil
}

// audioStartTime is how far back a viewer of an audio-only stream starts, to fill its player's
// buffer.
const audioStartTime = time.Second

// append makes nd the last node.
func (fd *feed) append(nd *node, video bool) {
	o := &fd.broadcaster.opt
	fd.mu.Lock()
	defer fd.mu.Unlock()
	nd.total, nd.gop = fd.last.total+uint64(nd.size), fd.last.gop
	fd.video = fd.video || video
	if nd.start != nil {
		nd.gop++
		fd.starts = append(fd.starts, nd)
		for video && len(fd.starts) > max(1, o.GOPs) && nd.dts-fd.starts[0].dts > o.MaxLatency {
			fd.starts = fd.starts[1:]
		}
	}
	for len(fd.starts) > 0 && (fd.tooOld(fd.starts[0], nd) || !video && len(fd.starts) > 1 &&
		nd.dts-fd.starts[0].dts > audioStartTime) {
		fd.starts = fd.starts[1:]
	}
	fd.last.next.Store(nd)
	fd.last = nd
}

// tooOld reports whether nd exceeds RingTime or RingBytes, with now as the newest node.
func (fd *feed) tooOld(nd, now *node) bool {
	o := &fd.broadcaster.opt
	return now.dts-nd.dts > o.RingTime || now.total-nd.total > uint64(o.RingBytes)
}

// startNode returns where a viewer starts, nil if it must wait. A viewer that waited for the stream
// starts as early as possible.
func (fd *feed) startNode(waited bool) *node {
	fd.mu.Lock()
	defer fd.mu.Unlock()
	switch n := len(fd.starts); {
	case n == 0:
		return nil
	case waited || !fd.video: // audio only: the oldest start is audioStartTime back
		return fd.starts[0]
	default:
		return fd.starts[max(0, n-max(1, fd.broadcaster.opt.GOPs))]
	}
}

// newest returns the last node and the newest start, which may be nil.
func (fd *feed) newest() (last, start *node) {
	fd.mu.Lock()
	defer fd.mu.Unlock()
	if n := len(fd.starts); n > 0 {
		start = fd.starts[n-1]
	}
	return fd.last, start
}
