package rtmp

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"sync/atomic"

	"livego/internal/container/amf0"
	"livego/internal/ops/netx"
)

// A ServerConn is the server side of a connection. Call Accept, then AcceptPublish and ReadMessage, or
// Detach for a player, or Reject, and finally Close. A player can also be served by AcceptPlay, and
// then ReadMessage on one goroutine and WriteMedia on another.
type ServerConn struct {
	*conn
	peer        *connectInfo // set by connect
	streams     [maxStreams + 1]bool
	fcPublish   bool     // the client expects onFCPublish
	req         *Request // set by Accept
	streamEnded atomic.Bool
}

// NewServerConn returns the server side of nc and takes ownership of nc. Options.CommandTimeout
// starts.
func NewServerConn(nc net.Conn, o Options) *ServerConn {
	return &ServerConn{conn: newConn(nc, o)}
}

// Accept performs the handshake and replies to commands until the client asks to publish or play.
// It accepts nothing by itself: call AcceptPublish, AcceptPlay or Reject. An invalid request is
// refused with a status, and the error is that *StatusError. Other errors are *ProtocolError,
// io.EOF, io.ErrUnexpectedEOF and errors of the network. When ctx ends, the connection is closed
// and the error is that of ctx.
func (c *ServerConn) Accept(ctx context.Context) (*Request, error) {
	stop := context.AfterFunc(ctx, func() { c.nc.Close() })
	defer stop()
	req, err := c.accept()
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case errors.Is(err, os.ErrDeadlineExceeded):
		return nil, &ProtocolError{"timeout", fmt.Sprintf("no publish or play within %v", c.opt.CommandTimeout)}
	}
	c.req = req
	return req, err
}

func (c *ServerConn) accept() (*Request, error) {
	isHTTP := false
	err := c.handshake(func(rw io.ReadWriter) error {
		isHTTP = c.speaksHTTP()
		return serverHandshake(rw)
	})
	if err != nil {
		if isHTTP && c.opt.HTTPReply != nil {
			c.replyHTTP()
		}
		return nil, err
	}
	c.src.deadline = c.start.Add(c.opt.CommandTimeout)
	for {
		m, err := c.next()
		if err != nil {
			return nil, err
		}
		if m.Type != typeCommand {
			c.opt.SkipCount("early_media")
			continue
		}
		cmd, err := parseCommand(m)
		if err != nil {
			return nil, err
		}
		if req, err := c.handle(cmd); req != nil || err != nil {
			return req, err
		}
	}
}

// speaksHTTP reports whether the first bytes are an HTTP method.
func (c *ServerConn) speaksHTTP() bool {
	if _, err := c.in.br.Peek(1); err != nil {
		return false
	}
	b, _ := c.in.br.Peek(c.in.br.Buffered())
	method, _, found := bytes.Cut(b, []byte(" "))
	return found && slices.Contains([]string{"GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE",
		"PATCH"}, string(method))
}

// replyHTTP sends Options.HTTPReply, and lingers for the client to read it.
func (c *ServerConn) replyHTTP() {
	if _, err := netx.WriteBuffers(c.nc, &net.Buffers{c.opt.HTTPReply}, c.opt.WriteTimeout); err == nil {
		c.closeWriteAndLinger()
	}
}

// AcceptPublish accepts a publish request: the client may send media. Only the reading goroutine
// may call it. From then on the publisher is sent only what it requests. It gets no pings, because
// SetReadTimeout detects a publisher that sends nothing.
func (c *ServerConn) AcceptPublish() error {
	c.endNegotiation()
	c.allowMedia()
	c.publisher = true
	var ms []Message
	if c.fcPublish {
		ms = append(ms, newCommand(0, "onFCPublish", 0, nil, status("status", "NetStream.Publish.Start", "Publishing.")))
	}
	return c.sendNow(append(ms, onStatus(c.req.StreamID, "status", "NetStream.Publish.Start", "Publishing."))...)
}

// AcceptPlay accepts a play request: WriteMedia may follow. Flash Media Server also sends
// |RtmpSampleAccess and NetStream.Data.Start, which no player waits for and of which ffmpeg creates
// a data track. Only the reading goroutine may call it.
func (c *ServerConn) AcceptPlay() error {
	c.endNegotiation()
	id := c.req.StreamID
	return c.sendNow(
		event(eventStreamBegin, id),
		onStatus(id, "status", "NetStream.Play.Reset", "Playing and resetting."),
		onStatus(id, "status", "NetStream.Play.Start", "Playing."),
	)
}

// Reject refuses the request with a code such as NetStream.Publish.BadName and a description, and
// waits at most Options.LingerTimeout for the client to read it. Only Close may follow.
func (c *ServerConn) Reject(code, description string) error { return c.StatusError(code, description) }

// StatusError ends the stream of a publisher or player with an error status, as Reject does.
func (c *ServerConn) StatusError(code, description string) error {
	return c.sendFinal(onStatus(c.req.StreamID, "error", code, description))
}

// RequestReconnect asks a client with CapsReconnect to reconnect (Enhanced RTMP v2, Reconnect
// Request): to tcURL, or to the same address if that is "". It does nothing for other clients.
func (c *ServerConn) RequestReconnect(tcURL, why string) error {
	if !c.req.CapsEx.CanReconnect() {
		return nil
	}
	info := status("status", "NetConnection.Connect.ReconnectRequest", why)
	if tcURL != "" {
		info = append(info, amf0.Pair{Key: "tcUrl", Value: tcURL})
	}
	return c.sendNow(newCommand(0, "onStatus", 0, nil, info))
}

// endPlay ends the stream of a player with a status of this code (such as
// NetStream.Play.UnpublishNotify), StreamEOF and NetStream.Play.Stop. It waits as Reject does.
func (c *ServerConn) endPlay(code, reason string) error {
	return c.sendFinal(
		onStatus(c.req.StreamID, "status", code, reason),
		event(eventStreamEOF, c.req.StreamID),
		onStatus(c.req.StreamID, "status", "NetStream.Play.Stop", reason),
	)
}

func (c *ServerConn) sendFinal(ms ...Message) error {
	err := c.sendNow(ms...)
	if err == nil && !c.detached {
		c.closeWriteAndLinger()
	}
	return err
}

// Close closes the connection. Calls in progress return an error. A peer that has ended its stream
// gets up to Options.LingerTimeout to close first: most clients have a few messages left to send,
// and GStreamer reports an error if it cannot. After Detach, Close does nothing.
func (c *ServerConn) Close() error {
	if c.detached {
		return nil
	}
	if c.streamEnded.Load() {
		c.linger()
	}
	return c.nc.Close()
}

// ReadMessage returns the next audio, video or data message of the stream. It splits
// aggregates, and removes the format byte of data in AMF3's message type. It returns ErrStreamEnded
// when the publisher ends the stream. Any other error means that the publisher was lost: io.EOF,
// *ProtocolError, os.ErrDeadlineExceeded after SetReadTimeout, or an error of the network. If the
// publisher has reset the connection, the error follows all messages that had arrived.
func (c *ServerConn) ReadMessage() (Message, error) {
	for {
		m, err := c.next()
		if err != nil {
			if c.replyErr != nil && (err == io.EOF || errors.Is(err, io.ErrUnexpectedEOF)) {
				err = c.replyErr // the kernel reported the reset to the write, and not to the read
			}
			return Message{}, err
		}
		switch {
		case m.Type == typeCommand:
			if err := c.serveCommand(m); err != nil {
				return Message{}, err
			}
		case m.StreamID != c.req.StreamID:
			c.opt.SkipCount("message_stream")
		default:
			if m.Type != TypeData {
				c.restartReadTimeout()
			}
			return m, nil
		}
	}
}

// serveCommand handles a command after Accept.
func (c *ServerConn) serveCommand(m Message) error {
	cmd, err := parseCommand(m)
	if err != nil {
		return err
	}
	_, err = c.handle(cmd)
	return c.recordReplyError(err)
}

// Unfinished returns how many bytes of unfinished messages have arrived, and how many are missing.
// Only the reading goroutine may call it.
func (c *ServerConn) Unfinished() (have, missing int) { return c.in.unfinished() }
