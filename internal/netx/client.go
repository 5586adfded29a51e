package netx

import (
	"net"
	"net/http"
	"net/netip"
)

// ClientAddr returns the address of the client that sent r, without a port or a zone: the address of the peer, or the one that a
// trusted proxy gives. It is the zero Addr where that is not known.
//
// r.RemoteAddr and the RemoteAddr of a connection hold the same address with a port: whoever logs, counts or binds tokens by them sees
// the client. What a proxy claims is never a loopback address there, so only a peer on this machine has one.
func ClientAddr(r *http.Request) netip.Addr { return ParseClient(r.RemoteAddr) }

// ConnClientAddr is ClientAddr for a connection.
func ConnClientAddr(c net.Conn) netip.Addr { return ParseClient(c.RemoteAddr().String()) }

// ParseClient is ClientAddr for host:port, as live.Request.Remote has it, or for an address alone.
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
