package netx

import (
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"
)

// TestReader: bytes, deadlines, the end of the stream, and a closed connection.
func TestReader(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	near, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer near.Close()
	far, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer far.Close()

	r := Reader(near)
	buf := make([]byte, 3)
	if n, err := r.Read(nil); n != 0 || err != nil {
		t.Errorf("into an empty buffer: %d %v", n, err)
	}
	near.SetReadDeadline(time.Now().Add(time.Millisecond))
	if n, err := r.Read(buf); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("without input: %d %v, want a timeout", n, err)
	}
	near.SetReadDeadline(time.Time{})
	go far.Write([]byte("picture"))
	if _, err := io.ReadFull(r, buf); err != nil || string(buf) != "pic" {
		t.Errorf("read %q %v", buf, err)
	}
	go far.Close()
	if rest, err := io.ReadAll(r); err != nil || string(rest) != "ture" {
		t.Errorf("read %q %v", rest, err)
	}
	near.Close()
	if n, err := r.Read(buf); n != 0 || !errors.Is(err, net.ErrClosed) {
		t.Errorf("closed: %d %v", n, err)
	}
	if allocs := testing.AllocsPerRun(10, func() { r.Read(buf) }); allocs > 1 { // for the error
		t.Errorf("%v allocations", allocs)
	}
}

// TestReaderOfPipe: Reader returns any connection but TCP itself.
func TestReaderOfPipe(t *testing.T) {
	a, b := net.Pipe()
	defer b.Close()
	if Reader(a) != io.Reader(a) {
		t.Error("Reader of a pipe is not the pipe")
	}
}
