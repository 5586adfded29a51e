package auth

import (
	"context"
	"crypto/tls"
	"net/netip"
	"strings"
	"testing"
)

// TestUnreportedOriginIsReadOnly checks that requests are limited to reading when a browser would
// not have reported the page that sent them.
func TestUnreportedOriginIsReadOnly(t *testing.T) {
	d, token := newAdminAuth(t, AdminOptions{Hosts: []string{"studio.example"},
		Allow: []netip.Prefix{netip.MustParsePrefix("192.168.0.0/16"), netip.MustParsePrefix("::/0")}})
	const name, lan, browser = "Host: studio.example:8090", "Remote: 192.168.1.7:4000",
		"User-Agent: Mozilla/5.0 (X11; Linux x86_64) Firefox/140.0"
	for _, c := range []struct {
		name    string
		headers []string
		secure  bool
		has     Rights
	}{
		{"loopback name", nil, false, Admin},
		{"loopback address", []string{"Host: 127.0.0.1:8090"}, false, Admin},
		{"api_hosts name over HTTP", []string{name}, false, Read},
		{"api_hosts name over HTTP from a browser", []string{name, browser}, false, Read},
		{"api_hosts name over TLS", []string{name}, true, Admin},
		{"api_hosts name over HTTP with Sec-Fetch-Site", []string{name, "Sec-Fetch-Site: none"}, false, Admin},
		{"form on our page", []string{name, "Origin: http://studio.example:8090"}, false, Admin},
		{"form on another site's page", []string{name, "Origin: http://attacker.tld"}, false, 0},
		{"another site's page", []string{name, "Sec-Fetch-Site: cross-site"}, false, 0},
		{"api_hosts name with the admin token", []string{name, "Authorization: Bearer " + token}, false, Admin},
		{"unknown host name", []string{"Host: attacker.tld"}, true, 0},

		{"api_allow", []string{lan, "Host: 192.168.1.5:8090", "User-Agent: curl/8"}, false, Admin},
		{"api_allow with IPv6", []string{"Remote: [2001:db8::7]:4000", "Host: [2001:db8::1]:8090"}, false, Admin},
		{"api_allow with an api_hosts name", []string{lan, name}, false, Admin},
		{"api_allow from a browser", []string{lan, "Host: 192.168.1.5:8090", browser}, false, Read},
		{"api_allow from a browser over TLS", []string{lan, "Host: 192.168.1.5:8090", browser}, true, Admin},
		{"api_allow with an unknown host name", []string{lan, "Host: attacker.tld"}, false, 0},
		{"api_allow through a proxy", []string{lan, "Host: 192.168.1.5", "X-Forwarded-For: 192.168.1.9"}, false, 0},
		{"api_allow from another site's page", []string{lan, "Host: 192.168.1.5", "Origin: http://attacker.tld"}, false, 0},
		{"not in api_allow", []string{"Remote: 192.0.2.7:4000", "Host: 192.168.1.5:8090"}, false, 0},
	} {
		for _, need := range []Rights{Read, Operate, Admin} {
			r := request("/control/get?room=movie", c.headers...)
			if c.secure {
				r.TLS = &tls.ConnectionState{}
			}
			if err := d.Authorize(r, Access{Rights: need}); (err == nil) != (c.has >= need) {
				t.Errorf("%s, where %v is needed: %v", c.name, need, err)
			}
		}
	}
	err := d.Authorize(request("/control/get?room=movie", lan, "Host: 192.168.1.5"),
		Access{Rights: Admin, Credential: true})
	if err == nil {
		t.Error("an export from api_allow needs no credential")
	}
	err = d.Authorize(request("/control/delete?room=movie", name), Access{Rights: Operate})
	if err == nil || !strings.Contains(err.Error(), "localhost or HTTPS") {
		t.Errorf("the error does not say what to do: %v", err)
	}
}

// TestAllowedNetworkExcludesLoopback checks that api_allow does not apply to this machine, where
// api_allow_users decides.
func TestAllowedNetworkExcludesLoopback(t *testing.T) {
	d, _ := newAdminAuth(t, AdminOptions{Allow: []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0")},
		PeerUser: func(context.Context) (uint32, error) { return 65534, nil }})
	for _, c := range []struct {
		name    string
		headers []string
	}{
		{"over loopback", nil},
		{"over another address of this machine", []string{outside, "Host: 192.0.2.1:8090"}},
	} {
		err := d.Authorize(request("/", c.headers...), Access{Rights: Read})
		if err == nil || !strings.Contains(err.Error(), "api_allow_users") {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}
