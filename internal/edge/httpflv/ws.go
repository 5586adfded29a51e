package httpflv

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/gorilla/websocket"
	"golang.org/x/time/rate"

	"livego/internal/domain"
	"livego/internal/ops/logging"
	"livego/internal/ops/netx"
	"livego/internal/stream"
)

const (
	// pingEvery is also the time to reply: a viewer that has not when the next ping is due is
	// closed.
	pingEvery   = 15 * time.Second
	linger      = time.Second // for a viewer to read the close frame and reply to it
	maxInbound  = 4 << 10     // most bytes of a message from a viewer
	maxMessages = 4           // most messages from a viewer, which has no reason to send any
	maxPongs    = 20          // replies in a second to pings of a viewer
	floodBurst  = 64 << 10    // bytes of frames of any kind from a viewer at once
	// floodRate is bytes of frames in a second; pings and pongs of busy proxies need less than 100.
	floodRate       = 4 << 10
	readBufferBytes = 1 << 10 // bytes in a read from a viewer
	// writeBufferBytes are the bytes of a batch in a write, from a pool while it is written.
	writeBufferBytes = 64 << 10
)

// Close codes for applications (RFC 6455 section 7.4.2): 4000 plus the HTTP status that the viewer
// would get before the upgrade.
const (
	closeNoCredential = 4401
	closeDenied       = 4403
	closeNotFound     = 4404
	closeLimit        = 4429
)

func newUpgrader() *websocket.Upgrader {
	return &websocket.Upgrader{
		// A read buffer of its own makes it read through the hijacker's connection.
		ReadBufferSize:  readBufferBytes,
		WriteBufferSize: writeBufferBytes,
		WriteBufferPool: new(sync.Pool),
		// Any page may play media, and cookies are not used.
		CheckOrigin: func(*http.Request) bool { return true },
		Error: func(w http.ResponseWriter, _ *http.Request, status int, reason error) {
			http.Error(w, reason.Error(), status)
		},
	}
}

// isWebSocketRequest reports whether r is a WebSocket handshake, possibly with headers removed by a
// proxy: an incomplete handshake is refused, and not answered with HTTP-FLV.
func isWebSocketRequest(r *http.Request) bool {
	return r.ProtoMajor == 1 && r.ProtoAtLeast(1, 1) &&
		(strings.EqualFold(r.Header.Get("Upgrade"), "websocket") || r.Header["Sec-Websocket-Key"] != nil)
}

// upgrade upgrades the connection of r to a WebSocket. If that fails, the client has been sent an
// error.
func (s *Server) upgrade(w http.ResponseWriter, r *http.Request) (*socket, error) {
	if r.Header.Get("Sec-Websocket-Version") != "13" {
		w.Header().Set("Sec-Websocket-Version", "13") // section 4.4
		http.Error(w, "unsupported WebSocket version: use 13", http.StatusUpgradeRequired)
		return nil, errors.New("unsupported version")
	}
	h := &hijacker{ResponseWriter: w, stallTimeout: s.opt.WriteTimeout}
	c, err := s.upgrader.Upgrade(h, r, nil)
	if err != nil {
		return nil, err
	}
	k := &socket{Conn: c, nc: h.nc, stallTimeout: s.opt.WriteTimeout}
	k.setHandlers()
	return k, nil
}

// refuseWebSocket refuses a viewer by a close frame: browsers do not show pages the reason of a
// handshake that fails.
func (s *Server) refuseWebSocket(w http.ResponseWriter, r *http.Request, err error) {
	k, failed := s.upgrade(w, r)
	if failed != nil {
		return
	}
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		k.read(func(error) {})
	}()
	k.end(err, gone)
	<-gone
}

// serveWebSocket is Serve for a WebSocket request (RFC 6455). The viewer may connect before the
// publisher. Each batch of frames is one binary message, and all messages together are the file.
func (s *Server) serveWebSocket(w http.ResponseWriter, r *http.Request, grant domain.Grant, log *slog.Logger) {
	k, err := s.upgrade(w, r)
	if err != nil {
		log.Debug("WebSocket upgrade failed", "reason", err)
		return
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	var wg sync.WaitGroup
	gone := make(chan struct{})
	wg.Go(func() {
		defer close(gone)
		k.read(cancel)
	})
	wg.Go(func() { k.ping(ctx, cancel) })

	err = s.play(ctx, k, grant, r, log)
	if cause := context.Cause(ctx); cause != nil {
		err = cause // the goroutine that cancelled ctx closes the connection
	} else {
		k.end(err, gone)
	}
	<-gone
	cancel(nil)
	wg.Wait()
	logging.PlayerEnded(log, err)
}

// play waits for the stream and sends it.
func (s *Server) play(ctx context.Context, k *socket, grant domain.Grant, r *http.Request, log *slog.Logger) error {
	wait := s.opt.PlayWait
	if wait == 0 {
		wait = -1
	}
	if !s.hub.Has(grant.Name) {
		log.Info("waiting for the stream")
	}
	sub, err := s.hub.Subscribe(ctx, grant.Name, stream.SubscribeOptions{
		Viewer: s.viewer(r, grant), Wait: wait, GOPs: s.opt.GOPs, AllTracks: dialectOf(r).Multitrack,
	})
	if err != nil {
		return err
	}
	defer sub.Leave()
	limitUnsent(k.nc, sub.Viewer)
	defer netx.MarkStreaming(k.nc)()
	log.Info("playing")
	return send(ctx, func(batch net.Buffers) error {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return k.send(batch[1:])
	}, sub, dialectOf(r))
}

// A socket is the WebSocket of one viewer. One goroutine writes, one reads, and one pings.
type socket struct {
	*websocket.Conn
	nc           net.Conn // the connection below the WebSocket
	stallTimeout time.Duration
	pongReceived atomic.Bool // since the last ping; true before the first
}

// setHandlers sets the handlers of pings and pongs, and the read limit. Call it first.
func (k *socket) setHandlers() {
	k.pongReceived.Store(true)
	k.SetReadLimit(maxInbound)
	pongs := rate.NewLimiter(maxPongs, maxPongs)
	k.SetPingHandler(func(payload string) error {
		if pongs.Allow() {
			// A blocked write ends by its own timeout.
			_ = k.WriteControl(websocket.PongMessage, []byte(payload), time.Now().Add(pingEvery))
		}
		return nil
	})
	k.SetPongHandler(func(string) error {
		k.pongReceived.Store(true)
		return nil
	})
}

// send writes parts as one binary message.
func (k *socket) send(parts net.Buffers) error {
	w, err := k.NextWriter(websocket.BinaryMessage)
	if err != nil {
		return err
	}
	for _, p := range parts {
		if _, err := w.Write(p); err != nil {
			return err
		}
	}
	return w.Close()
}

// read reads until the viewer closes or violates a limit. It then cancels and closes the
// connection.
func (k *socket) read(cancel context.CancelCauseFunc) {
	defer k.nc.Close()
	err := k.readMessages()
	cancel(err)
	var closed *websocket.CloseError
	// Otherwise a close frame was sent, which a reset over unread bytes would discard.
	if !errors.As(err, &closed) {
		k.nc.SetReadDeadline(time.Now().Add(linger))
		_, _ = io.Copy(io.Discard, k.nc)
	}
}

// readMessages discards messages of a viewer, up to the limits. It returns a *websocket.CloseError
// if the viewer has closed the WebSocket, and after a violation another error, once it has sent a
// close frame.
func (k *socket) readMessages() error {
	for n := 0; ; n++ {
		typ, msg, err := k.ReadMessage()
		switch {
		case errors.Is(err, websocket.ErrReadLimit):
			return k.refuse(websocket.CloseMessageTooBig, "message too long: more than 4096 bytes")
		case errors.Is(err, errFlood):
			return k.refuse(websocket.ClosePolicyViolation, "too many frames from the viewer")
		case err != nil:
			return err
		case typ == websocket.TextMessage && !utf8.Valid(msg):
			return k.refuse(websocket.CloseInvalidFramePayloadData, "invalid text message: not UTF-8")
		case n == maxMessages:
			return k.refuse(websocket.ClosePolicyViolation, "too many messages from the viewer")
		}
	}
}

func (k *socket) refuse(code int, reason string) error {
	k.sendClose(code, reason)
	return domain.Errorf(domain.Invalid, "%s", reason)
}

var errPingTimeout = domain.Errorf(domain.Unavailable, "no reply to a ping")

// ping pings the viewer regularly, also while there is nothing to send, and closes the connection
// if there is no reply.
func (k *socket) ping(ctx context.Context, cancel context.CancelCauseFunc) {
	tick := time.NewTicker(pingEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case due := <-tick.C:
			// If this process was stopped, the viewer may have replied.
			stopped := time.Since(due) > time.Second
			if !k.pongReceived.Swap(false) && !stopped {
				cancel(errPingTimeout)
				k.nc.Close()
				return
			}
			if k.WriteControl(websocket.PingMessage, nil, time.Now().Add(pingEvery)) != nil {
				// No ping was sent; a blocked write ends by its own timeout.
				k.pongReceived.Store(true)
			}
		}
	}
}

// end sends a close frame with the reason, if the viewer can still be told, and waits until gone is
// closed, while the viewer makes progress.
func (k *socket) end(err error, gone <-chan struct{}) {
	code, reason := closeStatus(err)
	if code == 0 {
		k.nc.Close()
		return
	}
	k.sendClose(code, reason)
	timer := netx.NewLingerTimer(time.Now(), netx.Queued(k.nc), linger, k.stallTimeout)
	tick := time.NewTicker(linger / 4)
	defer tick.Stop()
	for {
		select {
		case <-gone: // the viewer has replied
			return
		case <-tick.C:
		}
		if timer.Expired(time.Now(), netx.Queued(k.nc)) {
			k.nc.Close()
			<-gone
			return
		}
	}
}

// closeStatus returns the close code (section 7.4.1) and the reason for err; 0 if the connection
// has failed.
func closeStatus(err error) (code int, reason string) {
	if errors.Is(err, io.EOF) {
		return websocket.CloseNormalClosure, "the stream has ended"
	}
	kind, coded := domain.KindOf(err), domain.CodeOf(err) != ""
	switch {
	case kind == domain.Internal:
		return 0, ""
	case kind == domain.NotFound:
		code = closeNotFound
	case kind == domain.Unavailable:
		code = websocket.CloseServiceRestart // asks to reconnect
	case errors.Is(err, domain.ErrUnauthenticated):
		code = closeNoCredential
	case coded && kind == domain.Limit:
		code = closeLimit
	case coded:
		code = closeDenied
	default:
		code = websocket.ClosePolicyViolation
	}
	return code, domain.CodedReason(err)
}

// sendClose sends a close frame, unless one was sent before.
func (k *socket) sendClose(code int, reason string) {
	const longest = 123 // most bytes of a control frame, less the code (section 5.5)
	reason = strings.ToValidUTF8(reason[:min(len(reason), longest)], "")
	_ = k.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(code, reason), time.Now().Add(linger))
}

// A hijacker gives the upgrader a progressConn, and keeps the connection below it.
type hijacker struct {
	http.ResponseWriter
	stallTimeout time.Duration
	nc           net.Conn
}

// Hijack implements http.Hijacker.
func (h *hijacker) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	nc, rw, err := http.NewResponseController(h.ResponseWriter).Hijack()
	h.nc = nc
	return progressConn{nc, h.stallTimeout, rate.NewLimiter(floodRate, floodBurst)}, rw, err
}

// progressConn is a connection whose writes time out only without progress, and which limits how
// much the viewer sends.
type progressConn struct {
	net.Conn
	stallTimeout time.Duration
	inbound      *rate.Limiter // of bytes
}

var errFlood = errors.New("viewer exceeds the input limit")

// Read fails with errFlood if a viewer sends more than the limit. The library handles pings and
// empty fragments by itself, so they can be limited only here.
func (c progressConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if n > 0 && !c.inbound.AllowN(time.Now(), n) {
		return 0, errFlood
	}
	return n, err
}

func (c progressConn) Write(b []byte) (int, error) {
	bufs := net.Buffers{b}
	n, err := netx.WriteBuffers(c.Conn, &bufs, c.stallTimeout)
	if err != nil {
		err = fmt.Errorf("write: %w", err) // not a net.Error, which the library would replace
	}
	return int(n), err
}

// SetWriteDeadline does nothing, because Write sets its own deadlines.
func (c progressConn) SetWriteDeadline(time.Time) error { return nil }
