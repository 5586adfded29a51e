package netx

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

func TestWriteBuffersEndsWithoutProgress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := net.Pipe()
		defer a.Close()
		defer b.Close()
		go func() { // one byte every 9 s is progress
			buf := make([]byte, 1)
			for range 5 {
				time.Sleep(9 * time.Second)
				if _, err := io.ReadFull(b, buf); err != nil {
					return
				}
			}
		}()
		start := time.Now()
		bufs := net.Buffers{make([]byte, 4), make([]byte, 4)}
		n, err := WriteBuffers(a, &bufs, 10*time.Second)
		if n != 5 || !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("wrote %d, %v; want 5 and a time-out", n, err)
		}
		if d := time.Since(start); d < 55*time.Second || d > 65*time.Second {
			t.Errorf("ended after %v, want about 10 s after the last progress at 45 s", d)
		}
	})
}

// fakeTLS makes a connection look like a TLS one, which cannot continue after a timeout.
type fakeTLS struct{ net.Conn }

func (fakeTLS) NetConn() net.Conn { return nil }

// TestWriteBuffersWaitsForTheKernel: the kernel accepts nothing more, but sends what it holds. That
// is progress too.
func TestWriteBuffersWaitsForTheKernel(t *testing.T) {
	for name, wrap := range map[string]func(net.Conn) net.Conn{
		"plain": func(c net.Conn) net.Conn { return c },
		"TLS":   func(c net.Conn) net.Conn { return fakeTLS{c} },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a, b := net.Pipe()
				defer a.Close()
				defer b.Close()
				start := time.Now()
				queued := func() int { return 1000 - min(100, int(time.Since(start).Seconds())) } // for 100 s
				bufs := net.Buffers{make([]byte, 4)}
				n, err := writeBuffers(wrap(a), &bufs, 10*time.Second, queued)
				if n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
					t.Errorf("wrote %d, %v; want a time-out", n, err)
				}
				if d := time.Since(start); d < 110*time.Second || d > 113*time.Second {
					t.Errorf("ended after %v, want about 10 s after the last progress at 100 s", d)
				}
			})
		})
	}
}

// recorder is a fake TLS connection that records each Write.
type recorder struct {
	net.Conn
	records []int
	bytes   []byte
}

func (r *recorder) NetConn() net.Conn                { return nil }
func (r *recorder) SetWriteDeadline(time.Time) error { return nil }
func (r *recorder) Write(b []byte) (int, error) {
	r.records = append(r.records, len(b))
	r.bytes = append(r.bytes, b...)
	return len(b), nil
}

func TestWriteBuffersFillsRecords(t *testing.T) {
	var want []byte
	var bufs net.Buffers
	for i := range 1000 {
		p := bytes.Repeat([]byte{byte(i)}, i%97)
		want = append(want, p...)
		bufs = append(bufs, p)
	}
	r := new(recorder)
	n, err := WriteBuffers(r, &bufs, time.Second)
	if err != nil || n != int64(len(want)) || !bytes.Equal(r.bytes, want) {
		t.Fatalf("wrote %d of %d, %v", n, len(want), err)
	}
	for i, size := range r.records {
		if size != maxRecord && i < len(r.records)-1 {
			t.Errorf("record %d has %d bytes", i, size)
		}
	}
	if len(bufs) != 0 {
		t.Errorf("%d buffers left", len(bufs))
	}
}

type addrConn struct {
	net.Conn
	addr string
}

func (c *addrConn) RemoteAddr() net.Addr {
	a, _ := net.ResolveTCPAddr("tcp", c.addr)
	return a
}

// flaky fails with EMFILE a few times before each connection.
type flaky struct {
	net.Listener
	fails atomic.Int32
}

func (f *flaky) Accept() (net.Conn, error) {
	if f.fails.Add(1)%3 != 0 {
		return nil, &net.OpError{Op: "accept", Err: os.NewSyscallError("accept4", syscall.EMFILE)}
	}
	return f.Listener.Accept()
}

func TestServe(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var handled sync.WaitGroup
	handled.Add(3)
	done := make(chan error)
	go func() {
		done <- Serve(ctx, &flaky{Listener: ln}, drainTime(10*time.Millisecond), func(ctx context.Context, c net.Conn) {
			handled.Done()
			io.Copy(io.Discard, c) // does not end by itself
		})
	}()
	for range 3 {
		c, err := net.Dial("tcp", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	handled.Wait()
	cancel()
	if err := <-done; err != nil {
		t.Errorf("Serve: %v", err)
	}
	if _, err := net.Dial("tcp", ln.Addr().String()); err == nil {
		t.Error("the listener is still open")
	}

	ln, _ = net.Listen("tcp", "127.0.0.1:0")
	ln.Close()
	if err := Serve(context.Background(), ln, drainTime(0), nil); err == nil {
		t.Error("Serve on a closed listener returned nil")
	}
}

// drainTime returns a function that returns d.
func drainTime(d time.Duration) func() time.Duration { return func() time.Duration { return d } }
