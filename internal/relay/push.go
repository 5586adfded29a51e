package relay

import (
	"context"
	"errors"
	"io"
	"net"
	"time"

	"livego/internal/container/flv"
	"livego/internal/domain"
	"livego/internal/media"
	"livego/internal/ops/netx"
	"livego/internal/proto/rtmp"
	"livego/internal/stream"
)

const (
	handshakeTimeout = 10 * time.Second // to be let in, after the network has connected
	batchFrames      = 128              // one write takes at most: a second of video and audio
	stopGrace        = time.Second      // for the last words of a relay that is stopped
)

// push sends the stream to the other end until one of both is lost. It ends with errStreamEnded when the stream does.
func (m *Manager) push(ctx context.Context, r *relay) error {
	m.setState(r, stateWaiting)
	if err := m.waitForMedia(ctx, r); err != nil {
		return streamEndError(err)
	}
	m.setState(r, stateConnecting)
	c, nc, err := m.connect(ctx, r)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := withHandshakeTimeout(ctx,
		func(ctx context.Context) error { return c.Publish(ctx, r.target.rtmp.Name) }); err != nil {
		return err
	}
	o := subscribeOptions(0)
	o.GOPs, o.AllTracks = 1, c.Caps()&rtmp.CapsMultitrack != 0
	sub, err := m.hub.Subscribe(ctx, r.Name, o)
	if err != nil {
		_ = c.EndStream() // what the other end makes of it is its affair
		return streamEndError(err)
	}
	defer sub.Leave()
	stop := context.AfterFunc(ctx, func() { time.AfterFunc(stopGrace, func() { nc.Close() }) })
	defer stop()
	sub.AttachSocket(func() int { return netx.Queued(nc) }, nil)
	m.setSubscriber(r, sub)
	defer m.setSubscriber(r, nil)
	m.setState(r, stateRunning)
	return pump(ctx, r, sub, c)
}

// subscribeOptions returns how a relay subscribes. It is a part of the server: as long as the ring
// has what it has not sent, it sends it.
func subscribeOptions(wait time.Duration) stream.SubscribeOptions {
	return stream.SubscribeOptions{Viewer: stream.ViewerOptions{Proto: "relay", Internal: true}, Wait: wait}
}

// streamEndError turns what a subscriber is told of a stream that has ended into errStreamEnded.
func streamEndError(err error) error {
	if err == io.EOF || domain.KindOf(err) == domain.NotFound {
		return errStreamEnded
	}
	return err
}

// waitForMedia waits until there is something to push: the stream, and after a failure a frame of
// it that is new. What is held would be sent again and again to a server that hangs up when nothing
// follows.
func (m *Manager) waitForMedia(ctx context.Context, r *relay) error {
	patience := time.Duration(-1)
	if r.static {
		patience = 0
	}
	sub, err := m.hub.Subscribe(ctx, r.Name, subscribeOptions(patience))
	if err != nil {
		return err
	}
	defer sub.Leave()
	if m.failureCount(r) == 0 {
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
		c, nc, err := m.connectWithQuery(ctx, r, query)
		if err == nil {
			return c, nc, nil
		}
		var again bool
		if query, again = adobeCredentials(r.target.u.User, err); !again || round == rounds {
			return nil, nil, err
		}
	}
}

// connectWithQuery connects with query behind the app.
func (m *Manager) connectWithQuery(ctx context.Context, r *relay, query string) (*rtmp.ClientConn, net.Conn, error) {
	a := r.target.rtmp
	nc, err := m.dialer.dial(ctx, a.Host, a.TLS, r.target.trusted)
	if err != nil {
		return nil, nil, err
	}
	c := rtmp.NewClientConn(nc, m.opt.Conn)
	if err := withHandshakeTimeout(ctx,
		func(ctx context.Context) error { return c.Connect(ctx, a.App+query, a.TCURL+query) }); err != nil {
		c.Close()
		return nil, nil, err
	}
	return c, nc, nil
}

// withHandshakeTimeout has the other end answer in good time.
func withHandshakeTimeout(ctx context.Context, ask func(context.Context) error) error {
	ctx, cancel := context.WithTimeoutCause(ctx, handshakeTimeout, errHandshakeTimeout)
	defer cancel()
	err := ask(ctx)
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return describeEOF(err)
}

var errHandshakeTimeout = errors.New("it takes too long to let us in")

// describeEOF puts the end of a connection into words.
func describeEOF(err error) error {
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
				hangUp(describeEOF(err))
				return
			}
		}
	}()
	err := sendFrames(pumping, sub, c)
	if err == io.EOF || ctx.Err() != nil {
		_ = c.EndStream() // it sees the end in any case
		err = streamEndError(err)
	}
	c.Close()
	<-heard
	if errors.Is(err, errStreamEnded) || ctx.Err() != nil {
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

// sendFrames writes frames until an end: io.EOF is that of the stream.
func sendFrames(ctx context.Context, sub *stream.Subscriber, c *rtmp.ClientConn) error {
	var (
		pre   = flv.Preamble{Dialect: flv.Dialect{Multitrack: c.Caps()&rtmp.CapsMultitrack != 0}}
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
			tags = pre.Append(tags[:0], f, sub.Tracks())
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
		sub.ObserveWritten(buf[:n])
		clear(buf[:n])
		clear(parts)
	}
}
