package netx

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// ClientAddr returns the address of the client that sent r, without a port or a zone: the address
// of the peer, or the address that a trusted proxy reports. It is the zero Addr if that is unknown.
//
// r.RemoteAddr and the RemoteAddr of a connection are the same address with a port, so that logs,
// limits and token bindings use the client's address. An address that a proxy reports is never a
// loopback address there: only a peer on this machine has one.
func ClientAddr(r *http.Request) netip.Addr { return ParseClient(r.RemoteAddr) }

// FromProxyProtocol reports whether the RemoteAddr of the connection of r was reported by a proxy
// with the PROXY protocol. The context of r must be that of WithConn.
func FromProxyProtocol(r *http.Request) bool {
	c := Admitted(ConnOf(r.Context()))
	return c != nil && c.remote != nil
}

// connClientAddr is ClientAddr for a connection.
func connClientAddr(c net.Conn) netip.Addr { return ParseClient(c.RemoteAddr().String()) }

// ParseClient is ClientAddr for host:port, as in domain.AuthRequest.Remote, or for an address
// alone.
func ParseClient(remote string) netip.Addr {
	if ap, err := netip.ParseAddrPort(remote); err == nil {
		return ap.Addr().Unmap().WithZone("")
	}
	addr, err := netip.ParseAddr(remote)
	if err != nil {
		return netip.Addr{}
	}
	return addr.Unmap().WithZone("")
}

// Proxies are the addresses of proxies that are trusted to report the addresses of their clients.
type Proxies []netip.Prefix

// ParseNetwork parses an IP address or a CIDR range.
func ParseNetwork(text string) (netip.Prefix, error) {
	if p, err := netip.ParsePrefix(text); err == nil {
		return p.Masked(), nil
	}
	a, err := netip.ParseAddr(text)
	if err != nil || a.Zone() != "" {
		return netip.Prefix{}, fmt.Errorf("%.64q is not an address or range", text)
	}
	return netip.PrefixFrom(a.Unmap(), a.Unmap().BitLen()), nil
}

// ParseNetworks parses a list of addresses and ranges. The error is of the first that is invalid.
func ParseNetworks(list []string) (all []netip.Prefix, err error) {
	for _, text := range list {
		p, err := ParseNetwork(text)
		if err != nil {
			return nil, err
		}
		all = append(all, p)
	}
	return all, nil
}

// trust reports whether addr is the address of a trusted proxy.
func (p Proxies) trust(addr netip.Addr) bool {
	return slices.ContainsFunc(p, func(one netip.Prefix) bool { return one.Contains(addr) })
}

// WithClientAddr returns r with the address of the client as its RemoteAddr. If r comes from a
// trusted proxy, that is the last address in X-Forwarded-For that is not a trusted proxy; the
// client may have written the addresses before it. claimed reports whether the address comes from
// the header. r itself is not modified.
func (p Proxies) WithClientAddr(r *http.Request) (_ *http.Request, claimed bool) {
	lines := r.Header["X-Forwarded-For"]
	if len(p) == 0 || len(lines) == 0 {
		return r, false
	}
	client := ClientAddr(r)
	list := strings.Split(strings.Join(lines, ","), ",")
	for i := len(list) - 1; i >= 0 && p.trust(client); i-- {
		addr := parseForwarded(list[i])
		if !addr.IsValid() {
			break // the proxy that added it is the last known address
		}
		client, claimed = addr, true
	}
	if !claimed {
		return r, false
	}
	c := *r
	c.RemoteAddr = netip.AddrPortFrom(effectiveAddr(client, ClientAddr(r)), 0).String()
	return &c, true
}

// parseForwarded parses an address in X-Forwarded-For: alone or in brackets, with a port or
// without. It returns the zero Addr for anything else.
func parseForwarded(s string) netip.Addr {
	s = strings.TrimSpace(s)
	if addr := ParseClient(s); addr.IsValid() {
		return addr
	}
	if s, ok := strings.CutPrefix(s, "["); ok {
		if s, ok = strings.CutSuffix(s, "]"); ok {
			return ParseClient(s)
		}
	}
	return netip.Addr{}
}

// effectiveAddr returns the address to use for a client that the proxy at peer reports at addr. A
// proxy cannot report a client on this machine: for a loopback address, or one that is not of a
// host, it returns the address of the proxy, or the unspecified address if the proxy is on this
// machine.
func effectiveAddr(addr, peer netip.Addr) netip.Addr {
	ofHost := func(a netip.Addr) bool {
		return a.IsValid() && !a.IsLoopback() && !a.IsUnspecified() && !a.IsMulticast()
	}
	switch {
	case ofHost(addr):
		return addr
	case ofHost(peer):
		return peer
	}
	return netip.IPv4Unspecified()
}
