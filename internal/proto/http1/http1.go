// Package http1 is a fast path in front of net/http for the requests that players repeat: GET and
// HEAD by HTTP/1.1 over TCP or TLS, without a body, one at a time on a persistent connection. It
// calls the same http.Handler, and its responses are identical, byte for byte. A connection with
// any other request is passed to net/http, with the bytes that were read; one of HTTP/2 is served by
// package http2. The package knows nothing of what is served.
//
// It saves time and memory: a connection that waits for its next request holds a goroutine and no
// buffer; header fields that equal those of the previous request are not parsed; a response and its
// head leave by one system call that never blocks a thread; and one epoll descriptor reports the
// clients that disconnect, instead of a reading goroutine beside each handler.
package http1

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"livego/internal/ops/netx"
	"livego/internal/proto/http2"
)

// Options are the settings of a Server.
type Options struct {
	// OtherProtocol, if set, is called for a client that speaks "RTMP" or "TLS". Both get status
	// 400.
	OtherProtocol func(protocol string, client net.Addr)
	// StallTimeout is the longest time without write progress.
	StallTimeout time.Duration
}

// A Server is an http.Server with a fast path. The fast path uses these fields of the http.Server:
// Handler, ReadHeaderTimeout, IdleTimeout, ConnContext, ErrorLog, for HTTP/2 those of http2.New, and
// ConnState with StateNew, StateClosed, and StateHijacked for a connection that is hijacked, or passed
// to net/http, which reports it as a new one. The handler must not modify a request's header, nor use
// the request after it returns.
type Server struct {
	fallback *http.Server
	http2    *http2.Server
	opt      Options
	date     http2.Date
	bufs     sync.Pool // of *[bufSize]byte
	heads    sync.Pool // of *responseHead
	records  sync.Pool // of *[]byte, for the TLS records of a response

	base        context.Context // of all requests
	cancel      context.CancelFunc
	replays     *replayListener     // connections for net/http
	disconnects *disconnectNotifier // does nothing on systems other than Linux

	stopping atomic.Bool
	wg       sync.WaitGroup // counts conns
	mu       sync.Mutex
	ln       net.Listener
	conns    map[*conn]struct{}
}

// New returns a Server, for one listener. fallback serves the requests that the fast path does not.
func New(fallback *http.Server, o Options) *Server {
	s := &Server{fallback: fallback, opt: o, conns: make(map[*conn]struct{}),
		http2: http2.New(fallback, o.StallTimeout)}
	s.replays = &replayListener{conns: make(chan net.Conn), closed: make(chan struct{})}
	s.bufs.New = func() any { return new([bufSize]byte) }
	s.heads.New = func() any { return new(responseHead) }
	s.records.New = func() any { return new([]byte) }
	s.base, s.cancel = context.WithCancel(context.Background())
	return s
}

// Serve serves the connections of ln, TCP or those of netx.ListenTLS, until Shutdown or Close. It then returns
// http.ErrServerClosed, when all connections have ended.
func (s *Server) Serve(ln net.Listener) error {
	defer s.cancel()
	if !s.setListener(ln) {
		ln.Close()
		return http.ErrServerClosed
	}
	notifier, err := newDisconnectNotifier()
	if err != nil {
		ln.Close()
		return err
	}
	s.disconnects = notifier
	defer notifier.close()
	fallbackDone := make(chan struct{})
	s.replays.addr = ln.Addr()
	go func() {
		defer close(fallbackDone)
		_ = s.fallback.Serve(s.replays) // returns when replays is closed
	}()

	accepting, stop := context.WithCancel(s.base)
	defer stop()
	context.AfterFunc(accepting, func() { ln.Close() })
	err = netx.Accept(accepting, ln, s.accept)
	if err == nil || s.stopping.Load() {
		err = http.ErrServerClosed
	} else {
		_ = s.Close() // the listener has failed: close all connections
	}
	s.wg.Wait()
	<-fallbackDone
	return err
}

// setListener records ln. It reports false if the server has been stopped.
func (s *Server) setListener(ln net.Listener) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ln = ln
	return !s.stopping.Load()
}

// accept serves nc in a goroutine.
func (s *Server) accept(nc net.Conn) {
	if plain, ok := nc.(*net.TCPConn); ok {
		nc = netx.Wrap(plain)
	}
	s.notifyState(nc, http.StateNew)
	c, err := s.newConn(nc)
	if err != nil || !s.startConn(c) { // closed by ConnState, or after the stop
		s.notifyState(nc, http.StateClosed)
		_ = nc.Close()
	}
}

// startConn serves c in a goroutine. It reports false if the server has been stopped.
func (s *Server) startConn(c *conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopping.Load() {
		return false
	}
	s.conns[c] = struct{}{}
	s.wg.Go(c.run) // under mu, so that Shutdown, which has set stopping, may wait
	return true
}

func (s *Server) notifyState(nc net.Conn, state http.ConnState) {
	if s.fallback.ConnState != nil {
		s.fallback.ConnState(nc, state)
	}
}

// Shutdown stops accepting, closes idle connections, and waits for the others until ctx ends, as
// http.Server.Shutdown does.
func (s *Server) Shutdown(ctx context.Context) error {
	for _, c := range s.stop() {
		if h := c.http2.Load(); h != nil {
			h.Shutdown()
		} else if !c.busy.Load() {
			_ = c.tcp.Close()
		}
	}
	err := s.fallback.Shutdown(ctx)
	ended := make(chan struct{})
	go func() {
		s.wg.Wait()
		close(ended)
	}()
	select {
	case <-ended:
		return err
	case <-ctx.Done():
		return errors.Join(err, ctx.Err())
	}
}

// Close closes the listener and all connections.
func (s *Server) Close() error {
	s.cancel()
	for _, c := range s.stop() {
		_ = c.tcp.Close()
	}
	return s.fallback.Close()
}

// stop stops accepting, and returns the connections.
func (s *Server) stop() []*conn {
	s.stopping.Store(true)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ln != nil {
		s.ln.Close()
	}
	list := make([]*conn, 0, len(s.conns))
	for c := range s.conns {
		list = append(list, c)
	}
	return list
}

// replayListener is the listener of net/http: it accepts the connections that the fast path passes
// on.
type replayListener struct {
	addr   net.Addr
	conns  chan net.Conn
	closed chan struct{}
}

// Accept waits for a connection.
func (l *replayListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

// Close stops accepting. An http.Server closes a listener once.
func (l *replayListener) Close() error {
	close(l.closed)
	return nil
}

// Addr returns the address of the server's listener.
func (l *replayListener) Addr() net.Addr { return l.addr }

// A replayedConn is a connection whose first bytes have been read already.
type replayedConn struct {
	*netx.Conn
	replay
}

// A replayedTLSConn is a replayedConn for TLS.
type replayedTLSConn struct {
	*tls.Conn
	replay
}

// Read returns the buffered bytes, and then reads from the connection.
func (c *replayedConn) Read(b []byte) (int, error) { return c.replay.Read(b) }

// Read returns the buffered bytes, and then reads from the connection.
func (c *replayedTLSConn) Read(b []byte) (int, error) { return c.replay.Read(b) }

// A replay reads buffered bytes, and then from a connection.
type replay struct {
	nc       net.Conn
	buffered []byte
}

// Read returns the buffered bytes, and then reads from the connection.
func (r *replay) Read(b []byte) (int, error) {
	if len(r.buffered) == 0 {
		return r.nc.Read(b)
	}
	n := copy(b, r.buffered)
	if r.buffered = r.buffered[n:]; len(r.buffered) == 0 {
		r.buffered = nil
	}
	return n, nil
}

// done returns the connection, and whether all buffered bytes have been read.
func (r *replay) done() (net.Conn, bool) { return r.nc, len(r.buffered) == 0 }

// Conn returns the connection under c, which was hijacked from net/http, if c is a connection that
// this package has passed on: of TCP or TLS. If it has unread buffered bytes, Conn returns c.
func Conn(c net.Conn) net.Conn {
	if r, ok := c.(interface{ done() (net.Conn, bool) }); ok {
		if nc, done := r.done(); done {
			return nc
		}
	}
	return c
}
