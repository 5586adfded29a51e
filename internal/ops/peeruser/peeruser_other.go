//go:build !linux

package peeruser

import (
	"net"
	"net/netip"
)

// findSocket returns errNoSocket: this system has no interface for it.
func findSocket(_, _ netip.AddrPort) (socket, error) { return socket{}, errNoSocket }

// endpointsOf returns errNoSocket: without a lookup the user is unknown.
func endpointsOf(net.Conn) (endpoints, error) { return endpoints{}, errNoSocket }

// parseAddrPort fails: this system has no such tables.
func parseAddrPort(string) (netip.AddrPort, bool) { return netip.AddrPort{}, false }
