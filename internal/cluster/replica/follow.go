package replica

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"time"

	"livego/internal/cluster/wire"
	"livego/internal/deliver/segment"
	"livego/internal/domain"
	"livego/internal/media"
	"livego/internal/stream"
)

// readBuffer is how many bytes are read at once.
const readBuffer = 64 << 10

// frameOverhead is the memory of a frame beside its payload.
const frameOverhead = 512

// Errors after which Follow does not connect again.
var (
	errEnded = errors.New("the stream has ended")
	errLoop  = errors.New("the stream comes from this server")
)

// FollowOptions of Follow. A zero value has the default that its comment gives.
type FollowOptions struct {
	Node string // ID of this server
	// Dial connects to the owner. after is as in Source.Serve.
	Dial        func(ctx context.Context, after uint64) (net.Conn, error)
	ReadTimeout time.Duration // the longest time without a record; 3 s
	// Hold is how long the session outlives the connection to its owner, or connections that end
	// within ReadTimeout; 20 s.
	Hold time.Duration
	// MaxState is the most bytes of the frames to which the state of the owner may refer; 1 GiB.
	MaxState               int
	MinBackoff, MaxBackoff time.Duration // between attempts; 100 ms, doubled up to 2 s
	Log                    *slog.Logger
}

// A follower is the state of Follow.
type follower struct {
	hub    *stream.Hub
	name   domain.Name
	opt    FollowOptions
	tracks wire.Tracks

	replica  *stream.Replica
	epoch    uint64
	received time.Time // when the newest record came, from the Hello of a connection on
	lost     time.Time // when the owner was there for the last time, or Follow started
}

// Follow replicates name into hub until the stream ends, its owner has been away for Options.Hold, or
// ctx ends. Then the session in hub ends too. It returns nil at the end of the stream.
func Follow(ctx context.Context, hub *stream.Hub, name domain.Name, o FollowOptions) error {
	o.ReadTimeout = cmp.Or(o.ReadTimeout, 3*time.Second)
	o.Hold = cmp.Or(o.Hold, 20*time.Second)
	o.MaxState = cmp.Or(o.MaxState, 1<<30)
	o.MinBackoff, o.MaxBackoff = cmp.Or(o.MinBackoff, 100*time.Millisecond), cmp.Or(o.MaxBackoff, 2*time.Second)
	f := &follower{hub: hub, name: name, opt: o}
	defer f.abandon()
	f.lost = time.Now()
	backoff := o.MinBackoff
	for {
		start := time.Now()
		err := f.connect(ctx)
		switch {
		case errors.Is(err, errEnded):
			f.replica.End()
			return nil
		case errors.Is(err, errLoop), errors.Is(err, wire.ErrVersion):
			return err
		case f.received.Sub(start) >= o.ReadTimeout: // the connection has worked
			backoff, f.lost = o.MinBackoff, time.Now()
		}
		if f.replica != nil && backoff == o.MinBackoff { // once for a series of failures
			o.Log.Warn("replica connection lost", "stream", name.String(), "err", err)
		}
		if time.Since(f.lost) >= o.Hold {
			return fmt.Errorf("replicating %s: %w", name, err)
		}
		select {
		case <-time.After(backoff):
		case <-ctx.Done():
			return ctx.Err()
		}
		backoff = min(2*backoff, o.MaxBackoff)
	}
}

// abandon ends the session, if that has not happened yet.
func (f *follower) abandon() {
	if f.replica != nil {
		f.replica.Abandon()
		f.replica = nil
	}
}

// connect reads one connection until an error.
func (f *follower) connect(ctx context.Context) error {
	var after uint64
	if f.replica != nil {
		after = f.replica.Next()
	}
	nc, err := f.opt.Dial(ctx, after)
	if err != nil {
		return err
	}
	defer nc.Close()
	defer context.AfterFunc(ctx, func() { nc.Close() })()
	c := &connection{follower: f, nc: nc, r: wire.NewReader(bufio.NewReaderSize(nc, readBuffer), &f.tracks)}
	for {
		_ = nc.SetReadDeadline(time.Now().Add(f.opt.ReadTimeout)) // if it fails, so does Next, after what is buffered
		record, err := c.r.Next()
		if err == nil {
			err = c.handle(record)
		}
		switch {
		case err != nil:
		case c.hello != nil:
			f.received = time.Now()
		case f.replica != nil && time.Since(f.lost) >= f.opt.Hold: // pings only
			err = errors.New("the stream has not started again")
		}
		if err != nil {
			return err
		}
		if err := f.restartReason(); err != nil {
			return err
		}
	}
}

// restartReason returns why a consumer of the session needs another Hello; nil if none does.
func (f *follower) restartReason() error {
	if f.replica == nil {
		return nil
	}
	select {
	case <-f.replica.Done():
		return domain.Errorf(domain.Unavailable, "the server is stopping")
	default:
		return f.replica.RestartRequest()
	}
}

// A connection is one connection to the owner.
type connection struct {
	*follower
	nc    net.Conn
	r     *wire.Reader
	hello *wire.Hello
	// state is the frames that Hello.Cutter may refer to, by Seq; nil when it is restored.
	state      map[uint64]*media.Frame
	stateBytes int
	early      uint64 // number of frames before Hello.From that have come
	next       uint64 // Seq of the next frame of the session
}

func (c *connection) handle(record wire.Record) error {
	switch r := record.(type) {
	case *wire.Hello:
		return c.start(r)
	case *media.Frame:
		return c.write(r)
	case wire.Pause:
		c.mark(stream.Paused, r.Seq, nil)
	case wire.Resume:
		c.mark(stream.Continued, r.Seq, nil)
	case *wire.Seal:
		c.replica.Mark(stream.Noted, segment.Seal(*r))
	case wire.End:
		if n := c.replica.Next(); n != r.Seq {
			return fmt.Errorf("the stream ends at frame %d, not at %d", r.Seq, n)
		}
		return errEnded
	case wire.Close:
		return errors.New(r.Reason)
	}
	return nil
}

// mark adds a mark at the frame seq, unless the session is beyond it.
func (c *connection) mark(k stream.MarkKind, seq uint64, value any) {
	if c.replica.Next() <= seq {
		c.replica.Mark(k, value)
	}
}

// start starts the session of h, or continues it.
func (c *connection) start(h *wire.Hello) error {
	if slices.Contains(h.Path, c.opt.Node) {
		return errLoop
	}
	if c.replica != nil && c.epoch != h.Epoch {
		c.abandon()
	}
	if c.replica == nil {
		r, err := c.hub.Replicate(c.name, stream.ReplicaOptions{Epoch: h.Epoch, Since: h.Since, From: h.From,
			ReadyAt: h.ReadyAt})
		if err != nil {
			return err
		}
		c.replica, c.epoch = r, h.Epoch
	}
	c.hello, c.next = h, h.From
	switch {
	case len(h.Cutter) == 0:
	case h.BytesVersion != segment.BytesVersion:
		c.replica.StartRestart(h.From)
		c.replica.Restart(segment.OtherVersion(h.BytesVersion))
	default:
		c.replica.StartRestart(h.From)
		c.state = make(map[uint64]*media.Frame)
	}
	return c.restore()
}

// write adds a frame to the session. Frames before Hello.From are for the state only.
func (c *connection) write(f *media.Frame) error {
	if c.state != nil && f.Seq < c.hello.CutterNext {
		c.state[f.Seq] = f
		if c.stateBytes += len(f.Payload) + frameOverhead; c.stateBytes > c.opt.MaxState {
			return fmt.Errorf("the frames of the state exceed %d bytes", c.opt.MaxState)
		}
	}
	if f.Seq < c.hello.From {
		c.early++
		return c.restore()
	}
	if f.Seq != c.next {
		return fmt.Errorf("frame %d follows frame %d", f.Seq, c.next)
	}
	c.next++
	if err := c.replica.Write(f); err != nil {
		return err
	}
	return c.restore()
}

// restore passes the state to the consumers of the session when all of its frames have arrived, and have
// replaced those that the session had before.
func (c *connection) restore() error {
	if c.state == nil || c.next < c.hello.CutterNext || c.early < c.hello.StateFrames || c.next < c.replica.Next() {
		return nil
	}
	sn, err := segment.DecodeRecord(c.hello.Cutter, c.tracks.Track, func(seq uint64) *media.Frame { return c.state[seq] })
	if err != nil {
		return err
	}
	c.state = nil
	c.replica.Restart(sn)
	return nil
}
