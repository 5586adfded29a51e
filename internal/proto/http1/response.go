package http1

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"livego/internal/proto/http2"
)

// maxBufferedBody is the longest body of a response without a Content-Length, such as an error.
const maxBufferedBody = 64 << 10

var errNoContentLength = errors.New("http1: response too long without Content-Length")

// A Response is the http.ResponseWriter of this package. Each write fails after the server's
// StallTimeout without progress; the whole response may have a deadline too.
type Response struct {
	conn   *conn
	header http.Header

	status     int           // 0 before WriteHeader
	length     int64         // Content-Length of the handler; -1: none
	written    int64         // bytes of the body
	head       *responseHead // the unsent head; nil once it is sent
	body       []byte        // buffered while its length is unknown
	closeAfter bool          // close the connection after it
	hijacked   bool
	err        error
}

// A responseHead is the buffer of a head.
type responseHead struct {
	text []byte
	keys []string // sorted keys of the header
}

// reset prepares w for the next request.
func (w *Response) reset() {
	clear(w.header)
	w.conn.sock.deadline = time.Time{}
	*w = Response{conn: w.conn, header: w.header, length: -1}
}

// release returns the buffer of the head to the pool.
func (w *Response) release() {
	if h := w.head; h != nil {
		clear(h.keys)
		h.text, h.keys = h.text[:0], h.keys[:0]
		w.conn.srv.heads.Put(h)
		w.head = nil
	}
}

// SetWriteDeadline closes the connection if the client has not received the response by t, whatever
// its progress.
func (w *Response) SetWriteDeadline(t time.Time) error {
	w.conn.sock.deadline = t
	return nil
}

// Header returns the fields that WriteHeader sends.
func (w *Response) Header() http.Header { return w.header }

// WriteHeader sets the status and the header; they are sent with the body.
func (w *Response) WriteHeader(status int) {
	if w.status != 0 {
		return
	}
	w.status = status
	w.closeAfter = w.header.Get("Connection") == "close"
	if n, err := strconv.ParseInt(w.header.Get("Content-Length"), 10, 64); err == nil && n >= 0 {
		w.length = n
	} else {
		delete(w.header, "Content-Length")
	}
	w.appendFields()
}

// appendFields appends the status line and the header in the order of net/http.
func (w *Response) appendFields() {
	h, _ := w.conn.srv.heads.Get().(*responseHead)
	b := append(h.text, "HTTP/1.1 "...)
	b = strconv.AppendInt(b, int64(w.status), 10)
	if text := http.StatusText(w.status); text != "" {
		b = append(append(b, ' '), text...)
	} else {
		b = fmt.Appendf(b, " status code %d", w.status)
	}
	b = append(b, endOfLine...)
	for k := range w.header {
		if !omitsField(w.status, k) {
			h.keys = append(h.keys, k)
		}
	}
	slices.Sort(h.keys)
	for _, k := range h.keys {
		for _, v := range w.header[k] {
			b = append(append(append(b, k...), ": "...), sanitizeValue(v)...)
			b = append(b, endOfLine...)
		}
	}
	h.text, w.head = b, h
}

// Hijack implements http.Hijacker: the connection, of TCP or TLS, belongs to the caller. Nothing is
// buffered, because a request with bytes after its head is passed to net/http.
func (w *Response) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	c := w.conn
	switch {
	case w.hijacked:
		return nil, nil, http.ErrHijacked
	case w.status != 0:
		return nil, nil, errResponseStarted
	}
	if err := c.sock.restore(); err != nil {
		return nil, nil, err
	}
	c.srv.disconnects.unwatch(c)
	_ = c.tcp.SetDeadline(time.Time{}) // fails if c is closed, and so does the next call
	w.hijacked, w.err = true, http.ErrHijacked
	c.srv.notifyState(c.nc, http.StateHijacked)
	const least = 16 // bytes: callers read and write the connection
	return c.nc, bufio.NewReadWriter(bufio.NewReaderSize(c.nc, least), bufio.NewWriterSize(c.nc, least)), nil
}

var errResponseStarted = errors.New("http1: hijacked after WriteHeader")

// omitsField reports whether a response of this status omits the field.
func omitsField(status int, name string) bool {
	switch name {
	case "Transfer-Encoding":
		return true // bodies are never chunked
	case "Content-Length":
		return !http2.HasBody(status)
	case "Content-Type":
		return status == http.StatusNotModified
	}
	return false
}

// sanitizeValue returns the value of a field without line ends, and without white space around it.
func sanitizeValue(v string) string {
	for i := range len(v) {
		if c := v[i]; c == '\r' || c == '\n' || c <= ' ' && (i == 0 || i == len(v)-1) {
			v = strings.NewReplacer("\r", " ", "\n", " ").Replace(v)
			return strings.Trim(v, " \t")
		}
	}
	return v
}

// Write writes b. It returns when the kernel has b, or when b is buffered because the length of the
// body is unknown.
func (w *Response) Write(b []byte) (int, error) {
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
	switch {
	case w.err != nil:
		return 0, w.err
	case !http2.HasBody(w.status):
		return 0, http.ErrBodyNotAllowed
	case w.length < 0 && len(w.body)+len(b) > maxBufferedBody:
		w.err = errNoContentLength
		return 0, w.err
	case w.length < 0:
		w.body = append(w.body, b...)
		return len(b), nil
	case w.written+int64(len(b)) > w.length:
		w.closeAfter = true // as net/http does
		return 0, http.ErrContentLength
	case w.conn.req.Method == http.MethodHead:
		w.written += int64(len(b))
		return len(b), nil
	}
	n, err := w.send(b)
	w.written += int64(n)
	w.err = err
	return n, err
}

// send writes b, after the head if that is unsent, and returns how many bytes of b were written.
func (w *Response) send(b []byte) (int, error) {
	if w.head == nil {
		return w.conn.sock.send(nil, b)
	}
	w.completeHead(b)
	n, err := w.conn.sock.send(w.head.text, b)
	n = max(0, n-len(w.head.text))
	w.release()
	return n, err
}

// completeHead completes the head of a response whose body starts with b.
func (w *Response) completeHead(b []byte) {
	h := append(append(append(w.head.text, "Date: "...), w.conn.srv.date.Value()...), endOfLine...)
	if w.length < 0 && http2.HasBody(w.status) && (w.conn.req.Method != http.MethodHead || len(b) > 0) {
		h = append(h, "Content-Length: "...)
		h = strconv.AppendInt(h, int64(len(b)), 10)
		h = append(h, endOfLine...)
	}
	if _, typed := w.header["Content-Type"]; !typed && len(b) > 0 && http2.HasBody(w.status) &&
		w.header.Get("Content-Encoding") == "" {
		h = append(append(append(h, "Content-Type: "...), http.DetectContentType(b)...), endOfLine...)
	}
	if w.conn.srv.stopping.Load() && !w.closeAfter {
		w.closeAfter = true
		h = append(h, "Connection: close\r\n"...)
	}
	w.head.text = append(h, endOfLine...)
}

// Errors that end a connection after a response.
var (
	errLengthMismatch = errors.New("http1: body length differs from Content-Length")
	errCloseAfter     = errors.New("http1: last response of a connection")
)

// finish writes the rest of the response. After an error the connection must be closed.
func (w *Response) finish() error {
	if w.hijacked {
		return w.err
	}
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
	head := w.conn.req.Method == http.MethodHead
	if w.err == nil && w.head != nil {
		w.completeHead(w.body)
		if head {
			w.body = nil
		}
		_, w.err = w.conn.sock.send(w.head.text, w.body)
	}
	switch {
	case w.err != nil:
		return w.err
	case w.length >= 0 && w.length != w.written && !head && http2.HasBody(w.status):
		return errLengthMismatch
	case w.closeAfter:
		return errCloseAfter
	}
	return nil
}
