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
	// ErrUnknown means that the system does not tell which user owns the peer's socket: another system
	// than Linux, or no row for it.
	ErrUnknown = errors.New("the user of the peer's socket is not known")
	// ErrClosed means that the peer has closed its socket already, so that no user owns it.
	ErrClosed = errors.New("the peer has closed its socket")
)

// nobodyUID is the user ID of the account that owns nothing, and of users that a user namespace does not map.
const nobodyUID = 65534

// User IDs that systemd gives to services with DynamicUser=yes. Its documentation reserves them: no person has one.
const (
	firstDynamicUID = 61184
	lastDynamicUID  = 65519
)

type connKey struct{}

// WithConn returns ctx for the requests that arrive on c. The user is looked up when Of is called first, and once.
func WithConn(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, connKey{}, sync.OnceValues(func() (uint32, error) { return lookup(c) }))
}

// Of returns the ID of the user that owns the peer's socket of the connection that WithConn put
// into ctx. The error is ErrUnknown or ErrClosed.
func Of(ctx context.Context) (uint32, error) {
	find, ok := ctx.Value(connKey{}).(func() (uint32, error))
	if !ok {
		return 0, ErrUnknown
	}
	return find()
}

// lookup returns the user of c's peer. The addresses are those of the sockets, whatever c says of
// its own: a connection may show the address that a proxy gave.
func lookup(c net.Conn) (uint32, error) {
	if t, ok := c.(interface{ NetConn() net.Conn }); ok { // TLS
		c = t.NetConn()
	}
	e, err := endpointsOf(c)
	switch {
	case err != nil:
		return 0, ErrUnknown
	case !e.peer.IsValid() && e.peerClosed:
		return 0, ErrClosed
	case !e.peer.Addr().IsLoopback() && e.peer.Addr() != e.local.Addr(): // of another machine
		return 0, ErrUnknown
	}
	s, err := findSocket(e.peer, e.local)
	if err == nil && s.owned() {
		return s.uid, nil
	}
	// A peer that has closed its socket leaves a row without an owner; one that has gone by a reset
	// leaves none. Its last request may still be in our buffer, and must not count as one whose user
	// the system does not tell.
	if e, endErr := endpointsOf(c); err == nil || endErr != nil || e.peerClosed {
		return 0, ErrClosed
	}
	return 0, ErrUnknown
}

// endpoints are the addresses of the sockets of a connection; the peer's is not valid after a reset.
type endpoints struct {
	peer, local netip.AddrPort
	peerClosed  bool // the peer has ended the connection, by a FIN or a reset
}

// A socket is what the kernel tells of one.
type socket struct {
	local, remote netip.AddrPort
	state         uint8
	uid           uint32
	inode         uint64 // 0 when no process has it any more; the user ID says nothing then
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

// owned reports whether a process has the socket, as one end of a connection.
func (s socket) owned() bool {
	switch s.state {
	case stateEstablished, stateFinWait1, stateFinWait2, stateCloseWait, stateLastAck, stateClosing:
		return s.inode != 0
	}
	return false
}

var errNoSocket = errors.New("there is no such socket")

// maxRow bounds a row of /proc/net/tcp, which has about 180 bytes.
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

// parseRow reads a row of /proc/net/tcp or tcp6. The columns: number, local and remote address,
// state, queues, timer, retransmissions, user ID, timeout, inode. ok is false for the heading.
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

// SystemUIDMax returns the highest user ID of system accounts, as useradd has it from the text of
// /etc/login.defs: SYS_UID_MAX, else what is below UID_MIN, else 999.
func SystemUIDMax(loginDefs string) uint32 {
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

// maxLoginDefs bounds what is read of the file: Debian's has 11 kB.
const maxLoginDefs = 1 << 20

// ReadSystemUIDMax returns SystemUIDMax of this machine.
func ReadSystemUIDMax() uint32 {
	f, err := os.Open("/etc/login.defs")
	if err != nil {
		return SystemUIDMax("")
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxLoginDefs))
	if err != nil {
		return SystemUIDMax("")
	}
	return SystemUIDMax(string(text))
}

// IsSystem reports whether uid belongs to a service rather than to a person: 1 to systemMax,
// nobody, and the dynamic users of systemd. Root is a person.
func IsSystem(uid, systemMax uint32) bool {
	return uid >= 1 && uid <= systemMax || uid == nobodyUID || uid >= firstDynamicUID && uid <= lastDynamicUID
}
