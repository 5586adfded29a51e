package fanout

import (
	"context"
	"log/slog"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"livego/internal/media"
	"livego/internal/ops/netx"
	"livego/internal/stream"
)

// A node holds some encoded frames and leads to the next node, so it keeps all later nodes in
// memory.
type node struct {
	next  atomic.Pointer[node]
	parts [][]byte
	size  int // of all parts
	// start and resume precede parts for a viewer that starts here, or skips to here; nil if none
	// may.
	start, resume []byte
	// audioParts are the frames but those of video, and audioStart precedes them, for viewers that
	// start in the middle of a GOP; nil if there is none such.
	audioParts   [][]byte
	audioStart   []byte
	at           time.Time
	dts          time.Duration // of its last frame
	total        uint64        // bytes of all nodes up to this
	video, audio int           // payload bytes
	gop          uint64        // number of starts up to this
	forGOPs      uint64        // the newest gop with which a viewer may have started to decode this
	config       uint64        // number of changes of tracks and metadata up to this
	end          error         // set in the last node, which has no parts: why the stream ended
}

// anyGOP is the forGOPs of a node for all viewers.
const anyGOP = math.MaxUint64

// A feed is the nodes of one stream in one format.
type feed struct {
	feedKey
	broadcaster *Broadcaster
	cancel      context.CancelFunc

	refs int // under Broadcaster.mu

	viewers []atomic.Int32 // number of viewers in each loop of the engine

	mu    sync.Mutex
	video bool // only keyframes are starts
	last  *node
	// starts are the nodes where viewers may start, oldest first: Options.GOPs of them, and those
	// that are not older than MaxLatency.
	starts  []*node
	changed chan struct{} // closed at the next node; nil if nobody waits for it

	feedEncoder // of the goroutine that encodes
}

// A feedEncoder is the state of the goroutine that encodes.
type feedEncoder struct {
	enc, audioEnc Encoder // audioEnc is nil until it is needed
	program       *media.Program
	meta          *media.Meta
	config        uint64
	numbered      uint64         // number of starts, of audio alone too, as in node.gop
	gop, lastGOP  uint64         // of the newest keyframe that is a start, and of the one before; 0: none
	trackGOPs     [256]uint64    // the gop of the newest random access point of each video track, by ID
	parts         [][]byte       // reused
	others        []*media.Frame // that are not video; reused
}

func newFeed(f *Broadcaster, key feedKey, cancel context.CancelFunc) *feed {
	return &feed{feedKey: key, broadcaster: f, cancel: cancel, refs: 1, last: new(node),
		viewers:     make([]atomic.Int32, f.engine.size()),
		feedEncoder: feedEncoder{enc: key.format.NewEncoder(), program: new(media.Program)}}
}

// maxNodeFrames is the most frames of one node.
const maxNodeFrames = 256

// run encodes the stream, from its gopsth newest start on, until it ends or has no viewers.
func (fd *feed) run(ctx context.Context, gops int) {
	defer fd.cancel()
	err := fd.readSafely(ctx, gops)
	fd.broadcaster.mu.Lock()
	fd.broadcaster.forget(fd)
	fd.broadcaster.mu.Unlock()
	fd.append(&node{end: err, at: time.Now(), forGOPs: anyGOP})
	fd.wake()
}

// readSafely is read, but a panic ends only this feed and its viewers.
func (fd *feed) readSafely(ctx context.Context, gops int) (err error) {
	defer fd.broadcaster.recoverTo(&err, slog.String("stream", fd.name.String()))
	return fd.read(ctx, gops)
}

func (fd *feed) read(ctx context.Context, gops int) error {
	f := fd.broadcaster
	sub, err := f.hub.Subscribe(ctx, fd.name, stream.SubscribeOptions{
		Viewer: stream.ViewerOptions{Proto: f.proto, Internal: true}, GOPs: gops, AllTracks: fd.format.AllTracks(),
	})
	if err != nil {
		return err
	}
	defer sub.Leave()
	buf := make([]*media.Frame, maxNodeFrames)
	for {
		sub.SetWindow(f.options().BatchWindow(sub.ProtoViewers()))
		n, err := sub.Next(ctx, buf)
		if err != nil {
			return err
		}
		fd.observe(buf[:n], sub.Program())
		if err := fd.encodeAll(buf[:n]); err != nil {
			return err
		}
		clear(buf[:n])
		fd.wake()
	}
}

// observe records the tracks and the metadata of frames. If another video track becomes the default,
// no viewer starts with the one before any more.
func (fd *feed) observe(frames []*media.Frame, program *media.Program) {
	meta := frames[len(frames)-1].Meta
	if program == fd.program && meta == fd.meta {
		return
	}
	before := fd.program
	fd.program, fd.meta = program, meta
	fd.config++
	fd.mu.Lock()
	defer fd.mu.Unlock()
	fd.video = program.Has(media.Video)
	joined := before.Discontinuity != program.Discontinuity
	if t := before.Default(media.Video); t != nil && !joined && !program.IsDefault(t) {
		fd.starts = nil
	}
}

// isStart reports whether a viewer may start at fr, so that a new node must start there. Without
// video, a viewer may start at any frame, which is no reason to split a node.
func (fd *feed) isStart(fr *media.Frame) bool {
	return fd.video && fr.Track.Kind == media.Video && fr.RAP != media.NoRandomAccess && fr.IsDefault(fd.program)
}

// encodeAll encodes frames as nodes: a new one at each start, and where it changes which viewers can
// decode the frames.
func (fd *feed) encodeAll(frames []*media.Frame) error {
	from, forGOPs := 0, uint64(anyGOP)
	for i, fr := range frames {
		start := fd.isStart(fr)
		if start {
			fd.numbered++
			fd.lastGOP, fd.gop = fd.gop, fd.numbered
		}
		can := fd.decodableFor(fr)
		if i > from && (start || can != forGOPs) {
			if err := fd.encode(frames[from:i], forGOPs); err != nil {
				return err
			}
			from = i
		}
		forGOPs = can
	}
	return fd.encode(frames[from:], forGOPs)
}

// decodableFor returns the newest gop with which a viewer may have started to decode fr. A leading
// picture refers to pictures before its gop, and a picture of a video track that is not the default to
// the newest random access point of that track.
func (fd *feed) decodableFor(fr *media.Frame) uint64 {
	if fr.Track.Kind != media.Video || fd.gop == 0 {
		return anyGOP
	}
	if fr.RAP != media.NoRandomAccess {
		fd.trackGOPs[fr.Track.ID] = fd.gop // also of the default, which may continue as another
		return anyGOP
	}
	switch isDefault := fr.IsDefault(fd.program); {
	case isDefault && fr.Leading:
		return fd.lastGOP
	case !isDefault && fd.trackGOPs[fr.Track.ID] < fd.gop:
		return fd.trackGOPs[fr.Track.ID]
	}
	return anyGOP
}

func (fd *feed) encode(frames []*media.Frame, forGOPs uint64) error {
	parts, err := fd.enc.AppendFrames(fd.parts[:0], frames, fd.program)
	if err != nil {
		return err
	}
	first := frames[0]
	nd := &node{parts: slices.Clone(parts), at: first.Arrived, dts: frames[len(frames)-1].DTS, forGOPs: forGOPs,
		config: fd.config}
	for _, p := range parts {
		nd.size += len(p)
	}
	clear(parts)
	fd.parts = parts
	for _, fr := range frames {
		switch fr.Track.Kind {
		case media.Video:
			nd.video += len(fr.Payload)
		case media.Audio:
			nd.audio += len(fr.Payload)
		}
	}
	if !fd.video {
		fd.numbered++
	}
	switch {
	case !fd.video || fd.isStart(first):
		nd.start, nd.resume = fd.enc.StartHeader(first, fd.program), fd.enc.ResumeHeader(first, fd.program)
	case fd.startsMidGOP():
		if err := fd.encodeAudio(nd, frames); err != nil {
			return err
		}
	}
	fd.append(nd)
	return nil
}

// startsMidGOP reports whether viewers start in the middle of a GOP: at the live edge, or because no
// start is kept.
func (fd *feed) startsMidGOP() bool {
	fd.mu.Lock()
	defer fd.mu.Unlock()
	return fd.video && (fd.broadcaster.options().GOPs == 0 || len(fd.starts) == 0)
}

// encodeAudio encodes the frames that are not video, for viewers that start in the middle of a GOP.
func (fd *feed) encodeAudio(nd *node, frames []*media.Frame) (err error) {
	fd.others = fd.others[:0]
	for _, fr := range frames {
		if fr.Track.Kind != media.Video {
			fd.others = append(fd.others, fr)
		}
	}
	defer clear(fd.others)
	if len(fd.others) == 0 {
		return nil
	}
	if fd.audioEnc == nil {
		fd.audioEnc = fd.format.NewEncoder()
	}
	nd.audioStart = fd.audioEnc.StartHeader(fd.others[0], fd.program)
	nd.audioParts, err = fd.audioEnc.AppendFrames(nil, fd.others, fd.program)
	return err
}

// audioStartTime is how far back a viewer of an audio-only stream starts, to fill its player's
// buffer.
const audioStartTime = time.Second

// append makes nd the last node.
func (fd *feed) append(nd *node) {
	o := fd.broadcaster.options()
	fd.mu.Lock()
	defer fd.mu.Unlock()
	nd.total, nd.gop = fd.last.total+uint64(nd.size), fd.last.gop
	if nd.start != nil {
		nd.gop++
		fd.starts = append(fd.starts, nd)
		for fd.video && len(fd.starts) > max(1, o.GOPs) && nd.dts-fd.starts[0].dts > o.MaxLatency {
			fd.starts = fd.starts[1:]
		}
	}
	for len(fd.starts) > 0 && (fd.tooOld(fd.starts[0], nd) || !fd.video && len(fd.starts) > 1 &&
		nd.dts-fd.starts[0].dts > audioStartTime) {
		fd.starts = fd.starts[1:]
	}
	fd.last.next.Store(nd)
	fd.last = nd
}

// wake notifies the transports of the viewers that there are new nodes.
func (fd *feed) wake() {
	fd.broadcaster.engine.wake(fd)
	fd.mu.Lock()
	defer fd.mu.Unlock()
	if fd.changed != nil {
		close(fd.changed)
		fd.changed = nil
	}
}

// watch returns a channel that is closed when there are new nodes.
func (fd *feed) watch() <-chan struct{} {
	fd.mu.Lock()
	defer fd.mu.Unlock()
	if fd.changed == nil {
		fd.changed = make(chan struct{})
	}
	return fd.changed
}

// tooOld reports whether nd exceeds RingTime or RingBytes, with now as the newest node.
func (fd *feed) tooOld(nd, now *node) bool {
	o := fd.broadcaster.options()
	return now.dts-nd.dts > o.RingTime || now.total-nd.total > uint64(o.RingBytes)
}

// startNode returns the node where a viewer starts; nil if it starts at the live edge, or if there
// is none. A viewer that waited for the stream starts as early as possible.
func (fd *feed) startNode(waited bool) *node {
	fd.mu.Lock()
	defer fd.mu.Unlock()
	gops := fd.broadcaster.options().GOPs
	switch n := len(fd.starts); {
	case n == 0 || gops == 0:
		return nil
	case waited || !fd.video: // audio only: the oldest start is audioStartTime back
		return fd.starts[0]
	default:
		return fd.starts[max(0, n-gops)]
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

// unsentLimit returns about how many bytes 250 ms of the stream have: what a viewer's socket may
// hold unsent (TCP_NOTSENT_LOWAT). For a viewer that receives at half the stream's rate, these are
// 500 ms before it counts as slow.
func (fd *feed) unsentLimit() int {
	const least, most, shortest = 32 << 10, 4 << 20, 250 * time.Millisecond
	fd.mu.Lock()
	defer fd.mu.Unlock()
	if len(fd.starts) == 0 || fd.last.dts-fd.starts[0].dts < shortest {
		return netx.MaxUnsent
	}
	bytes, period := fd.last.total-fd.starts[0].total, fd.last.dts-fd.starts[0].dts
	return max(least, min(most, int(float64(bytes)*queueTime.Seconds()/period.Seconds())))
}
