package netx

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http/httptest"
	"testing"
)

// A pieceBuffer is a target of Redirect that returns the bytes read from a socket in small pieces,
// with ErrNoInput between them, and keeps what is written.
type pieceBuffer struct {
	in    []byte
	size  int
	ready bool
	out   bytes.Buffer
}

func (b *pieceBuffer) Read(p []byte) (int, error) {
	if b.ready = !b.ready; !b.ready || len(b.in) == 0 {
		return 0, ErrNoInput
	}
	n := copy(p, b.in[:min(b.size, len(b.in))])
	b.in = b.in[n:]
	return n, nil
}

func (b *pieceBuffer) Write(p []byte) (int, error) { return b.out.Write(p) }

// TestRedirect pins what Redirect needs of crypto/tls: a tls.Conn reads on after ErrNoInput, in
// whatever place of a record it comes, and replies to what the peer sends.
func TestRedirect(t *testing.T) {
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		for _, size := range []int{1, 5, 4096} {
			t.Run(fmt.Sprintf("%s/%d", tls.VersionName(version), size), func(t *testing.T) {
				testRedirect(t, version, size)
			})
		}
	}
}

func testRedirect(t *testing.T, version uint16, size int) {
	server, client := redirectPair(t, version)
	buf := &pieceBuffer{size: size}
	if err := Redirect(server, buf); err != nil {
		t.Fatal(err)
	}
	// What is written is in memory until the owner of the socket sends it.
	answer := bytes.Repeat([]byte("answer"), 5000)
	if n, err := server.Write(answer); n != len(answer) || err != nil {
		t.Fatalf("%d bytes written, %v", n, err)
	}
	go func() {
		_, _ = server.NetConn().(*redirectConn).Conn.Write(buf.out.Bytes())
	}()
	got := make([]byte, len(answer))
	if _, err := io.ReadFull(client, got); err != nil || !bytes.Equal(got, answer) {
		t.Fatalf("the client read %d bytes, %v", len(got), err)
	}

	request := bytes.Repeat([]byte("request"), 5000)
	go func() {
		_, _ = client.Write(request)
		client.Close()
	}()
	got = nil
	raw, plain := make([]byte, 1000), make([]byte, 300)
	for {
		n, err := server.Read(plain)
		got = append(got, plain[:n]...)
		if err == io.EOF { // close_notify
			break
		}
		if err != nil && !errors.Is(err, ErrNoInput) {
			t.Fatal(err)
		}
		if err != nil && len(buf.in) == 0 {
			n, err := server.NetConn().(*redirectConn).Conn.Read(raw)
			if err != nil {
				t.Fatal(err)
			}
			buf.in = raw[:n]
		}
	}
	if !bytes.Equal(got, request) {
		t.Errorf("the server read %d bytes, want %d", len(got), len(request))
	}
}

// TestRedirectBack returns a connection to its socket.
func TestRedirectBack(t *testing.T) {
	server, client := redirectPair(t, tls.VersionTLS13)
	if err := errors.Join(Redirect(server, &pieceBuffer{}), Redirect(server, nil)); err != nil {
		t.Fatal(err)
	}
	go func() { _, _ = server.Write([]byte("hello")) }()
	got := make([]byte, 5)
	if _, err := io.ReadFull(client, got); err != nil || string(got) != "hello" {
		t.Errorf("%q, %v", got, err)
	}
	if err := Redirect(client, &pieceBuffer{}); err == nil {
		t.Error("redirected a connection of another listener")
	}
}

// redirectPair returns both ends of a TLS connection after its handshake.
func redirectPair(t *testing.T, version uint16) (server, client *tls.Conn) {
	t.Helper()
	s := httptest.NewUnstartedServer(nil)
	s.StartTLS()
	config := s.TLS
	s.Close()
	config.MaxVersion = version
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	limiter := NewLimiter(LimitOptions{})
	ln := ListenTLS(limiter.Listen(tcp, ListenOptions{}), config)
	t.Cleanup(func() { ln.Close() })
	accepted := make(chan *tls.Conn, 1)
	go func() {
		defer close(accepted)
		nc, err := ln.Accept()
		if err != nil {
			t.Error(err)
			return
		}
		c := nc.(*tls.Conn)
		if err := c.HandshakeContext(t.Context()); err != nil {
			t.Error(err)
		}
		accepted <- c
	}()
	client, err = tls.Dial("tcp", tcp.Addr().String(), &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	server = <-accepted
	t.Cleanup(func() { client.Close(); server.Close() })
	return server, client
}
