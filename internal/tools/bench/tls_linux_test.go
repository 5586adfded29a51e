package bench

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// TestTLSConnReadsPieces reads a TLS connection whose bytes arrive in pieces of any size: crypto/tls
// continues after errNoInput, wherever it comes.
func TestTLSConnReadsPieces(t *testing.T) {
	want := bytes.Repeat([]byte("0123456789abcdef"), 3<<10) // several records
	for _, size := range []int{1, 7, 4096, readBuffer} {
		fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		file := os.NewFile(uintptr(fds[1]), "server")
		server, err := net.FileConn(file)
		if err != nil {
			t.Fatal(err)
		}
		file.Close()
		served := make(chan error, 1)
		go func() {
			s := tls.Server(server, testCertificate(t))
			_, err := s.Write(want)
			served <- errors.Join(err, s.Close())
		}()
		c := newTLSConn(fds[0], connOptions{insecure: true}.tlsConfig(&target{addr: "localhost:1"}))
		done := make(chan error, 1)
		go func() {
			err := c.handshake(t.Context())
			c.finishHandshake()
			done <- err
		}()

		var got []byte
		in, out := make([]byte, size), make([]byte, maxRecord)
		for len(got) < len(want) {
			n, err := unix.Read(fds[0], in)
			if err != nil || n == 0 {
				t.Fatalf("%d bytes, %v", n, err)
			}
			if !c.feed(in[:n]) {
				continue
			}
			for {
				n, err := c.Read(out)
				if errors.Is(err, errNoInput) || err == io.EOF {
					break
				}
				if err != nil {
					t.Fatal(err)
				}
				got = append(got, out[:n]...)
			}
		}
		if err := errors.Join(<-done, <-served); err != nil {
			t.Error(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("in pieces of %d: %d bytes are not those that were sent", size, len(got))
		}
		unix.Close(fds[0])
	}
}
