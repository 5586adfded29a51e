//go:build linux

package e2e

import (
	"bytes"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"livego/e2e/harness"
	"livego/e2e/rtmp"
)

// TestSocketActivation restarts a server whose RTMP socket systemd holds. An encoder is asked to
// reconnect to the same address, and is accepted there by the next process though it connects before
// that has started. An unknown socket is an error at the start.
func TestSocketActivation(t *testing.T) {
	t.Parallel()
	listen := func() *net.TCPListener {
		l, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		return l
	}
	o := harness.Options{DataDir: t.TempDir(),
		Sockets: map[string]*net.TCPListener{"rtmp_addr": listen(), "api_addr": listen()}}
	s := harness.Start(t, o)
	key := s.Key("movie")
	nc, err := net.Dial("tcp", s.Addr("rtmp_addr"))
	if err != nil {
		t.Fatal(err)
	}
	encoder, err := rtmp.OpenConn(nc, "live", patience, "capsEx", 1)
	if err != nil {
		t.Fatal(err)
	}
	defer encoder.NetConn.Close()
	if err = encoder.Publish(key); err == nil {
		err = encoder.AwaitStart("NetStream.Publish.Start", patience)
	}
	if err != nil {
		t.Fatal(err)
	}
	stopped := async(func() (struct{}, error) { s.Stop(); return struct{}{}, nil })
	if m, err := encoder.AwaitCommand(patience, "onStatus", "NetConnection.Connect.ReconnectRequest"); err != nil ||
		bytes.Contains(m.Payload, []byte("tcUrl")) {
		t.Errorf("the encoder receives %q, %v, want a request without tcUrl", m.Payload, err)
	}
	if _, err := stopped(); err != nil {
		t.Error(err)
	}
	again, err := net.Dial("tcp", s.Addr("rtmp_addr"))
	if err != nil {
		t.Fatalf("between two processes: %v", err)
	}
	harness.Start(t, o)
	encoder, err = rtmp.OpenConn(again, "live", patience)
	if err == nil {
		err = encoder.Publish(key)
	}
	if err == nil {
		err = encoder.AwaitStart("NetStream.Publish.Start", patience)
	}
	if err != nil {
		t.Errorf("the encoder at the next process: %v", err)
	}

	o = harness.Options{NoWait: true, Sockets: map[string]*net.TCPListener{"rtmps_addr": listen()}}
	s = harness.Start(t, o) // without enable_rtmps
	if code := s.WaitExit(patience); code != 1 || !strings.Contains(s.Stderr(), "systemd sockets that match") {
		t.Errorf("a socket without a listener: exit code %d, %s", code, s.Stderr())
	}
}

// TestNotify checks what a server reports to systemd: that it is ready, that it works, and that it
// stops.
func TestNotify(t *testing.T) {
	t.Parallel()
	name := filepath.Join(t.TempDir(), "notify")
	manager, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer manager.Close()
	receive := func(limit time.Duration) string {
		manager.SetReadDeadline(time.Now().Add(limit))
		var b [1 << 10]byte
		n, err := manager.Read(b[:])
		if err != nil {
			return err.Error()
		}
		return string(b[:n])
	}
	s := harness.Start(t, harness.Options{Env: []string{"NOTIFY_SOCKET=" + name, "WATCHDOG_USEC=300000"},
		Flags: []string{"--shutdown_timeout=2s"}})
	states := []string{receive(patience), receive(patience)} // in any order
	if slices.Sort(states); !slices.Equal(states, []string{"READY=1", "WATCHDOG=1"}) {
		t.Errorf("systemd receives %q, want that the server is ready and works", states)
	}
	if got := receive(patience); got != "WATCHDOG=1" {
		t.Errorf("systemd receives %q, want that the server still works", got)
	}
	stopped := async(func() (struct{}, error) { s.Stop(); return struct{}{}, nil })
	got := receive(patience)
	for got == "WATCHDOG=1" {
		got = receive(patience)
	}
	if got != "STOPPING=1\nEXTEND_TIMEOUT_USEC=12000000" {
		t.Errorf("systemd receives %q, want that the server stops", got)
	}
	if _, err := stopped(); err != nil {
		t.Error(err)
	}
}
