package peeruser

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// findSocket returns the socket with these addresses, from sock_diag or else from the tables in
// /proc. The error is errNoSocket if neither has it. A negative result of sock_diag is checked
// against the tables, because a kernel without the module tcp_diag returns the same error.
func findSocket(local, remote netip.AddrPort) (socket, error) {
	s, err := querySockDiag(local, remote)
	if err == nil {
		return s, nil
	}
	tables := []string{"/proc/self/net/tcp6"}
	if local.Addr().Is4() {
		tables = []string{"/proc/self/net/tcp", "/proc/self/net/tcp6"} // the second lists IPv4 connections of IPv6 sockets
	}
	for _, name := range tables {
		if s, err := scanTableFile(name, local, remote); err == nil {
			return s, nil
		}
	}
	return socket{}, errNoSocket
}

func scanTableFile(name string, local, remote netip.AddrPort) (socket, error) {
	f, err := os.Open(name)
	if err != nil {
		return socket{}, err
	}
	defer f.Close()
	return scanTable(f, local, remote)
}

// Sizes of struct nlmsghdr (linux/netlink.h), inet_diag_req_v2 and inet_diag_msg
// (linux/inet_diag.h), and offsets in the last one.
const (
	headerSize  = 16
	requestSize = 56
	messageSize = 72

	msgState = 1
	msgID    = 4
	msgUID   = 64
	msgInode = 68
)

// querySockDiag requests one socket from the kernel by sock_diag(7).
func querySockDiag(local, remote netip.AddrPort) (socket, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_INET_DIAG)
	if err != nil {
		return socket{}, err
	}
	defer func() { _ = unix.Close(fd) }()
	// The kernel replies within the call; the timeout is a precaution.
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 1}); err != nil {
		return socket{}, err
	}
	if err := unix.Sendto(fd, sockDiagRequest(local, remote), 0,
		&unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return socket{}, err
	}
	buf := make([]byte, 4<<10)
	n, _, err := unix.Recvfrom(fd, buf, 0)
	if err != nil {
		return socket{}, err
	}
	s, err := parseSockDiag(buf[:n])
	if err == nil && (s.local != local || s.remote != remote) {
		return socket{}, errNoSocket // a listener on the same port, which the kernel returns if there is no exact match
	}
	return s, err
}

// sockDiagRequest returns a request for the socket with these addresses.
func sockDiagRequest(local, remote netip.AddrPort) []byte {
	b := make([]byte, headerSize+requestSize)
	binary.NativeEndian.PutUint32(b[0:], uint32(len(b)))
	binary.NativeEndian.PutUint16(b[4:], unix.SOCK_DIAG_BY_FAMILY)
	binary.NativeEndian.PutUint16(b[6:], unix.NLM_F_REQUEST)
	r := b[headerSize:]
	r[0], r[1] = unix.AF_INET6, unix.IPPROTO_TCP
	if local.Addr().Is4() {
		r[0] = unix.AF_INET
	}
	binary.NativeEndian.PutUint32(r[4:], ^uint32(0)) // in any state
	id := r[8:]
	binary.BigEndian.PutUint16(id[0:], local.Port())
	binary.BigEndian.PutUint16(id[2:], remote.Port())
	copy(id[4:20], local.Addr().AsSlice())
	copy(id[20:36], remote.Addr().AsSlice())
	binary.NativeEndian.PutUint64(id[40:], ^uint64(0)) // INET_DIAG_NOCOOKIE
	return b
}

// parseSockDiag parses the kernel's reply.
func parseSockDiag(b []byte) (socket, error) {
	if len(b) < headerSize {
		return socket{}, errors.New("sock_diag: truncated reply")
	}
	kind := binary.NativeEndian.Uint16(b[4:])
	m := b[headerSize:]
	switch {
	case kind == unix.NLMSG_ERROR && len(m) >= 4:
		if e := int32(binary.NativeEndian.Uint32(m)); e < 0 {
			return socket{}, syscall.Errno(-e)
		}
		return socket{}, errNoSocket
	case kind != unix.SOCK_DIAG_BY_FAMILY || len(m) < messageSize:
		return socket{}, errors.New("sock_diag: unexpected reply")
	}
	size := 16
	if m[0] == unix.AF_INET {
		size = 4
	}
	id := m[msgID:]
	end := func(port, addr int) netip.AddrPort {
		a, _ := netip.AddrFromSlice(id[addr : addr+size])
		return netip.AddrPortFrom(a.Unmap(), binary.BigEndian.Uint16(id[port:]))
	}
	s := socket{local: end(0, 4), remote: end(2, 20), state: m[msgState]}
	s.uid = binary.NativeEndian.Uint32(m[msgUID:])
	s.inode = uint64(binary.NativeEndian.Uint32(m[msgInode:]))
	return s, nil
}

// endpointsOf returns the addresses of c.
func endpointsOf(c net.Conn) (e endpoints, err error) {
	sc, ok := c.(syscall.Conn)
	if !ok {
		return e, errNoSocket
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return e, err
	}
	err = raw.Control(func(handle uintptr) {
		fd := int(handle)
		if info, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO); err == nil {
			e.peerClosed = info.State != stateEstablished
		}
		if sa, err := unix.Getpeername(fd); err == nil {
			e.peer = addrPortOf(sa)
		}
		if sa, err := unix.Getsockname(fd); err == nil {
			e.local = addrPortOf(sa)
		}
	})
	return e, err
}

func addrPortOf(sa unix.Sockaddr) netip.AddrPort {
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), uint16(sa.Port))
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(sa.Addr).Unmap(), uint16(sa.Port))
	}
	return netip.AddrPort{}
}

// parseAddrPort parses "0100007F:1F90": 32-bit words in host byte order, and a port.
func parseAddrPort(text string) (netip.AddrPort, bool) {
	host, port, ok := strings.Cut(text, ":")
	words, err := hex.DecodeString(host)
	n, portErr := strconv.ParseUint(port, 16, 16)
	if !ok || err != nil || portErr != nil || len(words)%4 != 0 {
		return netip.AddrPort{}, false
	}
	for i := 0; i < len(words); i += 4 {
		binary.NativeEndian.PutUint32(words[i:], binary.BigEndian.Uint32(words[i:]))
	}
	addr, ok := netip.AddrFromSlice(words)
	return netip.AddrPortFrom(addr.Unmap(), uint16(n)), ok
}
