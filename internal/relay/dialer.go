package relay

import (
	"context"
	"crypto/tls"
	"net"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"time"

	"livego/internal/domain"
	"livego/internal/ops/netx"
)

const (
	dialTimeout = 5 * time.Second
	tlsTimeout  = 5 * time.Second
	maxResolved = 64 // addresses of a name that are checked
)

// A dialer connects to addresses that relays may use. It checks the address that is dialed, each
// time, because a name can resolve to another address later.
type dialer struct {
	prefixes     []netip.Prefix   // allowed private ranges
	hosts        []string         // allowed names that may resolve to private addresses, in lower case
	ownListeners []netip.AddrPort // addresses of this server's listeners
	verify       bool             // verify TLS certificates
	lookup       func(ctx context.Context, network, host string) ([]netip.Addr, error)
}

// newDialer returns a dialer. allow holds addresses, ranges and names.
func newDialer(allow []string, own []net.Addr, verify bool) *dialer {
	g := &dialer{verify: verify, lookup: net.DefaultResolver.LookupNetIP}
	for _, a := range allow {
		if p, err := netx.ParseNetwork(a); err == nil {
			g.prefixes = append(g.prefixes, p)
		} else {
			g.hosts = append(g.hosts, strings.ToLower(a))
		}
	}
	for _, a := range own {
		if t, ok := a.(*net.TCPAddr); ok {
			ap := t.AddrPort()
			g.ownListeners = append(g.ownListeners, netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port()))
		}
	}
	return g
}

// dial connects to host:port, with TLS if secure. It returns an error of kind Denied for a
// forbidden address.
func (g *dialer) dial(ctx context.Context, hostPort string, secure, trusted bool) (net.Conn, error) {
	host, _, err := net.SplitHostPort(hostPort)
	if err != nil {
		return nil, err
	}
	trusted = trusted || g.allowsHost(host)
	dialCtx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	if err := g.checkHost(dialCtx, host, trusted); err != nil {
		return nil, err
	}
	d := net.Dialer{ControlContext: func(_ context.Context, _, address string, _ syscall.RawConn) error {
		ap, err := netip.ParseAddrPort(address)
		if err != nil {
			return domain.Errorf(domain.Denied, "invalid address %s", address)
		}
		if g.isOwnListener(ap) {
			return domain.Errorf(domain.Denied, "the address is a listener of this server")
		}
		return g.check(ap.Addr(), trusted)
	}}
	nc, err := d.DialContext(dialCtx, "tcp", hostPort)
	if err != nil || !secure {
		return nc, err
	}
	c := tls.Client(nc, g.tlsConfig(host))
	handshakeCtx, cancel := context.WithTimeout(ctx, tlsTimeout)
	defer cancel()
	if err := c.HandshakeContext(handshakeCtx); err != nil {
		nc.Close()
		return nil, err
	}
	return c, nil
}

// allowsHost reports whether the settings allow a name, to whatever address it resolves.
func (g *dialer) allowsHost(host string) bool { return slices.Contains(g.hosts, strings.ToLower(host)) }

// checkHost resolves host, and returns an error of kind Denied if any of its addresses is forbidden:
// which one is dialed is random.
func (g *dialer) checkHost(ctx context.Context, host string, trusted bool) error {
	ips, err := g.lookup(ctx, "ip", host)
	if err != nil {
		return err
	}
	for _, ip := range ips[:min(len(ips), maxResolved)] {
		if err := g.check(ip, trusted); err != nil {
			return err
		}
	}
	return nil
}

func (g *dialer) tlsConfig(host string) *tls.Config {
	return &tls.Config{ServerName: host, InsecureSkipVerify: !g.verify, MinVersion: tls.VersionTLS12}
}

// check returns an error if ip may not be dialed. trusted is true for targets that the settings
// name, or allow by name. An IPv6 address is allowed if it and every IPv4 address embedded in it
// are.
func (g *dialer) check(ip netip.Addr, trusted bool) error {
	for _, a := range embeddedAddresses(ip) {
		in := func(list []netip.Prefix) bool {
			return slices.ContainsFunc(list, func(p netip.Prefix) bool { return p.Contains(a) })
		}
		switch {
		case in(forbiddenRanges()):
			return domain.Errorf(domain.Denied, "relays to %s are forbidden", a)
		case !trusted && !in(g.prefixes) && in(privateRanges()):
			return domain.Errorf(domain.Denied, "%s is a private address, which relay_allow does not list", a)
		}
	}
	return nil
}

// embeddedAddresses returns ip and the IPv4 addresses that a host, a translator or a tunnel may
// reach for it.
func embeddedAddresses(ip netip.Addr) []netip.Addr {
	ip = ip.WithZone("").Unmap()
	all := []netip.Addr{ip}
	if ip.Is4() {
		return all
	}
	b := ip.As16()
	add := func(v4 ...byte) { all = append(all, netip.AddrFrom4([4]byte(v4))) }
	switch {
	case prefix("::/127").Contains(ip): // unspecified, and loopback
	case prefix("::/96").Contains(ip), // compatible (RFC 4291 section 2.5.5.1)
		prefix("::ffff:0:0:0/96").Contains(ip), // translated (RFC 2765)
		prefix("64:ff9b::/96").Contains(ip):    // NAT64 (RFC 6052)
		add(b[12:]...)
	case prefix("64:ff9b:1::/48").Contains(ip): // NAT64 of a site, whose prefix may have any of these lengths (RFC 8215)
		for _, v4 := range [][]byte{
			// of 48, 56, 64 and 96 bits (RFC 6052 section 2.2)
			{b[6], b[7], b[9], b[10]}, {b[7], b[9], b[10], b[11]}, b[9:13], b[12:],
		} {
			if v4[0] != 0 { // else no IPv4 address is at this position
				add(v4...)
			}
		}
	case prefix("2002::/16").Contains(ip): // 6to4 (RFC 3056)
		add(b[2:6]...)
	case prefix("2001::/32").Contains(ip):
		// Teredo (RFC 4380 section 4): its server, and the client, whose bits are inverted.
		add(b[4:8]...)
		add(^b[12], ^b[13], ^b[14], ^b[15])
	}
	if b[8]&^2 == 0 && b[9] == 0 && b[10] == 0x5e && b[11] == 0xfe { // ISATAP (RFC 5214 section 6.1), below any prefix
		add(b[12:]...)
	}
	return all
}

func prefix(s string) netip.Prefix { return netip.MustParsePrefix(s) }

// forbiddenRanges returns ranges that no relay may use: link-local addresses, metadata services
// of cloud providers, and addresses that belong to no host.
func forbiddenRanges() []netip.Prefix {
	return []netip.Prefix{
		prefix("169.254.0.0/16"), prefix("fe80::/10"), prefix("fd00:ec2::254/128"), prefix("100.100.100.200/32"),
		prefix("168.63.129.16/32"),
		prefix("192.0.0.192/32"), prefix("0.0.0.0/8"), prefix("224.0.0.0/4"), prefix("255.255.255.255/32"), prefix("::/128"),
		prefix("ff00::/8"),
	}
}

// privateRanges returns the ranges that are not part of the public Internet (RFC 6890 and IANA's
// later registries).
func privateRanges() []netip.Prefix {
	return []netip.Prefix{
		prefix("10.0.0.0/8"), prefix("100.64.0.0/10"), prefix("127.0.0.0/8"), prefix("172.16.0.0/12"), prefix("192.0.0.0/24"),
		prefix("192.0.2.0/24"),
		prefix("192.168.0.0/16"), prefix("198.18.0.0/15"), prefix("198.51.100.0/24"), prefix("203.0.113.0/24"),
		prefix("240.0.0.0/4"),
		prefix("::/96"), prefix("::ffff:0:0:0/96"), prefix("64:ff9b:1::/48"), prefix("100::/64"), prefix("2001::/23"),
		prefix("2001:db8::/32"), prefix("fc00::/7"), prefix("fec0::/10"),
	}
}

// isOwnListener reports whether this server listens at ap.
func (g *dialer) isOwnListener(ap netip.AddrPort) bool {
	return slices.ContainsFunc(g.ownListeners, func(l netip.AddrPort) bool {
		return l.Port() == ap.Port() && slices.ContainsFunc(embeddedAddresses(ap.Addr()), func(ip netip.Addr) bool {
			return l.Addr() == ip || l.Addr().IsUnspecified() && isLocalAddress(ip)
		})
	})
}

// isLocalAddress reports whether ip is an address of this machine.
func isLocalAddress(ip netip.Addr) bool {
	if ip.IsLoopback() {
		return true
	}
	addrs, err := net.InterfaceAddrs()
	return err == nil && slices.ContainsFunc(addrs, func(a net.Addr) bool {
		n, ok := a.(*net.IPNet)
		if !ok {
			return false
		}
		own, ok := netip.AddrFromSlice(n.IP)
		return ok && own.Unmap() == ip
	})
}
