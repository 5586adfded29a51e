package netx

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"
)

// ListenOptions are the settings of a listener.
type ListenOptions struct {
	Use Use
	// ProxyProtocol requires a header of the PROXY protocol, version 1 or 2, on connections of
	// trusted proxies.
	ProxyProtocol bool
	HeaderTimeout time.Duration // for the PROXY header
}

// Listen returns a listener for the connections of ln that l admits, each a *Conn. ln must accept
// TCP connections.
func (l *Limiter) Listen(ln net.Listener, o ListenOptions) net.Listener {
	a := &limitedListener{Listener: ln, limiter: l, use: o.Use}
	if o.ProxyProtocol && len(l.options().Proxies) > 0 {
		return newProxyListener(a, o.HeaderTimeout)
	}
	return a
}

// limitedListener is a listener for connections that a Limiter admits.
type limitedListener struct {
	net.Listener
	limiter *Limiter
	use     Use
}

var errNotTCP = errors.New("netx: not a TCP listener")

// Accept waits for a connection.
func (a *limitedListener) Accept() (net.Conn, error) {
	for {
		c, err := a.next()
		if err != nil {
			return nil, err
		}
		if a.admit(c) {
			return c, nil
		}
	}
}

// admit has the Limiter count c, or closes c.
func (a *limitedListener) admit(c *Conn) bool {
	e := a.limiter.admit(c.TCPConn, c.RemoteAddr(), c.remote != nil, a.use)
	if e == nil {
		_ = c.Close()
		return false
	}
	c.entry.Store(e)
	return true
}

// next waits for a connection, which the Limiter has not admitted yet.
func (a *limitedListener) next() (*Conn, error) {
	nc, err := a.Listener.Accept()
	if err != nil {
		return nil, err
	}
	tcp, ok := nc.(*net.TCPConn)
	if !ok {
		nc.Close()
		return nil, errNotTCP
	}
	return Wrap(tcp), nil
}

// maxPendingHeaders limits the connections that have not sent their PROXY header yet. They come
// from trusted proxies, which send it at once.
const maxPendingHeaders = 1024

// proxyListener is a limitedListener that reads the PROXY header of connections from trusted
// proxies before they are admitted.
type proxyListener struct {
	*limitedListener
	timeout time.Duration
	ready   chan *Conn
	failed  chan error // errors of Accept
	closed  chan struct{}
	close   func() error
	wg      sync.WaitGroup

	mu      sync.Mutex
	reading map[*Conn]struct{}
}

func newProxyListener(a *limitedListener, timeout time.Duration) *proxyListener {
	p := &proxyListener{
		limitedListener: a, timeout: timeout, ready: make(chan *Conn), failed: make(chan error), closed: make(chan struct{}),
		reading: make(map[*Conn]struct{}),
	}
	p.close = sync.OnceValue(func() error {
		close(p.closed)
		err := a.Listener.Close()
		p.mu.Lock()
		for c := range p.reading {
			_ = c.Close()
		}
		p.mu.Unlock()
		p.wg.Wait()
		return err
	})
	p.wg.Go(p.run)
	return p
}

// Close stops accepting.
func (p *proxyListener) Close() error { return p.close() }

// Accept waits for a connection.
func (p *proxyListener) Accept() (net.Conn, error) {
	for {
		select {
		case c := <-p.ready:
			if p.admit(c) {
				return c, nil
			}
		case err := <-p.failed:
			return nil, err
		case <-p.closed:
			return nil, net.ErrClosed
		}
	}
}

// run accepts until the listener is closed. It passes an error to the caller of Accept, and
// continues at the next Accept.
func (p *proxyListener) run() {
	for {
		c, err := p.next()
		switch {
		case err != nil:
			select {
			case p.failed <- err:
			case <-p.closed:
				return
			}
		case p.limiter.options().Proxies.trust(connClientAddr(c)):
			p.startHeader(c)
		default:
			p.deliver(c)
		}
	}
}

// deliver passes c to the caller of Accept.
func (p *proxyListener) deliver(c *Conn) {
	select {
	case p.ready <- c:
	case <-p.closed:
		_ = c.Close()
	}
}

// startHeader reads the header of c in a goroutine.
func (p *proxyListener) startHeader(c *Conn) {
	p.mu.Lock()
	full := len(p.reading) >= maxPendingHeaders
	if !full {
		p.reading[c] = struct{}{}
	}
	p.mu.Unlock()
	if full {
		_ = c.Close()
		p.limiter.report(c.RemoteAddr(), "too many proxy connections without a PROXY header")
		return
	}
	p.wg.Go(func() {
		err := p.readHeader(c)
		p.mu.Lock()
		delete(p.reading, c)
		p.mu.Unlock()
		if err != nil {
			_ = c.Close()
			p.limiter.report(c.RemoteAddr(), fmt.Sprintf("no PROXY header from a trusted proxy: %v", err))
			return
		}
		p.deliver(c)
	})
}

// readHeader reads the header of c and sets the address of its client.
func (p *proxyListener) readHeader(c *Conn) (err error) {
	defer func() {
		if r := recover(); r != nil { // it ends only this connection
			err = fmt.Errorf("panic: %v", r)
		}
	}()
	_ = c.SetReadDeadline(time.Now().Add(p.timeout)) // if c is closed, the read fails
	source, err := readProxyHeader(c.TCPConn)
	if err != nil {
		return err
	}
	_ = c.SetReadDeadline(time.Time{})
	addr := effectiveAddr(source.Addr(), connClientAddr(c))
	c.remote = net.TCPAddrFromAddrPort(netip.AddrPortFrom(addr, source.Port()))
	return nil
}
