package hostile

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"livego/e2e/rtmp"
)

const (
	// replyTimeout is how long an immediate reply may take. The goal is 1 s for a close and 2 s for
	// a refusal; the rest is for a machine that runs a dozen of these tests at a time. The server
	// of TestHostile has no timeout as short.
	replyTimeout = 4 * time.Second
	// longTimeout is how long any other event may take.
	longTimeout = 20 * time.Second
)

// A stage is how far a valid session has progressed.
type stage int

const (
	fresh      stage = iota // connected by TCP
	handshaken              // handshake done
	connected               // connect and createStream answered
	publishing              // publish answered, one keyframe sent
)

// A peer is an RTMP client that can send anything.
type peer struct {
	*rtmp.Conn
	t  testing.TB
	on *target

	at        stage
	app, room string
	key       string // "" until it is needed
	time      uint32 // of the next frame
	sent      int    // frames
}

// dial connects a peer whose room is named after the test.
func (s *target) dial(t testing.TB) *peer {
	t.Helper()
	return s.dialTo(t, "rtmp_addr")
}

// dialFrom is dial from an address of this machine.
func (s *target) dialFrom(t testing.TB, from string) *peer {
	t.Helper()
	return s.connectTo(t, net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}, "rtmp_addr")
}

// dialTo connects to the listener of a flag.
func (s *target) dialTo(t testing.TB, flag string) *peer {
	t.Helper()
	return s.connectTo(t, net.Dialer{}, flag)
}

func (s *target) connectTo(t testing.TB, d net.Dialer, flag string) *peer {
	t.Helper()
	d.Timeout = replyTimeout
	nc, err := d.Dial("tcp", s.Addr(flag))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close() })
	return &peer{Conn: rtmp.NewConn(nc), t: t, on: s, app: "live", room: roomOf(t)}
}

// roomOf returns a room name for a test.
func roomOf(t testing.TB) string {
	name := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' {
			return r
		}
		return '_'
	}, t.Name())
	return name[max(0, len(name)-100):]
}

// send writes b. It ignores that the server has closed the connection: the reading side checks
// that.
func (p *peer) send(b ...[]byte) {
	p.t.Helper()
	p.NetConn.SetWriteDeadline(time.Now().Add(longTimeout))
	if _, err := p.NetConn.Write(join(b...)); errors.Is(err, os.ErrDeadlineExceeded) {
		p.t.Fatalf("the server does not read: %v", err)
	}
}

// advance continues a valid session up to a stage.
func (p *peer) advance(to stage) {
	p.t.Helper()
	for ; p.at < to; p.at++ {
		switch p.at {
		case fresh:
			p.send(rtmp.ClientHandshake(3))
			p.readHandshake()
		case handshaken:
			p.connect()
		case connected:
			p.publish(p.streamKey())
			p.readPublishStarted()
			p.newKeyFrame()
		}
	}
}

// readHandshake reads S0, S1 and S2.
func (p *peer) readHandshake() []byte {
	p.t.Helper()
	b, err := p.ReadServerHandshake(replyTimeout)
	if err != nil {
		p.t.Fatal(err)
	}
	return b
}

func (p *peer) connect() {
	p.t.Helper()
	if err := p.Connect(p.app, replyTimeout); err != nil {
		p.t.Fatal(err)
	}
}

// readStreamCreated reads the reply to createStream.
func (p *peer) readStreamCreated() {
	p.t.Helper()
	if err := p.AwaitCreateStream(replyTimeout); err != nil {
		p.t.Fatal(err)
	}
}

// publish and play send the command. They ignore that the server has closed the connection.
func (p *peer) publish(name string) { _ = p.Publish(name) }

func (p *peer) play(name string) { _ = p.Play(name) }

// readPublishStarted reads the reply to publish and announces video only.
func (p *peer) readPublishStarted() {
	p.t.Helper()
	p.await("onStatus", "NetStream.Publish.Start")
	p.announceVideo()
}

// announceVideo announces video only, so that viewers do not wait for audio.
func (p *peer) announceVideo() {
	p.t.Helper()
	p.send(message{CSID: 5, Type: data, StreamID: p.StreamID,
		Payload: amf("@setDataFrame", "onMetaData", ecma{"videocodecid", 7})}.Chunks(p.ChunkSize))
	p.frame(avcHeader)
}

// streamKey returns the key of the peer's room.
func (p *peer) streamKey() string {
	p.t.Helper()
	if p.key == "" {
		p.key = p.on.streamKey(p.t, p.room)
	}
	return p.key
}

// await reads up to a command with this name that contains code. The name "_" matches any reply to
// a command.
func (p *peer) await(name, code string) message {
	p.t.Helper()
	m, err := p.AwaitCommand(replyTimeout, name, code)
	if err != nil {
		p.t.Fatal(err)
	}
	return m
}

// An expectation is what must happen after a row's input.
type expectation func(*peer)

// closes requires that the server closes the connection without accepting anything before.
func closes(p *peer) {
	p.t.Helper()
	p.ends(func(m message) {
		if p.at < publishing && bytes.Contains(m.Payload, []byte("Publish.Start")) {
			p.t.Error("publish was accepted")
		}
	})
}

// ends reads until the server closes, which it must do soon, and calls f for every message.
func (p *peer) ends(f func(message)) {
	p.t.Helper()
	deadline := time.Now().Add(replyTimeout)
	p.NetConn.SetReadDeadline(deadline)
	if p.at == fresh { // there are no messages yet
		if _, err := io.Copy(io.Discard, p.Reader.R); errors.Is(err, os.ErrDeadlineExceeded) {
			p.t.Fatal("the connection was not closed")
		}
		return
	}
	for {
		m, err := p.Reader.ReadMessage()
		if errors.Is(err, os.ErrDeadlineExceeded) {
			p.t.Fatal("the connection was not closed")
		}
		if err != nil {
			return
		}
		f(m)
	}
}

// rejects requires an error with one of these codes, and then the end.
func rejects(codes ...string) expectation {
	return func(p *peer) {
		p.t.Helper()
		var said []string
		found := false
		p.ends(func(m message) {
			if !m.IsCommand("_error") && !m.IsCommand("onStatus") {
				return
			}
			said = append(said, string(m.Payload))
			for _, code := range codes {
				found = found || bytes.Contains(m.Payload, []byte(code))
			}
		})
		if !found {
			p.t.Errorf("the server replied %q, want one of %q", said, codes)
		}
	}
}

// endsPublisher requires NetStream.Publish.Failed with the reason, and then the end.
func endsPublisher(reason string) expectation {
	return func(p *peer) {
		p.t.Helper()
		var said []string
		p.ends(func(m message) {
			if m.IsCommand("onStatus") {
				said = append(said, string(m.Payload))
			}
		})
		if len(said) != 1 || !strings.Contains(said[0], publishFailed) || !strings.Contains(said[0], reason) {
			p.t.Errorf("the server replied %q, want one %s: %s", said, publishFailed, reason)
		}
	}
}

// works requires that the session continues: a frame that is published now reaches a viewer
// unchanged.
func works(p *peer) {
	p.t.Helper()
	p.advance(publishing)
	body := p.newKeyFrame()
	p.on.watch(p.t, p.room).await(body)
}
