package auth

import (
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"livego/internal/live"
)

// checkOrigin refuses what a browser sends for a page of another site. Browsers of the last years report it in Sec-Fetch-Site;
// "same-site" is another server on the same host.
func checkOrigin(r *http.Request) error {
	site := r.Header.Get("Sec-Fetch-Site")
	if site != "" && site != "none" && site != "same-origin" {
		return errCrossSite()
	}
	if origins := r.Header.Values("Origin"); len(origins) > 0 {
		u, err := url.Parse(origins[0])
		if err != nil || len(origins) > 1 || u.Host == "" || !strings.EqualFold(u.Host, r.Host) {
			return errCrossSite()
		}
	}
	return nil
}

func errCrossSite() error {
	return live.Errorf(live.Denied, "the request comes from another site's page")
}

// ownHost reports whether r is addressed to a name of ours, without its port: localhost, a loopback address or one of d.hosts. A page
// whose name was pointed to this machine after it was loaded (DNS rebinding) is of one origin with us for the browser, but still sends
// its own name.
func (d *Door) ownHost(r *http.Request) bool {
	host := hostOf(r)
	return loopbackHost(host) || slices.ContainsFunc(d.hosts, func(h string) bool { return strings.EqualFold(h, host) })
}

// hostOf returns the host that r is addressed to, in lower case and without port and brackets.
func hostOf(r *http.Request) string {
	host := r.Host
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	return strings.Trim(strings.ToLower(strings.TrimSuffix(host, ".")), "[]")
}

func loopbackHost(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.IsLoopback()
}
