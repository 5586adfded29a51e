package rtmp

import (
	"bytes"
	"context"
	"io"
	"net"
	"sync/atomic"

	"livego/internal/container/amf0"
)

// A ClientConn is the client side of a connection. Call Connect, then Publish and WriteMessage or
// WriteMedia, or Play and ReadMessage, and finally Close. Methods with a ctx close the connection
// when ctx ends.
type ClientConn struct {
	*conn
	lastTransaction int
	streamID        uint32
	name            string // of the published stream
	caps            Caps
	// streamEnded is set by EndStream of a publisher, and cleared by Close.
	streamEnded atomic.Bool
}

// NewClientConn returns the client side of nc and takes ownership of nc. Options.CommandTimeout is
// not used: the contexts of the methods limit the time.
func NewClientConn(nc net.Conn, o Options) *ClientConn {
	c := &ClientConn{conn: newConn(nc, o)}
	c.ackEvery = window // also for a server that sends media and has announced no window
	return c
}

// Connect performs the handshake and connects to app. tcURL is the address up to app, for example
// rtmp://host:1935/live. If the server refuses, the error is a *StatusError.
func (c *ClientConn) Connect(ctx context.Context, app, tcURL string) error {
	return c.withContext(ctx, func() error {
		if err := c.handshake(clientHandshake); err != nil {
			return err
		}
		c.endNegotiation()
		c.allowMedia()
		c.src.startTicks(c.opt.PingInterval)
		properties, info, err := c.call("connect", append(amf0.Object{
			{Key: "app", Value: app},
			{Key: "type", Value: "nonprivate"},
			{Key: "flashVer", Value: "FMLE/3.0 (compatible; livego)"},
			{Key: "tcUrl", Value: tcURL},
		}, capabilities(CapsMultitrack|CapsModEx|CapsTimestampOffset)...))
		c.caps = capsOf(properties) | capsOf(info)
		return err
	})
}

// Caps returns the Enhanced RTMP capabilities that the server announced in its reply to connect.
func (c *ClientConn) Caps() Caps { return c.caps }

// capsOf returns the capsEx value of an object in the reply to connect.
func capsOf(v any) Caps {
	o, _ := v.(amf0.Object)
	return Caps(min(max(numberOrZero(o.Get("capsEx")), 0), 1<<31-1))
}

// StreamID returns the ID of the message stream that Publish or Play created.
func (c *ClientConn) StreamID() uint32 { return c.streamID }

// Publish starts to publish name, which may have a query. If the server refuses, the error is a
// *StatusError.
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

// Play starts to play name, which may have a query. If the server refuses, the error is a
// *StatusError.
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

// Close closes the connection. Calls in progress return an error. After EndStream of a publisher,
// Close closes the sending side first and waits until the server has read everything, while it
// makes progress (see netx.Linger). Otherwise an unread reply of the server would make the kernel
// reset the connection, and the end of the stream would be lost.
func (c *ClientConn) Close() error {
	if c.streamEnded.Swap(false) {
		c.closeWriteAndLinger()
	}
	return c.nc.Close()
}

// WriteMessage writes m to the stream that Publish created.
func (c *ClientConn) WriteMessage(m Message) error {
	bufs := net.Buffers(AppendMessage(nil, Header{m.Type, m.Timestamp, c.streamID}, m.Payload))
	_, err := c.WriteMedia(&bufs)
	return err
}

// ReadMessage returns the next audio, video or data message of the stream. The error is io.EOF when
// a played stream has ended, and a *StatusError when the server ends it with an error status; other
// errors are those of ServerConn.ReadMessage.
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

// isSessionData reports whether a data message is addressed to the player and is not part of the
// stream.
func isSessionData(data []byte) bool {
	return bytes.HasPrefix(data, amf0.Append(nil, "|RtmpSampleAccess")) ||
		bytes.HasPrefix(data, amf0.Append(nil, "onStatus"))
}

// EndStream ends the stream with FCUnpublish and deleteStream. Close must follow.
func (c *ClientConn) EndStream() error {
	var ms []Message
	if c.name != "" {
		ms = append(ms, c.command(0, "FCUnpublish", nil, c.name))
	}
	err := c.sendNow(append(ms, c.command(0, "deleteStream", nil, int(c.streamID)))...)
	c.streamEnded.Store(err == nil && c.name != "")
	return err
}

// withContext runs f, and closes the connection if ctx ends first.
func (c *ClientConn) withContext(ctx context.Context, f func() error) error {
	stop := context.AfterFunc(ctx, func() { c.nc.Close() })
	defer stop()
	err := f()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

// command returns a command message with the next transaction ID.
func (c *ClientConn) command(streamID uint32, name string, args ...any) Message {
	c.lastTransaction++
	return newCommand(streamID, append([]any{name, c.lastTransaction}, args...)...)
}

// call sends a command and returns the two values of the reply.
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
		return &ProtocolError{"command", "invalid reply to createStream: no stream ID"}
	}
	c.streamID = uint32(id)
	return nil
}

// awaitStatus waits for an onStatus with this code.
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

// statusOf returns the code of m if it is an onStatus command. For the level "error" it returns a
// *StatusError.
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

// statusErrorOf returns the error that the information object v describes.
func statusErrorOf(v any) *StatusError {
	info, _ := v.(amf0.Object)
	e := &StatusError{}
	e.Code, _ = info.Get("code").(string)
	e.Description, _ = info.Get("description").(string)
	return e
}
