package netx

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"
)

// v2 returns a header of version 2.
func v2(command, family byte, body ...byte) string {
	b := append([]byte(proxySignature), 0x20|command, family)
	b = binary.BigEndian.AppendUint16(b, uint16(len(body)))
	return string(append(b, body...))
}

var (
	body4 = []byte{192, 0, 2, 7, 198, 51, 100, 1, 0x30, 0x39, 0x07, 0x8f}
	body6 = append(append(append([]byte{}, netip.MustParseAddr("2001:db8::7").AsSlice()...),
		netip.MustParseAddr("2001:db8::1").AsSlice()...), 0x30, 0x39, 7, 0x8f)
)

// proxyHeaders are headers and the expected results. They seed FuzzProxyHeader.
var proxyHeaders = []struct {
	name, header string
	want         string // "" for no address
	fails        bool
}{
	{"v1 TCP4", "PROXY TCP4 192.0.2.7 198.51.100.1 12345 1935\r\n", "192.0.2.7:12345", false},
	{"v1 TCP6", "PROXY TCP6 2001:db8::7 2001:db8::1 12345 1935\r\n", "[2001:db8::7]:12345", false},
	{"v1 mapped", "PROXY TCP6 ::ffff:192.0.2.7 ::ffff:198.51.100.1 12345 1935\r\n", "192.0.2.7:12345", false},
	{"v1 unknown", "PROXY UNKNOWN\r\n", "", false},
	{"v1 unknown with the rest", "PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n", "", false},
	{"v1 wrong family", "PROXY TCP4 2001:db8::7 2001:db8::1 12345 1935\r\n", "", true},
	{"v1 zone", "PROXY TCP6 fe80::1%eth0 2001:db8::1 12345 1935\r\n", "", true},
	{"v1 port", "PROXY TCP4 192.0.2.7 198.51.100.1 65536 1935\r\n", "", true},
	{"v1 too few", "PROXY TCP4 192.0.2.7 198.51.100.1 12345\r\n", "", true},
	{"v1 end of line", "PROXY TCP4 192.0.2.7 198.51.100.1 12345 1935\n", "", true},
	{"v1 too long", "PROXY TCP4 " + strings.Repeat("1", 200) + "\r\n", "", true},
	{"v1 cut", "PROXY TCP4 192.0.2.7", "", true},
	{"v2 TCP4", v2(1, 0x11, body4...), "192.0.2.7:12345", false},
	{"v2 TCP6", v2(1, 0x21, body6...), "[2001:db8::7]:12345", false},
	{"v2 more", v2(1, 0x11, append(append([]byte{}, body4...), 4, 0, 1, 0)...), "192.0.2.7:12345", false},
	{"v2 local", v2(0, 0x11, body4...), "", false},
	{"v2 local without addresses", v2(0, 0), "", false},
	{"v2 UDP", v2(1, 0x12, body4...), "", false},
	{"v2 unix", v2(1, 0x31, make([]byte, 216)...), "", false},
	{"v2 short", v2(1, 0x11, body4[:11]...), "", true},
	{"v2 command", v2(2, 0x11, body4...), "", true},
	{"v2 version", strings.Replace(v2(1, 0x11, body4...), "\n\x21\x11", "\n\x31\x11", 1), "", true},
	{"v2 too long", v2(1, 0x11, make([]byte, maxProxyBody+1)...), "", true},
	{"v2 cut", v2(1, 0x11, body4...)[:20], "", true},
	{"HTTP", "GET / HTTP/1.1\r\nHost: a\r\n\r\n", "", true},
	{"RTMP", "\x03" + strings.Repeat("\x00", 1536), "", true},
	{"nothing", "", "", true},
}

// TestProxyHeader: each header is read to its end, and nothing after it.
func TestProxyHeader(t *testing.T) {
	for _, tt := range proxyHeaders {
		r := strings.NewReader(tt.header + "rest")
		if tt.fails {
			r = strings.NewReader(tt.header)
		}
		got, err := readProxyHeader(r)
		if (err != nil) != tt.fails {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		if got.IsValid() != (tt.want != "") || got.IsValid() && got.String() != tt.want {
			t.Errorf("%s: %v, want %q", tt.name, got, tt.want)
		}
		if rest, _ := io.ReadAll(r); !tt.fails && string(rest) != "rest" {
			t.Errorf("%s: the rest starts with %q", tt.name, rest)
		}
	}
}

func FuzzProxyHeader(f *testing.F) {
	for _, tt := range proxyHeaders {
		f.Add([]byte(tt.header))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r := bytes.NewReader(b)
		addr, err := readProxyHeader(r)
		if read := len(b) - r.Len(); read > len(proxySignature)+4+maxProxyBody {
			t.Errorf("%d bytes read", read)
		}
		if err != nil && addr.IsValid() {
			t.Errorf("%v with %v", addr, err)
		}
	})
}

func TestForwardedFor(t *testing.T) {
	proxies, err := ParseNetworks([]string{"127.0.0.0/8", "::1", "198.51.100.1", "::ffff:198.51.100.2"})
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		peer   string
		header []string
		want   string
	}{
		{"127.0.0.1:5", []string{"192.0.2.7"}, "192.0.2.7:0"},
		{"[::1]:5", []string{"2001:db8::7"}, "[2001:db8::7]:0"},
		{"198.51.100.2:5", []string{"192.0.2.7"}, "192.0.2.7:0"},
		{"192.0.2.9:5", []string{"192.0.2.7"}, "192.0.2.9:5"}, // not a trusted proxy
		{"127.0.0.1:5", nil, "127.0.0.1:5"},                   // no header
		// the first was written by the client
		{"127.0.0.1:5", []string{"1.2.3.4, 192.0.2.7"}, "192.0.2.7:0"},
		{"127.0.0.1:5", []string{"1.2.3.4", "192.0.2.7"}, "192.0.2.7:0"},                   // in two lines
		{"127.0.0.1:5", []string{"1.2.3.4, 192.0.2.7, 198.51.100.1"}, "192.0.2.7:0"},       // two proxies
		{"127.0.0.1:5", []string{"192.0.2.7:1234"}, "192.0.2.7:0"},                         // with a port
		{"127.0.0.1:5", []string{"[2001:db8::7]:1234"}, "[2001:db8::7]:0"},                 //
		{"127.0.0.1:5", []string{"[2001:db8::7]"}, "[2001:db8::7]:0"},                      //
		{"127.0.0.1:5", []string{"unknown"}, "127.0.0.1:5"},                                //
		{"127.0.0.1:5", []string{"192.0.2.7, unknown, 198.51.100.1"}, "198.51.100.1:0"},    // the last known address
		{"198.51.100.1:5", []string{"127.0.0.1"}, "198.51.100.1:0"},                        // a client is never local
		{"127.0.0.1:5", []string{"127.0.0.1"}, "0.0.0.0:0"},                                //
		{"127.0.0.1:5", []string{"::ffff:127.0.0.1"}, "0.0.0.0:0"},                         //
		{"127.0.0.1:5", []string{"::1"}, "0.0.0.0:0"},                                      //
		{"127.0.0.1:5", []string{"0.0.0.0"}, "0.0.0.0:0"},                                  //
		{"127.0.0.1:5", []string{""}, "127.0.0.1:5"},                                       //
		{"127.0.0.1:5", []string{strings.Repeat("127.0.0.1,", 1000) + "::1"}, "0.0.0.0:0"}, //
		{"127.0.0.1:5", []string{strings.Repeat("1.1.1.1,", 1000) + "::1"}, "1.1.1.1:0"},   //
		{"@", []string{"192.0.2.7"}, "@"},                                                  // a peer without an address
	} {
		r := &http.Request{RemoteAddr: tt.peer, Header: http.Header{}}
		if tt.header != nil {
			r.Header["X-Forwarded-For"] = tt.header
		}
		got, claimed := Proxies(proxies).WithClientAddr(r)
		if got.RemoteAddr != tt.want || r.RemoteAddr != tt.peer || claimed != (tt.want != tt.peer) {
			t.Errorf("%s %.60q: %s, claimed %v, want %s", tt.peer, tt.header, got.RemoteAddr, claimed, tt.want)
		}
		if none, _ := Proxies(nil).WithClientAddr(r); none != r {
			t.Errorf("%s %.60q: used without trusted proxies", tt.peer, tt.header)
		}
	}
	if _, err := ParseNetworks([]string{"proxy.example.com"}); err == nil {
		t.Error("ParseNetworks accepts a host name")
	}
}

// TestListenProxied: connections of a trusted proxy and of others have the right address, and one
// without a header delays no other.
func TestListenProxied(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	proxies, err := ParseNetworks([]string{"127.0.0.2"})
	if err != nil {
		t.Fatal(err)
	}
	l := NewLimiter(LimitOptions{Proxies: proxies})
	defer l.Close()
	in := l.Listen(ln, ListenOptions{ProxyProtocol: true, HeaderTimeout: time.Minute})
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error)
	go func() {
		served <- Serve(ctx, in, drainTime(0), func(_ context.Context, c net.Conn) {
			b := make([]byte, 4)
			n, _ := io.ReadFull(c, b)
			fmt.Fprintf(c, "%v %s", connClientAddr(c), b[:n])
		})
	}()
	dial := func(from, send string) net.Conn {
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
		c, err := d.Dial("tcp", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		io.WriteString(c, send)
		return c
	}
	silent := dial("127.0.0.2", "")
	for _, tt := range []struct{ from, send, want string }{
		{"127.0.0.2", "PROXY TCP4 192.0.2.7 198.51.100.1 12345 1935\r\nbody", "192.0.2.7 body"},
		{"127.0.0.2", v2(1, 0x21, body6...) + "body", "2001:db8::7 body"},
		{"127.0.0.2", v2(0, 0) + "body", "0.0.0.0 body"}, // the proxy for itself, which is not a client on this machine
		{"127.0.0.2", "PROXY TCP4 127.0.0.1 127.0.0.1 12345 1935\r\nbody", "0.0.0.0 body"},
		{"127.0.0.1", "body", "127.0.0.1 body"},
		{"127.0.0.1", "PROXY TCP4 192.0.2.7 198.51.100.1 12345 1935\r\nbody", "127.0.0.1 PROX"},
		{"127.0.0.2", "GET / HTTP/1.1\r\n\r\n", ""},
	} {
		got, err := io.ReadAll(dial(tt.from, tt.send))
		if string(got) != tt.want && !(tt.want == "" && err != nil) {
			t.Errorf("%s %q: %q, want %q", tt.from, tt.send, got, tt.want)
		}
	}
	cancel()
	if err := <-served; err != nil {
		t.Error(err)
	}
	silent.SetReadDeadline(time.Now().Add(10 * time.Second))
	if _, err := silent.Read(make([]byte, 1)); err == nil || errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a connection without a header is not closed: %v", err)
	}
}
