//go:build linux

package systemd

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

func listen(t *testing.T) *net.TCPListener {
	t.Helper()
	l, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// TestListener finds sockets by name and by port.
func TestListener(t *testing.T) {
	named, numbered, spare := listen(t), listen(t), listen(t)
	s := &Sockets{list: []socket{{"livego.socket", numbered}, {"rtmp", named}, {"livego.socket", spare}}}
	if l := s.Listener("rtmp", numbered.Addr().String()); l != net.Listener(named) {
		t.Errorf("rtmp: %v, want the socket of that name", l)
	}
	_, port, _ := net.SplitHostPort(numbered.Addr().String())
	if l := s.Listener("hls", ":"+port); l != net.Listener(numbered) {
		t.Errorf("hls: %v, want the socket with its port", l)
	}
	if l := s.Listener("api", "127.0.0.1:1"); l != nil {
		t.Errorf("api: %v, want none", l)
	}
	if err := s.CheckUsed(); err == nil || !strings.Contains(err.Error(), "livego.socket ("+spare.Addr().String()+")") {
		t.Errorf("the socket that is left: %v", err)
	}
	s.Close()
	if err := s.CheckUsed(); err != nil {
		t.Error(err)
	}
}

// manager is the socket on which systemd receives notifications.
func manager(t *testing.T) *net.UnixConn {
	t.Helper()
	name := filepath.Join(t.TempDir(), "notify")
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	t.Setenv("NOTIFY_SOCKET", name)
	return c
}

func receive(t *testing.T, c *net.UnixConn) string {
	t.Helper()
	c.SetReadDeadline(time.Now().Add(10 * time.Second))
	var b [1 << 10]byte
	n, err := c.Read(b[:])
	if err != nil {
		t.Fatal(err)
	}
	return string(b[:n])
}

func TestNotify(t *testing.T) {
	c, n := manager(t), Notifier{slog.Default()}
	n.Ready()
	if got := receive(t, c); got != "READY=1" {
		t.Errorf("Ready sends %q", got)
	}
	n.Reloading()
	if got := receive(t, c); !strings.HasPrefix(got, "RELOADING=1\nMONOTONIC_USEC=") {
		t.Errorf("Reloading sends %q", got)
	}
	n.Stopping(35 * time.Second)
	if got := receive(t, c); got != "STOPPING=1\nEXTEND_TIMEOUT_USEC=35000000" {
		t.Errorf("Stopping sends %q", got)
	}
}

// TestNotifyBlocked has a manager that does not read: a shutdown does not wait for it.
func TestNotifyBlocked(t *testing.T) {
	c := manager(t)
	full, err := net.Dial("unixgram", c.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer full.Close()
	for full.SetWriteDeadline(time.Now().Add(10 * time.Millisecond)); err == nil; {
		_, err = full.Write([]byte("x"))
	}
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatal(err)
	}
	var log strings.Builder
	done := make(chan struct{})
	go func() {
		defer close(done)
		Notifier{slog.New(slog.NewTextHandler(&log, nil))}.Stopping(time.Second)
	}()
	select {
	case <-done:
	case <-time.After(10 * time.Second):
		c.Close() // ends the write
		<-done
		t.Fatal("Stopping waits for the manager")
	}
	if !strings.Contains(log.String(), "cannot notify systemd") {
		t.Errorf("the log is %q", log.String())
	}
}

// TestWatchdog checks that the service is reported to work only while its check succeeds.
func TestWatchdog(t *testing.T) {
	c, n := manager(t), Notifier{slog.New(slog.DiscardHandler)}
	t.Setenv("WATCHDOG_USEC", strconv.Itoa(30_000))
	t.Setenv("WATCHDOG_PID", strconv.Itoa(os.Getpid()))
	ctx, cancel := context.WithCancel(t.Context())
	checks, done := make(chan error), make(chan struct{})
	go func() {
		defer close(done)
		n.Watchdog(ctx, func(ctx context.Context) error {
			select {
			case err := <-checks:
				return err
			case <-ctx.Done():
				return ctx.Err()
			}
		})
	}()
	for _, err := range []error{errors.New("broken"), errors.New("still broken"), nil} {
		checks <- err
	}
	if got := receive(t, c); got != "WATCHDOG=1" {
		t.Errorf("the watchdog sends %q", got)
	}
	checks <- errors.New("broken again")
	cancel()
	<-done
	c.SetReadDeadline(time.Unix(1, 0))
	if n, err := c.Read(make([]byte, 100)); err == nil {
		t.Errorf("%d more bytes: a failed check must not be reported as success", n)
	}
}

// TestWithoutSystemd checks that nothing happens without systemd.
func TestWithoutSystemd(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "")
	t.Setenv("WATCHDOG_USEC", "")
	n := Notifier{slog.Default()}
	n.Ready()
	n.Watchdog(t.Context(), func(context.Context) error { t.Error("checked"); return nil })
	s, err := PassedSockets()
	if err != nil || s.Listener("rtmp", ":1935") != nil || s.CheckUsed() != nil {
		t.Errorf("%v, %v", s, err)
	}
}
