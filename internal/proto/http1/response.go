package http1

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// maxBufferedBody is how long an answer may be whose length the handler does not say before it
// writes: those are refusals.
const maxBufferedBody = 64 << 10

var errNoContentLength = errors.New("front: an answer of that length has to say so")

// A Response is the http.ResponseWriter of a request that the front serves. Each write has until
// the server's Stall passes without progress; the whole answer may have a deadline too.
type Response struct {
	conn   *conn
	header http.Header

	status     int    // 0 before WriteHeader
	length     int64  // as the handler has said; -1 when it has not
	written    int64  // of the body
	head       []byte // to be sent with the beginning of the body; empty when it has been
	body       []byte // while its length is not known
	closeAfter bool   // the connection ends with it
	err        error
	keys       []string // of header, in order
}

// reset makes w that of the next request.
func (w *Response) reset() {
	clear(w.header)
	w.conn.sock.deadline = time.Time{}
	*w = Response{conn: w.conn, header: w.header, length: -1, head: w.head[:0], keys: w.keys[:0]}
}

// SetWriteDeadline has the connection end if the client has not taken the answer by t, whatever its progress.
func (w *Response) SetWriteDeadline(t time.Time) error {
	w.conn.sock.deadline = t
	return nil
}

// Header returns the fields that WriteHeader sends.
func (w *Response) Header() http.Header { return w.header }

// WriteHeader begins the answer; it goes out with the body.
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

// appendFields appends the status and header in the order of net/http.
func (w *Response) appendFields() {
	b := append(w.head, "HTTP/1.1 "...)
	b = strconv.AppendInt(b, int64(w.status), 10)
	if text := http.StatusText(w.status); text != "" {
		b = append(append(b, ' '), text...)
	} else {
		b = fmt.Appendf(b, " status code %d", w.status)
	}
	b = append(b, endOfLine...)
	for k := range w.header {
		if !omitsField(w.status, k) {
			w.keys = append(w.keys, k)
		}
	}
	slices.Sort(w.keys)
	for _, k := range w.keys {
		for _, v := range w.header[k] {
			b = append(append(append(b, k...), ": "...), sanitizeValue(v)...)
			b = append(b, endOfLine...)
		}
	}
	w.head = b
}

// hasBody reports whether answers of that status have one (RFC 9110 section 6.4.1).
func hasBody(status int) bool {
	return status >= http.StatusOK && status != http.StatusNoContent && status != http.StatusNotModified
}

// omitsField reports whether an answer without a body has no field of that name.
func omitsField(status int, name string) bool {
	switch name {
	case "Transfer-Encoding":
		return true // the front has none
	case "Content-Length":
		return !hasBody(status)
	case "Content-Type":
		return status == http.StatusNotModified
	}
	return false
}

// sanitizeValue returns the value of a field, which nothing may break off.
func sanitizeValue(v string) string {
	for i := range len(v) {
		if c := v[i]; c == '\r' || c == '\n' || c <= ' ' && (i == 0 || i == len(v)-1) {
			v = strings.NewReplacer("\r", " ", "\n", " ").Replace(v)
			return strings.Trim(v, " \t")
		}
	}
	return v
}

// Write sends b. It returns when the kernel has it, or when it is kept because the length of the body is not known yet.
func (w *Response) Write(b []byte) (int, error) {
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
	switch {
	case w.err != nil:
		return 0, w.err
	case !hasBody(w.status):
		return 0, http.ErrBodyNotAllowed
	case w.length < 0 && len(w.body)+len(b) > maxBufferedBody:
		w.err = errNoContentLength
		return 0, w.err
	case w.length < 0:
		w.body = append(w.body, b...)
		return len(b), nil
	case w.written+int64(len(b)) > w.length:
		w.closeAfter = true // as net/http has it
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

// send sends b, behind the head if that is to be sent, and returns how much of b went.
func (w *Response) send(b []byte) (int, error) {
	var head []byte
	if w.written == 0 && len(w.head) > 0 {
		w.completeHead(b)
		head, w.head = w.head, w.head[:0]
	}
	n, err := w.conn.sock.send(head, b)
	return max(0, n-len(head)), err
}

// completeHead completes the head of an answer whose body begins with b.
func (w *Response) completeHead(b []byte) {
	h := append(w.head, w.conn.srv.date.line()...)
	if w.length < 0 && hasBody(w.status) && (w.conn.req.Method != http.MethodHead || len(b) > 0) {
		h = append(h, "Content-Length: "...)
		h = strconv.AppendInt(h, int64(len(b)), 10)
		h = append(h, endOfLine...)
	}
	if _, typed := w.header["Content-Type"]; !typed && len(b) > 0 && hasBody(w.status) &&
		w.header.Get("Content-Encoding") == "" {
		h = append(append(append(h, "Content-Type: "...), http.DetectContentType(b)...), endOfLine...)
	}
	if w.conn.srv.stopping.Load() && !w.closeAfter {
		w.closeAfter = true
		h = append(h, "Connection: close\r\n"...)
	}
	w.head = append(h, endOfLine...)
}

// Why a connection ends with an answer.
var (
	errLengthMismatch = errors.New("front: what was written has not the length that was said")
	errCloseAfter     = errors.New("front: the last answer of a connection")
)

// finish sends what is left of the answer. An error means that the connection is to be closed.
func (w *Response) finish() error {
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
	head := w.conn.req.Method == http.MethodHead
	if w.err == nil && len(w.head) > 0 {
		w.completeHead(w.body)
		if head {
			w.body = nil
		}
		_, w.err = w.conn.sock.send(w.head, w.body)
	}
	switch {
	case w.err != nil:
		return w.err
	case w.length >= 0 && w.length != w.written && !head && hasBody(w.status):
		return errLengthMismatch
	case w.closeAfter:
		return errCloseAfter
	}
	return nil
}
