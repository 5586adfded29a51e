// Package peeruser finds the user that owns the other end of a TCP connection from the same
// machine. It asks the kernel and knows no protocol above TCP.
package peeruser

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync"
)

var (
	// ErrUnknown means that the user cannot be determined: on other systems than Linux, or if the
	// kernel lists no such socket.
	ErrUnknown = errors.New("user of the peer's socket is unknown")
	// ErrClosed means that peer has closed its socket, so that no user owns it.
	ErrClosed = errors.New("peer has closed its socket")
)

// nobodyUID is the ID of the user nobody, which also stands for users that a user namespace does
// not map.
const nobodyUID = 65534

// User IDs of systemd services with DynamicUser=yes. They are reserved for that.
const (
	firstDynamicUID = 61184
	lastDynamicUID  = 65519
)

type connKey struct{}

// WithConn returns ctx for the requests on c, a TCP connection. The first call of Of looks the user
// up; the result is kept.
func WithConn(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, connKey{}, sync.OnceValues(func() (uint32, error) { return lookup(c) }))
}

// Of returns the ID of the user that owns the peer's socket of the connection that WithConn added
// to ctx. The error is ErrUnknown or ErrClosed.
func Of(ctx context.Context) (uint32, error) {
	find, ok := ctx.Value(connKey{}).(func() (uint32, error))
	if !ok {
		return 0, ErrUnknown
	}
	return find()
}

// lookup returns the user of c's peer. It uses the addresses of the socket, because c.RemoteAddr
// may return the address that a proxy gave.
func lookup(c net.Conn) (uint32, error) {
	e, err := endpointsOf(c)
	switch {
	case err != nil:
		return 0, ErrUnknown
	case !e.peer.IsValid() && e.peerClosed:
		return 0, ErrClosed
	case !e.peer.Addr().IsLoopback() && e.peer.Addr() != e.local.Addr(): // another machine
		return 0, ErrUnknown
	}
	s, err := findSocket(e.peer, e.local)
	if err == nil && s.owned() {
		return s.uid, nil
	}
	// A closed socket has a row without an owner, and no row after a reset. Its last request may
	// still be in the receive buffer, and must not count as one of an unknown user.
	if e, endErr := endpointsOf(c); err == nil || endErr != nil || e.peerClosed {
		return 0, ErrClosed
	}
	return 0, ErrUnknown
}

// endpoints are the addresses of a connection's sockets. After a reset peer is not valid.
type endpoints struct {
	peer, local netip.AddrPort
	peerClosed  bool // the peer has sent a FIN or a reset
}

// A socket is the kernel's information about a socket.
type socket struct {
	local, remote netip.AddrPort
	state         uint8
	uid           uint32
	inode         uint64 // 0 if no process owns it; uid has no meaning then
}

// States of a socket (include/net/tcp_states.h).
const (
	stateEstablished = 1
	stateFinWait1    = 4
	stateFinWait2    = 5
	stateCloseWait   = 8
	stateLastAck     = 9
	stateClosing     = 11
)

// owned reports whether a process owns the socket as one end of a connection.
func (s socket) owned() bool {
	switch s.state {
	case stateEstablished, stateFinWait1, stateFinWait2, stateCloseWait, stateLastAck, stateClosing:
		return s.inode != 0
	}
	return false
}

var errNoSocket = errors.New("no such socket")

// maxRow is the maximum length of a row in /proc/net/tcp, which has about 180 bytes.
const maxRow = 1 << 10

// scanTable finds a socket in a table such as /proc/net/tcp.
func scanTable(table io.Reader, local, remote netip.AddrPort) (socket, error) {
	rows := bufio.NewScanner(table)
	rows.Buffer(make([]byte, maxRow), maxRow)
	for rows.Scan() {
		if s, ok := parseRow(rows.Text()); ok && s.local == local && s.remote == remote {
			return s, nil
		}
	}
	return socket{}, errors.Join(rows.Err(), errNoSocket)
}

// parseRow parses a row of /proc/net/tcp or tcp6. The columns: number, local and remote address,
// state, queues, timer, retransmissions, user ID, timeout, inode. ok is false for the header.
func parseRow(row string) (s socket, ok bool) {
	f := strings.Fields(row)
	if len(f) < 10 {
		return socket{}, false
	}
	local, okLocal := parseAddrPort(f[1])
	remote, okRemote := parseAddrPort(f[2])
	state, errState := strconv.ParseUint(f[3], 16, 8)
	uid, errUID := strconv.ParseUint(f[7], 10, 32)
	inode, errInode := strconv.ParseUint(f[9], 10, 64)
	s = socket{local: local, remote: remote, state: uint8(state), uid: uint32(uid), inode: inode}
	return s, okLocal && okRemote && errors.Join(errState, errUID, errInode) == nil
}

// systemUIDMax returns the highest user ID of system accounts, as useradd reads it from
// /etc/login.defs: SYS_UID_MAX, or else UID_MIN - 1, or else 999.
func systemUIDMax(loginDefs string) uint32 {
	defs := map[string]uint32{}
	for line := range strings.Lines(loginDefs) {
		if f := strings.Fields(line); len(f) >= 2 {
			if n, err := strconv.ParseUint(f[1], 0, 32); err == nil {
				defs[f[0]] = uint32(n)
			}
		}
	}
	if n, ok := defs["SYS_UID_MAX"]; ok {
		return n
	}
	if n := defs["UID_MIN"]; n > 0 {
		return n - 1
	}
	return 999
}

// maxLoginDefs is how much of the file is read, in bytes: Debian's has 11 kB.
const maxLoginDefs = 1 << 20

// ReadSystemUIDMax returns systemUIDMax of this machine.
func ReadSystemUIDMax() uint32 {
	f, err := os.Open("/etc/login.defs")
	if err != nil {
		return systemUIDMax("")
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxLoginDefs))
	if err != nil {
		return systemUIDMax("")
	}
	return systemUIDMax(string(text))
}

// IsSystem reports whether uid belongs to a service: 1 to systemMax, nobody, or a dynamic user of
// systemd. Root counts as a person.
func IsSystem(uid, systemMax uint32) bool {
	return uid >= 1 && uid <= systemMax || uid == nobodyUID || uid >= firstDynamicUID && uid <= lastDynamicUID
}
