// Package front answers the requests that players make again and again, in front of net/http: GET and HEAD by HTTP/1.1 over plain
// TCP, without a body, one at a time on a connection that is kept. The http.Handler is the same, and so are the answers, byte for
// byte. With whatever else a request says, in whatever way net/http has to judge, the connection goes over to net/http, with the
// bytes that were read of it. It knows nothing of what is served.
//
// What it saves: a connection that waits for its next request holds a goroutine and no buffer; a head that says what the one before
// said is compared and not read; an answer leaves with its head by one system call that never blocks a thread; nobody reads beside
// a handler to learn that its client has gone, which one epoll descriptor tells of all of them.
package front

import (
	"context"
	"errors"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"livego/internal/netx"
)

// Options of a Server.
type Options struct {
	// Leave, when set, reports whether a request for that path is net/http's: what is written for it has no end, or
	// takes the connection over.
	Leave func(path string) bool
	// Foreign, when set, is called for a client that speaks RTMP or TLS, by that name. Both get status 400.
	Foreign func(protocol string, client net.Addr)
	// Stall is the longest time without progress that a client may take what he has asked for.
	Stall time.Duration
}

// A Server is an http.Server with a front. Of the http.Server's fields the front heeds Handler, ReadHeaderTimeout, IdleTimeout,
// ConnContext, ConnState (StateNew and StateClosed, and StateHijacked where a connection goes over to net/http, which shows it as a
// new one) and ErrorLog. The handler does not modify a request's header, and is done with the request when it returns.
type Server struct {
	rest *http.Server
	opt  Options
	date date
	bufs sync.Pool // of *[headSize]byte

	base   context.Context // of all requests
	cancel context.CancelFunc
	over   *handedOver // to net/http
	hang   *hangups    // nil where clients who leave are not noticed

	stopping atomic.Bool
	wg       sync.WaitGroup // of conns
	mu       sync.Mutex
	ln       net.Listener
	conns    map[*conn]struct{}
}

// New returns a Server that has rest serve what it leaves. It is for one listener.
func New(rest *http.Server, o Options) *Server {
	s := &Server{rest: rest, opt: o, over: &handedOver{conns: make(chan net.Conn), closed: make(chan struct{})}, conns: make(map[*conn]struct{})}
	s.bufs.New = func() any { return new([headSize]byte) }
	s.base, s.cancel = context.WithCancel(context.Background())
	return s
}

// Serve serves what ln accepts, TCP connections, until Shutdown or Close, and then returns http.ErrServerClosed when all have ended.
func (s *Server) Serve(ln net.Listener) error {
	defer s.cancel()
	if !s.listen(ln) {
		ln.Close()
		return http.ErrServerClosed
	}
	hang, err := newHangups()
	if err != nil {
		ln.Close()
		return err
	}
	s.hang = hang
	defer hang.close()
	behind := make(chan struct{})
	s.over.addr = ln.Addr()
	go func() {
		defer close(behind)
		_ = s.rest.Serve(s.over) // ends when it is closed
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

// listen notes what is served; false when that is over.
func (s *Server) listen(ln net.Listener) bool {
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
	s.state(tcp, http.StateNew)
	c, err := s.newConn(tcp)
	if err != nil || !s.start(c) { // closed already, by who counts them, or too late
		s.state(tcp, http.StateClosed)
		_ = tcp.Close()
	}
}

// start serves c in a goroutine; false when no more is served.
func (s *Server) start(c *conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopping.Load() {
		return false
	}
	s.conns[c] = struct{}{}
	s.wg.Go(c.run) // under mu: who has seen it stopping may wait
	return true
}

func (s *Server) state(nc net.Conn, state http.ConnState) {
	if s.rest.ConnState != nil {
		s.rest.ConnState(nc, state)
	}
}

// Shutdown has no more accepted, closes who waits for nothing, and waits for the rest until ctx is done, as http.Server.Shutdown does.
func (s *Server) Shutdown(ctx context.Context) error {
	for _, c := range s.stop() {
		if !c.busy.Load() {
			_ = c.tcp.Close()
		}
	}
	behind := s.rest.Shutdown(ctx)
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
	return s.rest.Close()
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

// handedOver is the listener of net/http: it accepts what the front leaves.
type handedOver struct {
	addr   net.Addr
	conns  chan net.Conn
	closed chan struct{}
}

// Accept waits for a connection.
func (h *handedOver) Accept() (net.Conn, error) {
	select {
	case c := <-h.conns:
		return c, nil
	case <-h.closed:
		return nil, net.ErrClosed
	}
}

// Close has no more accepted. An http.Server closes a listener once.
func (h *handedOver) Close() error {
	close(h.closed)
	return nil
}

// Addr is where the front listens.
func (h *handedOver) Addr() net.Addr { return h.addr }

// A handed is a connection of which some has been read.
type handed struct {
	*netx.Conn
	read []byte // and is to be read again
}

// Read reads what was read before, and then what comes.
func (h *handed) Read(b []byte) (int, error) {
	if len(h.read) == 0 {
		return h.Conn.Read(b)
	}
	n := copy(b, h.read)
	if h.read = h.read[n:]; len(h.read) == 0 {
		h.read = nil
	}
	return n, nil
}

// TCPConn returns the TCP connection under c, which the front may have handed over, for whoever has taken it over from net/http; c
// itself where there is more to it.
func TCPConn(c net.Conn) net.Conn {
	if h, ok := c.(*handed); ok && len(h.read) == 0 {
		return h.Conn
	}
	return c
}

// date is the line of a head that says what time it is, made once a second.
type date struct{ last atomic.Pointer[dateLine] }

type dateLine struct {
	unix int64
	text string
}

// line returns it.
func (d *date) line() string {
	now := time.Now()
	l := d.last.Load()
	if l == nil || l.unix != now.Unix() {
		l = &dateLine{now.Unix(), "Date: " + now.UTC().Format(http.TimeFormat) + "\r\n"}
		d.last.Store(l)
	}
	return l.text
}
