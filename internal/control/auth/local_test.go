package auth

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"livego/internal/domain"
	"livego/internal/ops/netx"
	"livego/internal/ops/peeruser"
)

// TestSystemAccounts checks that connections of system accounts, which may be proxies, need a
// credential, and those of people do not.
func TestSystemAccounts(t *testing.T) {
	all := Access{Rights: Admin}
	for _, c := range []struct {
		name string
		uid  uint32
		err  error
		need Access
		want domain.Kind
	}{
		{"root", 0, nil, all, noError},
		{"a person", 1000, nil, all, noError},
		{"www-data", 33, nil, all, domain.Denied},
		{"daemon", 1, nil, all, domain.Denied},
		{"nobody", 65534, nil, all, domain.Denied},
		{"a dynamic user of systemd", 64000, nil, all, domain.Denied},
		{"listed in api_allow_users", 34, nil, all, noError},
		{"unknown user", 0, peeruser.ErrUnknown, all, noError},
		{"closed connection", 0, peeruser.ErrClosed, all, domain.Denied},
		{"www-data reading", 33, nil, Access{Rights: Read}, domain.Denied},
		{"www-data collecting metrics", 33, nil, Access{Rights: Read, Monitoring: true}, noError},
		{"export by root", 0, nil, Access{Rights: Admin, Credential: true}, domain.Denied},
		{"export by a listed account", 34, nil, Access{Rights: Admin, Credential: true}, domain.Denied},
	} {
		t.Run(c.name, func(t *testing.T) {
			lookups := 0
			d, token := newAdminAuth(t, AdminOptions{AllowUsers: []uint32{34}, PeerUser: func(context.Context) (uint32, error) {
				lookups++
				return c.uid, c.err
			}})
			d.systemMax = 999
			err := d.Authorize(request("/control/get?room=movie"), c.need)
			if kind(err) != c.want {
				t.Errorf("%v, want kind %v", err, c.want)
			}
			if system := c.uid != 0 && !c.need.Credential; c.want != noError && system {
				for _, part := range []string{"api_allow_users", "admin.token"} {
					if !strings.Contains(err.Error(), part) {
						t.Errorf("the error does not name %s: %v", part, err)
					}
				}
			}
			if err := d.Authorize(request("/", "Authorization: Bearer "+token), c.need); err != nil {
				t.Errorf("with the admin token: %v", err)
			}
			if lookups = 0; d.Authorize(request("/", outside), c.need) == nil || lookups > 0 {
				t.Errorf("remote request: authorized, or looked up %d times", lookups)
			}
		})
	}
}

// kind returns the kind of err, noError for nil.
func kind(err error) domain.Kind {
	if err == nil {
		return noError
	}
	return domain.KindOf(err)
}

// TestProxyHeadersRequireCredential tries headers that proxies add, and headers that programs and
// browsers send.
func TestProxyHeadersRequireCredential(t *testing.T) {
	d, _ := newAdminAuth(t, AdminOptions{})
	for header, want := range map[string]domain.Kind{
		"Forwarded: for=192.0.2.1": domain.Denied, "Via: 1.1 proxy": domain.Denied,
		"X-Forwarded-For: 127.0.0.1": domain.Denied, "X-Forwarded-Proto: https": domain.Denied,
		"X-Forwarded-Host: live.example": domain.Denied, "X-Forwarded-Port: 443": domain.Denied,
		"X-Forwarded-Anything: ": domain.Denied, "X-Real-IP: 192.0.2.1": domain.Denied,
		"X-Real-Port: 1": domain.Denied, "True-Client-IP: 192.0.2.1": domain.Denied,
		"Fastly-Client-IP: 192.0.2.1": domain.Denied, "X-Client-IP: 192.0.2.1": domain.Denied,
		"Client-IP: 192.0.2.1": domain.Denied, "X-Cluster-Client-IP: 192.0.2.1": domain.Denied,
		"CF-Connecting-IP: 192.0.2.1": domain.Denied, "CF-Ray: 1": domain.Denied,
		"CDN-Loop: example": domain.Denied, "x-forwarded-for: ": domain.Denied,
		"User-Agent: curl/8": noError, "Accept: */*": noError, "X-Requested-With: XMLHttpRequest": noError,
		"Cache-Control: no-cache": noError, "Sec-Fetch-Site: none": noError, "X-Client: x": noError,
	} {
		err := d.Authorize(request("/control/get?room=movie", header), Access{Rights: Admin})
		name, _, _ := strings.Cut(header, ":")
		if kind(err) != want || err != nil && !strings.Contains(strings.ToLower(err.Error()), strings.ToLower(name)) {
			t.Errorf("%s: %v", header, err)
		}
	}
	r := request("/control/get?room=movie")
	r.Proto, r.ProtoMajor, r.ProtoMinor = "HTTP/1.0", 1, 0
	if err := d.Authorize(r, Access{Rights: Read}); kind(err) != domain.Denied ||
		!strings.Contains(err.Error(), "HTTP/1.0") {
		t.Errorf("HTTP/1.0: %v", err)
	}
	r.Proto, r.ProtoMajor, r.Header = "HTTP/2.0", 2, http.Header{}
	if err := d.Authorize(r, Access{Rights: Admin}); err != nil {
		t.Errorf("HTTP/2: %v", err)
	}
}

// TestProxyProtocolAddressRequiresCredential has a trusted proxy claim, by the PROXY protocol, that
// its client is in a network of api_allow: a credential is still required.
func TestProxyProtocolAddressRequiresCredential(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	proxies, err := netx.ParseNetworks([]string{"127.0.0.1"})
	if err != nil {
		t.Fatal(err)
	}
	limiter := netx.NewLimiter(netx.LimitOptions{Proxies: proxies})
	defer limiter.Close()
	in := limiter.Listen(ln, netx.ListenOptions{ProxyProtocol: true, HeaderTimeout: 10 * time.Second})
	defer in.Close()
	far, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer far.Close()
	if _, err := io.WriteString(far, "PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n"); err != nil {
		t.Fatal(err)
	}
	near, err := in.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer near.Close()
	d, err := NewAdminAuth(t.TempDir(), AdminOptions{Allow: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}})
	if err != nil {
		t.Fatal(err)
	}
	r := httptest.NewRequest("GET", "http://192.0.2.9/control/get?room=movie", nil)
	r.RemoteAddr = near.RemoteAddr().String()
	if err := d.Authorize(r, Access{Rights: Admin}); err != nil {
		t.Fatalf("the address itself: %v", err)
	}
	if err := d.Authorize(r.WithContext(netx.WithConn(r.Context(), near)),
		Access{Rights: Admin}); domain.KindOf(err) != domain.Denied {
		t.Errorf("the address as claimed by a proxy: %v", err)
	}
}

// TestMonitoringNeedsNoCredential reads a route for metrics: from this machine, whatever the user and
// also with a JWT secret, and with a credential from elsewhere.
func TestMonitoringNeedsNoCredential(t *testing.T) {
	monitoring := Access{Rights: Read, Monitoring: true}
	for _, secret := range []string{"", "a secret of the operator"} {
		d, token := newAdminAuth(t, AdminOptions{JWTSecret: secret, JWTAlgorithm: "HS256",
			PeerUser: func(context.Context) (uint32, error) { return 33, nil }})
		d.systemMax = 999
		for _, c := range []struct {
			name    string
			headers []string
			need    Access
			want    domain.Kind
		}{
			{"this machine", nil, monitoring, noError},
			{"a proxy", []string{"X-Forwarded-For: 127.0.0.1"}, monitoring, domain.Denied},
			{"a proxy with a credential", []string{"Via: 1.1 x", "Authorization: Bearer " + token}, monitoring, noError},
			{"a page of another site", []string{"Sec-Fetch-Site: cross-site"}, monitoring, domain.Denied},
			{"another name for this machine", []string{"Host: rebound.example"}, monitoring, domain.Denied},
			{"another machine", []string{outside}, monitoring, domain.Denied},
			{"another machine with a credential", []string{outside, "Authorization: Bearer " + token}, monitoring, noError},
			{"another route", nil, Access{Rights: Read}, domain.Denied},
		} {
			if err := d.Authorize(request("/metrics", c.headers...), c.need); kind(err) != c.want {
				t.Errorf("%s, JWT secret %q: %v", c.name, secret, err)
			}
		}
	}
}
