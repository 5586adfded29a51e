package httpx

import (
	"strings"
	"testing"
)

var hosts = []struct {
	host string
	ok   bool
}{
	{"", true},
	{"localhost", true},
	{"localhost:8090", true},
	{"example.com", true},
	{"example.com.", true},
	{"example.com:", true}, // RFC 3986 section 3.2.3
	{"my_server-1.example:65535", true},
	{"xn--bcher-kva.example", true},
	{"127.0.0.1:7001", true},
	{"[::1]", true},
	{"[2001:db8::7]:443", true},
	{strings.Repeat("a", maxHostName) + ":80", true},

	{strings.Repeat("a", maxHostName+1), false},
	{strings.Repeat("a", 15<<10), false},
	{"a'onmouseover=alert(1)", false},
	{"a<b>", false},
	{`a"b`, false},
	{"a b", false},
	{"a/b", false},
	{"user@host", false},
	{"a%41", false},
	{"bücher.example", false},
	{"a\x00", false},
	{":80", false},
	{"a:b", false},
	{"a:65536", false},
	{"a:-1", false},
	{"a:1:2", false},
	{"::1", false},
	{"[::1", false},
	{"[::1]x", false},
	{"[127.0.0.1]", false},
	{"[fe80::1%eth0]", false},
	{"[v1.a]", false},
}

func TestCheckHost(t *testing.T) {
	for _, tt := range hosts {
		if err := CheckHost(tt.host); (err == nil) != tt.ok {
			t.Errorf("CheckHost(%.60q) = %v", tt.host, err)
		}
	}
}

// FuzzCheckHost: a valid host is short, and has no markup and no second address.
func FuzzCheckHost(f *testing.F) {
	for _, tt := range hosts {
		f.Add(tt.host)
	}
	f.Fuzz(func(t *testing.T, host string) {
		if CheckHost(host) == nil && (len(host) > maxHostName+len(":65535") ||
			strings.ContainsAny(host, "'\"<>&@/\\?#% \t\r\n\x00")) {
			t.Errorf("%q is valid", host)
		}
	})
}
