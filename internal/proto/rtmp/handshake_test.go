package rtmp

import (
	"bytes"
	"crypto/rand"
	"errors"
	"io"
	"strings"
	"testing"
)

// scriptedPeer sends in, whatever it receives, and then closes the connection.
type scriptedPeer struct {
	in  io.Reader
	out bytes.Buffer
}

func (s *scriptedPeer) Read(p []byte) (int, error)  { return s.in.Read(p) }
func (s *scriptedPeer) Write(p []byte) (int, error) { return s.out.Write(p) }

// clientSide returns C0, C1 and a C2 that is not an echo of S1.
func clientSide(c0 byte, change func(c1 []byte)) []byte {
	b := make([]byte, 1+2*handshakeSize)
	b[0] = c0
	rand.Read(b[9:])
	if change != nil {
		change(b[1 : 1+handshakeSize])
	}
	return b
}

func digestSide(schema int) []byte {
	return clientSide(3, func(c1 []byte) {
		copy(c1[4:], "\x80\x00\x07\x02")
		signFirst(c1, schema, playerKey[:playerKeyLen])
	})
}

// handshakes is the table for the test and the fuzz target. reason is that of a ProtocolError; cut
// means that the input ends early.
func handshakes() []struct {
	name   string
	in     []byte
	digest bool
	reason string
	cut    bool
} {
	return []struct {
		name   string
		in     []byte
		digest bool
		reason string
		cut    bool
	}{
		{name: "simple", in: clientSide(3, nil)},
		{name: "digest schema 0", in: digestSide(0), digest: true},
		{name: "digest schema 1", in: digestSide(1), digest: true},
		{name: "C1 cut", in: clientSide(3, nil)[:1536], cut: true},
		{name: "C2 cut", in: clientSide(3, nil)[:3072], cut: true},
		{name: "nothing", cut: true},
		{name: "version 0", in: clientSide(0, nil)},
		{name: "version 4", in: clientSide(4, nil)},
		{name: "version 31", in: clientSide(31, nil)},
		{name: "HTTP", in: []byte("G"), reason: "handshake"},
		{name: "version 128", in: []byte("\x80"), reason: "handshake"},
		{name: "TLS", in: []byte("\x16"), reason: "handshake"},
		{name: "RTMPE", in: []byte("\x06"), reason: "handshake"},
		{name: "version without digest", in: clientSide(3, func(c1 []byte) { c1[4] = 9 })},
		{name: "largest digest offsets", in: clientSide(3, func(c1 []byte) {
			copy(c1[4:], "\x80\x00\x07\x02\xff\xff\xff\xff")
			copy(c1[772:], "\xff\xff\xff\xff")
		})},
	}
}

func TestServerHandshake(t *testing.T) {
	for _, tt := range handshakes() {
		t.Run(tt.name, func(t *testing.T) {
			peer := &scriptedPeer{in: bytes.NewReader(tt.in)}
			err := serverHandshake(peer)
			switch {
			case tt.reason != "":
				wantReason(t, err, tt.reason)
				return
			case tt.cut:
				if err != io.ErrUnexpectedEOF {
					t.Error(err)
				}
				return
			case err != nil:
				t.Fatal(err)
			}
			out := peer.out.Bytes()
			if len(out) != 1+2*handshakeSize || out[0] != 3 {
				t.Fatalf("%d bytes, S0 %d", len(out), out[0])
			}
			at, _ := findDigest(out[1:1+handshakeSize], serverKey[:serverKeyLen])
			if tt.digest != (at >= 0) {
				t.Errorf("digest at %d", at)
			}
			if echo := bytes.Equal(out[1+handshakeSize:], tt.in[1:1+handshakeSize]); echo == tt.digest {
				t.Errorf("S2 is an echo: %v", echo)
			}
		})
	}
}

func TestHandshakeSplit(t *testing.T) {
	in := digestSide(0)
	for n := range in {
		peer := &scriptedPeer{in: io.MultiReader(bytes.NewReader(in[:n]), bytes.NewReader(in[n:]))}
		if err := serverHandshake(peer); err != nil {
			t.Fatal(n, err)
		}
	}
}

// TestHandshakeDigest verifies the second digest of both sides.
func TestHandshakeDigest(t *testing.T) {
	a, b := pipe(1 << 16)
	fromServer := &scriptedPeer{}
	fromClient := &scriptedPeer{}
	done := make(chan error, 1)
	go func() {
		done <- serverHandshake(struct {
			io.Reader
			io.Writer
		}{io.TeeReader(a, &fromClient.out), io.MultiWriter(a, &fromServer.out)})
	}()
	if err := errors.Join(clientHandshake(b), <-done); err != nil {
		t.Fatal(err)
	}
	check := func(name string, own, other []byte, ownKey, otherKey string) {
		at, _ := findDigest(other[1:1+handshakeSize], otherKey)
		if at < 0 {
			t.Fatal(name, "has no first digest")
		}
		want := bytes.Clone(own[1+handshakeSize:])
		signSecond(want, other[1+at:1+at+digestSize], ownKey)
		if !bytes.Equal(want, own[1+handshakeSize:]) {
			t.Error(name, "has a wrong digest")
		}
	}
	s, c := fromServer.out.Bytes(), fromClient.out.Bytes()
	check("S2", s, c, serverKey, playerKey[:playerKeyLen])
	check("C2", c, s, playerKey, serverKey[:serverKeyLen])
}

// TestClientHandshakeHTTP connects to an HTTP server, which replies with an error and closes the
// connection.
func TestClientHandshakeHTTP(t *testing.T) {
	err := clientHandshake(&scriptedPeer{in: strings.NewReader("HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")})
	const want = "rtmp: the server uses HTTP or another text protocol on the RTMP port: use an HTTP port"
	if err == nil || err.Error() != want {
		t.Error(err)
	}
}

func FuzzHandshake(f *testing.F) {
	for _, tt := range handshakes() {
		f.Add(tt.in)
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		for _, handshake := range []func(io.ReadWriter) error{serverHandshake, clientHandshake} {
			if err := handshake(&scriptedPeer{in: bytes.NewReader(in)}); err == nil && len(in) < 1+2*handshakeSize {
				t.Errorf("done after %d bytes", len(in))
			}
		}
	})
}
