package netx

import (
	"net"
	"net/netip"
	"sync"
)

// A Limiter bounds how many connections of one address have neither published nor played yet. Who plays is no longer counted:
// an office behind one address may watch with everybody.
type Limiter struct {
	max      int
	loopback bool

	mu    sync.Mutex
	conns map[net.Conn]netip.Prefix
	count map[netip.Prefix]int
}

// NewLimiter returns a Limiter of max connections an address (of a /64 for IPv6), any number for 0. Loopback is counted only when
// asked for.
func NewLimiter(max int, loopback bool) *Limiter {
	return &Limiter{max: max, loopback: loopback, conns: make(map[net.Conn]netip.Prefix), count: make(map[netip.Prefix]int)}
}

// Enter counts c. It reports false, and counts nothing, when c's address has as many as it may.
func (l *Limiter) Enter(c net.Conn) bool {
	from, ok := origin(c.RemoteAddr())
	if !ok || l.max == 0 || from.Addr().IsLoopback() && !l.loopback {
		return true
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.count[from] >= l.max {
		return false
	}
	l.count[from]++
	l.conns[c] = from
	return true
}

// Settle stops counting c: it plays or publishes, or is closed. It may be called more than once.
func (l *Limiter) Settle(c net.Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	from, ok := l.conns[c]
	if !ok {
		return
	}
	delete(l.conns, c)
	if l.count[from]--; l.count[from] == 0 {
		delete(l.count, from)
	}
}

// origin returns who is counted as one for a: an IPv4 address or an IPv6 /64, which is what one subscriber gets.
func origin(a net.Addr) (netip.Prefix, bool) {
	tcp, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.Prefix{}, false
	}
	addr := tcp.AddrPort().Addr().Unmap().WithZone("")
	bits := 32
	if addr.Is6() {
		bits = 64
		if addr.IsLoopback() {
			bits = 128
		}
	}
	p, err := addr.Prefix(bits)
	return p, err == nil
}
