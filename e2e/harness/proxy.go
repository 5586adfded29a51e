package harness

import (
	"io"
	"net"
	"sync"
	"testing"
	"time"
)

// StartProxy starts a TCP proxy to addr, and returns its address. For each connection it calls answer,
// which copies from the server, far, to the client, near, until either is closed.
func StartProxy(t testing.TB, addr string, answer func(near, far net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	var mu sync.Mutex
	var open []net.Conn
	all.Go(func() {
		for {
			near, err := l.Accept()
			if err != nil {
				return
			}
			far, err := net.Dial("tcp", addr)
			if err != nil {
				near.Close()
				continue
			}
			mu.Lock()
			open = append(open, near, far)
			mu.Unlock()
			all.Go(func() {
				_, _ = io.Copy(far, near)
				far.Close()
			})
			all.Go(func() {
				answer(near, far)
				near.Close()
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		mu.Lock()
		for _, c := range open {
			c.Close()
		}
		mu.Unlock()
		all.Wait()
	})
	return l.Addr().String()
}

// StartDelayProxy starts a TCP proxy to addr that delays each answer, like a server in another city, and
// returns its address.
func StartDelayProxy(t testing.TB, addr string, delay time.Duration) string {
	t.Helper()
	return StartProxy(t, addr, func(near, far net.Conn) { copyDelayed(near, far, delay) })
}

// copyDelayed copies src to dst, each piece delay after it arrived, without delaying the next
// piece.
func copyDelayed(dst io.Writer, src io.Reader, delay time.Duration) {
	type piece struct {
		data []byte
		due  time.Time
	}
	pieces := make(chan piece, 1024)
	go func() {
		defer close(pieces)
		for {
			b := make([]byte, 32<<10)
			n, err := src.Read(b)
			if n > 0 {
				pieces <- piece{b[:n], time.Now().Add(delay)}
			}
			if err != nil {
				return
			}
		}
	}()
	failed := false
	for p := range pieces {
		<-time.After(time.Until(p.due))
		if !failed {
			_, err := dst.Write(p.data)
			failed = err != nil
		}
	}
}
