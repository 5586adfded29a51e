package relay

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log"
	"net"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"testing"

	"livego/internal/domain"
)

// targets is the table of URLs. It seeds the fuzz target. want is the redacted URL, or after "!"
// a part of the error.
var targets = []struct {
	direction, url string
	trusted        bool
	want           string
}{
	{domain.Push, "rtmp://h/app/s3cret", false, "rtmp://h/app/***"},
	{domain.Push, "rtmps://h:443/app/in/s3cret?token=s3cret", false, "rtmps://h:443/app/***"},
	{domain.Push, "rtmp://user:s3cret@h/app/s3cret", true, "rtmp://h/app/***"},
	{domain.Push, "rtmp://h/app/?streamname=s3cret&key=s3cret", false, "rtmp://h/app/***"},
	{domain.Push, "rtmp://h/app?key=s3cret/s3cret", false, "rtmp://h/***"},
	{domain.Push, "rtmp://h/app/x%2Fs3cret", false, "rtmp://h/app/***"},
	{domain.Push, "rtmp://h/?streamname=s3cret", false, "!rtmp://host/app/name"},
	{domain.Push, "rtmp://h:25/app/x", true, "rtmp://h:25/app/***"},
	{domain.Pull, "rtmp://h:1936/app/s3cret", false, "rtmp://h:1936/app/***"},
	{domain.Pull, "http://h/app/s3cret.flv?x=s3cret", false, "http://h/app/***"},
	{domain.Pull, "https://[2001:db8::1]:8443/s3cret.flv", false, "https://[2001:db8::1]:8443/***"},
	{domain.Pull, "http://h:80/", false, "http://h:80/***"},
	{domain.Push, "http://h/app/s3cret.flv", false, "!a push URL must"},
	{domain.Push, "rtmp://user:s3cret@h/app/x", false, "!user or password"},
	{domain.Push, "rtmp://s3cret@h/app/x", false, "!user or password"},
	{domain.Push, "rtmp://h/s3cret", false, "!rtmp://host/app/name"},
	{domain.Push, "rtmp://h/app/s3cret#x", false, "!fragment"},
	{domain.Push, "rtmp://h/app/s3cret#", false, "!fragment"},
	{domain.Push, "rtmp://h/app/s3cret\r\nx", false, "!malformed"},
	{domain.Push, "rtmp://h/app/s3cret%0d%0ax", false, "!control character"},
	{domain.Push, "rtmp://h:0/app/s3cret", false, "!port"},
	{domain.Push, "rtmp://h:65536/app/s3cret", false, "!port"},
	{domain.Push, "rtmp://h:25/app/s3cret", false, "!port"},
	{domain.Push, "rtmp://h:/app/s3cret", false, "!port"},
	{domain.Push, "rtmp://h:s3cret/app/x", false, "!malformed"},
	{domain.Push, "rtmp:///app/s3cret", false, "!rtmp://host"},
	{domain.Push, "rtmp:app/s3cret", false, "!rtmp://host"},
	{domain.Push, "rtmp://2130706433/app/s3cret", false, "!number"},
	{domain.Push, "rtmp://0x7f.1/app/s3cret", false, "!number"},
	{domain.Push, "rtmp://0/app/s3cret", false, "!number"},
	{domain.Push, "rtmp://127.1/app/s3cret", false, "!number"},
	{domain.Push, "rtmp://0177.0.0.1/app/s3cret", false, "!number"},
	{domain.Push, "rtmp://0x7f000001./app/s3cret", false, "!number"},
	{domain.Pull, "http://h/live/s3cret.m3u8", false, "!HLS"},
	{domain.Pull, "unix:/s3cret", false, "!a pull URL must"},
	{domain.Pull, "file:///s3cret", false, "!a pull URL must"},
	{domain.Pull, "gopher://h/s3cret", false, "!a pull URL must"},
	{domain.Pull, "exec:s3cret", false, "!a pull URL must"},
	{domain.Pull, "concat:s3cret", false, "!a pull URL must"},
	{domain.Pull, "", false, "!a pull URL must"},
	{domain.Pull, "http:///s3cret.flv", false, "!no host"},
	{domain.Pull, "http://h/" + strings.Repeat("s3cret", 400), false, "!longer"},
}

func TestParseTarget(t *testing.T) {
	for _, tt := range targets {
		got, err := parseTarget(tt.direction, tt.url, tt.trusted)
		reason, refused := strings.CutPrefix(tt.want, "!")
		switch {
		case refused && (err == nil || domain.KindOf(err) != domain.Invalid || !strings.Contains(err.Error(), reason)):
			t.Errorf("%s %.80q: %v, want a part of %q", tt.direction, tt.url, err, reason)
		case refused && strings.Contains(err.Error(), "s3cret"):
			t.Errorf("%s %.80q: the error contains the secret: %v", tt.direction, tt.url, err)
		case !refused && err != nil:
			t.Errorf("%s %q: %v", tt.direction, tt.url, err)
		case !refused && got.redacted != tt.want:
			t.Errorf("%s %q is redacted to %q, want %q", tt.direction, tt.url, got.redacted, tt.want)
		}
	}
}

func FuzzParseTarget(f *testing.F) {
	for _, tt := range targets {
		f.Add(tt.direction, tt.url, tt.trusted)
	}
	f.Fuzz(func(t *testing.T, direction, text string, trusted bool) {
		if direction != domain.Push {
			direction = domain.Pull
		}
		to, err := parseTarget(direction, text, trusted)
		if err != nil {
			if domain.KindOf(err) != domain.Invalid {
				t.Errorf("%q: %v", text, err)
			}
			return
		}
		if _, _, err := net.SplitHostPort(to.address()); err != nil {
			t.Errorf("%q has the address %q", text, to.address())
		}
		if msg := to.redactError(errors.New("no " + text)); len(msg) > maxReason {
			t.Errorf("%q: a reason of %d bytes", text, len(msg))
		}
		if password, ok := to.u.User.Password(); ok && len(password) >= minSecretLength &&
			strings.Contains(to.redacted, ":"+password+"@") {
			t.Errorf("%q is redacted to %q", text, to.redacted)
		}
	})
}

func TestErrorsAreRedacted(t *testing.T) {
	to, err := parseTarget(domain.Push, "rtmp://user:pass+word@h/app/k3y-of-the-stream?token=a%2Bb%2Bc", true)
	if err != nil {
		t.Fatal(err)
	}
	for msg, want := range map[string]string{
		"no stream k3y-of-the-stream here":    "no stream *** here",
		"rtmp://user:pass+word@h/app":         "rtmp://***@h/app",
		"token a%2Bb%2Bc, or a+b+c, is wrong": "token ***, or ***, is wrong",
		"two\r\nlines\x1b[2J":                 "two  lines [2J",
		strings.Repeat("é", 200):              strings.Repeat("é", 100),
	} {
		if got := to.redactError(errors.New(msg)); got != want {
			t.Errorf("%q becomes %q, want %q", msg, got, want)
		}
	}
	if to, err = parseTarget(domain.Push, "rtmp://h/app/k3y%20with+more", true); err != nil {
		t.Fatal(err)
	}
	for _, msg := range []string{"no k3y with+more", "no k3y%20with+more", "no k3y+with%2Bmore"} {
		if got := to.redactError(errors.New(msg)); got != "no ***" {
			t.Errorf("%q becomes %q", msg, got)
		}
	}
	if to, err = parseTarget(domain.Push, "rtmp://h/app?auth=s3cr%2Bet/k3y-of-it?sign=m0re", true); err != nil {
		t.Fatal(err)
	}
	for _, msg := range []string{"no s3cr%2Bet", "no s3cr+et", "no k3y-of-it"} {
		if got := to.redactError(errors.New(msg)); got != "no ***" {
			t.Errorf("%q becomes %q", msg, got)
		}
	}
	if got := to.redactError(&url.Error{Op: "Get", URL: "http://h/s3cret", Err: net.ErrClosed}); strings.Contains(got,
		"s3cret") {
		t.Errorf("the error contains the URL: %q", got)
	}
}

// TestForbiddenAddresses checks which addresses may be dialed.
func TestForbiddenAddresses(t *testing.T) {
	strict, lax := newDialer(nil, nil, true),
		newDialer([]string{"10.0.0.0/8", "127.0.0.1", "fd00::/8", "169.254.0.0/16", "::/0"}, nil, true)
	for ip, want := range map[string]struct{ strict, lax, trusted bool }{
		"93.184.216.34":      {true, true, true},
		"2606:2800:220:1::1": {true, true, true},
		"127.0.0.1":          {false, true, true},
		"127.0.0.2":          {false, false, true},
		"::ffff:127.0.0.1":   {false, true, true},
		"10.1.2.3":           {false, true, true},
		"172.31.255.255":     {false, false, true},
		"192.168.1.1":        {false, false, true},
		"100.64.0.1":         {false, false, true},
		"::1":                {false, true, true},
		"fd00::1":            {false, true, true},
		"64:ff9b::7f00:1":    {false, true, true}, // NAT64 of 127.0.0.1
		"64:ff9b::5db8:d822": {true, true, true},  // of 93.184.216.34
		"64:ff9b::a9fe:a9fe": {false, false, false},
		"64:ff9b:1::1":       {false, true, true},
		"2002:7f00:1::":      {false, true, true}, // 6to4 of 127.0.0.1
		// Other embeddings of 127.0.0.1, of 169.254.169.254, which no setting allows, and of
		// 93.184.216.34.
		"::ffff:0:127.0.0.1":       {false, true, true},
		"::ffff:0:169.254.169.254": {false, false, false},
		// no address of this form is part of the public Internet
		"::ffff:0:93.184.216.34":                 {false, true, true},
		"::169.254.169.254":                      {false, false, false},
		"64:ff9b:1::127.0.0.1":                   {false, true, true},
		"64:ff9b:1::169.254.169.254":             {false, false, false},
		"64:ff9b:1:a9fe:a9:fe00::":               {false, false, false}, // with a prefix of 48 bits
		"64:ff9b:1:a9:fe:a9fe::":                 {false, false, false}, // of 56
		"64:ff9b:1:0:a9:fea9:fe00:0":             {false, false, false}, // of 64
		"2002:a9fe:a9fe::1":                      {false, false, false},
		"2002:5db8:d822::1":                      {true, true, true},
		"2001::5db8:d822:0:0:80ff:fffe":          {false, true, true}, // Teredo of a client 127.0.0.1
		"2001:0:5db8:d822:0:0:5601:5601":         {false, false, false},
		"2001:0:a9fe:a9fe:0:0:a247:27dd":         {false, false, false}, // and of a server
		"2606:2800:220:1:0:5efe:127.0.0.1":       {false, true, true},   // ISATAP
		"2606:2800:220:1:200:5efe:10.9.9.9":      {false, true, true},
		"2606:2800:220:1:200:5efe:93.184.216.34": {true, true, true},
		"::7f00:1":                               {false, true, true},
		"169.254.169.254":                        {false, false, false},
		"::ffff:169.254.0.1":                     {false, false, false},
		"fe80::1%eth0":                           {false, false, false},
		"fd00:ec2::254":                          {false, false, false},
		"100.100.100.200":                        {false, false, false},
		"0.0.0.0":                                {false, false, false},
		"::":                                     {false, false, false},
		"224.0.0.1":                              {false, false, false},
		"255.255.255.255":                        {false, false, false},
		"ff02::1":                                {false, false, false},
	} {
		addr := netip.MustParseAddr(ip)
		for _, c := range []struct {
			name string
			err  error
			want bool
		}{{"strict", strict.check(addr, false), want.strict}, {"with relay_allow", lax.check(addr, false), want.lax},
			{"static_push", strict.check(addr, true), want.trusted}} {
			if (c.err == nil) != c.want || c.err != nil && domain.KindOf(c.err) != domain.Denied {
				t.Errorf("%s, %s: %v", ip, c.name, c.err)
			}
		}
	}
}

// TestDialChecksResolvedAddress checks that the address at the time of dialing counts, whatever
// the name resolved to before.
func TestDialChecksResolvedAddress(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	_, port, _ := net.SplitHostPort(ln.Addr().String())
	public, private := netip.MustParseAddr("93.184.216.34"), netip.MustParseAddr("fd00::1")
	answers := func(ips ...netip.Addr) func(context.Context, string, string) ([]netip.Addr, error) {
		return func(context.Context, string, string) ([]netip.Addr, error) { return ips, nil }
	}
	for _, tt := range []struct {
		name, host string
		guard      *dialer
		lookup     func(context.Context, string, string) ([]netip.Addr, error)
		trusted    bool
		want       bool
	}{
		{name: "loopback", host: "127.0.0.1", guard: newDialer(nil, nil, true)},
		{name: "localhost", host: "localhost", guard: newDialer(nil, nil, true)},
		{name: "allowed", host: "127.0.0.1", guard: newDialer([]string{"127.0.0.0/8"}, nil, true), want: true},
		{name: "allowed by name", host: "LOCALHOST", guard: newDialer([]string{"localhost"}, nil, true), want: true},
		{name: "trusted", host: "127.0.0.1", guard: newDialer(nil, nil, true), trusted: true, want: true},
		{name: "own listener", host: "127.0.0.1", guard: newDialer([]string{"127.0.0.1"}, []net.Addr{ln.Addr()}, true),
			trusted: true},
		{name: "own listener on all addresses", host: "127.0.0.1",
			guard: newDialer(nil, []net.Addr{&net.TCPAddr{IP: net.IPv6unspecified, Port: ln.Addr().(*net.TCPAddr).Port}},
				true),
			trusted: true},
		{name: "public when checked, loopback when dialed", host: "localhost", guard: newDialer(nil, nil, true),
			lookup: answers(public)},
		{name: "one of two is private", host: "localhost", guard: newDialer([]string{"127.0.0.1", "::1"}, nil, true),
			lookup: answers(public, private)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.lookup != nil {
				tt.guard.lookup = tt.lookup
			}
			nc, err := tt.guard.dial(t.Context(), net.JoinHostPort(tt.host, port), false, tt.trusted)
			if err == nil {
				nc.Close()
			}
			if (err == nil) != tt.want || err != nil && domain.KindOf(err) != domain.Denied {
				t.Errorf("%v", err)
			}
		})
	}
}

// TestDialVerifiesCertificate checks that certificates are verified unless the settings say
// otherwise.
func TestDialVerifiesCertificate(t *testing.T) {
	srv := httptest.NewUnstartedServer(nil)
	srv.Config.ErrorLog = log.New(io.Discard, "", 0) // the client closes connections
	srv.StartTLS()
	defer srv.Close()
	for _, verify := range []bool{true, false} {
		nc, err := newDialer([]string{"127.0.0.1"}, nil, verify).dial(t.Context(), srv.Listener.Addr().String(), true, false)
		if err == nil {
			nc.Close()
		}
		if _, unknown := errors.AsType[*tls.CertificateVerificationError](err); unknown != verify || !verify && err != nil {
			t.Errorf("verify %v: %v", verify, err)
		}
	}
}
