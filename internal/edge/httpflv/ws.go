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
	pingEvery   = 15 * time.Second // a viewer who has not answered one when the next is due is gone
	linger      = time.Second      // for a viewer to take the close frame, and answer it
	maxInbound  = 4 << 10          // of a message from a viewer, in bytes
	maxMessages = 4                // from a viewer, who has nothing to say
	maxPongs    = 20               // a second that a viewer's pings are answered by
	floodBurst  = 64 << 10         // bytes of frames of any kind from a viewer,
	// and so many more a second; pings and pongs of the liveliest proxies are below 100
	floodRate        = 4 << 10
	readBufferBytes  = 1 << 10  // of what a viewer sends in one read
	writeBufferBytes = 64 << 10 // of a batch in one write; taken from a pool, for as long as a batch is written
)

// Close codes of those left to applications (RFC 6455 section 7.4.2): HTTP's status and 4000, for
// viewers to whom HTTP is no longer spoken.
const (
	closeNoCredential = 4401
	closeDenied       = 4403
	closeNotFound     = 4404
	closeLimit        = 4429
)

func newUpgrader() *websocket.Upgrader {
	return &websocket.Upgrader{
		ReadBufferSize:  readBufferBytes, // its own, so that it reads by the hijacker's connection
		WriteBufferSize: writeBufferBytes,
		WriteBufferPool: new(sync.Pool),
		CheckOrigin:     func(*http.Request) bool { return true }, // media is for every page, and no cookie counts
		Error: func(w http.ResponseWriter, _ *http.Request, status int, reason error) {
			http.Error(w, reason.Error(), status)
		},
	}
}

// isWebSocketRequest reports whether r wants to become a WebSocket, as far as a proxy has left that
// to be seen: a handshake that lacks something is refused, not answered by HTTP-FLV.
func isWebSocketRequest(r *http.Request) bool {
	return r.ProtoMajor == 1 && r.ProtoAtLeast(1, 1) &&
		(strings.EqualFold(r.Header.Get("Upgrade"), "websocket") || r.Header["Sec-Websocket-Key"] != nil)
}

// upgrade makes a WebSocket of the connection of r. Where that fails the client has been told why.
func (s *Server) upgrade(w http.ResponseWriter, r *http.Request) (*socket, error) {
	if r.Header.Get("Sec-Websocket-Version") != "13" {
		w.Header().Set("Sec-Websocket-Version", "13") // section 4.4
		http.Error(w, "the version of WebSocket here is 13", http.StatusUpgradeRequired)
		return nil, errors.New("unsupported version")
	}
	h := &hijacker{ResponseWriter: w, stall: s.opt.WriteTimeout}
	c, err := s.upgrader.Upgrade(h, r, nil)
	if err != nil {
		return nil, err
	}
	k := &socket{Conn: c, nc: h.nc, stall: s.opt.WriteTimeout}
	k.setHandlers()
	return k, nil
}

// refuseWebSocket tells a viewer whose token is not good so by a close frame: browsers show pages
// nothing of a handshake that fails.
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

// serveWebSocket is Serve for a request for a WebSocket (RFC 6455). The viewer may come before the
// publisher. Each batch of frames is one binary message, and all messages together are the file.
func (s *Server) serveWebSocket(w http.ResponseWriter, r *http.Request, grant domain.Grant, log *slog.Logger) {
	k, err := s.upgrade(w, r)
	if err != nil {
		log.Debug("no WebSocket", "reason", err)
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
		err = cause // whoever found it closes the connection
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
		Viewer: viewer(r, grant), Wait: wait, GOPs: s.opt.GOPs, AllTracks: dialectOf(r).Multitrack,
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

// A socket is the WebSocket of one viewer. One goroutine sends, one reads, one pings.
type socket struct {
	*websocket.Conn
	nc           net.Conn // under it
	stall        time.Duration
	pongReceived atomic.Bool // the last ping, or none is due yet
}

// setHandlers makes pongs count. It comes before all else.
func (k *socket) setHandlers() {
	k.pongReceived.Store(true)
	k.SetReadLimit(maxInbound)
	pongs := rate.NewLimiter(maxPongs, maxPongs)
	k.SetPingHandler(func(payload string) error {
		if pongs.Allow() {
			// a write in its way is judged by its progress
			_ = k.WriteControl(websocket.PongMessage, []byte(payload), time.Now().Add(pingEvery))
		}
		return nil
	})
	k.SetPongHandler(func(string) error {
		k.pongReceived.Store(true)
		return nil
	})
}

// send sends parts as one binary message.
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

// read reads until the viewer leaves or does what none may, cancels, and closes the connection.
func (k *socket) read(cancel context.CancelCauseFunc) {
	defer k.nc.Close()
	err := k.readMessages()
	cancel(err)
	var closed *websocket.CloseError
	if !errors.As(err, &closed) { // he has been told why: a connection closed over unread bytes would take that back
		k.nc.SetReadDeadline(time.Now().Add(linger))
		_, _ = io.Copy(io.Discard, k.nc)
	}
}

// readMessages ignores what a viewer says, but not for long. It returns a *websocket.CloseError
// when he closed the connection, any other error after he has been told.
func (k *socket) readMessages() error {
	for n := 0; ; n++ {
		typ, msg, err := k.ReadMessage()
		switch {
		case errors.Is(err, websocket.ErrReadLimit):
			return k.refuse(websocket.CloseMessageTooBig, "a message of more than 4096 bytes")
		case errors.Is(err, errFlood):
			return k.refuse(websocket.ClosePolicyViolation, "the viewer sends too many frames")
		case err != nil:
			return err
		case typ == websocket.TextMessage && !utf8.Valid(msg):
			return k.refuse(websocket.CloseInvalidFramePayloadData, "text that is not UTF-8")
		case n == maxMessages:
			return k.refuse(websocket.ClosePolicyViolation, "viewers are sent media, they send none")
		}
	}
}

func (k *socket) refuse(code int, reason string) error {
	k.sendClose(code, reason)
	return domain.Errorf(domain.Invalid, "%s", reason)
}

var errPingTimeout = domain.Errorf(domain.Unavailable, "no answer to a ping")

// ping asks now and then whether the viewer is there, also while there is nothing to send, and
// closes the connection when he is not.
func (k *socket) ping(ctx context.Context, cancel context.CancelCauseFunc) {
	tick := time.NewTicker(pingEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case due := <-tick.C:
			stopped := time.Since(due) > time.Second // this process was: it tells nothing of the viewer
			if !k.pongReceived.Swap(false) && !stopped {
				cancel(errPingTimeout)
				k.nc.Close()
				return
			}
			if k.WriteControl(websocket.PingMessage, nil, time.Now().Add(pingEvery)) != nil {
				k.pongReceived.Store(true) // none was sent: the write in its way is judged by its progress
			}
		}
	}
}

// end says goodbye to a viewer who can still be told, and lets him answer until he is gone.
func (k *socket) end(err error, gone <-chan struct{}) {
	code, reason := closeStatus(err)
	if code == 0 {
		k.nc.Close()
		return
	}
	k.sendClose(code, reason)
	closing := netx.NewLingerTimer(time.Now(), netx.Queued(k.nc), linger, k.stall)
	again := time.NewTicker(linger / 4)
	defer again.Stop()
	for {
		select {
		case <-gone: // the viewer has answered
			return
		case <-again.C:
		}
		if closing.Expired(time.Now(), netx.Queued(k.nc)) {
			k.nc.Close()
			<-gone
			return
		}
	}
}

// closeStatus returns how the end of a stream is told (section 7.4.1); 0 when the connection is what failed.
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
		code = websocket.CloseServiceRestart // come back
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

// sendClose sends a close frame, if none was sent before.
func (k *socket) sendClose(code int, reason string) {
	const longest = 123 // bytes of a control frame, less the code (section 5.5)
	reason = strings.ToValidUTF8(reason[:min(len(reason), longest)], "")
	_ = k.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(code, reason), time.Now().Add(linger))
}

// A hijacker gives the upgrader a connection that is judged by its progress, and keeps the one under it.
type hijacker struct {
	http.ResponseWriter
	stall time.Duration
	nc    net.Conn
}

// Hijack implements http.Hijacker.
func (h *hijacker) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	nc, rw, err := http.NewResponseController(h.ResponseWriter).Hijack()
	h.nc = nc
	return progressConn{nc, h.stall, rate.NewLimiter(floodRate, floodBurst)}, rw, err
}

// progressConn is a connection whose writes take as long as they take, as long as the viewer takes
// what is written, and which bounds how much the viewer sends.
type progressConn struct {
	net.Conn
	stall   time.Duration
	inbound *rate.Limiter // of bytes
}

var errFlood = errors.New("the viewer sends too much")

// Read fails by errFlood for a viewer that sends more than it may: frames that the library handles
// by itself, such as pings, or empty fragments of a message, are not seen otherwise.
func (c progressConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if n > 0 && !c.inbound.AllowN(time.Now(), n) {
		return 0, errFlood
	}
	return n, err
}

func (c progressConn) Write(b []byte) (int, error) {
	bufs := net.Buffers{b}
	n, err := netx.WriteBuffers(c.Conn, &bufs, c.stall)
	if err != nil {
		err = fmt.Errorf("write: %w", err) // not a net.Error, which the library would replace by one of its own
	}
	return int(n), err
}

// SetWriteDeadline does nothing: Write has its own.
func (c progressConn) SetWriteDeadline(time.Time) error { return nil }
