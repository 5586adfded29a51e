// Package rtmp is an RTMP client for the tests, which can send anything, valid or not. It shares no
// code with the server, so that one mistake cannot be on both sides.
package rtmp

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"time"
)

// A Conn is a connection to a server. One goroutine may read while another writes.
type Conn struct {
	NetConn   net.Conn
	Reader    *Reader
	ChunkSize int    // size of chunks to the server
	StreamID  uint32 // of the message stream, after createStream
}

// NewConn returns a connection on which nothing was sent yet.
func NewConn(nc net.Conn) *Conn {
	return &Conn{NetConn: nc, Reader: NewReader(bufio.NewReader(nc)), ChunkSize: DefaultChunkSize}
}

// ClientHandshake returns C0, C1 and a C2 that does not echo S1, as many encoders send them.
func ClientHandshake(version byte) []byte {
	b := make([]byte, 1+2*1536)
	rand.Read(b)
	b[0] = version
	copy(b[1:], make([]byte, 8)) // time and zero, §5.2.3
	return b
}

// ReadServerHandshake reads S0, S1 and S2.
func (c *Conn) ReadServerHandshake(limit time.Duration) ([]byte, error) {
	b := make([]byte, 1+2*1536)
	c.NetConn.SetReadDeadline(time.Now().Add(limit))
	if _, err := io.ReadFull(c.Reader.R, b); err != nil {
		return nil, fmt.Errorf("no handshake: %w", err)
	}
	if b[0] != 3 {
		return nil, fmt.Errorf("S0 = %d, want 3", b[0])
	}
	return b, nil
}

// Send sends a message in chunks of ChunkSize bytes.
func (c *Conn) Send(m Message) error {
	_, err := c.NetConn.Write(m.Chunks(c.ChunkSize))
	return err
}

// command sends a command on a message stream.
func (c *Conn) command(streamID uint32, values ...any) error {
	return c.Send(Message{Type: Command, StreamID: streamID, Payload: AMF(values...)})
}

// Connect sends connect and createStream, and reads the answers. The pairs in more are further
// properties of the connect command.
func (c *Conn) Connect(app string, limit time.Duration, more ...any) error {
	if err := c.command(0, "connect", 1,
		append(Object{"app", app, "tcUrl", "rtmp://127.0.0.1/" + app}, more...)); err != nil {
		return err
	}
	if _, err := c.AwaitCommand(limit, "_result", "NetConnection.Connect.Success"); err != nil {
		return err
	}
	if err := c.command(0, "createStream", 2, nil); err != nil {
		return err
	}
	return c.AwaitCreateStream(limit)
}

// AwaitCreateStream reads up to the answer to createStream, and sets StreamID.
func (c *Conn) AwaitCreateStream(limit time.Duration) error {
	m, err := c.AwaitCommand(limit, "_result", "")
	if err == nil {
		c.StreamID = uint32(math.Float64frombits(binary.BigEndian.Uint64(m.Payload[len(m.Payload)-8:])))
	}
	return err
}

// Publish sends the command publish for name.
func (c *Conn) Publish(name string) error {
	return c.command(c.StreamID, "publish", 3, nil, name, "live")
}

// Play sends the command play for name.
func (c *Conn) Play(name string) error {
	return c.command(c.StreamID, "play", 3, nil, name)
}

// Unpublish sends FCUnpublish, which ends the stream cleanly.
func (c *Conn) Unpublish(name string) error {
	return c.command(c.StreamID, "FCUnpublish", 4, nil, name)
}

// ReadMessage returns the next message. It fails after limit.
func (c *Conn) ReadMessage(limit time.Duration) (Message, error) {
	c.NetConn.SetReadDeadline(time.Now().Add(limit))
	return c.Reader.ReadMessage()
}

// AwaitCommand reads up to a command with this name that contains code. The name "_" stands for
// "_result" and "_error".
func (c *Conn) AwaitCommand(limit time.Duration, name, code string) (Message, error) {
	var seen []string
	for {
		m, err := c.ReadMessage(limit)
		if err != nil {
			return m, fmt.Errorf("no %s %s: %w; received before it: %q", name, code, err, seen)
		}
		if m.Type != Command {
			continue
		}
		if m.IsCommand(name) && bytes.Contains(m.Payload, []byte(code)) {
			return m, nil
		}
		seen = append(seen, string(m.Payload))
	}
}

// IsCommand reports whether m is a command with this name.
func (m Message) IsCommand(name string) bool {
	if name == "_" {
		return m.IsCommand("_result") || m.IsCommand("_error")
	}
	return m.Type == Command && bytes.HasPrefix(m.Payload, AMF(name))
}

// IsData reports whether m is a data message with this name.
func (m Message) IsData(name string) bool {
	return m.Type == Data && bytes.HasPrefix(m.Payload, AMF(name))
}

// ErrRefused is the error of a publish or play that the server refuses.
var ErrRefused = errors.New("refused")

// Dial connects to addr: TCP, handshake, connect to app and createStream. The Conn is ready to
// publish or play.
func Dial(d net.Dialer, addr, app string, limit time.Duration) (*Conn, error) {
	d.Timeout = limit
	nc, err := d.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	return OpenConn(nc, app, limit)
}

// OpenConn is Dial on an open connection, which it closes if it fails; more is for Connect.
func OpenConn(nc net.Conn, app string, limit time.Duration, more ...any) (*Conn, error) {
	c := NewConn(nc)
	nc.SetWriteDeadline(time.Now().Add(limit))
	_, err := nc.Write(ClientHandshake(3))
	if err == nil {
		_, err = c.ReadServerHandshake(limit)
	}
	if err == nil {
		err = c.Connect(app, limit, more...)
	}
	if err != nil {
		nc.Close()
		return nil, err
	}
	nc.SetWriteDeadline(time.Time{})
	return c, nil
}

// AwaitStart reads up to the answer to Publish or Play with the code "NetStream.Publish.Start" or
// "NetStream.Play.Start". The error is ErrRefused if the status is an error.
func (c *Conn) AwaitStart(code string, limit time.Duration) error {
	for {
		m, err := c.AwaitCommand(limit, "onStatus", "")
		switch {
		case err != nil:
			return err
		case bytes.Contains(m.Payload, []byte(code)):
			return nil
		case bytes.Contains(m.Payload, []byte("error")):
			return fmt.Errorf("%w: %q", ErrRefused, m.Payload)
		}
	}
}
