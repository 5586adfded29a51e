package bench

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"
)

const (
	hlsTimeout = 15 * time.Second
	hlsBuffer  = 16 << 10
)

// A hlsConn fetches by HTTP/1.1, one request at a time on a connection that is kept. net/http's client has two goroutines a
// connection, and takes as much time as the server that is to be measured.
type hlsConn struct {
	options connOptions

	target *target // what nc is connected to; nil when it is to no one
	nc     net.Conn
	in     *bufio.Reader
	stop   func() bool
	used   bool          // has had an answer
	body   io.ReadCloser // of the last answer
	out    []byte
}

// get asks for at and returns the answer's body, which is to be read to its end before the next request.
func (c *hlsConn) get(ctx context.Context, at *url.URL) (io.Reader, error) {
	for {
		fresh, err := c.connect(ctx, at)
		if err != nil {
			return nil, err
		}
		body, err := c.ask(at)
		// A server may have closed a connection that was kept, which shows with the next request.
		if err == nil || fresh || ctx.Err() != nil || errors.As(err, new(statusError)) {
			return body, err
		}
		c.close()
	}
}

// connect sees to a connection to the host of at, and reports whether it is a new one.
func (c *hlsConn) connect(ctx context.Context, at *url.URL) (fresh bool, err error) {
	if c.target != nil && c.target.host == at.Host && c.target.tls == (at.Scheme == "https") {
		return !c.used, nil
	}
	c.close()
	t, err := parseTarget(at.Scheme + "://" + at.Host + "/")
	if err != nil {
		return false, err
	}
	dialing, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	if c.nc, err = dial(dialing, t, c.options.insecure); err != nil {
		return false, err
	}
	nc := c.nc
	c.stop = context.AfterFunc(ctx, func() { nc.Close() })
	c.target, c.in, c.used = t, bufio.NewReaderSize(nc, hlsBuffer), false
	return true, nil
}

// A statusError is an answer that is none to a request that went well.
type statusError string

func (e statusError) Error() string { return fmt.Sprintf("HTTP answer %q", string(e)) }

func (c *hlsConn) ask(at *url.URL) (io.Reader, error) {
	c.out = append(c.out[:0], "GET "...)
	c.out = append(c.out, at.RequestURI()...)
	c.out = append(c.out, " HTTP/1.1\r\nHost: "...)
	c.out = append(c.out, at.Host...)
	c.out = append(c.out, "\r\nUser-Agent: livego-bench\r\n\r\n"...)
	if err := c.nc.SetDeadline(time.Now().Add(hlsTimeout)); err != nil {
		return nil, err
	}
	if _, err := c.nc.Write(c.out); err != nil {
		return nil, err
	}
	resp, err := http.ReadResponse(c.in, nil)
	if err != nil {
		return nil, err
	}
	c.used, c.body = true, resp.Body
	if resp.StatusCode != http.StatusOK {
		return nil, statusError(resp.Status)
	}
	return resp.Body, nil
}

// close gives the connection up.
func (c *hlsConn) close() {
	if c.nc == nil {
		return
	}
	c.stop()
	if c.body != nil {
		_ = c.body.Close() // what is left of it is of no use
	}
	c.nc.Close()
	c.target, c.nc, c.body = nil, nil, nil
}
