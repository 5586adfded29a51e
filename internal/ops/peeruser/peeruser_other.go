//go:build !linux

package peeruser

import (
	"net"
	"net/netip"
)

// findSocket finds nothing: there is no interface for it here.
func findSocket(_, _ netip.AddrPort) (socket, error) { return socket{}, errNoSocket }

// endpointsOf finds nothing: what cannot be looked up keeps the rules that hold without a look-up.
func endpointsOf(net.Conn) (endpoints, error) { return endpoints{}, errNoSocket }

// parseAddrPort reads nothing: there are no such tables here.
func parseAddrPort(string) (netip.AddrPort, bool) { return netip.AddrPort{}, false }
