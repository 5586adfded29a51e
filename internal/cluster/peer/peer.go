// Package peer makes the connections between the nodes of a cluster: TLS 1.3, over which both sides
// prove that they know the secret of the cluster before anything else is read. It knows nothing about
// what the connections are used for.
package peer

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"log/slog"
	"math/big"
	"net"
	"net/netip"
	"sync"
	"time"

	"livego/internal/domain"
	"livego/internal/ops/logging"
	"livego/internal/ops/netx"
)

// A Conn is a connection to another node, which has proven that it belongs to the cluster.
type Conn struct {
	*tls.Conn
	Node string // ID of the other node
}

// A Dialer connects to other nodes.
type Dialer struct {
	Identity Identity
	Timeout  time.Duration // for a whole handshake

	mu    sync.Mutex
	slots map[string]chan struct{} // by node; full when no other handshake may start
}

// maxDials is how many handshakes a node starts at a time with each other node: fewer than that one
// accepts.
const maxDials = maxPendingPerAddress / 2

// Dial connects to the node with that ID at addr. The error is of kind domain.Unavailable, with the
// reason of the other node if it refuses.
func (d *Dialer) Dial(ctx context.Context, node, addr string) (*Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, d.Timeout)
	defer cancel()
	slot := d.slot(node)
	select {
	case slot <- struct{}{}:
		defer func() { <-slot }()
	case <-ctx.Done():
		return nil, domain.Errorf(domain.Unavailable, "node %s: %w", node, ctx.Err())
	}
	tcp, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, domain.Errorf(domain.Unavailable, "node %s: %w", node, err)
	}
	c := tls.Client(tcp, &tls.Config{
		MinVersion: tls.VersionTLS13, NextProtos: []string{protocol}, DynamicRecordSizingDisabled: true,
		InsecureSkipVerify: true, // the proof is bound to the connection, whatever the certificate
	})
	stop := context.AfterFunc(ctx, func() { tcp.Close() })
	if err = d.prove(ctx, c, node); !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		tcp.Close()
		if domain.KindOf(err) == domain.Internal {
			err = domain.Errorf(domain.Unavailable, "node %s: %w", node, err)
		}
		return nil, err
	}
	return &Conn{c, node}, nil
}

func (d *Dialer) slot(node string) chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.slots == nil {
		d.slots = make(map[string]chan struct{})
	}
	if d.slots[node] == nil {
		d.slots[node] = make(chan struct{}, maxDials)
	}
	return d.slots[node]
}

func (d *Dialer) prove(ctx context.Context, c *tls.Conn, node string) error {
	exported, err := exportKeys(ctx, c)
	if err != nil {
		return err
	}
	if err := writeMessage(c, d.Identity.hello(node, exported).append(nil)); err != nil {
		return err
	}
	b, err := readMessage(c)
	if err != nil {
		return err
	}
	r, err := parseReply(b)
	if err != nil {
		return err
	}
	return d.Identity.verify(&r, node, exported)
}

var (
	errProtocol = errors.New("peer: it speaks another protocol, or another version of it")
	errPanic    = errors.New("peer: panic")
)

// exportKeys completes the handshake of c and returns its keying material.
func exportKeys(ctx context.Context, c *tls.Conn) ([]byte, error) {
	if err := c.HandshakeContext(ctx); err != nil {
		return nil, err
	}
	state := c.ConnectionState()
	if state.NegotiatedProtocol != protocol {
		return nil, errProtocol
	}
	return state.ExportKeyingMaterial(exporterLabel, nil, 32)
}

// Limits of connections that are not proven yet.
const (
	maxPending           = 256
	maxPendingPerAddress = 16
)

// ListenOptions of Listen.
type ListenOptions struct {
	Identity Identity
	Timeout  time.Duration // for a whole handshake
	Log      *slog.Logger
	// LogInterval is how often refusals of one address are logged. Default 1 min.
	LogInterval time.Duration
}

// A listener accepts connections of nodes.
type listener struct {
	net.Listener
	opt     ListenOptions
	config  *tls.Config
	refused *logging.Limiter
	ready   chan *Conn
	failed  chan error
	closed  chan struct{}
	close   func() error
	work    sync.WaitGroup

	mu         sync.Mutex
	pending    map[net.Conn]struct{}
	perAddress map[netip.Prefix]int
}

// Listen returns a listener for the connections of ln, each a *Conn, after their proof. It refuses
// others with the reason, which it logs once for each address and interval.
func Listen(ln net.Listener, o ListenOptions) (net.Listener, error) {
	cert, err := newCertificate()
	if err != nil {
		return nil, err
	}
	if o.LogInterval == 0 {
		o.LogInterval = time.Minute
	}
	l := &listener{
		Listener: ln, opt: o, refused: &logging.Limiter{Interval: o.LogInterval},
		config: &tls.Config{MinVersion: tls.VersionTLS13, NextProtos: []string{protocol},
			Certificates: []tls.Certificate{cert}, SessionTicketsDisabled: true, DynamicRecordSizingDisabled: true},
		ready: make(chan *Conn), failed: make(chan error), closed: make(chan struct{}),
		pending: make(map[net.Conn]struct{}), perAddress: make(map[netip.Prefix]int),
	}
	l.close = sync.OnceValue(func() error {
		close(l.closed)
		err := ln.Close()
		l.mu.Lock()
		for c := range l.pending {
			_ = c.Close()
		}
		l.mu.Unlock()
		l.work.Wait()
		return err
	})
	l.work.Go(l.run)
	return l, nil
}

// newCertificate returns a certificate of this process. It is not verified by clients.
func newCertificate() (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().AddDate(100, 0, 0)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, err
}

// Close stops accepting.
func (l *listener) Close() error { return l.close() }

// Accept waits for a connection that is proven.
func (l *listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.ready:
		return c, nil
	case err := <-l.failed:
		return nil, err
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

// run accepts until the listener is closed. It passes an error to the caller of Accept, and continues at
// the next Accept.
func (l *listener) run() {
	for {
		nc, err := l.Listener.Accept()
		if err != nil {
			select {
			case l.failed <- err:
			case <-l.closed:
				return
			}
			continue
		}
		address := netx.AddressPrefix(netx.ParseClient(nc.RemoteAddr().String()))
		if reason := l.start(nc, address); reason != "" {
			nc.Close()
			l.report(nc, address, errors.New(reason))
			continue
		}
		l.work.Go(func() {
			var c *Conn
			err := errPanic
			func() {
				defer logging.Recover(l.opt.Log)
				c, err = l.handshake(nc)
			}()
			l.end(nc, address)
			if err != nil {
				nc.Close()
				l.report(nc, address, err)
				return
			}
			select {
			case l.ready <- c:
			case <-l.closed:
				nc.Close()
			}
		})
	}
}

// start counts nc, or returns why it exceeds a limit.
func (l *listener) start(nc net.Conn, address netip.Prefix) (refusal string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case <-l.closed:
		return "the server is stopping"
	default:
	}
	switch {
	case len(l.pending) >= maxPending:
		return "too many connections without a proof"
	case l.perAddress[address] >= maxPendingPerAddress:
		return "too many connections without a proof from this address"
	}
	l.pending[nc] = struct{}{}
	l.perAddress[address]++
	return ""
}

func (l *listener) end(nc net.Conn, address netip.Prefix) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.pending, nc)
	if l.perAddress[address]--; l.perAddress[address] == 0 {
		delete(l.perAddress, address)
	}
}

// handshake returns the connection over nc after the proofs of both sides.
func (l *listener) handshake(nc net.Conn) (*Conn, error) {
	if err := nc.SetDeadline(time.Now().Add(l.opt.Timeout)); err != nil {
		return nil, err
	}
	c := tls.Server(nc, l.config)
	exported, err := exportKeys(context.Background(), c) // the deadline limits it
	if err != nil {
		return nil, err
	}
	b, err := readMessage(c)
	if err != nil {
		return nil, err
	}
	h, err := parseHello(b)
	if err != nil {
		return nil, err
	}
	r, refusal := l.opt.Identity.answer(&h, exported)
	if refusal != nil {
		r = &reply{refusal: domain.Reason(refusal)}
	}
	if err := writeMessage(c, r.append(nil)); err != nil {
		return nil, err
	}
	if refusal != nil {
		return nil, refusal
	}
	return &Conn{c, h.client}, nc.SetDeadline(time.Time{})
}

// report logs why a connection of an address was refused.
func (l *listener) report(nc net.Conn, address netip.Prefix, reason error) {
	select {
	case <-l.closed:
		return
	default:
	}
	if suppressed, ok := l.refused.Allow(address.String()); ok {
		l.opt.Log.Warn("cluster connection refused", "remote", nc.RemoteAddr(), "reason", reason, "suppressed", suppressed)
	}
}
