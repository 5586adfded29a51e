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

// checkOrigin refuses requests that a browser sends for a page of another site. Current browsers
// report this in Sec-Fetch-Site; "same-site" is another server on the same host. need says which
// routes are open to pages of other sites.
func checkOrigin(r *http.Request, need Access) error {
	site, origins := r.Header.Get("Sec-Fetch-Site"), r.Header.Values("Origin")
	read := r.Method == http.MethodGet || r.Method == http.MethodHead
	switch {
	case site == "same-origin":
		return nil
	case read && need.CrossSiteLink && site != "" && isNavigation(r):
		return nil // a link: the other page can neither read nor frame the response
	case read && need.CrossSiteEmbed && (len(origins) == 0 || len(origins) == 1 && origins[0] == "null"):
		return nil
	case site != "" && site != "none" || len(origins) > 0 && !sameOrigin(r):
		return domain.Errorf(domain.Denied, "request from a page of another site")
	}
	return nil
}

// isNavigation reports whether the browser shows the response to r as a page.
func isNavigation(r *http.Request) bool {
	return r.Header.Get("Sec-Fetch-Mode") == "navigate" && r.Header.Get("Sec-Fetch-Dest") == "document"
}

// sameOrigin reports whether r has exactly one Origin header, and it names the host that r is
// addressed to.
func sameOrigin(r *http.Request) bool {
	origins := r.Header.Values("Origin")
	if len(origins) != 1 {
		return false
	}
	u, err := url.Parse(origins[0])
	return err == nil && u.Host != "" && strings.EqualFold(u.Host, r.Host)
}

// browserReportsOrigin reports whether a browser would have marked r if a page of another site had
// sent it, so that the result of checkOrigin is reliable. Browsers send Sec-Fetch-Site only to
// trustworthy hosts: over TLS and to loopback names (W3C Fetch Metadata, section 2).
func browserReportsOrigin(r *http.Request) bool {
	return r.TLS != nil || loopbackHost(hostOf(r)) || r.Header.Get("Sec-Fetch-Site") != "" || sameOrigin(r)
}

// ownHost reports whether r is addressed to one of this server's names, without its port:
// localhost, a loopback address or one of the further hosts. A page whose name was pointed to this machine
// after it was loaded (DNS rebinding) is same-origin for the browser, but still sends its own name.
func (a *AdminAuth) ownHost(r *http.Request) bool {
	host := hostOf(r)
	own := func(h string) bool { return strings.EqualFold(h, host) }
	return loopbackHost(host) || slices.ContainsFunc(a.opt.Hosts, own)
}

// hostOf returns the host that r is addressed to, in lower case, without port and brackets.
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
