package rtmp

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"sync/atomic"

	"livego/internal/ops/netx"
)

// A ServerConn is the server's end of a connection: Accept, then either AcceptPublish and
// ReadMessage, or ServePlayer on one goroutine with AcceptPlay and WriteMedia on another, or
// Reject; at last Close.
type ServerConn struct {
	*conn
	peer        *connectInfo // since connect
	streams     [maxStreams + 1]bool
	fcPublish   bool     // the client waits for onFCPublish
	req         *Request // since Accept
	streamEnded atomic.Bool
}

// NewServerConn returns the server's end of nc, which it owns from now on. Options.CommandTimeout begins.
func NewServerConn(nc net.Conn, o Options) *ServerConn {
	return &ServerConn{conn: newConn(nc, o)}
}

// Accept shakes hands and answers commands until the client wants to publish or play. Nothing is
// granted by then: that is for AcceptPublish, AcceptPlay and Reject. A client that asks for what
// can't be is told so, and the error is a *StatusError; a *ProtocolError, io.EOF,
// io.ErrUnexpectedEOF or an error of the network are the other ends. When ctx ends, the connection
// is closed and the error is that of ctx.
func (c *ServerConn) Accept(ctx context.Context) (*Request, error) {
	stop := context.AfterFunc(ctx, func() { c.nc.Close() })
	defer stop()
	req, err := c.accept()
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case errors.Is(err, os.ErrDeadlineExceeded):
		return nil, &ProtocolError{"timeout", fmt.Sprintf("neither publish nor play within %v", c.opt.CommandTimeout)}
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

// speaksHTTP reports whether what arrives first begins with a method of HTTP.
func (c *ServerConn) speaksHTTP() bool {
	if _, err := c.in.br.Peek(1); err != nil {
		return false
	}
	b, _ := c.in.br.Peek(c.in.br.Buffered())
	method, _, found := bytes.Cut(b, []byte(" "))
	return found && slices.Contains([]string{"GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE",
		"PATCH"}, string(method))
}

// replyHTTP sends Options.HTTPReply, and waits a moment for the client to read it.
func (c *ServerConn) replyHTTP() {
	if _, err := netx.WriteBuffers(c.nc, &net.Buffers{c.opt.HTTPReply}, c.opt.WriteTimeout); err == nil {
		c.closeWriteAndLinger()
	}
}

// AcceptPublish grants a publish: media may come. To be called by the reading goroutine. From then
// on the publisher is sent what it asks for, and nothing else: no pings, since media that does not
// come is noticed by SetReadTimeout.
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

// AcceptPlay grants a play: WriteMedia may follow. Players wait for parts of this. What Flash Media Server sends more,
// |RtmpSampleAccess and NetStream.Data.Start, no player waits for, and ffmpeg makes a data track of it.
func (c *ServerConn) AcceptPlay() error {
	id := c.req.StreamID
	return c.sendNow(
		event(eventStreamBegin, id),
		onStatus(id, "status", "NetStream.Play.Reset", "Playing and resetting."),
		onStatus(id, "status", "NetStream.Play.Start", "Playing."),
	)
}

// Reject refuses what was requested, with a code like NetStream.Publish.BadName and a sentence, and
// waits at most Options.LingerTimeout for the client to have read it. Then Close is all that is
// left.
func (c *ServerConn) Reject(code, description string) error { return c.StatusError(code, description) }

// StatusError tells a publisher or player that his stream ends against his will, as Reject does.
func (c *ServerConn) StatusError(code, description string) error {
	return c.sendFinal(onStatus(c.req.StreamID, "error", code, description))
}

// RequestReconnect asks a client that knows the word to connect anew, to this address (Enhanced
// RTMP v2, Reconnect Request); of others it asks nothing.
func (c *ServerConn) RequestReconnect(why string) error {
	if c.req.CapsEx&CapsReconnect == 0 {
		return nil
	}
	return c.sendNow(onStatus(0, "status", "NetConnection.Connect.ReconnectRequest", why))
}

// EndPlay tells a player that there is no more to come: a status of the given code
// (NetStream.Play.UnpublishNotify), StreamEOF and NetStream.Play.Stop. It waits as Reject does.
func (c *ServerConn) EndPlay(code, reason string) error {
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

// Close closes the connection. Calls in progress on it end with an error. A peer who said goodbye
// may hang up first, for at most Options.LingerTimeout: most have a few words left to send, and
// GStreamer takes it for a failure to be cut off at them.
func (c *ServerConn) Close() error {
	if c.streamEnded.Load() {
		c.linger()
	}
	return c.nc.Close()
}

// ReadMessage returns the next audio, video or data message of the published stream; aggregates
// come apart, and data in AMF3's message type has lost its format byte. It returns ErrStreamEnded
// when the publisher ends the stream; any other error is a loss: io.EOF, *ProtocolError,
// os.ErrDeadlineExceeded after SetReadTimeout, or what the network reports. Where the publisher has
// reset the connection, that is after all that had arrived from it.
func (c *ServerConn) ReadMessage() (Message, error) {
	for {
		m, err := c.next()
		if err != nil {
			if c.replyErr != nil && (err == io.EOF || errors.Is(err, io.ErrUnexpectedEOF)) {
				err = c.replyErr // the write has taken the error away from the read
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

// ServePlayer reads what a player sends, and answers, until he leaves. It never returns nil:
// ErrStreamEnded when he said so, else as ReadMessage. It may run before AcceptPlay.
func (c *ServerConn) ServePlayer() error {
	c.endNegotiation()
	c.src.startTicks(c.opt.PingInterval)
	c.setReadBuffer(readBufferPlayer)
	for {
		m, err := c.next()
		if err != nil {
			return err
		}
		if m.Type != typeCommand {
			c.opt.SkipCount("player_media")
			continue
		}
		if err := c.serveCommand(m); err != nil {
			return err
		}
	}
}

// serveCommand handles a command that comes after Accept.
func (c *ServerConn) serveCommand(m Message) error {
	cmd, err := parseCommand(m)
	if err != nil {
		return err
	}
	if _, err = c.handle(cmd); c.publisher && isDisconnect(err) {
		c.replyErr, err = cmp.Or(c.replyErr, err), nil
	}
	return err
}

// Unfinished returns how many bytes have come of messages that are not complete, and how many are
// missing. For the reading goroutine.
func (c *ServerConn) Unfinished() (have, missing int) { return c.in.unfinished() }
