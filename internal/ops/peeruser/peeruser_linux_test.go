package peeruser

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// connect returns both ends of a connection to host. The server listens on network and listen.
func connect(t *testing.T, network, listen, host string) (client, server *net.TCPConn) {
	t.Helper()
	ln, err := net.Listen(network, listen)
	if err != nil {
		t.Skip(err)
	}
	defer ln.Close()
	_, port, _ := net.SplitHostPort(ln.Addr().String())
	c, err := net.Dial("tcp", net.JoinHostPort(host, port))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	s, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return c.(*net.TCPConn), s.(*net.TCPConn)
}

// ownAddress returns an address of this machine that is not loopback.
func ownAddress(t *testing.T) string {
	t.Helper()
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok && n.IP.IsGlobalUnicast() {
			return n.IP.String()
		}
	}
	t.Skip("this machine has loopback only")
	return ""
}

// TestNonLoopbackAddress connects to a non-loopback address of this machine: the user is found too.
func TestNonLoopbackAddress(t *testing.T) {
	_, server := connect(t, "tcp", "[::]:0", ownAddress(t))
	if uid, err := Of(WithConn(t.Context(), server)); err != nil || uid != uint32(os.Getuid()) {
		t.Errorf("user %d, %v", uid, err)
	}
}

// proxied returns the address that a proxy gave.
type proxied struct{ *net.TCPConn }

func (proxied) RemoteAddr() net.Addr { return &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 1} }

func addrPort(a net.Addr) netip.AddrPort {
	ap := a.(*net.TCPAddr).AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}

// TestUser finds this process's user with every kind of address, by both sources.
func TestUser(t *testing.T) {
	me := uint32(os.Getuid())
	for _, c := range []struct{ name, network, listen, host string }{
		{"IPv4", "tcp4", "127.0.0.1:0", "127.0.0.1"},
		{"another loopback address", "tcp4", "0.0.0.0:0", "127.3.2.1"},
		{"IPv6", "tcp6", "[::1]:0", "::1"},
		{"IPv4 to a socket of both", "tcp", "[::]:0", "127.0.0.1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			client, server := connect(t, c.network, c.listen, c.host)
			if uid, err := Of(WithConn(t.Context(), server)); err != nil || uid != me {
				t.Errorf("user %d, %v, want %d", uid, err, me)
			}
			if uid, err := Of(WithConn(t.Context(), proxied{server})); err != nil || uid != me {
				t.Errorf("with an address from a proxy: user %d, %v, want %d", uid, err, me)
			}
			local, remote := addrPort(client.LocalAddr()), addrPort(client.RemoteAddr())
			diag, err := querySockDiag(local, remote)
			if err != nil || diag.uid != me || !diag.owned() {
				t.Errorf("sock_diag: %+v, %v", diag, err)
			}
			table := "/proc/self/net/tcp6"
			if local.Addr().Is4() {
				table = "/proc/self/net/tcp"
			}
			row, err := scanTableFile(table, local, remote)
			if err != nil || row != diag {
				t.Errorf("%s: %+v, %v, want %+v", table, row, err, diag)
			}
		})
	}
}

// TestOtherUser connects as other users.
func TestOtherUser(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root can be another user")
	}
	bash, err := exec.LookPath("bash")
	if err != nil {
		t.Skip(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	for _, want := range []uint32{1, 33, 1000, nobodyUID} {
		cmd := exec.Command(bash, "-c", `exec 3<>/dev/tcp/127.0.0.1/$0; cat <&3`, strconv.Itoa(ln.Addr().(*net.TCPAddr).Port))
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: want, Gid: want}}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		server, err := ln.Accept()
		if err != nil {
			t.Fatal(err)
		}
		if uid, err := Of(WithConn(t.Context(), server)); err != nil || uid != want {
			t.Errorf("user %d, %v, want %d", uid, err, want)
		}
		server.Close()
		_ = cmd.Wait()
	}
}

// TestPeerClosed closes the peer before the lookup, while its request is still unread. The kernel
// lists such a socket without an owner, as root's, or not at all.
func TestPeerClosed(t *testing.T) {
	for _, c := range []struct {
		name string
		end  func(*net.TCPConn)
	}{
		{"closed", func(c *net.TCPConn) { c.Close() }},
		{"reset", func(c *net.TCPConn) { _ = c.SetLinger(0); c.Close() }},
	} {
		t.Run(c.name, func(t *testing.T) {
			client, server := connect(t, "tcp4", "127.0.0.1:0", "127.0.0.1")
			if _, err := io.WriteString(client, "GET / HTTP/1.1\r\n"); err != nil {
				t.Fatal(err)
			}
			c.end(client)
			// ReadAll returns when the request and the end of the connection have arrived.
			if err := server.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
				t.Fatal(err)
			}
			_, err := io.ReadAll(server)
			if errors.Is(err, os.ErrDeadlineExceeded) {
				t.Fatal(err)
			}
			if uid, err := Of(WithConn(t.Context(), server)); !errors.Is(err, ErrClosed) {
				t.Errorf("user %d, %v, want %v", uid, err, ErrClosed)
			}
		})
	}
	t.Run("half closed", func(t *testing.T) {
		client, server := connect(t, "tcp4", "127.0.0.1:0", "127.0.0.1")
		if err := client.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		_, _ = io.ReadAll(server)
		if uid, err := Of(WithConn(t.Context(), server)); err != nil || uid != uint32(os.Getuid()) {
			t.Errorf("user %d, %v", uid, err)
		}
	})
}

// TestUserIsCached checks that the user is looked up once for a connection.
func TestUserIsCached(t *testing.T) {
	client, server := connect(t, "tcp4", "127.0.0.1:0", "127.0.0.1")
	ctx := WithConn(t.Context(), server)
	if _, err := Of(ctx); err != nil {
		t.Fatal(err)
	}
	client.Close()
	if _, err := Of(ctx); err != nil {
		t.Errorf("the second lookup: %v", err)
	}
}

func TestUnknown(t *testing.T) {
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	for name, ctx := range map[string]context.Context{"no connection": t.Context(), "no TCP": WithConn(t.Context(), a)} {
		if _, err := Of(ctx); !errors.Is(err, ErrUnknown) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestListenerIsNotThePeer looks up a connection that does not exist, to a port with a listener:
// the kernel returns the listener.
func TestListenerIsNotThePeer(t *testing.T) {
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	if s, err := findSocket(addrPort(ln.Addr()), netip.MustParseAddrPort("127.0.0.1:1")); err == nil {
		t.Errorf("found %+v", s)
	}
}

var rows = []struct {
	row  string
	want socket
	ok   bool
}{
	{"  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode", socket{}, false},
	{"   0: 0100007F:1F9A 0200007F:D431 01 00000000:00000000 00:00000000 00000000    33        0 12345 1 0000 100", socket{
		netip.MustParseAddrPort("127.0.0.1:8090"), netip.MustParseAddrPort("127.0.0.2:54321"), 1, 33, 12345,
	}, true},
	{"  12: 00000000000000000000000001000000:1F9A 0000000000000000FFFF00000100007F:0001 06 00000000:00000000 " +
		"03:00000A51 00000000     0        0 0 3 0000", socket{
		netip.MustParseAddrPort("[::1]:8090"), netip.MustParseAddrPort("127.0.0.1:1"), 6, 0, 0,
	}, true},
	{"   0: 0100007F 0200007F:D431 01 0:0 0:0 0 33 0 1", socket{}, false},
	{"   0: 01:1 02:1 01 0:0 0:0 0 33 0 1", socket{}, false},
	{"   0: 0100007F:1F9A 0200007F:D431 01 0:0 0:0 0 -1 0 1", socket{}, false},
	{"   0: 0100007F:1F9A 0200007F:1D431 01 0:0 0:0 0 1 0 1", socket{}, false},
	{"", socket{}, false},
}

func TestParseRow(t *testing.T) {
	for _, c := range rows {
		if s, ok := parseRow(c.row); ok != c.ok || ok && s != c.want {
			t.Errorf("%s: %+v %v, want %+v %v", c.row, s, ok, c.want, c.ok)
		}
	}
	long := strings.Repeat("x", 2*maxRow)
	if _, err := scanTable(strings.NewReader(long), netip.AddrPort{}, netip.AddrPort{}); err == nil {
		t.Error("an endless row was accepted")
	}
}

func FuzzParseRow(f *testing.F) {
	for _, c := range rows {
		f.Add(c.row)
	}
	f.Fuzz(func(t *testing.T, row string) {
		if s, ok := parseRow(row); ok && (!s.local.IsValid() || !s.remote.IsValid()) {
			t.Errorf("%q: %+v", row, s)
		}
	})
}

func FuzzParseSockDiag(f *testing.F) {
	answer := sockDiagRequest(netip.MustParseAddrPort("127.0.0.1:1"), netip.MustParseAddrPort("127.0.0.1:2"))
	f.Add(answer)
	f.Add(append(answer, make([]byte, messageSize)...))
	f.Add([]byte{})
	f.Add(append(make([]byte, 4), 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xfe, 0xff, 0xff, 0xff))
	f.Fuzz(func(_ *testing.T, b []byte) { _, _ = parseSockDiag(b) })
}

func TestIsSystem(t *testing.T) {
	for uid, want := range map[uint32]bool{0: false, 1: true, 33: true, 999: true, 1000: false, 60000: false, 61184: true,
		65519: true, 65533: false, 65534: true, 100000: false} {
		if IsSystem(uid, 999) != want {
			t.Errorf("user %d: %v", uid, !want)
		}
	}
	for text, want := range map[string]uint32{
		"": 999, "#SYS_UID_MAX 500\n": 999, "SYS_UID_MAX\t\t 499\nUID_MIN 1000\n": 499, "UID_MIN 500": 499,
		"SYS_UID_MAX many": 999, "UID_MIN 0x100": 255,
	} {
		if got := systemUIDMax(text); got != want {
			t.Errorf("%q: %d, want %d", text, got, want)
		}
	}
}
