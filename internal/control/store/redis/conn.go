package redis

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"net"
	"strconv"
	"syscall"
	"time"
)

// Limits of a reply: the client library allocates whatever size a reply announces, before the data
// has arrived.
const (
	maxReply = 8 << 20 // bytes of one string
	maxItems = 1 << 20 // items of one array
	maxLine  = 64 << 10
)

var errReplyTooLarge = errors.New("reply too large")

// dialer returns the function that opens connections.
func dialer(o Options) func(context.Context, string, string) (net.Conn, error) {
	d := net.Dialer{Timeout: opTimeout, KeepAlive: 15 * time.Second}
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		nc, err := d.DialContext(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		if o.Address.TLS {
			secure := tls.Client(nc, tlsConfig(o, addr))
			ctx, cancel := context.WithTimeout(ctx, opTimeout)
			defer cancel()
			if err := secure.HandshakeContext(ctx); err != nil {
				nc.Close()
				return nil, err
			}
			return &limitedConn{Conn: secure}, nil
		}
		return &limitedTCPConn{limitedConn{Conn: nc}, nc.(syscall.Conn)}, nil
	}
}

// limitedConn is a connection that fails when the server announces more than any request asks for
// (RESP2 and RESP3).
type limitedConn struct {
	net.Conn
	line []byte // received part of the current line
	skip int    // bytes of a string that are still to come
	err  error
}

// limitedTCPConn lets the client library check whether the server has closed the connection before
// it is used again.
type limitedTCPConn struct {
	limitedConn
	syscall.Conn
}

func (g *limitedTCPConn) Close() error { return g.limitedConn.Close() }

func (g *limitedConn) Read(b []byte) (int, error) {
	if g.err != nil {
		return 0, g.err
	}
	n, err := g.Conn.Read(b)
	if g.err = g.scan(b[:n]); g.err != nil {
		return 0, g.err
	}
	return n, err
}

// scan parses the replies in b.
func (g *limitedConn) scan(b []byte) error {
	for len(b) > 0 {
		if g.skip > 0 {
			n := min(g.skip, len(b))
			g.skip, b = g.skip-n, b[n:]
			continue
		}
		end := bytes.IndexByte(b, '\n')
		part := b
		if end >= 0 {
			part = b[:end]
		}
		if len(g.line)+len(part) > maxLine {
			return errReplyTooLarge
		}
		if g.line = append(g.line, part...); end < 0 {
			return nil
		}
		b = b[end+1:]
		if err := g.checkLength(); err != nil {
			return err
		}
		g.line = g.line[:0]
	}
	return nil
}

// checkLength checks a complete line: the line of a string or an array announces a length.
func (g *limitedConn) checkLength() error {
	line := bytes.TrimSuffix(g.line, []byte{'\r'})
	if len(line) == 0 {
		return nil
	}
	var most int
	switch line[0] {
	case '$', '=', '!':
		most = maxReply
	case '*', '%', '~', '>', '|':
		most = maxItems
	default:
		return nil
	}
	n, err := strconv.Atoi(string(line[1:]))
	if err != nil || n > most {
		return errReplyTooLarge // a missing length (streamed RESP3 types) too: no request asks for one
	}
	if most == maxReply && n >= 0 {
		g.skip = n + len("\r\n")
	}
	return nil
}

// tlsConfig returns the TLS configuration for host:port.
func tlsConfig(o Options, addr string) *tls.Config {
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	if o.TLS != nil {
		c = o.TLS.Clone()
	}
	c.InsecureSkipVerify = o.NoVerify
	c.ServerName, _, _ = net.SplitHostPort(addr)
	return c
}
