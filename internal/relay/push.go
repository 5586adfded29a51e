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
	handshakeTimeout = 10 * time.Second // for the RTMP handshake and commands, after the TCP connection
	batchFrames      = 128              // frames per write: a second of video and audio
	stopGrace        = time.Second      // for a stopped relay to end its stream
)

// push sends the stream to the remote server until either ends. It returns errStreamEnded if the
// stream ended here.
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
	sub, err := m.subscribe(ctx, r, stream.SubscribeOptions{Viewer: stream.ViewerOptions{Relay: true,
		Remote: nc.RemoteAddr().String(), URL: r.target.redacted}, GOPs: 1, AllTracks: c.Caps()&rtmp.CapsMultitrack != 0})
	if err != nil {
		_ = c.EndStream() // the connection is closed in any case
		return streamEndError(err)
	}
	defer sub.Leave()
	stop := context.AfterFunc(ctx, func() { time.AfterFunc(stopGrace, func() { nc.Close() }) })
	defer stop()
	sub.AttachSocket(func() int { return netx.Queued(nc) })
	m.setSubscriber(r, sub)
	defer m.setSubscriber(r, nil)
	m.setState(r, stateRunning)
	return pump(ctx, r, sub, c)
}

// subscribe subscribes to the stream of a push. A relay sends everything that is still in the ring,
// however late.
func (m *Manager) subscribe(ctx context.Context, r *relay, o stream.SubscribeOptions) (*stream.Subscriber, error) {
	o.Viewer.Proto, o.Viewer.Internal = domain.Push, true
	if r.live != nil {
		return r.live.Subscribe(ctx, o)
	}
	return m.hub.Subscribe(ctx, r.Name, o)
}

// streamEndError converts the errors of a subscriber whose stream has ended to errStreamEnded.
func streamEndError(err error) error {
	if err == io.EOF || domain.KindOf(err) == domain.NotFound {
		return errStreamEnded
	}
	return err
}

// waitForMedia waits for the stream and, after a failure, for a new frame of it. Otherwise a held
// stream would be sent again and again to a server that disconnects when nothing follows.
func (m *Manager) waitForMedia(ctx context.Context, r *relay) error {
	sub, err := m.subscribe(ctx, r, stream.SubscribeOptions{Wait: -1})
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

// connect connects to the remote server by RTMP, with user and password if the server asks for
// them.
func (m *Manager) connect(ctx context.Context, r *relay) (*rtmp.ClientConn, net.Conn, error) {
	const rounds = 3 // without credentials, with the user, with the response
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

// connectWithQuery connects with query appended to the app.
func (m *Manager) connectWithQuery(ctx context.Context, r *relay, query string) (*rtmp.ClientConn, net.Conn, error) {
	a := r.target.rtmp
	nc, err := m.options().dialer.dial(ctx, a.Host, a.TLS, r.target.trusted)
	if err != nil {
		return nil, nil, err
	}
	c := rtmp.NewClientConn(nc, m.options().Conn)
	if err := withHandshakeTimeout(ctx,
		func(ctx context.Context) error { return c.Connect(ctx, a.App+query, a.TCURL+query) }); err != nil {
		c.Close()
		return nil, nil, err
	}
	return c, nc, nil
}

// withHandshakeTimeout runs call with handshakeTimeout.
func withHandshakeTimeout(ctx context.Context, call func(context.Context) error) error {
	ctx, cancel := context.WithTimeoutCause(ctx, handshakeTimeout, errHandshakeTimeout)
	defer cancel()
	err := call(ctx)
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return describeEOF(err)
}

var errHandshakeTimeout = errors.New("timeout during the RTMP handshake")

// describeEOF replaces io.EOF and io.ErrUnexpectedEOF with a readable error.
func describeEOF(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errors.New("the remote server closed the connection")
	}
	return err
}

// pump writes frames until the stream, the connection or ctx ends. If the stream or ctx ends, it
// ends the stream on the remote server too.
func pump(ctx context.Context, r *relay, sub *stream.Subscriber, c *rtmp.ClientConn) error {
	pumpCtx, disconnect := context.WithCancelCause(ctx)
	readDone := make(chan struct{})
	go func() { // the remote server's messages must be read
		defer close(readDone)
		defer r.recoverTo(disconnect)
		for {
			if _, err := c.ReadMessage(); err != nil {
				disconnect(describeEOF(err))
				return
			}
		}
	}()
	err := sendFrames(pumpCtx, r, sub, c)
	if err == io.EOF || ctx.Err() != nil {
		_ = c.EndStream() // the server notices the closed connection in any case
		err = streamEndError(err)
	}
	c.Close()
	<-readDone
	if errors.Is(err, errStreamEnded) || ctx.Err() != nil {
		return err
	}
	cause := context.Cause(pumpCtx)
	if status, ok := errors.AsType[*rtmp.StatusError](cause); ok {
		return status
	}
	if errors.Is(err, context.Canceled) {
		return cause
	}
	return err
}

// sendFrames writes frames until an error. io.EOF is the end of the stream.
func sendFrames(ctx context.Context, r *relay, sub *stream.Subscriber, c *rtmp.ClientConn) error {
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
			tags = pre.Append(tags[:0], f, sub.Program())
			for _, t := range tags {
				parts = rtmp.AppendMessage(parts, rtmp.Header{Type: t.Type, Timestamp: t.Timestamp, StreamID: c.StreamID()}, t.Body)
			}
			head, payload := pre.Dialect.TagBody(f)
			h := rtmp.Header{Type: flv.MessageType(f.Track.Kind), Timestamp: flv.Timestamp(f), StreamID: c.StreamID()}
			parts = rtmp.AppendMessage(parts, h, head, payload)
		}
		bufs := net.Buffers(parts)
		n64, err := c.WriteMedia(&bufs)
		r.observeBytes(int(n64))
		if err != nil {
			return err
		}
		sub.ObserveWritten(buf[:n])
		clear(buf[:n])
		clear(parts)
	}
}
