package http2

import (
	"bytes"
	"encoding/binary"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	h2 "golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

const (
	// maxBuffered is how many bytes of a response without Content-Length are kept to find its length.
	maxBuffered = 16 << 10
	// smallPiece is the size of a piece of a response so small that it costs more to send than to
	// produce. A client may not have many of them by small windows.
	smallPiece = 256
)

// A Response is the http.ResponseWriter of this package. Each write fails if the client opens no
// window for the server's stall time; the whole response may have a deadline too. A response with a
// Content-Length, or after Flush, is sent as it is written.
type Response struct {
	stream *stream
	isHead bool // the request's method is HEAD
	header http.Header

	status    int          // 0 before WriteHeader
	length    int64        // Content-Length of the handler; -1: none
	written   int64        // bytes of the body
	head      *headEncoder // the unsent head; nil once it is sent
	body      []byte       // buffered while its length is unknown
	streaming bool         // nothing is buffered any more
	ended     bool         // END_STREAM has been sent
	deadline  time.Time    // for the whole response; zero: none
	err       error
}

// Header returns the fields that WriteHeader sends.
func (w *Response) Header() http.Header { return w.header }

// SetWriteDeadline resets the stream if the client has not received the response by t, whatever its
// progress.
func (w *Response) SetWriteDeadline(t time.Time) error {
	w.deadline = t
	return nil
}

// WriteHeader sets the status and the header; they are sent with the body.
func (w *Response) WriteHeader(status int) {
	if w.status != 0 {
		return
	}
	w.status = status
	if n, err := strconv.ParseInt(w.header.Get("Content-Length"), 10, 64); err == nil && n >= 0 {
		w.length = n
	} else {
		delete(w.header, "Content-Length")
	}
	w.head, _ = w.stream.conn.srv.heads.Get().(*headEncoder)
	w.head.add(":status", strconv.Itoa(status))
	for k, values := range w.header {
		name := lowerName(k)
		if omitsField(status, name) {
			continue
		}
		for _, v := range values {
			w.head.add(name, sanitizeValue(v))
		}
	}
}

// HasBody reports whether responses of this status have a body (RFC 9110 section 6.4.1).
func HasBody(status int) bool {
	return status >= http.StatusOK && status != http.StatusNoContent && status != http.StatusNotModified
}

// omitsField reports whether a response of this status omits the field.
func omitsField(status int, name string) bool {
	switch name {
	case "connection", "proxy-connection", "keep-alive", "transfer-encoding", "upgrade": // RFC 9113 section 8.2.2
		return true
	case "content-length":
		return !HasBody(status)
	case "content-type":
		return status == http.StatusNotModified
	}
	return false
}

// sanitizeValue returns the value of a field without line ends, and without white space around it.
func sanitizeValue(v string) string {
	if strings.ContainsAny(v, "\r\n\x00") {
		v = strings.NewReplacer("\r", " ", "\n", " ", "\x00", " ").Replace(v)
	}
	return strings.Trim(v, " \t")
}

// Write writes b. It returns when the transport has b, or when b is buffered because the length of the
// body is unknown.
func (w *Response) Write(b []byte) (int, error) {
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
	switch {
	case w.err != nil:
		return 0, w.err
	case !HasBody(w.status):
		return 0, http.ErrBodyNotAllowed
	case w.length >= 0 && w.written+int64(len(b)) > w.length:
		return 0, http.ErrContentLength
	case w.length < 0 && !w.streaming && len(w.body)+len(b) <= maxBuffered:
		w.body = append(w.body, b...)
		w.written += int64(len(b))
		return len(b), nil
	case w.isHead:
		w.completeHead(b, false)
		w.written += int64(len(b))
		return len(b), nil
	}
	if err := w.flushBody(); err != nil {
		return 0, err
	}
	n, err := w.send(b, w.length >= 0 && w.written+int64(len(b)) == w.length)
	w.written += int64(n)
	return n, err
}

// FlushError sends what is buffered, and all later writes at once.
func (w *Response) FlushError() error {
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
	if w.err != nil || w.ended || w.isHead || !HasBody(w.status) {
		return w.err // finish sends the head
	}
	if err := w.flushBody(); err != nil || w.head == nil {
		return err
	}
	_, err := w.send(nil, false)
	return err
}

// Flush implements http.Flusher.
func (w *Response) Flush() { _ = w.FlushError() }

// flushBody sends what is buffered. From then on nothing is.
func (w *Response) flushBody() error {
	w.streaming = true
	if len(w.body) == 0 {
		return nil
	}
	_, err := w.send(w.body, false)
	w.body = nil
	return err
}

// finish sends the rest of the response.
func (w *Response) finish() {
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
	switch {
	case w.ended || w.err != nil:
	case w.length >= 0 && w.length != w.written && !w.isHead && HasBody(w.status):
		w.fail(errReset, h2.ErrCodeInternal)
	default:
		w.completeHead(w.body, true)
		if w.isHead {
			w.body = nil
		}
		_, _ = w.send(w.body, true)
	}
}

// release returns the encoder of an unsent head.
func (w *Response) release() {
	if w.head != nil {
		w.head.reset()
		w.stream.conn.srv.heads.Put(w.head)
		w.head = nil
	}
}

// fail resets the stream, unless it has ended.
func (w *Response) fail(err error, code h2.ErrCode) {
	w.err = err
	st, c := w.stream, w.stream.conn
	c.mu.Lock()
	open := c.streams[st.id] == st
	if open {
		st.close(err)
	}
	c.mu.Unlock()
	if !open {
		return
	}
	c.wmu.Lock()
	defer c.wmu.Unlock()
	if e := c.send(appendReset(nil, st.id, code), time.Time{}); e != nil {
		c.fail(e)
	}
}

// send sends b, after the head if that is unsent, and ends the stream after it if end is set. It
// returns how many bytes of b were sent.
func (w *Response) send(b []byte, end bool) (total int, err error) {
	var limit time.Time // for progress; zero while there is some
	for {
		n, err := w.sendBatch(b, end)
		total += n
		if b = b[n:]; n > 0 {
			limit = time.Time{}
		} else if err == nil && len(b) > 0 {
			if limit.IsZero() {
				limit = w.stallLimit()
			}
			err = w.stream.wait(limit)
		}
		switch {
		case err != nil:
			w.fail(err, h2.ErrCodeCancel)
			return total, err
		case len(b) == 0:
			w.ended = end
			return total, nil
		}
	}
}

// stallLimit returns when the client must have opened a window.
func (w *Response) stallLimit() time.Time {
	limit := time.Now().Add(w.stream.conn.srv.stall)
	if !w.deadline.IsZero() && w.deadline.Before(limit) {
		return w.deadline
	}
	return limit
}

// sendBatch sends as much of b as fits into a batch and the flow-control windows, and returns how
// much. If it returns 0 for a b that is not empty, the caller has to wait for the stream.
func (w *Response) sendBatch(b []byte, end bool) (int, error) {
	st, c := w.stream, w.stream.conn
	c.wmu.Lock()
	defer c.wmu.Unlock()
	now := time.Now()
	if !w.deadline.IsZero() && !now.Before(w.deadline) {
		return 0, os.ErrDeadlineExceeded
	}
	w.completeHead(b, end)
	var head []byte
	if w.head != nil {
		head = w.head.bytes(!c.sentUpdate)
	}
	most := min(len(b), maxData(batchSize-framesSize(len(head))))
	n, last, reset, err := st.take(most, end && most == len(b))
	if err != nil {
		return 0, err
	}
	if n < most && n > 0 && n < smallPiece && !c.overhead.Allow() {
		c.fail(h2.ConnectionError(h2.ErrCodeEnhanceYourCalm))
	}
	if w.head == nil && n == 0 && !last {
		return 0, nil
	}
	buf, _ := c.srv.bufs.Get().(*[batchSize]byte)
	defer c.srv.bufs.Put(buf)
	out := buf[:0]
	if w.head != nil {
		out = appendHead(out, st.id, head, last && n == 0)
		w.release()
		c.sentUpdate = true
	}
	if n > 0 || last && len(out) == 0 {
		out = appendData(out, st.id, b[:n], last)
	}
	if reset { // RFC 9113 section 8.1
		out = appendReset(out, st.id, h2.ErrCodeNo)
	}
	deadline := w.deadline
	if limit := now.Add(c.srv.stall); !deadline.IsZero() && deadline.Before(limit) {
		deadline = limit // a stream whose time ends does not end the others
	}
	if err := c.send(out, deadline); err != nil {
		c.fail(err)
		return 0, err
	}
	return n, nil
}

// take takes up to n bytes from the flow-control windows. If it takes all of them and end is set, the
// stream is complete: reset reports that the request is not. It returns 0 for an n that is not, if the
// caller has to wait.
func (st *stream) take(n int, end bool) (taken int, last, reset bool, err error) {
	c := st.conn
	c.mu.Lock()
	defer c.mu.Unlock()
	if st.err != nil {
		return 0, false, false, st.err
	}
	taken = int(max(0, min(int64(n), st.window, c.window)))
	st.window -= int64(taken)
	c.window -= int64(taken)
	if last = end && taken == n; last {
		st.remove()
	} else if taken < n {
		st.prepareWait()
	}
	return taken, last, last && !st.remoteClosed, nil
}

// completeHead adds the last fields to an unsent head of a response whose body starts with b. end
// reports whether b is the whole body.
func (w *Response) completeHead(b []byte, end bool) {
	if w.head == nil || w.head.complete {
		return
	}
	w.head.complete = true
	w.head.add("date", w.stream.conn.srv.date.Value())
	if w.length < 0 && end && HasBody(w.status) && (!w.isHead || w.written > 0) {
		w.head.add("content-length", strconv.FormatInt(w.written, 10))
	}
	if _, typed := w.header["Content-Type"]; !typed && len(b) > 0 && w.header.Get("Content-Encoding") == "" {
		w.head.add("content-type", http.DetectContentType(b))
	}
}

// A headEncoder encodes the head of a response. Its table is empty, so that an encoder can be used for
// any connection.
type headEncoder struct {
	buf      bytes.Buffer
	enc      *hpack.Encoder
	complete bool // has all fields
}

// emptyTable is the update that tells a client that the table is empty (RFC 7541 section 6.3).
const emptyTable = 0x20

func newHeadEncoder() *headEncoder {
	e := &headEncoder{}
	e.enc = hpack.NewEncoder(&e.buf)
	e.enc.SetMaxDynamicTableSize(0)
	e.add("date", "") // comes after the table updates of the new encoder, which bytes replaces
	e.reset()
	return e
}

func (e *headEncoder) reset() {
	e.buf.Reset()
	e.buf.WriteByte(emptyTable)
	e.complete = false
}

func (e *headEncoder) add(name, value string) {
	_ = e.enc.WriteField(hpack.HeaderField{Name: name, Value: value}) // to memory
}

// bytes returns the encoded fields, after the update of the client's table if update is set.
func (e *headEncoder) bytes(update bool) []byte {
	if update {
		return e.buf.Bytes()
	}
	return e.buf.Bytes()[1:]
}

// framesSize returns the size of the frames for n bytes.
func framesSize(n int) int { return n + frameHeaderSize*((n+frameSize-1)/frameSize) }

// maxData returns how many bytes of data fit into room with their frame headers.
func maxData(room int) int {
	return max(0, room-frameHeaderSize*((room+frameSize-1)/frameSize))
}

func appendFrameHeader(b []byte, size int, typ h2.FrameType, flags h2.Flags, id uint32) []byte {
	b = append(b, byte(size>>16), byte(size>>8), byte(size), byte(typ), byte(flags))
	return binary.BigEndian.AppendUint32(b, id)
}

// appendHead appends a HEADERS frame, and CONTINUATION frames if block is too long for it.
func appendHead(b []byte, id uint32, block []byte, end bool) []byte {
	typ, flags := h2.FrameHeaders, h2.Flags(0)
	if end {
		flags = h2.FlagHeadersEndStream
	}
	for {
		n := min(len(block), frameSize)
		if n == len(block) {
			flags |= h2.FlagHeadersEndHeaders
		}
		b = append(appendFrameHeader(b, n, typ, flags, id), block[:n]...)
		if block = block[n:]; len(block) == 0 {
			return b
		}
		typ, flags = h2.FrameContinuation, 0
	}
}

// appendData appends DATA frames, one at least.
func appendData(b []byte, id uint32, data []byte, end bool) []byte {
	for {
		n, flags := min(len(data), frameSize), h2.Flags(0)
		if end && n == len(data) {
			flags = h2.FlagDataEndStream
		}
		b = append(appendFrameHeader(b, n, h2.FrameData, flags, id), data[:n]...)
		if data = data[n:]; len(data) == 0 {
			return b
		}
	}
}

func appendReset(b []byte, id uint32, code h2.ErrCode) []byte {
	const size = 4
	return binary.BigEndian.AppendUint32(appendFrameHeader(b, size, h2.FrameRSTStream, 0, id), uint32(code))
}

// lowerName returns a field's name as HTTP/2 requires it.
func lowerName(name string) string {
	if lower, ok := lowerNames[name]; ok {
		return lower
	}
	return strings.ToLower(name)
}

// lowerNames spares an allocation for the usual fields. It is never modified.
var lowerNames = map[string]string{
	"Access-Control-Allow-Origin": "access-control-allow-origin", "Accept-Ranges": "accept-ranges",
	"Access-Control-Expose-Headers": "access-control-expose-headers", "Cache-Control": "cache-control",
	"Content-Encoding": "content-encoding", "Content-Length": "content-length", "Content-Type": "content-type",
	"Etag": "etag", "Vary": "vary", "X-Content-Type-Options": "x-content-type-options",
}

// A Date is the value of the Date field of responses, which changes once a second.
type Date struct{ last atomic.Pointer[dateValue] }

type dateValue struct {
	unix int64
	text string
}

// Value returns the value for the current second.
func (d *Date) Value() string {
	now := time.Now()
	v := d.last.Load()
	if v == nil || v.unix != now.Unix() {
		v = &dateValue{now.Unix(), now.UTC().Format(http.TimeFormat)}
		d.last.Store(v)
	}
	return v.text
}
