// Package http1 answers the requests that players make again and again, in front of net/http: GET
// and HEAD by HTTP/1.1 over plain TCP, without a body, one at a time on a connection that is kept.
// The http.Handler is the same, and so are the answers, byte for byte. With whatever else a request
// says, in whatever way net/http has to judge, the connection goes over to net/http, with the bytes
// that were read of it. It knows nothing of what is served.
//
// What it saves: a connection that waits for its next request holds a goroutine and no buffer; a
// head that says what the one before said is compared and not read; an answer leaves with its head
// by one system call that never blocks a thread; nobody reads beside a handler to learn that its
// client has gone, which one epoll descriptor tells of all of them.
package http1

import (
	"context"
	"errors"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"livego/internal/ops/netx"
)

// Options of a Server.
type Options struct {
	// Bypass, when set, reports whether a request for that path is net/http's: what is written for it has no end, or
	// takes the connection over.
	Bypass func(path string) bool
	// OtherProtocol, when set, is called for a client that speaks RTMP or TLS, by that name. Both get status 400.
	OtherProtocol func(protocol string, client net.Addr)
	// StallTimeout is the longest time without progress that a client may take what he has asked for.
	StallTimeout time.Duration
}

// A Server is an http.Server with a front. Of the http.Server's fields the front heeds Handler,
// ReadHeaderTimeout, IdleTimeout, ConnContext, ConnState (StateNew and StateClosed, and
// StateHijacked where a connection goes over to net/http, which shows it as a new one) and
// ErrorLog. The handler does not modify a request's header, and is done with the request when it
// returns.
type Server struct {
	fallback *http.Server
	opt      Options
	date     dateHeader
	bufs     sync.Pool // of *[headSize]byte

	base        context.Context // of all requests
	cancel      context.CancelFunc
	replays     *replayListener     // to net/http
	disconnects *disconnectNotifier // nil where clients who leave are not noticed

	stopping atomic.Bool
	wg       sync.WaitGroup // of conns
	mu       sync.Mutex
	ln       net.Listener
	conns    map[*conn]struct{}
}

// New returns a Server that has rest serve what it leaves. It is for one listener.
func New(rest *http.Server, o Options) *Server {
	s := &Server{fallback: rest, opt: o, replays: &replayListener{conns: make(chan net.Conn), closed: make(chan struct{})},
		conns: make(map[*conn]struct{})}
	s.bufs.New = func() any { return new([headSize]byte) }
	s.base, s.cancel = context.WithCancel(context.Background())
	return s
}

// Serve serves what ln accepts, TCP connections, until Shutdown or Close, and then returns
// http.ErrServerClosed when all have ended.
func (s *Server) Serve(ln net.Listener) error {
	defer s.cancel()
	if !s.setListener(ln) {
		ln.Close()
		return http.ErrServerClosed
	}
	hang, err := newDisconnectNotifier()
	if err != nil {
		ln.Close()
		return err
	}
	s.disconnects = hang
	defer hang.close()
	behind := make(chan struct{})
	s.replays.addr = ln.Addr()
	go func() {
		defer close(behind)
		_ = s.fallback.Serve(s.replays) // ends when it is closed
	}()

	accepting, stop := context.WithCancel(s.base)
	defer stop()
	context.AfterFunc(accepting, func() { ln.Close() })
	err = netx.Accept(accepting, ln, s.accept)
	if err == nil || s.stopping.Load() {
		err = http.ErrServerClosed
	} else {
		_ = s.Close() // the listener has failed: all ends at once
	}
	s.wg.Wait()
	<-behind
	return err
}

// setListener notes what is served; false when that is over.
func (s *Server) setListener(ln net.Listener) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ln = ln
	return !s.stopping.Load()
}

// accept serves nc in a goroutine.
func (s *Server) accept(nc net.Conn) {
	tcp, ok := nc.(*netx.Conn)
	if !ok {
		plain, ok := nc.(*net.TCPConn)
		if !ok {
			nc.Close()
			return
		}
		tcp = netx.Wrap(plain)
	}
	s.notifyState(tcp, http.StateNew)
	c, err := s.newConn(tcp)
	if err != nil || !s.startConn(c) { // closed already, by who counts them, or too late
		s.notifyState(tcp, http.StateClosed)
		_ = tcp.Close()
	}
}

// startConn serves c in a goroutine; false when no more is served.
func (s *Server) startConn(c *conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopping.Load() {
		return false
	}
	s.conns[c] = struct{}{}
	s.wg.Go(c.run) // under mu: who has seen it stopping may wait
	return true
}

func (s *Server) notifyState(nc net.Conn, state http.ConnState) {
	if s.fallback.ConnState != nil {
		s.fallback.ConnState(nc, state)
	}
}

// Shutdown has no more accepted, closes who waits for nothing, and waits for the rest until ctx is
// done, as http.Server.Shutdown does.
func (s *Server) Shutdown(ctx context.Context) error {
	for _, c := range s.stop() {
		if !c.busy.Load() {
			_ = c.tcp.Close()
		}
	}
	behind := s.fallback.Shutdown(ctx)
	ended := make(chan struct{})
	go func() {
		s.wg.Wait()
		close(ended)
	}()
	select {
	case <-ended:
		return behind
	case <-ctx.Done():
		return errors.Join(behind, ctx.Err())
	}
}

// Close ends all at once.
func (s *Server) Close() error {
	s.cancel()
	for _, c := range s.stop() {
		_ = c.tcp.Close()
	}
	return s.fallback.Close()
}

// stop has no more accepted, and returns the connections that there are.
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

// replayListener is the listener of net/http: it accepts what the front leaves.
type replayListener struct {
	addr   net.Addr
	conns  chan net.Conn
	closed chan struct{}
}

// Accept waits for a connection.
func (h *replayListener) Accept() (net.Conn, error) {
	select {
	case c := <-h.conns:
		return c, nil
	case <-h.closed:
		return nil, net.ErrClosed
	}
}

// Close has no more accepted. An http.Server closes a listener once.
func (h *replayListener) Close() error {
	close(h.closed)
	return nil
}

// Addr is where the front listens.
func (h *replayListener) Addr() net.Addr { return h.addr }

// A replayedConn is a connection of which some has been read.
type replayedConn struct {
	*netx.Conn
	buffered []byte // and is to be buffered again
}

// Read reads what was read before, and then what comes.
func (h *replayedConn) Read(b []byte) (int, error) {
	if len(h.buffered) == 0 {
		return h.Conn.Read(b)
	}
	n := copy(b, h.buffered)
	if h.buffered = h.buffered[n:]; len(h.buffered) == 0 {
		h.buffered = nil
	}
	return n, nil
}

// TCPConn returns the TCP connection under c, which the front may have handed over, for whoever has
// taken it over from net/http; c itself where there is more to it.
func TCPConn(c net.Conn) net.Conn {
	if h, ok := c.(*replayedConn); ok && len(h.buffered) == 0 {
		return h.Conn
	}
	return c
}

// dateHeader is the line of a head that says what time it is, made once a second.
type dateHeader struct{ last atomic.Pointer[dateLine] }

type dateLine struct {
	unix int64
	text string
}

// line returns it.
func (d *dateHeader) line() string {
	now := time.Now()
	l := d.last.Load()
	if l == nil || l.unix != now.Unix() {
		l = &dateLine{now.Unix(), "Date: " + now.UTC().Format(http.TimeFormat) + "\r\n"}
		d.last.Store(l)
	}
	return l.text
}
