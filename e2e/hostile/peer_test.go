package hostile

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"io"
	"math"
	"net"
	"os"
	"strings"
	"testing"
	"time"
)

const (
	// prompt is how long a reply may take that is due at once. The promise is 1 s for a close and 2 s for a refusal; the rest is for a
	// machine that runs a dozen of these tests at a time. The server of TestHostile has no time-out as short.
	prompt = 4 * time.Second
	// patience is how long anything else may take before it counts as never.
	patience = 20 * time.Second
)

// A stage is how far a session has come, by the book.
type stage int

const (
	fresh      stage = iota // connected by TCP
	shaken                  // handshake done
	connected               // connect and createStream answered
	publishing              // publish answered, one key frame sent
)

// A peer is an RTMP client that can be made to say anything.
type peer struct {
	t  testing.TB
	on *target
	nc net.Conn
	in *chunkReader

	at        stage
	app, room string
	key       string // "" until it is needed
	out       int    // chunk size to the server
	msid      uint32
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
	d.Timeout = prompt
	nc, err := d.Dial("tcp", s.Addr(flag))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close() })
	return &peer{t: t, on: s, nc: nc, in: newChunkReader(bufio.NewReader(nc)), app: "live", room: roomOf(t), out: defaultChunk}
}

// roomOf makes a room's name of a test's.
func roomOf(t testing.TB) string {
	name := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' {
			return r
		}
		return '_'
	}, t.Name())
	return name[max(0, len(name)-100):]
}

// send writes b. A server that has hung up meanwhile is no error here: what it should have done is for the reading side.
func (p *peer) send(b ...[]byte) {
	p.t.Helper()
	p.nc.SetWriteDeadline(time.Now().Add(patience))
	if _, err := p.nc.Write(join(b...)); errors.Is(err, os.ErrDeadlineExceeded) {
		p.t.Fatalf("the server does not read: %v", err)
	}
}

// advance goes on by the book to a stage.
func (p *peer) advance(to stage) {
	p.t.Helper()
	for ; p.at < to; p.at++ {
		switch p.at {
		case fresh:
			p.send(hello(3))
			p.welcomed()
		case shaken:
			p.connect()
		case connected:
			p.publish(p.pushKey())
			p.started()
			p.newKeyFrame()
		}
	}
}

// hello returns C0, C1 and a C2 that echoes nothing, as real encoders have it.
func hello(version byte) []byte {
	b := make([]byte, 1+2*1536)
	rand.Read(b)
	b[0] = version
	copy(b[1:], make([]byte, 8)) // time and zero, §5.2.3
	return b
}

// welcomed reads S0, S1 and S2.
func (p *peer) welcomed() []byte {
	p.t.Helper()
	b := make([]byte, 1+2*1536)
	p.nc.SetReadDeadline(time.Now().Add(prompt))
	if _, err := io.ReadFull(p.in.r, b); err != nil {
		p.t.Fatalf("no handshake: %v", err)
	}
	if b[0] != 3 {
		p.t.Fatalf("S0 = %d, want 3", b[0])
	}
	return b
}

func (p *peer) connect() {
	p.t.Helper()
	p.send(message{typ: command, payload: amf("connect", 1, object{"app", p.app, "tcUrl", "rtmp://127.0.0.1/" + p.app})}.chunks(p.out))
	p.await("_result", "NetConnection.Connect.Success")
	p.send(message{typ: command, payload: amf("createStream", 2, nil)}.chunks(p.out))
	p.created()
}

// created takes the answer to createStream.
func (p *peer) created() {
	p.t.Helper()
	m := p.await("_result", "")
	p.msid = uint32(math.Float64frombits(binary.BigEndian.Uint64(m.payload[len(m.payload)-8:])))
}

func (p *peer) publish(name string) {
	p.send(message{typ: command, msid: p.msid, payload: amf("publish", 3, nil, name, "live")}.chunks(p.out))
}

func (p *peer) play(name string) {
	p.send(message{typ: command, msid: p.msid, payload: amf("play", 3, nil, name)}.chunks(p.out))
}

// started takes the answer to publish and tells what will come: video alone, so that viewers do not wait for more.
func (p *peer) started() {
	p.t.Helper()
	p.await("onStatus", "NetStream.Publish.Start")
	p.send(message{csid: 5, typ: data, msid: p.msid, payload: amf("@setDataFrame", "onMetaData", ecma{"videocodecid", 7})}.chunks(p.out))
	p.frame(avcHeader)
}

// pushKey returns the key of the peer's room.
func (p *peer) pushKey() string {
	p.t.Helper()
	if p.key == "" {
		p.key = p.on.pushKey(p.t, p.room)
	}
	return p.key
}

// next returns the next message that arrives in time.
func (p *peer) next(limit time.Duration) (message, error) {
	p.nc.SetReadDeadline(time.Now().Add(limit))
	return p.in.next()
}

// await reads up to a command of this name that holds code. A name "_" is any answer to a command.
func (p *peer) await(name, code string) message {
	p.t.Helper()
	var seen []string
	for {
		m, err := p.next(prompt)
		if err != nil {
			p.t.Fatalf("no %s %s: %v; before it came %q", name, code, err, seen)
		}
		if m.typ != command {
			continue
		}
		if isCall(m, name) && bytes.Contains(m.payload, []byte(code)) {
			return m
		}
		seen = append(seen, string(m.payload))
	}
}

// isCall reports whether m is a command of this name.
func isCall(m message, name string) bool {
	if name == "_" {
		return isCall(m, "_result") || isCall(m, "_error")
	}
	return m.typ == command && bytes.HasPrefix(m.payload, amf(name))
}

// A want is what has to come of a row's input.
type want func(*peer)

// closes wants the connection ended, without a word of success before.
func closes(p *peer) {
	p.t.Helper()
	p.ends(func(m message) {
		if p.at < publishing && bytes.Contains(m.payload, []byte("Publish.Start")) {
			p.t.Error("publish was accepted")
		}
	})
}

// ends reads until the server closes, which it must soon, and shows every message to f.
func (p *peer) ends(f func(message)) {
	p.t.Helper()
	deadline := time.Now().Add(prompt)
	p.nc.SetReadDeadline(deadline)
	if p.at == fresh { // what comes is no message
		if _, err := io.Copy(io.Discard, p.in.r); errors.Is(err, os.ErrDeadlineExceeded) {
			p.t.Fatal("the connection was not closed")
		}
		return
	}
	for {
		m, err := p.in.next()
		if errors.Is(err, os.ErrDeadlineExceeded) {
			p.t.Fatal("the connection was not closed")
		}
		if err != nil {
			return
		}
		f(m)
	}
}

// rejects wants a refusal with one of these codes, and then the end.
func rejects(codes ...string) want {
	return func(p *peer) {
		p.t.Helper()
		var said []string
		found := false
		p.ends(func(m message) {
			if !isCall(m, "_error") && !isCall(m, "onStatus") {
				return
			}
			said = append(said, string(m.payload))
			for _, code := range codes {
				found = found || bytes.Contains(m.payload, []byte(code))
			}
		})
		if !found {
			p.t.Errorf("it said %q, want one of %q", said, codes)
		}
	}
}

// works wants the session to go on to its purpose: a frame that is published now reaches a viewer as it is.
func works(p *peer) {
	p.t.Helper()
	p.advance(publishing)
	body := p.newKeyFrame()
	p.on.watch(p.t, p.room).await(body)
}
