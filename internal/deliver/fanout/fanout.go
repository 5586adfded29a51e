// Package fanout sends one stream to many plain TCP sockets at about the price of the system calls:
// every viewer who stands at the same place is sent the same contiguous bytes, by a few goroutines
// that try every socket without blocking. It knows no protocol: an Encoder lays frames out, and
// what comes from a viewer goes to whoever brought him.
//
// It takes sockets off the runtime's poller, whose write events and scheduler hand-offs cost more
// than the writes. What is not a plain TCP socket on Linux is served by a goroutine each, by the
// edges.
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

// An Encoder lays the frames of one stream out for a wire. One goroutine uses it.
type Encoder interface {
	// StartHeader returns what a viewer is sent before he starts with f, and Again what one is who
	// goes on with f after a skip. Both are shared: they are not modified after.
	StartHeader(f *media.Frame, known []*media.Track) []byte
	ResumeHeader(f *media.Frame, known []*media.Track) []byte
	// AppendFrames appends to parts frames laid out one after the other, with what has changed before
	// each. The parts are not modified after; they may be the frames' own. It returns nil when the
	// viewers cannot go on, and must come back.
	AppendFrames(parts [][]byte, frames []*media.Frame, known []*media.Track) [][]byte
}

// Options of a Fan.
type Options struct {
	WriteTimeout  time.Duration // the longest time without write progress to a viewer
	PingInterval  time.Duration // between calls of Conn.Ping
	LingerTimeout time.Duration // for a viewer to read the last words
	MaxLatency    time.Duration // how far behind a viewer may fall before he is moved to a newer start
	RingTime      time.Duration // how much a viewer may make us hold, in time
	RingBytes     int           // and in bytes
	Log           *slog.Logger
	GOPs          int // at which start, counted back from the newest, viewers begin; at least 1
}

// A Conn is a viewer with his socket. The functions are called one at a time and must not block.
type Conn struct {
	Viewer *stream.Viewer
	// came before the stream: starts at its beginning, as far as that is kept
	Waited bool
	Prefix []byte // sent before all else
	// b is valid during the call; nil: what is received does not matter
	OnReceive    func(b []byte) (reply []byte, err error)
	Ping         func() []byte             // what to send now and then; may be nil
	CloseMessage func(reason error) []byte // the last words: io.EOF for the stream's end, or why he must go
	OnClose      func(err error)           // the socket is closed; io.EOF when the stream had ended
}

// A node is some frames laid out, and the way to the next. Who holds a node holds all that follow it.
type node struct {
	next          atomic.Pointer[node]
	parts         [][]byte
	size          int    // of parts together
	start, resume []byte // what precedes parts for who starts here, or skips to here; nil where nobody can
	at            time.Time
	dts           time.Duration // of the last frame
	total         uint64        // bytes of all nodes up to this
	video, audio  int           // payload bytes
	gop           uint64        // counts starts up to this
	leading       bool          // all of it is not for who started with this gop
	end           error         // the stream's end: no parts, nothing follows
}

// A feed is the nodes of one stream.
type feed struct {
	broadcaster *Broadcaster
	name        domain.Name
	startGOPs   int // where the feed begins
	cancel      context.CancelFunc

	refs int // under Fan.mu

	viewers []atomic.Int32 // how many viewers are with each loop of the engine

	mu    sync.Mutex
	video bool // starts are keyframes
	last  *node
	// where viewers may start, oldest first: as many as GOPs says, and those that are not older than
	// MaxLatency
	starts []*node

	parts [][]byte // of the goroutine that lays out
}

// A Broadcaster holds the feeds of one form.
type Broadcaster struct {
	hub     *stream.Hub
	proto   string
	opt     Options
	encoder func() Encoder
	engine  *Engine

	mu    sync.Mutex
	feeds map[domain.Name]*feed
}

// New returns a Fan of the streams of hub for viewers by proto, whose form is that of encoder, each
// feed with an Encoder of its own; nil, which carries nothing, where there is no engine.
func New(hub *stream.Hub, engine *Engine, proto string, encoder func() Encoder, o Options) *Broadcaster {
	if engine == nil {
		return nil
	}
	return &Broadcaster{hub: hub, proto: proto, opt: o, encoder: encoder, engine: engine,
		feeds: make(map[domain.Name]*feed)}
}

var errNoStream = errors.New("fan: no such stream")

// acquire returns the feed of name, which release gives up. For a viewer that waited, a new feed
// begins with all that there is of the stream; for another with what it is to see, so that no
// viewer meets again what a feed before could not carry.
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

// release gives up one use of fd; without any it ends.
func (f *Broadcaster) release(fd *feed) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if fd.refs--; fd.refs == 0 {
		fd.cancel()
		f.forget(fd)
	}
}

// forget makes the next viewer of that name begin a new feed. Caller holds f.mu.
func (f *Broadcaster) forget(fd *feed) {
	if f.feeds[fd.name] == fd {
		delete(f.feeds, fd.name)
	}
}

// maxNodeFrames is how many frames one node takes at most.
const maxNodeFrames = 256

// run lays out the stream until it ends or nobody watches.
func (fd *feed) run(ctx context.Context) {
	defer fd.cancel()
	err := fd.readSafely(ctx)
	fd.broadcaster.mu.Lock()
	fd.broadcaster.forget(fd)
	fd.broadcaster.mu.Unlock()
	fd.append(&node{end: err, at: time.Now()}, false)
	fd.broadcaster.engine.wake(fd)
}

var errPanic = errors.New("fan: internal error")

// readSafely is read, but for panics: they end this feed, whose viewers go, and no other.
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
	var known []*media.Track
	video := false
	for {
		n, err := sub.Next(ctx, buf)
		if err != nil {
			return err
		}
		if !covers(known, buf[:n]) {
			known = sub.Tracks()
			video = slices.ContainsFunc(known, func(t *media.Track) bool { return t.Kind == media.Video })
		}
		for from := 0; from < n; {
			to := from + 1
			for to < n && !isStart(buf[to], video) && buf[to].Leading == buf[from].Leading {
				to++
			}
			if err := fd.encode(enc, buf[from:to], known, video); err != nil {
				return err
			}
			from = to
		}
		clear(buf[:n])
		f.engine.wake(fd)
	}
}

// covers reports whether all tracks of frames are among known.
func covers(known []*media.Track, frames []*media.Frame) bool {
	for _, f := range frames {
		if !slices.Contains(known, f.Track) {
			return false
		}
	}
	return true
}

// isStart reports whether a viewer may start at fr, so that a node must begin with it. Where there
// is no video that is anywhere, and no reason to divide what came together.
func isStart(fr *media.Frame, video bool) bool {
	return video && fr.Track.Kind == media.Video && fr.RAP != media.NoRandomAccess
}

var errReconnect = domain.Errorf(domain.Unavailable, "the stream has changed: come back")

func (fd *feed) encode(enc Encoder, frames []*media.Frame, known []*media.Track, video bool) error {
	parts := enc.AppendFrames(fd.parts[:0], frames, known)
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
	if !video || isStart(frames[0], video) {
		nd.start, nd.resume = enc.StartHeader(frames[0], known), enc.ResumeHeader(frames[0], known)
	}
	fd.append(nd, video)
	return nil
}

// audioStartTime is how far back a viewer of audio alone starts, to fill his player's buffer.
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

// tooOld reports whether a node is more than anybody may make us hold, when now is the newest.
func (fd *feed) tooOld(nd, now *node) bool {
	o := &fd.broadcaster.opt
	return now.dts-nd.dts > o.RingTime || now.total-nd.total > uint64(o.RingBytes)
}

// startNode returns where a viewer starts, nil when it must wait. One that waited for the stream
// starts as early as possible.
func (fd *feed) startNode(waited bool) *node {
	fd.mu.Lock()
	defer fd.mu.Unlock()
	switch n := len(fd.starts); {
	case n == 0:
		return nil
	case waited || !fd.video: // sound alone: the oldest start is audioStartTime back
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
