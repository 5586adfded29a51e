package netx

import (
	"encoding/binary"
	"errors"
	"io"
	"net/netip"
	"strconv"
	"strings"
)

// The header of the PROXY protocol, https://www.haproxy.org/download/3.2/doc/proxy-protocol.txt. It
// is read exactly to its end, so that the connection stays a plain TCP connection, unlike with the
// common library.
const (
	proxySignature = "\r\n\r\n\x00\r\nQUIT\n" // version 2, section 2.2
	proxyPrefix    = "PROXY "                 // version 1, section 2.1
	maxProxyLine   = 107                      // bytes, with the line end
	// bytes after the fixed part of version 2: addresses and extensions
	maxProxyBody = 4 << 10
)

var errProxyHeader = errors.New("invalid PROXY header")

// readProxyHeader reads the header and nothing after it. It returns the source address, or the zero
// AddrPort if the proxy does not know it or sends for itself.
func readProxyHeader(r io.Reader) (netip.AddrPort, error) {
	var b [maxProxyLine]byte
	n := len(proxySignature)
	if _, err := io.ReadFull(r, b[:n]); err != nil {
		return netip.AddrPort{}, err
	}
	if string(b[:n]) == proxySignature {
		return readProxyBody(r)
	}
	if !strings.HasPrefix(string(b[:n]), proxyPrefix) {
		return netip.AddrPort{}, errProxyHeader
	}
	for ; n < len(b); n++ {
		if _, err := io.ReadFull(r, b[n:n+1]); err != nil {
			return netip.AddrPort{}, err
		}
		if b[n] == '\n' {
			return parseProxyLine(string(b[:n+1]))
		}
	}
	return netip.AddrPort{}, errProxyHeader
}

// parseProxyLine parses a header of version 1.
func parseProxyLine(line string) (netip.AddrPort, error) {
	line, ok := strings.CutSuffix(line, "\r\n")
	f := strings.Split(line, " ")
	if ok && len(f) > 1 && f[1] == "UNKNOWN" {
		return netip.AddrPort{}, nil
	}
	if !ok || len(f) != 6 || f[1] != "TCP4" && f[1] != "TCP6" {
		return netip.AddrPort{}, errProxyHeader
	}
	addr, err := netip.ParseAddr(f[2])
	if err != nil || addr.Is4() != (f[1] == "TCP4") || addr.Zone() != "" {
		return netip.AddrPort{}, errProxyHeader
	}
	port, err := strconv.ParseUint(f[4], 10, 16)
	if err != nil {
		return netip.AddrPort{}, errProxyHeader
	}
	return netip.AddrPortFrom(addr.Unmap(), uint16(port)), nil
}

// readProxyBody reads a header of version 2, after its signature.
func readProxyBody(r io.Reader) (netip.AddrPort, error) {
	var fixed [4]byte
	if _, err := io.ReadFull(r, fixed[:]); err != nil {
		return netip.AddrPort{}, err
	}
	version, command, family := fixed[0]>>4, fixed[0]&15, fixed[1]
	size := int(binary.BigEndian.Uint16(fixed[2:]))
	if version != 2 || command > 1 || size > maxProxyBody {
		return netip.AddrPort{}, errProxyHeader
	}
	body := make([]byte, size)
	if _, err := io.ReadFull(r, body); err != nil {
		return netip.AddrPort{}, err
	}
	const local, tcp4, tcp6 = 0, 0x11, 0x21
	var length int // of an address, in bytes
	switch {
	case command == local:
		return netip.AddrPort{}, nil
	case family == tcp4:
		length = 4
	case family == tcp6:
		length = 16
	default: // another kind of socket, without an IP address
		return netip.AddrPort{}, nil
	}
	if size < 2*length+4 { // source, destination, and two ports
		return netip.AddrPort{}, errProxyHeader
	}
	addr, _ := netip.AddrFromSlice(body[:length]) // of a valid length
	return netip.AddrPortFrom(addr.Unmap(), binary.BigEndian.Uint16(body[2*length:])), nil
}
