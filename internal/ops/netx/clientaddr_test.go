package netx

import (
	"net/http"
	"net/netip"
	"testing"
)

func TestClientAddr(t *testing.T) {
	for remote, want := range map[string]netip.Addr{
		"192.0.2.1:5000":               netip.MustParseAddr("192.0.2.1"),
		"[::ffff:192.0.2.1]:5000":      netip.MustParseAddr("192.0.2.1"),
		"[2001:db8::1]:0":              netip.MustParseAddr("2001:db8::1"),
		"[fe80::1%eth0]:5000":          netip.MustParseAddr("fe80::1"),
		"192.0.2.1":                    netip.MustParseAddr("192.0.2.1"),
		"":                             {},
		"pipe":                         {},
		"192.0.2.1:port":               {},
		"192.0.2.1:5000, 192.0.2.2:80": {},
	} {
		if got := ClientAddr(&http.Request{RemoteAddr: remote}); got != want {
			t.Errorf("%q: %v, want %v", remote, got, want)
		}
		if c := (&addrConn{addr: "192.0.2.7:1"}); connClientAddr(c) != netip.MustParseAddr("192.0.2.7") {
			t.Errorf("a connection: %v", connClientAddr(c))
		}
	}
}
