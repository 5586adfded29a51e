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

	"livego/internal/live"
	"livego/internal/netx"
	"livego/internal/peeruser"
)

// TestSystemAccounts tries who connects from this machine: services may be proxies for anybody, people are not.
func TestSystemAccounts(t *testing.T) {
	all := Access{Rights: Admin}
	for _, c := range []struct {
		name string
		uid  uint32
		err  error
		need Access
		want live.Kind
	}{
		{"root", 0, nil, all, ok},
		{"a person", 1000, nil, all, ok},
		{"www-data", 33, nil, all, live.Denied},
		{"daemon", 1, nil, all, live.Denied},
		{"nobody", 65534, nil, all, live.Denied},
		{"a dynamic user of systemd", 64000, nil, all, live.Denied},
		{"listed in api_allow_users", 34, nil, all, ok},
		{"the system does not tell", 0, peeruser.ErrUnknown, all, ok},
		{"a connection that was closed", 0, peeruser.ErrClosed, all, live.Denied},
		{"www-data that only reads", 33, nil, Access{Rights: Read}, live.Denied},
		{"www-data that collects metrics", 33, nil, Access{Rights: Read, Monitoring: true}, ok},
		{"export by root", 0, nil, Access{Rights: Admin, Credential: true}, live.Denied},
		{"export by a listed account", 34, nil, Access{Rights: Admin, Credential: true}, live.Denied},
	} {
		t.Run(c.name, func(t *testing.T) {
			looks := 0
			d, token := newDoor(t, DoorOptions{AllowUsers: []uint32{34}, User: func(context.Context) (uint32, error) {
				looks++
				return c.uid, c.err
			}})
			d.systemMax = 999
			err := d.Check(request("/control/get?room=movie"), c.need)
			if kind(err) != c.want {
				t.Errorf("%v, want kind %v", err, c.want)
			}
			if system := c.uid != 0 && !c.need.Credential; c.want != ok && system {
				for _, part := range []string{"api_allow_users", "admin.token"} {
					if !strings.Contains(err.Error(), part) {
						t.Errorf("the refusal does not name %s: %v", part, err)
					}
				}
			}
			if err := d.Check(request("/", "Authorization: Bearer "+token), c.need); err != nil {
				t.Errorf("with the admin token: %v", err)
			}
			if looks = 0; d.Check(request("/", outside), c.need) == nil || looks > 0 {
				t.Errorf("from outside: let in, or looked up %d times", looks)
			}
		})
	}
}

// kind returns the kind of err, ok for none.
func kind(err error) live.Kind {
	if err == nil {
		return ok
	}
	return live.KindOf(err)
}

// TestProxySigns tries what proxies add to a request, and what programs and browsers do.
func TestProxySigns(t *testing.T) {
	d, _ := newDoor(t, DoorOptions{})
	for header, want := range map[string]live.Kind{
		"Forwarded: for=192.0.2.1": live.Denied, "Via: 1.1 proxy": live.Denied, "X-Forwarded-For: 127.0.0.1": live.Denied, "X-Forwarded-Proto: https": live.Denied,
		"X-Forwarded-Host: live.example": live.Denied, "X-Forwarded-Port: 443": live.Denied, "X-Forwarded-Anything: ": live.Denied, "X-Real-IP: 192.0.2.1": live.Denied,
		"X-Real-Port: 1": live.Denied, "True-Client-IP: 192.0.2.1": live.Denied, "Fastly-Client-IP: 192.0.2.1": live.Denied, "X-Client-IP: 192.0.2.1": live.Denied,
		"Client-IP: 192.0.2.1": live.Denied, "X-Cluster-Client-IP: 192.0.2.1": live.Denied, "CF-Connecting-IP: 192.0.2.1": live.Denied, "CF-Ray: 1": live.Denied,
		"CDN-Loop: example": live.Denied, "x-forwarded-for: ": live.Denied,
		"User-Agent: curl/8": ok, "Accept: */*": ok, "X-Requested-With: XMLHttpRequest": ok, "Cache-Control: no-cache": ok, "Sec-Fetch-Site: none": ok, "X-Client: x": ok,
	} {
		err := d.Check(request("/control/get?room=movie", header), Access{Rights: Admin})
		name, _, _ := strings.Cut(header, ":")
		if kind(err) != want || err != nil && !strings.Contains(strings.ToLower(err.Error()), strings.ToLower(name)) {
			t.Errorf("%s: %v", header, err)
		}
	}
	r := request("/control/get?room=movie")
	r.Proto, r.ProtoMajor, r.ProtoMinor = "HTTP/1.0", 1, 0
	if err := d.Check(r, Access{Rights: Read}); kind(err) != live.Denied || !strings.Contains(err.Error(), "HTTP/1.0") {
		t.Errorf("HTTP/1.0: %v", err)
	}
	r.Proto, r.ProtoMajor, r.Header = "HTTP/2.0", 2, http.Header{}
	if err := d.Check(r, Access{Rights: Admin}); err != nil {
		t.Errorf("HTTP/2: %v", err)
	}
}

// TestClaimedAddress has a proxy that is trusted claim, by the PROXY protocol, that its client is in a network of api_allow: the door asks
// for a credential all the same.
func TestClaimedAddress(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	proxies, err := netx.ParseProxies([]string{"127.0.0.1"})
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
	d, err := OpenDoor(t.TempDir(), DoorOptions{Allow: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}})
	if err != nil {
		t.Fatal(err)
	}
	r := httptest.NewRequest("GET", "http://192.0.2.9/control/get?room=movie", nil)
	r.RemoteAddr = near.RemoteAddr().String()
	if err := d.Check(r, Access{Rights: Admin}); err != nil {
		t.Fatalf("the address itself: %v", err)
	}
	if err := d.Check(r.WithContext(netx.WithConn(r.Context(), near)), Access{Rights: Admin}); live.KindOf(err) != live.Denied {
		t.Errorf("the address as a proxy claims it: %v", err)
	}
}
