package http2

import (
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"runtime/debug"
	"time"

	h2 "golang.org/x/net/http2"
)

// A stream is a request and its response. It is in Conn.streams until its response is complete or it
// is reset.
type stream struct {
	conn   *Conn
	id     uint32
	cancel context.CancelFunc // of the request's context

	// Under conn.mu:
	window       int64         // bytes of DATA that may be sent
	err          error         // why it was closed before the end of the response; nil before
	wakeUp       chan struct{} // for the handler; nil until it waits for the first time
	remoteClosed bool          // the request is complete
	received     int           // bytes of DATA frames
	expected     int64         // bytes of the body that are missing; -1: unknown
	body         []byte        // received and not read
	bodyTooLong  bool          // some of the body was discarded
}

// Errors of a handler's reads and writes.
var (
	errReset       = errors.New("http2: stream reset")
	errBodyTooLong = errors.New("http2: request body too long")
)

// A call is a request and what serves it.
type call struct {
	stream  *stream
	request *http.Request
	handler http.Handler
}

// open starts a request, in the idle goroutine if there is one: its stack is large enough already.
func (c *Conn) open(st *stream, r *http.Request, handler http.Handler) {
	c.mu.Lock()
	c.lastID, st.window = st.id, c.initial
	c.streams[st.id] = st
	c.running++
	idle := c.idle
	c.idle = false
	c.mu.Unlock()
	q := call{st, r, handler}
	if idle {
		c.calls <- q
		return
	}
	c.wg.Go(func() {
		header := make(http.Header)
		for ok := true; ok && c.handle(q, header); {
			clear(header)
			q, ok = <-c.calls
		}
	})
}

// handle calls the handler, and completes the response, whose header is empty. It reports whether its
// goroutine is to wait for another call, as one of a connection does.
func (c *Conn) handle(q call, header http.Header) (idle bool) {
	st := q.stream
	w := &Response{stream: st, isHead: q.request.Method == http.MethodHead, header: header, length: -1}
	defer func() {
		if p := recover(); p != nil {
			if p != http.ErrAbortHandler {
				c.log("http2: panic serving %v: %v\n%s", c.remote, p, debug.Stack())
			}
			w.fail(errReset, h2.ErrCodeInternal)
		}
		w.release()
		st.cancel()
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.running--; c.running == 0 {
			c.idleSince = time.Now()
		}
		idle = !c.idle
		c.idle = true
	}()
	q.handler.ServeHTTP(w, q.request)
	w.finish()
	return false
}

// remove removes st, which is complete or reset. The caller holds conn.mu.
func (st *stream) remove() {
	c := st.conn
	delete(c.streams, st.id)
	if c.draining && len(c.streams) == 0 {
		c.wakeReader()
	}
}

// close ends st before its response is complete. The caller holds conn.mu.
func (st *stream) close(err error) {
	st.err, st.body = err, nil
	st.remove()
	st.cancel()
	st.wake()
}

// wake wakes the handler if it waits. The caller holds conn.mu.
func (st *stream) wake() {
	select {
	case st.wakeUp <- struct{}{}:
	default:
	}
}

// extend changes the window by n bytes. It wakes the handler only if that lets it send, since a client
// may send such frames without an end. The caller holds conn.mu.
func (st *stream) extend(n int64) error {
	open := st.window > 0
	if st.window += n; st.window > maxWindow {
		return streamError(st.id, h2.ErrCodeFlowControl)
	}
	if !open && st.window > 0 && st.conn.window > 0 {
		st.wake()
	}
	return nil
}

// prepareWait has wake store a wake-up for wait. The caller holds conn.mu.
func (st *stream) prepareWait() {
	if st.wakeUp == nil {
		st.wakeUp = make(chan struct{}, 1)
	}
}

// wait waits for wake, which may have been called since prepareWait, until limit.
func (st *stream) wait(limit time.Time) error {
	timer := time.NewTimer(time.Until(limit))
	defer timer.Stop()
	select {
	case <-st.wakeUp:
		return nil
	case <-timer.C:
		return os.ErrDeadlineExceeded
	}
}

// receive adds data to the body. length is the length of the frame, with padding. The caller holds
// conn.mu.
func (st *stream) receive(data []byte, length int, end bool) error {
	if st.remoteClosed {
		return streamError(st.id, h2.ErrCodeStreamClosed)
	}
	if st.received += length; st.received > defaultWindow { // it is never extended
		return streamError(st.id, h2.ErrCodeFlowControl)
	}
	if st.expected >= 0 {
		st.expected -= int64(len(data))
		if st.expected < 0 || end && st.expected > 0 { // RFC 9113 section 8.1.1
			return streamError(st.id, h2.ErrCodeProtocol)
		}
	}
	if st.bodyTooLong = st.bodyTooLong || len(st.body)+len(data) > maxBody; !st.bodyTooLong {
		st.body = append(st.body, data...)
	}
	st.remoteClosed = end
	st.wake()
	return nil
}

// A body is the body of a request, of which at most maxBody unread bytes are kept.
type body struct{ *stream }

// Read waits for bytes of the body. It fails if none come for the stall time.
func (b body) Read(p []byte) (int, error) {
	c := b.conn
	limit := time.Now().Add(c.srv.stall)
	for {
		c.mu.Lock()
		n := copy(p, b.body)
		b.body = b.body[n:]
		end, tooLong, err := b.remoteClosed, b.bodyTooLong, b.err
		b.prepareWait()
		c.mu.Unlock()
		switch {
		case n > 0 || len(p) == 0:
			return n, nil
		case err != nil:
			return 0, err
		case tooLong:
			return 0, errBodyTooLong
		case end:
			return 0, io.EOF
		}
		if err := b.wait(limit); err != nil {
			return 0, err
		}
	}
}

// Close does nothing: what is not read is discarded.
func (body) Close() error { return nil }
