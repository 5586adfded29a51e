// Package replica copies streams from the server that owns them to servers that replicate them: a
// Source sends the streams of its hub, and Follow writes one into the hub of another server. Both work
// on any connection. The package knows neither how servers find each other nor who may connect.
package replica

import (
	"cmp"
	"context"
	"errors"
	"io"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"livego/internal/cluster/wire"
	"livego/internal/deliver/segment"
	"livego/internal/domain"
	"livego/internal/media"
	"livego/internal/stream"
)

const (
	// maxNodeFrames is the most frames of one node.
	maxNodeFrames = 256
	// audioWindow is how long audio waits for the next picture, which saves a write. A replica may be 10 ms
	// behind its owner.
	audioWindow = 8 * time.Millisecond
	// firstParts is how many parts of the start are written at once: two for each frame.
	firstParts = 64
	// maxWriteBytes is about how many bytes are written at once, so that a peer that reads slowly is
	// noticed.
	maxWriteBytes = 1 << 20
)

// Why a connection is closed: the peer is too far behind, or frames that it needs were dropped. The peer
// connects again, and starts with a new Hello.
var (
	errOverrun = domain.Errorf(domain.Unavailable, "overrun: the replica does not keep up")
	errMissed  = domain.Errorf(domain.Unavailable, "overrun: frames were dropped before they were sent")
)

// SourceOptions of a Source. A zero value has the default that its comment gives.
type SourceOptions struct {
	Node string // ID of this server
	// Snapshot returns the state of the segmenter of a stream, false if it is not segmented.
	Snapshot func(context.Context, domain.Name) (*segment.Snapshot, bool)
	// Final returns the state of a session that has ended, when it is segmented to its end, and the last
	// segment: see the package hls.
	Final func(context.Context, domain.Name) (*segment.Snapshot, *segment.Sealed)
	// FinalTimeout is how long the end of a stream waits for its last segment; 3 s.
	FinalTimeout time.Duration
	// GOPs returns from which newest GOP on a replica gets the stream, for its viewers; 1.
	GOPs         func() int
	PingInterval time.Duration // 1 s
	WriteTimeout time.Duration // the longest time in which a peer receives nothing; 5 s
	MaxBehind    int           // how many bytes a peer may be behind; 16 MiB
}

// A Source sends streams to servers that replicate them. All that replicate a stream share what is
// encoded. No picture waits for a batching window.
type Source struct {
	hub *stream.Hub
	opt SourceOptions

	mu    sync.Mutex
	feeds map[domain.Name]*feed
}

// NewSource returns a Source of hub's streams.
func NewSource(hub *stream.Hub, o SourceOptions) *Source {
	if o.GOPs == nil {
		o.GOPs = func() int { return 1 }
	}
	o.FinalTimeout = cmp.Or(o.FinalTimeout, 3*time.Second)
	o.PingInterval = cmp.Or(o.PingInterval, time.Second)
	o.WriteTimeout = cmp.Or(o.WriteTimeout, 5*time.Second)
	o.MaxBehind = cmp.Or(o.MaxBehind, 16<<20)
	return &Source{hub: hub, opt: o, feeds: make(map[domain.Name]*feed)}
}

// A node is encoded records, and leads to the next one.
type node struct {
	next  atomic.Pointer[node]
	parts [][]byte // shared: not modified
	size  int
	total uint64 // bytes of all nodes up to this
	end   error  // of the last node: io.EOF at the end of the stream
}

// A feed is the encoded records of one session.
type feed struct {
	name   domain.Name
	sub    *stream.Subscriber
	cancel context.CancelFunc
	done   chan struct{} // closed when its goroutine has ended
	refs   int           // under Source.mu

	mu      sync.Mutex
	enc     wire.Encoder
	last    *node
	next    uint64        // Seq of the frame after last
	changed chan struct{} // closed with the next node
}

// acquire returns the feed of name, which the caller must release.
func (s *Source) acquire(ctx context.Context, name domain.Name) (*feed, error) {
	// Subscribing waits until viewers may start: without the lock.
	sub, err := s.hub.Subscribe(ctx, name, stream.SubscribeOptions{
		Viewer: stream.ViewerOptions{Proto: "replica", Internal: true}, Every: true, Notes: true,
	})
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if fd := s.feeds[name]; fd != nil && fd.sub.Epoch() == sub.Epoch() {
		sub.Leave()
		fd.refs++
		return fd, nil
	}
	sub.SeekStart(0)
	sub.SetWindow(0, audioWindow)
	runCtx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	fd := &feed{name: name, sub: sub, cancel: cancel, done: make(chan struct{}), refs: 1, last: new(node),
		next: sub.Position(), changed: make(chan struct{})}
	s.feeds[name] = fd
	go func() {
		defer close(fd.done)
		defer sub.Leave()
		fd.append(nil, 0, s.run(runCtx, fd))
		s.forget(fd)
	}()
	return fd, nil
}

func (s *Source) forget(fd *feed) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.feeds[fd.name] == fd {
		delete(s.feeds, fd.name)
	}
}

// release drops a reference to fd, which ends at the last one.
func (s *Source) release(fd *feed) {
	s.mu.Lock()
	fd.refs--
	last := fd.refs == 0
	if last && s.feeds[fd.name] == fd {
		delete(s.feeds, fd.name)
	}
	s.mu.Unlock()
	if last {
		fd.cancel()
		<-fd.done
	}
}

// run encodes the session of fd until it ends.
func (s *Source) run(ctx context.Context, fd *feed) error {
	buf := make([]*media.Frame, maxNodeFrames)
	for {
		n, err := fd.sub.Next(ctx, buf)
		switch {
		case n > 0:
			fd.appendFrames(buf[:n])
			clear(buf[:n])
		case errors.Is(err, stream.ErrMark):
			if m, ok := fd.sub.Mark(); ok {
				fd.appendMark(m)
			}
		case errors.Is(err, io.EOF):
			if sn, last := s.final(ctx, fd.name); sn != nil && last != nil && sn.Epoch() == fd.sub.Epoch() {
				seal := wire.Seal(last.Seal())
				fd.appendRecord(&seal)
			}
			fd.appendRecord(wire.End{Seq: fd.sub.Position()})
			return io.EOF
		case errors.Is(err, stream.ErrMissed):
			return errMissed
		default:
			return err
		}
	}
}

// final is SourceOptions.Final within its time.
func (s *Source) final(ctx context.Context, name domain.Name) (*segment.Snapshot, *segment.Sealed) {
	if s.opt.Final == nil {
		return nil, nil
	}
	ctx, cancel := context.WithTimeout(ctx, s.opt.FinalTimeout)
	defer cancel()
	return s.opt.Final(ctx, name)
}

func (fd *feed) appendFrames(frames []*media.Frame) {
	fd.mu.Lock()
	defer fd.mu.Unlock()
	fd.appendLocked(encodeFrames(&fd.enc, frames), frames[len(frames)-1].Seq+1, nil)
}

// encodeFrames returns the records of frames.
func encodeFrames(e *wire.Encoder, frames []*media.Frame) (parts [][]byte) {
	parts = make([][]byte, 0, 2*len(frames))
	head := make([]byte, 0, 64*len(frames))
	for _, f := range frames {
		parts, head = e.AppendFrame(parts, head, f)
	}
	return parts
}

func (fd *feed) appendMark(m stream.Mark) {
	if r := markRecord(m); r != nil {
		fd.appendRecord(r)
	}
}

// markRecord returns the record of a mark, nil if it has none.
func markRecord(m stream.Mark) wire.Record {
	switch m.Kind {
	case stream.Paused:
		return wire.Pause{Seq: m.Seq}
	case stream.Continued:
		return wire.Resume{Seq: m.Seq}
	case stream.Noted:
		if sealed, ok := m.Value.(segment.Sealed); ok {
			seal := wire.Seal(sealed.Seal())
			return &seal
		}
	}
	return nil
}

func (fd *feed) appendRecord(r wire.Record) {
	fd.mu.Lock()
	defer fd.mu.Unlock()
	fd.appendLocked([][]byte{fd.enc.Append(nil, r)}, fd.next, nil)
}

func (fd *feed) append(parts [][]byte, next uint64, end error) {
	fd.mu.Lock()
	defer fd.mu.Unlock()
	fd.appendLocked(parts, max(next, fd.next), end)
}

// appendLocked appends a node. next is the Seq of the frame after it. The caller holds fd.mu.
func (fd *feed) appendLocked(parts [][]byte, next uint64, end error) {
	nd := &node{parts: parts, end: end}
	for _, p := range parts {
		nd.size += len(p)
	}
	nd.total = fd.last.total + uint64(nd.size)
	fd.last.next.Store(nd)
	fd.last, fd.next = nd, next
	close(fd.changed)
	fd.changed = make(chan struct{})
}

// position returns the last node, and a channel that is closed with the next one.
func (fd *feed) position() (last *node, changed <-chan struct{}) {
	fd.mu.Lock()
	defer fd.mu.Unlock()
	return fd.last, fd.changed
}

// Serve sends the session of name on nc until it ends, ctx ends, or the peer does not keep up. after is the
// Seq of the next frame that the peer's hub needs, 0 if it has no session. If it has one, and the session of
// name has ended, it gets the last state, if that is kept. Serve closes nc.
func (s *Source) Serve(ctx context.Context, nc net.Conn, name domain.Name, after uint64) error {
	defer nc.Close()
	defer context.AfterFunc(ctx, func() { nc.Close() })()
	w := &writer{nc: nc, timeout: s.opt.WriteTimeout}
	fd, start, first, err := s.prepare(ctx, w, name, after)
	if fd != nil {
		defer s.release(fd)
	}
	if err != nil {
		return w.refuse(err)
	}
	if err := w.writeAll(first); err != nil || fd == nil {
		return err
	}
	return s.follow(ctx, w, fd, start)
}

// prepare returns the feed of name, which the caller must release, the node after which the connection
// continues, and the records before; no feed, and all records, if the session has ended. It sends pings
// while it waits: a stream may have no frames for the time of track_wait. If the peer has gone, it stops.
func (s *Source) prepare(ctx context.Context, w *writer, name domain.Name, after uint64) (fd *feed, start *node,
	first [][]byte, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	var pings sync.WaitGroup
	defer pings.Wait()
	defer cancel(nil)
	pings.Go(func() { cancel(s.ping(ctx, w)) })
	fd, err = s.acquire(ctx, name)
	if domain.KindOf(err) == domain.NotFound && after > 0 {
		if sn, _ := s.final(ctx, name); sn != nil {
			return nil, nil, s.ended(sn), nil
		}
	}
	if err == nil {
		start, first, err = s.join(ctx, fd, after)
	}
	return fd, start, first, err
}

// ping sends pings until an error or the end of ctx.
func (s *Source) ping(ctx context.Context, w *writer) error {
	ticker := time.NewTicker(s.opt.PingInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			if err := w.write(new(wire.Encoder).Append(nil, wire.Ping{})); err != nil {
				return err
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// refuse sends why the connection is closed, and returns err.
func (w *writer) refuse(err error) error {
	_ = w.write(new(wire.Encoder).Append(nil, wire.Close{Reason: domain.Reason(err)}))
	return err
}

// join returns the node after which a new connection continues, and what it gets before: the Hello, the
// frames to which the state of the segmenter refers, and the frames up to that node.
func (s *Source) join(ctx context.Context, fd *feed, after uint64) (start *node, first [][]byte, err error) {
	info, ok := s.hub.Info(fd.name)
	if !ok {
		return nil, nil, domain.Errorf(domain.NotFound, "nobody is publishing %s", fd.name)
	}
	sub, err := s.hub.Subscribe(ctx, fd.name, stream.SubscribeOptions{
		Viewer: stream.ViewerOptions{Proto: "replica", Internal: true}, Every: true, Notes: true,
	})
	if err != nil {
		return nil, nil, err
	}
	defer sub.Leave()
	var sn *segment.Snapshot
	if s.opt.Snapshot != nil {
		if sn, ok = s.opt.Snapshot(ctx, fd.name); !ok {
			sn = nil
		}
	}
	sub.SeekStart(s.opt.GOPs())
	from := sub.Position()
	if sn != nil {
		from = min(from, sn.Next())
	}
	if after > 0 && after < from && sub.Has(after) {
		from = after
	}
	sub.Seek(from)

	fd.mu.Lock()
	defer fd.mu.Unlock()
	from = min(from, fd.next)
	sub.Seek(from)
	enc := fd.enc.Fork()
	defer fd.enc.Join(enc)
	hello := &wire.Hello{Version: wire.Version, Epoch: info.Epoch, Path: []string{s.opt.Node}, Since: info.Since,
		From: from, ReadyAt: fd.next}
	var state []*media.Frame // before from
	if sn != nil {
		describe(hello, sn, enc)
		for _, f := range sn.Frames {
			if f.Seq < from {
				state = append(state, f)
			}
		}
		hello.StateFrames = uint64(len(state))
	}
	first = append(first, enc.Append(nil, hello))
	first = append(first, encodeFrames(enc, state)...)
	if first, err = catchUp(sub, enc, first, fd.next); err != nil {
		return nil, nil, err
	}
	return fd.last, append(first, fd.enc.AppendProgram(nil)), nil
}

// ended returns the records of a session that has ended, whose last state is sn.
func (s *Source) ended(sn *segment.Snapshot) [][]byte {
	var enc wire.Encoder
	hello := &wire.Hello{Version: wire.Version, Epoch: sn.Epoch(), Path: []string{s.opt.Node}, From: sn.Next(),
		ReadyAt: sn.Next()}
	describe(hello, sn, &enc)
	return [][]byte{enc.Append(nil, hello), enc.Append(nil, wire.End{Seq: sn.Next()})}
}

// describe sets what a Hello says about the segmenter.
func describe(h *wire.Hello, sn *segment.Snapshot, enc *wire.Encoder) {
	known := map[*media.Track]bool{}
	h.BytesVersion, h.CutterNext = segment.BytesVersion, sn.Next()
	h.Cutter = sn.AppendRecord(nil, func(t *media.Track) uint64 {
		id := enc.TrackID(t)
		if !known[t] {
			known[t] = true
			h.Tracks = append(h.Tracks, wire.NumberedTrack{ID: id, Track: t})
		}
		return id
	})
}

// catchUp appends the records up to the frame next, and the marks before that one.
func catchUp(sub *stream.Subscriber, enc *wire.Encoder, parts [][]byte, next uint64) ([][]byte, error) {
	buf := make([]*media.Frame, maxNodeFrames)
	for {
		room := min(uint64(len(buf)), next-sub.Position())
		n, err := sub.Poll(buf[:room])
		parts = append(parts, encodeFrames(enc, buf[:n])...)
		if n > 0 {
			continue
		}
		if m, ok := sub.Mark(); ok {
			if r := markRecord(m); r != nil {
				parts = append(parts, enc.Append(nil, r))
			}
			continue
		}
		switch {
		case errors.Is(err, stream.ErrMissed):
			return nil, errMissed
		case err != nil && !errors.Is(err, io.EOF):
			return nil, err
		}
		return parts, nil
	}
}

// follow sends what comes after nd.
func (s *Source) follow(ctx context.Context, w *writer, fd *feed, nd *node) error {
	ping := time.NewTicker(s.opt.PingInterval)
	defer ping.Stop()
	for {
		last, changed := fd.position()
		if last.total-nd.total > uint64(s.opt.MaxBehind) {
			return w.refuse(errOverrun)
		}
		var parts [][]byte
		size := 0
		for next := nd.next.Load(); next != nil && size < maxWriteBytes; next = nd.next.Load() {
			if nd = next; nd.end != nil {
				break
			}
			parts, size = append(parts, nd.parts...), size+nd.size
		}
		if len(parts) > 0 {
			if err := w.write(parts...); err != nil {
				return err
			}
			ping.Reset(s.opt.PingInterval)
		}
		switch {
		case nd.end == io.EOF:
			return nil
		case nd.end != nil:
			return w.refuse(nd.end)
		case len(parts) > 0:
			continue
		}
		select {
		case <-changed:
		case <-ping.C:
			if err := w.write(new(wire.Encoder).Append(nil, wire.Ping{})); err != nil {
				return err
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// A writer writes to one peer.
type writer struct {
	nc       net.Conn
	timeout  time.Duration // for one call of write
	deadline time.Time     // of nc
	record   []byte
}

// maxRecord is the payload of the largest TLS record (RFC 8446 section 5.1). Each write makes one.
const maxRecord = 16 << 10

// write writes parts, which it does not modify, in as few records as possible.
func (w *writer) write(parts ...[]byte) error {
	if w.record == nil {
		w.record = make([]byte, 0, maxRecord)
	}
	if now := time.Now(); w.deadline.Sub(now) < w.timeout/2 { // setting it costs a tenth of a write
		w.deadline = now.Add(w.timeout)
		if err := w.nc.SetWriteDeadline(w.deadline); err != nil {
			return err
		}
	}
	for _, p := range parts {
		for len(p) > 0 {
			n := min(len(p), maxRecord-len(w.record))
			w.record, p = append(w.record, p[:n]...), p[n:]
			if len(w.record) == maxRecord {
				if err := w.flush(); err != nil {
					return err
				}
			}
		}
	}
	return w.flush()
}

// writeAll is write for a start of any size, which may take longer.
func (w *writer) writeAll(parts [][]byte) error {
	for parts := range slices.Chunk(parts, firstParts) {
		if err := w.write(parts...); err != nil {
			return err
		}
	}
	return nil
}

func (w *writer) flush() error {
	_, err := w.nc.Write(w.record)
	w.record = w.record[:0]
	return err
}
