package auth

import (
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"livego/internal/domain"
)

// checkOrigin refuses what a browser sends for a page of another site. Browsers of the last years
// report it in Sec-Fetch-Site; "same-site" is another server on the same host. need says which
// routes other pages may ask for all the same.
func checkOrigin(r *http.Request, need Access) error {
	site, origins := r.Header.Get("Sec-Fetch-Site"), r.Header.Values("Origin")
	read := r.Method == http.MethodGet || r.Method == http.MethodHead
	switch {
	case site == "same-origin":
		return nil
	case read && need.CrossSiteLink && site != "" && isNavigation(r):
		return nil // a link; no other page can read what it leads to, or frame it
	case read && need.CrossSiteEmbed && (len(origins) == 0 || len(origins) == 1 && origins[0] == "null"):
		return nil
	case site != "" && site != "none" || len(origins) > 0 && !sameOrigin(r):
		return domain.Errorf(domain.Denied, "the request comes from another site's page")
	}
	return nil
}

// isNavigation reports whether a browser shows the answer to r as a page of its own.
func isNavigation(r *http.Request) bool {
	return r.Header.Get("Sec-Fetch-Mode") == "navigate" && r.Header.Get("Sec-Fetch-Dest") == "document"
}

// sameOrigin reports whether r has one header Origin, of the host that r is addressed to.
func sameOrigin(r *http.Request) bool {
	origins := r.Header.Values("Origin")
	if len(origins) != 1 {
		return false
	}
	u, err := url.Parse(origins[0])
	return err == nil && u.Host != "" && strings.EqualFold(u.Host, r.Host)
}

// browserReportsOrigin reports whether a browser would have said that another site's page sent r,
// so that checkOrigin has judged it. Browsers send Sec-Fetch-Site to hosts that they trust only:
// over TLS and to loopback names (W3C Fetch Metadata, section 2).
func browserReportsOrigin(r *http.Request) bool {
	return r.TLS != nil || loopbackHost(hostOf(r)) || r.Header.Get("Sec-Fetch-Site") != "" || sameOrigin(r)
}

// ownHost reports whether r is addressed to a name of ours, without its port: localhost, a loopback
// address or one of d.hosts. A page whose name was pointed to this machine after it was loaded (DNS
// rebinding) is of one origin with us for the browser, but still sends its own name.
func (d *AdminAuth) ownHost(r *http.Request) bool {
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
