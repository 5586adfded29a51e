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

// What is taken of a Redis: its client makes room for whatever a reply announces, before it has come.
const (
	maxReply = 8 << 20 // bytes of one string
	maxItems = 1 << 20 // items of one array
	maxLine  = 64 << 10
)

var errReplyTooLarge = errors.New("a reply is larger than any that was asked for")

// dialer returns how connections are made.
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

// limitedConn is a connection that fails when the other side announces more than anybody asked for (RESP2 and RESP3).
type limitedConn struct {
	net.Conn
	line []byte // what has come of the line under way
	skip int    // bytes of a string that are still to come
	err  error
}

// limitedTCPConn lets the client look whether the other side has closed before it uses a connection again.
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

// scan follows the replies in b.
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

// checkLength looks at a whole line: a string's or an array's says how much will follow.
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
		return errReplyTooLarge // without a length (RESP3's streams) too: nobody asked for one
	}
	if most == maxReply && n >= 0 {
		g.skip = n + len("\r\n")
	}
	return nil
}

// tlsConfig returns how to speak TLS to host:port.
func tlsConfig(o Options, addr string) *tls.Config {
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	if o.TLS != nil {
		c = o.TLS.Clone()
	}
	c.InsecureSkipVerify = o.NoVerify
	c.ServerName, _, _ = net.SplitHostPort(addr)
	return c
}
