package bench

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

const (
	hlsTimeout = 15 * time.Second
	hlsBuffer  = 16 << 10
)

// An hlsConn sends HTTP/1.1 requests, one at a time on a persistent connection. The client of
// net/http has two goroutines per connection, and would take as much time as the server under test.
type hlsConn struct {
	options connOptions

	target *target // what nc is connected to; nil without a connection
	nc     net.Conn
	reader *bufio.Reader
	stop   func() bool
	used   bool             // has received a response
	body   io.LimitedReader // body of the last response, if its length is known
	out    []byte
}

// get requests at and returns the response body, which must be read to its end before the next
// request.
func (c *hlsConn) get(ctx context.Context, at *url.URL) (io.Reader, error) {
	for {
		fresh, err := c.connect(ctx, at)
		if err != nil {
			return nil, err
		}
		body, err := c.request(at)
		// A server may have closed a persistent connection, which shows at the next request.
		if err == nil || fresh || ctx.Err() != nil || errors.As(err, new(statusError)) {
			return body, err
		}
		c.close()
	}
}

// connect makes sure that there is a connection to the host of at, and reports whether it is new.
func (c *hlsConn) connect(ctx context.Context, at *url.URL) (fresh bool, err error) {
	if c.target != nil && c.target.host == at.Host && c.target.tls == (at.Scheme == "https") {
		return !c.used, nil
	}
	c.close()
	t, err := parseTarget(at.Scheme + "://" + at.Host + "/")
	if err != nil {
		return false, err
	}
	dialCtx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	if c.nc, err = dial(dialCtx, t, c.options.insecure); err != nil {
		return false, err
	}
	nc := c.nc
	c.stop = context.AfterFunc(ctx, func() { nc.Close() })
	c.target, c.reader, c.used = t, bufio.NewReaderSize(nc, hlsBuffer), false
	return true, nil
}

// A statusError is a response with another status than 200.
type statusError string

func (e statusError) Error() string { return fmt.Sprintf("HTTP response %q", string(e)) }

func (c *hlsConn) request(at *url.URL) (io.Reader, error) {
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
	if length, ok := c.readPlainHeader(); ok {
		c.used, c.body = true, io.LimitedReader{R: c.reader, N: length}
		return &c.body, nil
	}
	resp, err := http.ReadResponse(c.reader, nil) //nolint:bodyclose // read to its end, or closed with its connection
	if err != nil {
		return nil, err
	}
	c.used = true
	if resp.StatusCode != http.StatusOK {
		return nil, statusError(resp.Status)
	}
	return resp.Body, nil
}

// readPlainHeader reads the head of a response with status 200 and a Content-Length, as nearly all
// are; it leaves any other response unread.
func (c *hlsConn) readPlainHeader() (length int64, ok bool) {
	var b []byte
	for end := -1; end < 0; {
		if _, err := c.reader.Peek(len(b) + 1); err != nil { // wait for more data
			return 0, false
		}
		b, _ = c.reader.Peek(c.reader.Buffered())
		if end = bytes.Index(b, []byte("\r\n\r\n")); end >= 0 {
			b = b[:end+4]
		}
	}
	if !bytes.HasPrefix(b, []byte("HTTP/1.1 200 ")) || bytes.Contains(b, []byte("\r\nTransfer-Encoding:")) ||
		bytes.Contains(b, []byte("\r\nConnection:")) {
		return 0, false
	}
	_, rest, found := bytes.Cut(b, []byte("\r\nContent-Length: "))
	digits, _, _ := bytes.Cut(rest, []byte("\r\n"))
	length, err := strconv.ParseInt(string(digits), 10, 62)
	if !found || err != nil || length < 0 {
		return 0, false
	}
	_, err = c.reader.Discard(len(b))
	return length, err == nil
}

// close closes the connection.
func (c *hlsConn) close() {
	if c.nc == nil {
		return
	}
	c.stop()
	c.nc.Close()
	c.target, c.nc = nil, nil
}
