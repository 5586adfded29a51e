package bench

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"livego/internal/container/flv"
	"livego/internal/ops/netx"
	"livego/internal/proto/rtmp"
)

// A publisher sends a source to a server in real time.
type publisher struct {
	target      *target
	src         *source
	measurement *measurement
	options     connOptions

	mu      sync.Mutex
	sent    int64         // video frames sent in the window
	phase   time.Duration // delay of its start, so that keyframes of several publishers do not coincide
	blocked histogram     // how long writing a message blocked, in the window
}

// A sink sends messages to a server.
type sink interface {
	// write sends one message. It does not keep body.
	write(typ uint8, timestamp uint32, body []byte) error
	close()
}

const publishTimeout = 10 * time.Second

// run publishes until ctx ends, which is not an error. It closes ready when the server has accepted
// the stream.
func (p *publisher) run(ctx context.Context, ready chan<- struct{}) error {
	out, err := p.open(ctx)
	if err != nil {
		return fmt.Errorf("publishing: %w", err)
	}
	defer out.close()
	close(ready)
	if err := p.pump(ctx, out); ctx.Err() == nil {
		return fmt.Errorf("publishing: %w", err)
	}
	return nil
}

func (p *publisher) pump(ctx context.Context, out sink) error {
	for _, h := range p.src.header {
		if err := out.write(h.typ, 0, h.body); err != nil {
			return err
		}
	}
	var (
		head      = newPlayhead(p.src)
		startTime = time.Now().Add(p.phase)
		timer     = time.NewTimer(0)
		body      []byte
		seq       uint32
	)
	defer timer.Stop()
	for {
		if delay := time.Until(startTime.Add(head.due())); delay > 0 {
			timer.Reset(delay)
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-timer.C:
			}
		}
		it, at := head.advance()
		if it.mark > 0 {
			seq++
		}
		now := p.measurement.now()
		body = it.appendBody(body[:0], now, seq)
		if it.mark > 0 && p.measurement.measured(now) {
			p.mu.Lock()
			p.sent++ // before a viewer can have it
			p.mu.Unlock()
		}
		if err := out.write(it.typ, uint32(at.Milliseconds()), body); err != nil {
			return err
		}
		p.observeBlocked(now)
	}
}

// observeBlocked records that a message has been written, that was sent at a time of the clock.
func (p *publisher) observeBlocked(sent int64) {
	if !p.measurement.measured(sent) {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.blocked.add(time.Duration(p.measurement.now() - sent))
}

// open connects to the server and starts publishing.
func (p *publisher) open(ctx context.Context) (sink, error) {
	ctx, cancel := context.WithTimeout(ctx, publishTimeout)
	defer cancel()
	nc, err := dial(ctx, p.target, p.options)
	if err != nil {
		return nil, err
	}
	switch p.target.proto {
	case tcp:
		_, err := nc.Write(flv.FileHeader(true, true))
		return &tcpSink{nc: nc}, err
	case RTMP:
		return newRTMPSink(ctx, nc, p.target)
	}
	nc.Close()
	return nil, fmt.Errorf("%s: streams can only be published by RTMP", p.target.url)
}

// connOptions are how connections are made.
type connOptions struct {
	buffer   int                    // receive buffer of a viewer in bytes, 0: the system's default
	insecure bool                   // accept any certificate
	sessions tls.ClientSessionCache // to resume TLS sessions; nil: full handshakes
}

// dial connects to t.
func dial(ctx context.Context, t *target, o connOptions) (net.Conn, error) {
	return dialTarget(ctx, new(net.Dialer), t.addr, t, o)
}

// dialTarget connects to t, which is at addr.
func dialTarget(ctx context.Context, d *net.Dialer, addr string, t *target, o connOptions) (net.Conn, error) {
	nc, err := d.DialContext(ctx, "tcp", addr)
	if err != nil || !t.tls {
		return nc, err
	}
	c := netx.ClientTLS(nc, o.tlsConfig(t))
	if err := c.HandshakeContext(ctx); err != nil {
		nc.Close()
		return nil, err
	}
	return c, nil
}

var errNoHTTP2 = errors.New("the server does not offer HTTP/2")

// tlsConfig trusts the system's roots, or any certificate.
func (o connOptions) tlsConfig(t *target) *tls.Config {
	host, _, _ := net.SplitHostPort(t.addr) // parseTarget has joined it
	c := &tls.Config{ServerName: host, InsecureSkipVerify: o.insecure, ClientSessionCache: o.sessions}
	if t.http2 {
		c.NextProtos = []string{"h2"}
		c.VerifyConnection = func(s tls.ConnectionState) error {
			if s.NegotiatedProtocol != "h2" {
				return errNoHTTP2
			}
			return nil
		}
	}
	return c
}

// rtmpSink publishes by RTMP as an encoder does.
type rtmpSink struct {
	c    *rtmp.ClientConn
	nc   net.Conn // below c
	done chan struct{}
	err  error // after done: why the connection ended
}

func newRTMPSink(ctx context.Context, nc net.Conn, t *target) (*rtmpSink, error) {
	c := rtmp.NewClientConn(nc, rtmp.Options{})
	if err := c.Connect(ctx, t.app, t.tcURL); err != nil {
		nc.Close()
		return nil, err
	}
	if err := c.Publish(ctx, t.name); err != nil {
		nc.Close()
		return nil, err
	}
	s := &rtmpSink{c: c, nc: nc, done: make(chan struct{})}
	go func() { // messages of the server must be read
		defer close(s.done)
		for s.err == nil {
			_, s.err = c.ReadMessage()
		}
	}()
	return s, nil
}

func (s *rtmpSink) write(typ uint8, timestamp uint32, body []byte) error {
	err := s.c.WriteMessage(rtmp.Message{Type: typ, Timestamp: timestamp, Payload: body})
	if err != nil {
		s.nc.Close()
		<-s.done // it may have the server's reason
		return errors.Join(s.err, err)
	}
	return nil
}

func (s *rtmpSink) close() {
	_ = s.c.EndStream() // closing the connection ends the stream in any case
	s.nc.Close()
	<-s.done
}

// tcpSink sends plain FLV over TCP.
type tcpSink struct {
	nc  net.Conn
	buf []byte
}

func (s *tcpSink) write(typ uint8, timestamp uint32, body []byte) error {
	s.buf = flv.AppendTag(s.buf[:0], typ, timestamp, body)
	_, err := s.nc.Write(s.buf)
	return err
}

func (s *tcpSink) close() { s.nc.Close() }
