package rtmp

import (
	"bytes"
	"context"
	"io"
	"net"
	"sync/atomic"

	"livego/internal/container/amf0"
)

// A ClientConn is the client's end of a connection: Connect, then Publish and WriteMessage or
// WriteMedia, or Play and ReadMessage, at last Close. Methods that take a ctx close the connection
// when it ends.
type ClientConn struct {
	*conn
	lastTransaction int
	streamID        uint32
	name            string // published
	caps            Caps
	streamEnded     atomic.Bool // a publisher has said goodbye, and nothing closed the connection yet
}

// NewClientConn returns the client's end of nc, which it owns from now on. Options.CommandTimeout
// is unused: contexts have it.
func NewClientConn(nc net.Conn, o Options) *ClientConn {
	c := &ClientConn{conn: newConn(nc, o)}
	c.ackEvery = window // also for a server that plays without having announced one
	return c
}

// Connect shakes hands and connects to app. tcURL is the address up to app, for example
// rtmp://host:1935/live. A refusal is a *StatusError.
func (c *ClientConn) Connect(ctx context.Context, app, tcURL string) error {
	return c.withContext(ctx, func() error {
		if err := c.handshake(clientHandshake); err != nil {
			return err
		}
		c.endNegotiation()
		c.allowMedia()
		c.src.startTicks(c.opt.PingInterval)
		facts, info, err := c.call("connect", append(amf0.Object{
			{Key: "app", Value: app},
			{Key: "type", Value: "nonprivate"},
			{Key: "flashVer", Value: "FMLE/3.0 (compatible; livego)"},
			{Key: "tcUrl", Value: tcURL},
		}, capabilities(CapsMultitrack|CapsModEx|CapsTimestampOffset)...))
		c.caps = capsOf(facts) | capsOf(info)
		return err
	})
}

// Caps returns what the server has said in Connect of itself in the way of Enhanced RTMP.
func (c *ClientConn) Caps() Caps { return c.caps }

// capsOf returns what an object of the answer to connect says.
func capsOf(v any) Caps {
	o, _ := v.(amf0.Object)
	return Caps(min(max(numberOrZero(o.Get("capsEx")), 0), 1<<31-1))
}

// StreamID returns the number of the message stream that Publish or Play opened.
func (c *ClientConn) StreamID() uint32 { return c.streamID }

// Publish begins to publish name, which may have a query. A refusal is a *StatusError.
func (c *ClientConn) Publish(ctx context.Context, name string) error {
	return c.withContext(ctx, func() error {
		if err := c.send(c.command(0, "releaseStream", nil, name), c.command(0, "FCPublish", nil, name)); err != nil {
			return err
		}
		if err := c.createStream(); err != nil {
			return err
		}
		c.name = name
		if err := c.send(c.command(c.streamID, "publish", nil, name, "live")); err != nil {
			return err
		}
		return c.awaitStatus("NetStream.Publish.Start")
	})
}

// Play begins to play name, which may have a query. A refusal is a *StatusError.
func (c *ClientConn) Play(ctx context.Context, name string) error {
	return c.withContext(ctx, func() error {
		if err := c.createStream(); err != nil {
			return err
		}
		if err := c.send(c.command(c.streamID, "play", nil, name, -2)); err != nil {
			return err
		}
		return c.awaitStatus("NetStream.Play.Start")
	})
}

// Close closes the connection. Calls in progress on it end with an error. After the Goodbye of a
// publisher it ends the sending side first, and waits for the server to have read what was sent, as
// far as that goes on (see netx.Linger): an answer of the server that nobody has read would make
// the kernel reset the connection, and the end of the stream would be lost.
func (c *ClientConn) Close() error {
	if c.streamEnded.Swap(false) {
		c.closeWriteAndLinger()
	}
	return c.nc.Close()
}

// WriteMessage writes m on the stream that Publish opened.
func (c *ClientConn) WriteMessage(m Message) error {
	bufs := net.Buffers(AppendMessage(nil, Header{m.Type, m.Timestamp, c.streamID}, m.Payload))
	_, err := c.WriteMedia(&bufs)
	return err
}

// ReadMessage returns the next audio, video or data message of the stream. io.EOF is the end of a
// stream that was played, a *StatusError what the server has against going on; others as those of
// ServerConn.ReadMessage.
func (c *ClientConn) ReadMessage() (Message, error) {
	for {
		m, err := c.next()
		if err != nil {
			return Message{}, err
		}
		switch {
		case m.Type == typeCommand:
			code, err := statusOf(m)
			if err != nil {
				return Message{}, err
			}
			switch code {
			case "NetStream.Play.Stop", "NetStream.Play.Complete", "NetStream.Play.UnpublishNotify":
				return Message{}, io.EOF
			}
		case m.StreamID != c.streamID:
			c.opt.SkipCount("message_stream")
		case m.Type == TypeData && isSessionData(m.Payload):
		default:
			if m.Type != TypeData {
				c.restartReadTimeout()
			}
			return m, nil
		}
	}
}

// isSessionData tells whether data is the server's word to the player rather than part of the stream.
func isSessionData(data []byte) bool {
	return bytes.HasPrefix(data, amf0.Append(nil, "|RtmpSampleAccess")) ||
		bytes.HasPrefix(data, amf0.Append(nil, "onStatus"))
}

// EndStream ends the stream in due form. Close must follow.
func (c *ClientConn) EndStream() error {
	var ms []Message
	if c.name != "" {
		ms = append(ms, c.command(0, "FCUnpublish", nil, c.name))
	}
	err := c.sendNow(append(ms, c.command(0, "deleteStream", nil, int(c.streamID)))...)
	c.streamEnded.Store(err == nil && c.name != "")
	return err
}

// withContext runs f, and closes the connection when ctx ends before.
func (c *ClientConn) withContext(ctx context.Context, f func() error) error {
	stop := context.AfterFunc(ctx, func() { c.nc.Close() })
	defer stop()
	err := f()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

// command returns a command with the next transaction id.
func (c *ClientConn) command(streamID uint32, name string, args ...any) Message {
	c.lastTransaction++
	return newCommand(streamID, append([]any{name, c.lastTransaction}, args...)...)
}

// call sends a command and returns the two values of its answer.
func (c *ClientConn) call(name string, args ...any) (first, second any, err error) {
	if err := c.send(c.command(0, name, args...)); err != nil {
		return nil, nil, err
	}
	id := float64(c.lastTransaction)
	for {
		cmd, err := c.nextCommand()
		if err != nil {
			return nil, nil, err
		}
		if cmd.id != id || cmd.name != "_result" && cmd.name != "_error" {
			continue
		}
		if first, err = cmd.arg(); err == nil {
			second, err = cmd.arg()
		}
		if err == nil && cmd.name == "_error" {
			err = statusErrorOf(second)
		}
		return first, second, err
	}
}

func (c *ClientConn) createStream() error {
	_, v, err := c.call("createStream", nil)
	if err != nil {
		return err
	}
	id := numberOrZero(v)
	if id < 1 || id > 1<<31 {
		return &ProtocolError{"command", "createStream answered without a stream"}
	}
	c.streamID = uint32(id)
	return nil
}

// awaitStatus waits until the stream has the status code.
func (c *ClientConn) awaitStatus(code string) error {
	for {
		m, err := c.next()
		if err != nil {
			return err
		}
		if m.Type != typeCommand {
			continue
		}
		if got, err := statusOf(m); err != nil || got == code {
			return err
		}
	}
}

func (c *ClientConn) nextCommand() (command, error) {
	for {
		m, err := c.next()
		if err != nil {
			return command{}, err
		}
		if m.Type == typeCommand {
			return parseCommand(m)
		}
	}
}

// statusOf returns the code of m if it is an onStatus command; one of level error is a *StatusError.
func statusOf(m Message) (code string, err error) {
	cmd, err := parseCommand(m)
	if err != nil || cmd.name != "onStatus" {
		return "", err
	}
	if _, err := cmd.arg(); err != nil {
		return "", err
	}
	v, err := cmd.arg()
	if err != nil {
		return "", err
	}
	info, _ := v.(amf0.Object)
	code, _ = info.Get("code").(string)
	if info.Get("level") == "error" {
		return "", statusErrorOf(v)
	}
	return code, nil
}

// statusErrorOf returns the error that an information object v tells of.
func statusErrorOf(v any) *StatusError {
	info, _ := v.(amf0.Object)
	e := &StatusError{}
	e.Code, _ = info.Get("code").(string)
	e.Description, _ = info.Get("description").(string)
	return e
}
