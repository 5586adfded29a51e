package harness

import (
	"bufio"
	"context"
	"crypto/rand"
	"crypto/sha1"
	"crypto/tls"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"
)

// A WebSocket is the client's side of a WebSocket connection (RFC 6455). It shares no code with the
// server, and so no mistake. What is written to it directly goes out without framing.
type WebSocket struct {
	net.Conn
	r *bufio.Reader
}

// Opcodes of RFC 6455 section 5.2.
const (
	opContinuation = 0x0
	opBinary       = 0x2
	opClose        = 0x8
	opPing         = 0x9
	opPong         = 0xa
)

// A CloseError is the error of a WebSocket that the server has closed by a close frame.
type CloseError struct {
	Code int
	Text string
}

func (c *CloseError) Error() string { return fmt.Sprintf("closed by %d %s", c.Code, c.Text) }

// OpenWebSocket opens a WebSocket at a ws or wss URL; config is for wss. When ctx is done, the
// attempt fails and the connection is closed.
func OpenWebSocket(ctx context.Context, target string, config *tls.Config) (*WebSocket, error) {
	u, err := url.Parse(target)
	if err != nil {
		return nil, err
	}
	dial := new(net.Dialer).DialContext
	if u.Scheme == "wss" {
		dial = (&tls.Dialer{Config: config}).DialContext
	}
	nc, err := dial(ctx, "tcp", u.Host)
	if err != nil {
		return nil, err
	}
	return OpenWebSocketOn(ctx, nc, u)
}

// OpenWebSocketOn is OpenWebSocket on an open connection.
func OpenWebSocketOn(ctx context.Context, nc net.Conn, u *url.URL) (*WebSocket, error) {
	context.AfterFunc(ctx, func() { nc.Close() })
	key := make([]byte, 16)
	rand.Read(key)
	challenge := base64.StdEncoding.EncodeToString(key)
	fmt.Fprintf(nc, "GET %s HTTP/1.1\r\nHost: %s\r\nConnection: Upgrade\r\nUpgrade: "+
		"websocket\r\nSec-WebSocket-Version: 13\r\n"+
		"Sec-WebSocket-Key: %s\r\nOrigin: https://elsewhere.example\r\n\r\n", u.RequestURI(), u.Host, challenge)
	w := &WebSocket{nc, bufio.NewReader(nc)}
	resp, err := http.ReadResponse(w.r, nil)
	if err != nil {
		nc.Close()
		return nil, err
	}
	resp.Body.Close()
	sum := sha1.Sum([]byte(challenge + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	accept := base64.StdEncoding.EncodeToString(sum[:])
	if resp.StatusCode != http.StatusSwitchingProtocols || resp.Header.Get("Sec-WebSocket-Accept") != accept ||
		resp.Header.Get("Sec-WebSocket-Extensions") != "" {
		nc.Close()
		return nil, fmt.Errorf("%s: HTTP %d, %v", u, resp.StatusCode, resp.Header)
	}
	return w, nil
}

// ReadMessage returns the next message, which must be binary, and answers the pings before it. The
// error is a *CloseError if the server has closed the WebSocket; the close frame is answered.
func (w *WebSocket) ReadMessage() ([]byte, error) {
	var message []byte
	for opened := false; ; {
		final, op, payload, err := w.readFrame()
		if err != nil {
			return nil, err
		}
		switch op {
		case opPing:
			w.WriteFrame(opPong, payload)
		case opPong:
		case opClose:
			if len(payload) < 2 {
				return nil, errors.New("close frame without a code")
			}
			w.WriteFrame(opClose, payload[:2])
			return nil, &CloseError{int(binary.BigEndian.Uint16(payload)), string(payload[2:])}
		case opBinary, opContinuation:
			if (op == opContinuation) != opened {
				return nil, fmt.Errorf("opcode %d, inside a message: %v", op, opened)
			}
			opened = true
			if message = append(message, payload...); final {
				return message, nil
			}
		default:
			return nil, fmt.Errorf("opcode %d", op)
		}
	}
}

// readFrame reads one frame.
func (w *WebSocket) readFrame() (final bool, op byte, payload []byte, err error) {
	var head [2]byte
	if _, err := io.ReadFull(w.r, head[:]); err != nil {
		return false, 0, nil, err
	}
	if head[0]&0x70 != 0 || head[1]&0x80 != 0 {
		return false, 0, nil, fmt.Errorf("frame of % x: reserved bits, or a mask", head)
	}
	size := uint64(head[1])
	if long := map[uint64]int{126: 2, 127: 8}[size]; long != 0 {
		var b [8]byte
		if _, err := io.ReadFull(w.r, b[8-long:]); err != nil {
			return false, 0, nil, err
		}
		size = binary.BigEndian.Uint64(b[:])
	}
	const most = 64 << 20
	if size > most {
		return false, 0, nil, fmt.Errorf("frame of %d bytes", size)
	}
	payload = make([]byte, size)
	_, err = io.ReadFull(w.r, payload)
	return head[0]&0x80 != 0, head[0] & 0xf, payload, err
}

// WriteFrame sends payload, of less than 126 bytes, as one frame. It ignores errors: if the server
// has closed the connection, the next read fails.
func (w *WebSocket) WriteFrame(op byte, payload []byte) {
	w.SetWriteDeadline(time.Now().Add(10 * time.Second))
	_, _ = w.Write(append([]byte{0x80 | op, 0x80 | byte(len(payload)), 0, 0, 0, 0}, payload...)) // masked by zeros
}
