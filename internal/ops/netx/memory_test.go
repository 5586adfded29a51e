package netx

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os/exec"
	"strings"
	"testing"
	"time"

	"livego/internal/ops/certtest"
)

// testServer returns the server's end of a TLS connection over c.
func testServer(t *testing.T, c net.Conn) *tls.Conn {
	t.Helper()
	return tls.Server(&redirectConn{Conn: Wrap(c.(*net.TCPConn))},
		&tls.Config{Certificates: []tls.Certificate{certtest.New(t)}})
}

// memoryPair returns a client and a Memory that is connected to it by socket.
func memoryPair(t *testing.T, version uint16) (client *tls.Conn, m *Memory, socket *net.TCPConn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	near, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	far, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { near.Close(); far.Close() })
	client = tls.Client(near, &tls.Config{InsecureSkipVerify: true, MinVersion: version, MaxVersion: version})
	server := testServer(t, far)
	if TCPUnderTLS(server) != nil {
		t.Error("a connection before its handshake")
	}
	done := make(chan error)
	go func() { done <- client.Handshake() }()
	if err := errors.Join(server.Handshake(), <-done); err != nil {
		t.Fatal(err)
	}
	socket = TCPUnderTLS(server)
	if socket == nil {
		t.Fatal("not a TLS connection over TCP")
	}
	return client, ToMemory(server), socket
}

// open passes what arrives at socket to m in pieces until the result is want.
func open(t *testing.T, m *Memory, socket *net.TCPConn, piece int, want string) {
	t.Helper()
	var got []byte
	buf := make([]byte, piece)
	_ = socket.SetReadDeadline(time.Now().Add(10 * time.Second))
	for len(got) < len(want) {
		n, err := socket.Read(buf)
		if err != nil {
			t.Fatalf("%q, %v", got, err)
		}
		if err := m.Open(buf[:n], make([]byte, 7), func(b []byte) { got = append(got, b...) }); err != nil {
			t.Fatalf("%q, %v", got, err)
		}
	}
	if string(got) != want {
		t.Errorf("%q, want %q", got, want)
	}
}

// TestMemory holds Go's crypto/tls to what Memory needs of it: a connection goes on after the
// temporary error of a read without input, in the middle of a record too, and writes meanwhile.
func TestMemory(t *testing.T) {
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		for _, piece := range []int{1, 3, 100, 1 << 14} {
			t.Run(fmt.Sprintf("%s in pieces of %d", tls.VersionName(version), piece), func(t *testing.T) {
				client, m, socket := memoryPair(t, version)
				if err := m.Open(nil, make([]byte, 10), func([]byte) { t.Error("input from nothing") }); err != nil {
					t.Fatal(err)
				}
				io.WriteString(client, "hello")
				open(t, m, socket, piece, "hello")
				for i, size := range []int{1, 100_000, 16 << 10} {
					body := bytes.Repeat([]byte{byte(i)}, size)
					records, err := m.Seal(nil, body)
					if err != nil {
						t.Fatal(err)
					}
					go socket.Write(records)
					got := make([]byte, size)
					if _, err := io.ReadFull(client, got); err != nil || !bytes.Equal(got, body) {
						t.Fatalf("%d bytes: %v", size, err)
					}
					fmt.Fprint(client, "more ", i)
					open(t, m, socket, piece, fmt.Sprint("more ", i))
				}
				if err := m.CloseWrite(); err != nil {
					t.Fatal(err)
				}
				_ = socket.SetWriteDeadline(time.Time{}) // which CloseWrite has set
				last := m.Take()
				if len(last) == 0 || m.Output() != 0 {
					t.Fatal("no record closes the connection")
				}
				socket.Write(last)
				if n, err := client.Read(make([]byte, 1)); n != 0 || err != io.EOF {
					t.Errorf("after the end: %d bytes, %v", n, err)
				}
				io.WriteString(client, "late")
				open(t, m, socket, piece, "late")
				client.CloseWrite()
				received := make([]byte, 1<<10)
				n, err := socket.Read(received)
				if err != nil {
					t.Fatal(err)
				}
				if err := m.Open(received[:n], make([]byte, 10), func([]byte) {}); err != io.EOF {
					t.Errorf("after the end of the client: %v", err)
				}
			})
		}
	}
}

// TestMemoryKeepsReadInput has a server read one byte from the socket before the switch to memory:
// the rest of what arrived with it is not lost.
func TestMemoryKeepsReadInput(t *testing.T) {
	client, m, socket := memoryPair(t, tls.VersionTLS13)
	server := m.conn
	_ = Redirect(server, nil)
	io.WriteString(client, "hello")
	one := make([]byte, 1)
	if _, err := io.ReadFull(server, one); err != nil || one[0] != 'h' {
		t.Fatalf("%q, %v", one, err)
	}
	m = ToMemory(server)
	var got []byte
	err := m.Open(nil, make([]byte, 10), func(b []byte) { got = append(got, b...) })
	if err != nil || string(got) != "ello" {
		t.Errorf("%q, %v", got, err)
	}
	io.WriteString(client, "more")
	open(t, m, socket, 100, "more")
}

// TestMemoryKeyUpdate has OpenSSL change its keys and ask for new keys: both sides go on, and the
// reply precedes what is encrypted with the new keys.
func TestMemoryKeyUpdate(t *testing.T) {
	path, err := exec.LookPath("openssl")
	if err != nil {
		t.Skip("no openssl")
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, "s_client", "-connect", ln.Addr().String(), "-tls1_3")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		cancel()
		_ = cmd.Wait()
	}()
	far, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer far.Close()
	server := testServer(t, far)
	if err := server.Handshake(); err != nil {
		t.Fatal(err)
	}
	socket := TCPUnderTLS(server)
	_ = socket.SetDeadline(time.Now().Add(20 * time.Second))
	m := ToMemory(server)
	lines := bufio.NewScanner(out)
	say := func(s string) {
		t.Helper()
		records, err := m.Seal(nil, []byte(s+"\n"))
		if err != nil {
			t.Fatal(err)
		}
		socket.Write(records)
		for lines.Scan() {
			if strings.HasSuffix(lines.Text(), s) {
				return
			}
		}
		t.Fatalf("the client has not received %q", s)
	}
	say("first")
	io.WriteString(in, "before\n")
	open(t, m, socket, 100, "before\n")
	io.WriteString(in, "K\n")
	buf := make([]byte, 1000)
	for m.Output() == 0 {
		n, err := socket.Read(buf)
		if err != nil {
			t.Fatal(err)
		}
		if err := m.Open(buf[:n], make([]byte, 100), func(b []byte) { t.Errorf("input %q", b) }); err != nil {
			t.Fatal(err)
		}
	}
	say("second") // with the reply
	io.WriteString(in, "after\n")
	open(t, m, socket, 100, "after\n")
	say("third")
}

// TestMemoryAllocates encrypts batches into the same memory.
func TestMemoryAllocates(t *testing.T) {
	_, m, _ := memoryPair(t, tls.VersionTLS13)
	batch, buf := make([]byte, 40_000), []byte(nil)
	got := testing.AllocsPerRun(100, func() {
		records, err := m.Seal(buf, batch)
		if err != nil {
			t.Fatal(err)
		}
		buf = records[:0]
	})
	if got > 1 {
		t.Errorf("%v allocations for a batch", got)
	}
}
