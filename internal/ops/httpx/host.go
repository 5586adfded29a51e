// Package httpx has helpers for HTTP handlers: error responses, tokens of requests, the Host header.
package httpx

import (
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"

	"livego/internal/domain"
)

// maxHostName is the most bytes in a host name (RFC 1035 section 2.3.4).
const maxHostName = 253

// CheckHost checks that host, a Host header or :authority, is a host name or an IP address, with a
// port or without. Names have only letters, digits, hyphens, dots and underscores: the syntax of
// RFC 3986 would let quotes and markup through to pages and statistics. An absent Host, which
// HTTP/1.0 permits, is valid.
func CheckHost(host string) error {
	if host == "" || validHost(host) {
		return nil
	}
	return domain.Errorf(domain.Invalid, "invalid Host header: not a host name or address")
}

func validHost(host string) bool {
	name := host
	if i := strings.LastIndexByte(host, ':'); i >= 0 && !strings.HasSuffix(host, "]") {
		var port string
		name, port = host[:i], host[i+1:]
		if _, err := strconv.ParseUint(port, 10, 16); err != nil && port != "" {
			return false
		}
	}
	if inner, ok := strings.CutPrefix(name, "["); ok {
		inner, ok = strings.CutSuffix(inner, "]")
		addr, err := netip.ParseAddr(inner)
		return ok && err == nil && addr.Is6() && addr.Zone() == ""
	}
	for i := range len(name) {
		c := name[i]
		letter := '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
		if !letter && c != '-' && c != '.' && c != '_' {
			return false
		}
	}
	return name != "" && len(name) <= maxHostName
}

// DisplayURL returns the URL of path for statistics, with the host of r. scheme is the one without
// TLS.
func DisplayURL(r *http.Request, scheme, path string) string {
	if r.TLS != nil {
		scheme += "s"
	}
	host := r.Host
	if host == "" {
		if local, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr); ok {
			host = local.String()
		}
	}
	return scheme + "://" + host + path
}
