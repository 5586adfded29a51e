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

// A hlsConn fetches by HTTP/1.1, one request at a time on a connection that is kept. net/http's
// client has two goroutines a connection, and takes as much time as the server that is to be
// measured.
type hlsConn struct {
	options connOptions

	target *target // what nc is connected to; nil when it is to no one
	nc     net.Conn
	reader *bufio.Reader
	stop   func() bool
	used   bool             // has had an answer
	body   io.LimitedReader // body of the last answer, if its length was said
	out    []byte
}

// get asks for at and returns the answer's body, which is to be read to its end before the next request.
func (c *hlsConn) get(ctx context.Context, at *url.URL) (io.Reader, error) {
	for {
		fresh, err := c.connect(ctx, at)
		if err != nil {
			return nil, err
		}
		body, err := c.request(at)
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
	c.target, c.reader, c.used = t, bufio.NewReaderSize(nc, hlsBuffer), false
	return true, nil
}

// A statusError is an answer that is none to a request that went well.
type statusError string

func (e statusError) Error() string { return fmt.Sprintf("HTTP answer %q", string(e)) }

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
	resp, err := http.ReadResponse(c.reader, nil) //nolint:bodyclose // it is read to its end, or goes with its connection
	if err != nil {
		return nil, err
	}
	c.used = true
	if resp.StatusCode != http.StatusOK {
		return nil, statusError(resp.Status)
	}
	return resp.Body, nil
}

// readPlainHeader reads the header of an answer that is 200 and says its length, which is what
// nearly all are; it leaves any other as it is.
func (c *hlsConn) readPlainHeader() (length int64, ok bool) {
	var b []byte
	for end := -1; end < 0; {
		if _, err := c.reader.Peek(len(b) + 1); err != nil { // it waits for more than there was
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

// close gives the connection up.
func (c *hlsConn) close() {
	if c.nc == nil {
		return
	}
	c.stop()
	c.nc.Close()
	c.target, c.nc = nil, nil
}
