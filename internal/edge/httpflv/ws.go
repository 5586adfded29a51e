package httpflv

import (
	"cmp"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/gorilla/websocket"
	"golang.org/x/time/rate"

	"livego/internal/deliver/fanout"
	"livego/internal/domain"
	"livego/internal/ops/logging"
	"livego/internal/ops/netx"
)

const (
	maxInbound  = 4 << 10  // most bytes of a message from a viewer
	maxMessages = 4        // most messages from a viewer, which has no reason to send any
	maxPongs    = 20       // replies in a second to pings of a viewer
	floodBurst  = 64 << 10 // bytes of frames of any kind from a viewer at once
	// floodRate is bytes of frames in a second; pings and pongs of busy proxies need less than 100.
	floodRate      = 4 << 10
	handshakeBytes = 1 << 10 // of a buffer for the handshake
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
		ReadBufferSize: handshakeBytes, WriteBufferSize: handshakeBytes,
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
// error. The library does the handshake only: a loop reads and writes the frames.
func (s *Server) upgrade(w http.ResponseWriter, r *http.Request) (net.Conn, error) {
	if r.Header.Get("Sec-Websocket-Version") != "13" {
		w.Header().Set("Sec-Websocket-Version", "13") // section 4.4
		http.Error(w, "unsupported WebSocket version: use 13", http.StatusUpgradeRequired)
		return nil, errors.New("unsupported version")
	}
	c, err := s.upgrader.Upgrade(w, r, nil)
	if err != nil {
		return nil, err
	}
	return c.NetConn(), nil
}

// refuseWebSocket refuses a viewer by a close frame: browsers do not show pages the reason of a
// handshake that fails.
func (s *Server) refuseWebSocket(w http.ResponseWriter, r *http.Request, err error) {
	if nc, failed := s.upgrade(w, r); failed == nil {
		s.webSocket.Refuse(nc, newSocketViewer(nil), err)
	}
}

// serveWebSocket is Serve for a WebSocket request (RFC 6455). The viewer may connect before the
// publisher. Each batch of frames is one binary message, and all messages together are the file.
func (s *Server) serveWebSocket(w http.ResponseWriter, r *http.Request, grant domain.Grant, log *slog.Logger) {
	nc, err := s.upgrade(w, r)
	if err != nil {
		log.Debug("WebSocket upgrade failed", "reason", err)
		return
	}
	p := newSocketViewer(log)
	if !s.hub.Has(grant.Name) {
		log.Info("waiting for the stream")
	}
	waited, err := s.webSocket.Await(r.Context(), grant.Name, cmp.Or(s.opt.Load().PlayWait, -1), nc, p)
	if err == nil {
		if p.viewer, err = s.hub.Join(grant.Name, s.viewer(r, grant)); err != nil {
			s.webSocket.Refuse(nc, p, err)
		}
	}
	if err != nil {
		logging.PlayerEnded(log, err)
		return
	}
	p.quality = s.reporting(r, grant.Name)
	netx.MarkStreaming(nc) // until the connection is closed
	log.Info("playing")
	s.webSocket.Serve(nc, fanout.Viewer{Name: grant.Name, Format: format{dialectOf(r), message}, Stats: p.viewer,
		Waited: waited, Protocol: p})
}

// A socketViewer is the protocol of a viewer by WebSocket.
type socketViewer struct {
	playing
	frames       frameReader
	inbound      *rate.Limiter // of bytes
	pongs        *rate.Limiter
	messages     int
	waitsForPong bool
}

func newSocketViewer(log *slog.Logger) *socketViewer {
	return &socketViewer{playing: playing{log: log}, inbound: rate.NewLimiter(floodRate, floodBurst),
		pongs: rate.NewLimiter(maxPongs, maxPongs)}
}

// Receive implements fanout.Protocol. It discards messages of a viewer, up to the limits, and
// replies to pings. It fails when the viewer closes the WebSocket or violates a rule; the reply is
// then a close frame.
func (p *socketViewer) Receive(b []byte) (reply []byte, err error) {
	if !p.inbound.AllowN(time.Now(), len(b)) {
		return p.fail(nil, violation(websocket.ClosePolicyViolation, "too many frames from the viewer"))
	}
	for len(b) > 0 {
		e, rest, invalid := p.frames.next(b)
		if b = rest; invalid != nil {
			return p.fail(reply, invalid)
		}
		switch e.op {
		case opPing:
			if p.pongs.Allow() {
				reply = append(appendFrameHead(reply, opPong, len(e.payload)), e.payload...)
			}
		case opPong:
			p.waitsForPong = false
		case opText, opBinary:
			if p.messages++; p.messages > maxMessages {
				return p.fail(reply, violation(websocket.ClosePolicyViolation, "too many messages from the viewer"))
			}
		}
	}
	return reply, nil
}

// fail appends a close frame to reply.
func (p *socketViewer) fail(reply []byte, why *closeError) ([]byte, error) {
	reply = appendClose(reply, why.code, why.reason)
	if why.byViewer {
		return reply, why
	}
	return reply, domain.Errorf(domain.Invalid, "%s", why.reason)
}

var errPingTimeout = domain.Errorf(domain.Unavailable, "no reply to a ping")

// Ping implements fanout.Protocol. It fails if the viewer has not replied to the ping before.
func (p *socketViewer) Ping(late bool) ([]byte, error) {
	if p.waitsForPong && !late {
		return nil, errPingTimeout
	}
	p.waitsForPong = true
	return appendFrameHead(nil, opPing, 0), nil
}

// Close implements fanout.Protocol. It returns a close frame with the reason.
func (p *socketViewer) Close(reason error) []byte {
	code, text := closeStatus(reason)
	if code == 0 {
		return nil
	}
	return appendClose(nil, code, text)
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
