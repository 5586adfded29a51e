package relay

import (
	"context"
	"errors"
	"io"
	"net"
	"time"

	"livego/internal/container/flv"
	"livego/internal/live"
	"livego/internal/media"
	"livego/internal/netx"
	"livego/internal/rtmp"
	"livego/internal/stream"
)

const (
	answerTimeout = 10 * time.Second // to be let in, after the network has connected
	batchFrames   = 128              // one write takes at most: a second of video and audio
	farewell      = time.Second      // for the last words of a relay that is stopped
)

// push sends the stream to the other end until one of both is lost. It ends with errOver when the stream does.
func (m *Manager) push(ctx context.Context, r *relay) error {
	m.set(r, waiting)
	if err := m.await(ctx, r); err != nil {
		return over(err)
	}
	m.set(r, connecting)
	c, nc, err := m.connect(ctx, r)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := within(ctx, func(ctx context.Context) error { return c.Publish(ctx, r.to.rtmp.Name) }); err != nil {
		return err
	}
	o := watch(0)
	o.GOPs, o.AllTracks = 1, c.Caps()&rtmp.CapsMultitrack != 0
	sub, err := m.hub.Subscribe(ctx, r.Name, o)
	if err != nil {
		_ = c.Goodbye() // what the other end makes of it is its affair
		return over(err)
	}
	defer sub.Leave()
	stop := context.AfterFunc(ctx, func() { time.AfterFunc(farewell, func() { nc.Close() }) })
	defer stop()
	sub.Measure(func() int { return netx.Queued(nc) }, nil)
	m.follow(r, sub)
	defer m.follow(r, nil)
	m.set(r, running)
	return pump(ctx, r, sub, c)
}

// watch returns how a relay subscribes. It is a part of the server: as long as the ring has what it has not sent, it sends it.
func watch(wait time.Duration) stream.SubscribeOptions {
	return stream.SubscribeOptions{Viewer: stream.ViewerOptions{Proto: "relay", Internal: true}, Wait: wait}
}

// over turns what a subscriber is told of a stream that has ended into errOver.
func over(err error) error {
	if err == io.EOF || live.KindOf(err) == live.NotFound {
		return errOver
	}
	return err
}

// await waits until there is something to push: the stream, and after a failure a frame of it that is new. What is held would be sent
// again and again to a server that hangs up when nothing follows.
func (m *Manager) await(ctx context.Context, r *relay) error {
	patience := time.Duration(-1)
	if r.static {
		patience = 0
	}
	sub, err := m.hub.Subscribe(ctx, r.Name, watch(patience))
	if err != nil {
		return err
	}
	defer sub.Leave()
	if m.failures(r) == 0 {
		return nil
	}
	var one [1]*media.Frame
	_, err = sub.Next(ctx, one[:])
	return err
}

// connect connects to the other end by RTMP, with user and password where it asks for them.
func (m *Manager) connect(ctx context.Context, r *relay) (*rtmp.ClientConn, net.Conn, error) {
	const rounds = 3 // without, with the name, with the answer
	query := ""
	for round := 1; ; round++ {
		c, nc, err := m.connectAs(ctx, r, query)
		if err == nil {
			return c, nc, nil
		}
		var again bool
		if query, again = credentials(r.to.u.User, err); !again || round == rounds {
			return nil, nil, err
		}
	}
}

// connectAs connects with query behind the app.
func (m *Manager) connectAs(ctx context.Context, r *relay, query string) (*rtmp.ClientConn, net.Conn, error) {
	a := r.to.rtmp
	nc, err := m.guard.dial(ctx, a.Host, a.TLS, r.to.trusted)
	if err != nil {
		return nil, nil, err
	}
	c := rtmp.NewClientConn(nc, m.opt.Conn)
	if err := within(ctx, func(ctx context.Context) error { return c.Connect(ctx, a.App+query, a.TCURL+query) }); err != nil {
		c.Close()
		return nil, nil, err
	}
	return c, nc, nil
}

// within has the other end answer in good time.
func within(ctx context.Context, ask func(context.Context) error) error {
	ctx, cancel := context.WithTimeoutCause(ctx, answerTimeout, errSlow)
	defer cancel()
	err := ask(ctx)
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return hungUp(err)
}

var errSlow = errors.New("it takes too long to let us in")

// hungUp puts the end of a connection into words.
func hungUp(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errors.New("it closed the connection")
	}
	return err
}

// pump writes frames until the stream ends, the connection, or ctx. Both last are said goodbye to.
func pump(ctx context.Context, r *relay, sub *stream.Subscriber, c *rtmp.ClientConn) error {
	pumping, hangUp := context.WithCancelCause(ctx)
	heard := make(chan struct{})
	go func() { // what the other end says has to be read
		defer close(heard)
		defer r.recoverTo(hangUp)
		for {
			if _, err := c.ReadMessage(); err != nil {
				hangUp(hungUp(err))
				return
			}
		}
	}()
	err := send(pumping, sub, c)
	if err == io.EOF || ctx.Err() != nil {
		_ = c.Goodbye() // it sees the end in any case
		err = over(err)
	}
	c.Close()
	<-heard
	if errors.Is(err, errOver) || ctx.Err() != nil {
		return err
	}
	cause := context.Cause(pumping)
	if said, ok := errors.AsType[*rtmp.StatusError](cause); ok {
		return said
	}
	if errors.Is(err, context.Canceled) {
		return cause
	}
	return err
}

// send writes frames until an end: io.EOF is that of the stream.
func send(ctx context.Context, sub *stream.Subscriber, c *rtmp.ClientConn) error {
	var (
		pre   = flv.Preamble{Dialect: flv.Dialect{Tracks: c.Caps()&rtmp.CapsMultitrack != 0}}
		tags  []flv.Tag
		parts [][]byte
		buf   [batchFrames]*media.Frame
	)
	for {
		n, err := sub.Next(ctx, buf[:])
		if err != nil {
			return err
		}
		parts = parts[:0]
		for _, f := range buf[:n] {
			tags = pre.Before(tags[:0], f, sub.Tracks())
			for _, t := range tags {
				parts = rtmp.AppendMessage(parts, rtmp.Header{Type: t.Type, Timestamp: t.Timestamp, StreamID: c.StreamID()}, t.Body)
			}
			head, payload := pre.Dialect.TagBody(f)
			h := rtmp.Header{Type: flv.MessageType(f.Track.Kind), Timestamp: flv.Timestamp(f), StreamID: c.StreamID()}
			parts = rtmp.AppendMessage(parts, h, head, payload)
		}
		bufs := net.Buffers(parts)
		if _, err := c.WriteMedia(&bufs); err != nil {
			return err
		}
		sub.Flushed(buf[:n])
		clear(buf[:n])
		clear(parts)
	}
}
