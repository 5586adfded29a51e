package netx

import (
	"container/list"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"livego/internal/domain"
)

// A Use says what the connections of a listener are for.
type Use uint8

// Uses.
const (
	ForViewers   Use = iota // HTTP: to watch
	ForEncoders             // RTMP: to publish or to watch, which is not known before it is asked for
	forPublisher            // RTMP that publishes
)

// Descriptors is how many connections of each use a Limiter keeps, so that each has its share of
// the descriptors of the process. The zero value is no limit.
type Descriptors struct {
	Viewers    int // that watch, or may
	Undecided  int // by RTMP that neither publish nor watch yet
	Publishers int // those beyond are counted among the viewers
}

// LimitOptions are what a Limiter keeps to.
type LimitOptions struct {
	PerAddress  int           // idle connections of one address (of a /64 for IPv6); 0: any number
	Loopback    bool          // the limits by address hold for this machine too
	Idle        time.Duration // for so long a connection without media is not idle
	Burst       time.Duration // for so long a new connection beyond PerAddress is kept
	Descriptors Descriptors
	Proxies     Proxies // whose connections are those of many
	// Report, when set, is told of each connection that is refused or closed, and why.
	Report func(remote net.Addr, reason string)
}

const (
	// burstFactor bounds the connections that Burst keeps: a class of pupils who open a page at once,
	// each by several connections.
	burstFactor = 16
	// rechecks is how many times within Idle a connection that has delivered media is looked at again.
	rechecks = 4
	// Of the descriptors for viewers, when more than nearlyFullPercent percent are in use, an address
	// that has a maxShareDivisor'th gets no more.
	nearlyFullPercent, maxShareDivisor = 80, 4
)

// Why a connection is refused or closed.
const (
	reasonAddress     = "the address has more idle connections than conns_per_ip"
	reasonShare       = "descriptors are short, and the address has a quarter of them"
	reasonUndecided   = "too many RTMP connections neither publish nor play"
	reasonDescriptors = "descriptors are short"
)

// A Limiter bounds how many connections there are. A connection is idle while it has delivered no
// media for some time, or none yet. Idle ones are bounded by address: at the limit the oldest of
// the address is closed. Those that deliver are not: an office behind one address may watch with
// everybody. All of them are bounded by the descriptors of the process.
type Limiter struct {
	opt   LimitOptions
	start time.Time

	mu         sync.Mutex
	addrs      map[netip.Prefix]*addressConns
	idle       list.List // of *entry, the oldest first, ForViewers
	undecided  list.List // of *entry, the oldest first, ForEncoders
	active     list.List // of *entry, the one to be looked at next first
	overLimit  map[*addressConns]struct{}
	trimTimer  *time.Timer // nil when over is empty
	viewers    int
	publishers int
	closed     bool
}

// A addressConns is an address that has connections.
type addressConns struct {
	prefix netip.Prefix
	conns  int
	idle   list.List // of *entry, the oldest first
}

// An entry is a connection as a Limiter counts it. All but until and resting is guarded by its mu.
type entry struct {
	limiter   *Limiter
	conn      io.Closer
	remote    net.Addr
	use       Use
	address   *addressConns // nil: no limit by address holds
	state     state
	streams   int           // that are under way
	since     time.Duration // on the clock of the limiter: when it was accepted, or last known to deliver
	recheckAt time.Duration // when to recheckAt at it, while active
	inAddress *list.Element
	inAll     *list.Element

	isIdle atomic.Bool  // state is idle
	idleAt atomic.Int64 // when it will be idle, on the clock of the limiter
}

// A state says how an entry is counted.
type state uint8

const (
	stateClosed    state = iota // it is closed
	stateIdle                   // it has delivered no media for some time, or none yet
	stateActive                 // it has delivered media
	stateStreaming              // it publishes, or delivers media without an end
)

// NewLimiter returns a Limiter, which is to be closed.
func NewLimiter(o LimitOptions) *Limiter {
	return &Limiter{opt: o, start: time.Now(), addrs: make(map[netip.Prefix]*addressConns),
		overLimit: make(map[*addressConns]struct{})}
}

// Close ends the Limiter's work; what it has counted may leave after.
func (l *Limiter) Close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	if l.trimTimer != nil {
		l.trimTimer.Stop()
		l.trimTimer = nil
	}
}

// now is the clock of l.
func (l *Limiter) now() time.Duration { return time.Since(l.start) }

// A decision is what comes of a request for room: whom to close, and why.
type decision struct {
	refused string // why; "" when there is room
	evicted []*entry
	reason  string // why they are closed
}

// evict notes that e, which has left, is to be closed.
func (v *decision) evict(e *entry, reason string) {
	v.evicted, v.reason = append(v.evicted, e), reason
}

// apply closes the victims. Caller does not hold l.mu.
func (l *Limiter) apply(v decision, remote net.Addr) {
	for _, e := range v.evicted {
		_ = e.conn.Close()
		l.report(e.remote, v.reason)
	}
	if v.refused != "" {
		l.report(remote, v.refused)
	}
}

func (l *Limiter) report(remote net.Addr, reason string) {
	if l.opt.Report != nil {
		l.opt.Report(remote, reason)
	}
}

// admit counts a connection of remote, whose address a proxy may have claimed; nil when there is no
// room, and it is to be closed.
func (l *Limiter) admit(conn io.Closer, remote net.Addr, claimed bool, use Use) *entry {
	e := &entry{limiter: l, conn: conn, remote: remote, use: use}
	l.mu.Lock()
	v := l.admitLocked(e, ParseClient(remote.String()), claimed)
	l.mu.Unlock()
	l.apply(v, remote)
	if v.refused != "" {
		return nil
	}
	return e
}

// admitLocked is admit for callers that hold l.mu.
func (l *Limiter) admitLocked(e *entry, addr netip.Addr, claimed bool) (v decision) {
	now := l.now()
	l.expire(now)
	h := l.addressOf(addr, claimed)
	switch d := l.opt.Descriptors; {
	case e.use == ForEncoders:
		if d.Undecided > 0 && l.undecided.Len() >= d.Undecided {
			l.evict(&v, l.undecided.Front(), reasonUndecided)
		}
	default:
		l.makeRoomForViewer(&v, h)
	}
	if v.refused != "" {
		return v
	}
	if len(v.evicted) == 0 { // which may be of this address
		l.makeRoomForAddress(&v, h, now)
	}
	e.since = now
	l.addLocked(e, h)
	return v
}

// makeRoomForViewer makes room for another viewer of h, or notes why there is none.
func (l *Limiter) makeRoomForViewer(v *decision, h *addressConns) {
	most := l.opt.Descriptors.Viewers
	if most == 0 {
		return
	}
	switch {
	case l.hasShare(h):
		v.refused = reasonShare
	case l.inUse() < most:
	case l.idle.Len() > 0:
		l.evict(v, l.idle.Front(), reasonDescriptors)
	default:
		v.refused = reasonDescriptors
	}
}

// inUse returns how many of the descriptors for viewers are in use. Caller holds l.mu.
func (l *Limiter) inUse() int {
	return l.viewers + max(0, l.publishers-l.opt.Descriptors.Publishers)
}

// hasShare reports whether descriptors are short, and h has its share of them. Caller holds l.mu.
func (l *Limiter) hasShare(h *addressConns) bool {
	most := l.opt.Descriptors.Viewers
	return most > 0 && h != nil && l.inUse()*100 > most*nearlyFullPercent && h.conns*maxShareDivisor >= most
}

// makeRoomForAddress makes room for another idle connection of h.
func (l *Limiter) makeRoomForAddress(v *decision, h *addressConns, now time.Duration) {
	if h == nil || l.opt.PerAddress == 0 || h.idle.Len() < l.opt.PerAddress {
		return
	}
	for h.idle.Len() >= l.opt.PerAddress && (l.isPastBurst(h, now) || h.idle.Len() >= burstFactor*l.opt.PerAddress) {
		l.evict(v, h.idle.Front(), reasonAddress)
	}
	if h.idle.Len() < l.opt.PerAddress {
		return
	}
	l.overLimit[h] = struct{}{}
	if l.trimTimer == nil && !l.closed {
		l.trimTimer = time.AfterFunc(l.opt.Burst, l.trimAll)
	}
}

// isPastBurst reports whether the oldest idle connection of h, which has one, is no longer new. Caller holds l.mu.
func (l *Limiter) isPastBurst(h *addressConns, now time.Duration) bool {
	return now-h.idle.Front().Value.(*entry).since >= l.opt.Burst
}

// trimAll brings the addresses that had more idle connections than they may for a moment back to the limit.
func (l *Limiter) trimAll() {
	var v decision
	l.mu.Lock()
	now := l.now()
	l.expire(now)
	for h := range l.overLimit {
		for h.idle.Len() > l.opt.PerAddress && l.isPastBurst(h, now) {
			l.evict(&v, h.idle.Front(), reasonAddress)
		}
		if h.idle.Len() <= l.opt.PerAddress {
			delete(l.overLimit, h)
		}
	}
	l.trimTimer = nil
	if len(l.overLimit) > 0 && !l.closed {
		l.trimTimer = time.AfterFunc(l.opt.Burst, l.trimAll)
	}
	l.mu.Unlock()
	l.apply(v, nil)
}

// evict has the entry of at leave, to be closed.
func (l *Limiter) evict(v *decision, at *list.Element, reason string) {
	e := at.Value.(*entry)
	l.removeLocked(e)
	v.evict(e, reason)
}

// addressOf returns the host of addr, nil when no limit by address holds for it. Caller holds l.mu.
func (l *Limiter) addressOf(addr netip.Addr, claimed bool) *addressConns {
	if !addr.IsValid() || !claimed && (addr.IsLoopback() && !l.opt.Loopback || l.opt.Proxies.Trust(addr)) {
		return nil
	}
	from := addressPrefix(addr)
	if h := l.addrs[from]; h != nil {
		return h
	}
	return &addressConns{prefix: from} // kept when it has a connection
}

// addressPrefix returns what counts as one address: an IPv4 address, or an IPv6 /64, which is what
// one subscriber gets. It is zero for a zero addr.
func addressPrefix(addr netip.Addr) netip.Prefix {
	bits := 32
	if addr.Is6() {
		bits = 64
		if addr.IsLoopback() {
			bits = 128
		}
	}
	from, _ := addr.Prefix(bits) // no error: so many bits are there
	return from
}

// addLocked counts e as an idle connection of h. Caller holds l.mu.
func (l *Limiter) addLocked(e *entry, h *addressConns) {
	l.setAddress(e, h)
	switch e.use {
	case ForViewers:
		l.viewers++
	case forPublisher:
		l.publishers++
	}
	l.setIdle(e)
}

// setAddress makes e a connection of h. Caller holds l.mu, and e is in no list of its host.
func (l *Limiter) setAddress(e *entry, h *addressConns) {
	if e.address != nil {
		if e.address.conns--; e.address.conns == 0 {
			delete(l.addrs, e.address.prefix)
			delete(l.overLimit, e.address)
		}
	}
	if e.address = h; h != nil {
		h.conns++
		l.addrs[h.prefix] = h
	}
}

// setIdle makes e idle. Caller holds l.mu, and e is in no list.
func (l *Limiter) setIdle(e *entry) {
	e.state = stateIdle
	e.isIdle.Store(true)
	all := &l.idle
	if e.use == ForEncoders {
		all = &l.undecided
	}
	e.inAll = all.PushBack(e)
	if e.address != nil {
		e.inAddress = e.address.idle.PushBack(e)
	}
}

// removeFromLists takes e out of the lists that it is in. Caller holds l.mu.
func (l *Limiter) removeFromLists(e *entry) {
	if e.inAddress != nil {
		e.address.idle.Remove(e.inAddress)
		e.inAddress = nil
	}
	if e.inAll != nil {
		switch {
		case e.state == stateActive:
			l.active.Remove(e.inAll)
		case e.use == ForEncoders:
			l.undecided.Remove(e.inAll)
		default:
			l.idle.Remove(e.inAll)
		}
		e.inAll = nil
	}
	e.isIdle.Store(false)
}

// removeLocked ends the count of e. Caller holds l.mu.
func (l *Limiter) removeLocked(e *entry) {
	if e.state == stateClosed {
		return
	}
	l.removeFromLists(e)
	l.setAddress(e, nil)
	switch e.use {
	case ForViewers:
		l.viewers--
	case forPublisher:
		l.publishers--
	}
	e.state = stateClosed
}

// remove is drop for callers that do not hold l.mu.
func (l *Limiter) remove(e *entry) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.removeLocked(e)
}

// markDelivered notes that media went out by e.
func (l *Limiter) markDelivered(e *entry, keep time.Duration) {
	until := l.now() + max(keep, l.opt.Idle)
	e.idleAt.Store(int64(until))
	if !e.isIdle.Load() {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if e.state == stateIdle && e.use == ForViewers {
		l.removeFromLists(e)
		l.setActive(e)
	}
}

// setActive makes e active. Caller holds l.mu, and e is in no list.
func (l *Limiter) setActive(e *entry) {
	e.state = stateActive
	e.recheckAt = l.now() + l.opt.Idle/rechecks
	e.inAll = l.active.PushBack(e)
}

// expire makes those idle that have delivered nothing for long. Caller holds l.mu.
func (l *Limiter) expire(now time.Duration) {
	for at := l.active.Front(); at != nil; at = l.active.Front() {
		e := at.Value.(*entry)
		if e.recheckAt > now {
			return
		}
		l.removeFromLists(e)
		if until := time.Duration(e.idleAt.Load()); until > now {
			l.setActive(e)
		} else {
			e.since = until
			l.setIdle(e)
		}
	}
}

// startStream notes that an answer without an end begins.
func (l *Limiter) startStream(e *entry) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if e.state != stateClosed {
		l.removeFromLists(e)
		e.state = stateStreaming
		e.streams++
	}
}

// becomeViewer makes e that of a viewer.
func (l *Limiter) becomeViewer(e *entry) error {
	var v decision
	l.mu.Lock()
	if e.state == stateIdle && e.use == ForEncoders {
		if l.makeRoomForViewer(&v, e.address); v.refused == "" {
			l.removeFromLists(e)
			e.use = ForViewers
			l.viewers++
			l.setIdle(e)
		}
	}
	l.mu.Unlock()
	l.apply(v, e.remote)
	return v.err()
}

// endStream notes that one of the answers without an end is over.
func (l *Limiter) endStream(e *entry) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if e.state != stateStreaming {
		return
	}
	if e.streams--; e.streams == 0 {
		e.idleAt.Store(int64(l.now() + l.opt.Idle))
		l.setActive(e)
	}
}

// becomePublisher makes e that of a publisher.
func (l *Limiter) becomePublisher(e *entry) error {
	var v decision
	l.mu.Lock()
	if e.state != stateClosed {
		if l.publishers >= l.opt.Descriptors.Publishers {
			l.makeRoomForViewer(&v, nil)
		}
		if v.refused == "" {
			l.removeFromLists(e)
			e.use, e.state = forPublisher, stateStreaming
			l.publishers++
		}
	}
	l.mu.Unlock()
	l.apply(v, e.remote)
	return v.err()
}

func (v *decision) err() error {
	if v.refused == "" {
		return nil
	}
	return domain.Errorf(domain.Limit, "the server has no room for another connection")
}

// assign makes e, a connection of a proxy, one of the client at addr.
func (l *Limiter) assign(e *entry, addr netip.Addr) error {
	var v decision
	l.mu.Lock()
	now := l.now()
	l.expire(now)
	h := l.addressOf(addr, true)
	if l.hasShare(h) {
		v.refused = reasonShare
	} else if e.state != stateClosed {
		l.makeRoomForAddress(&v, h, now)
		l.move(e, h, now)
	}
	l.mu.Unlock()
	l.apply(v, e.remote)
	return v.err()
}

// unassign makes e a connection of the proxy again, unless it has become one of its client for good.
func (l *Limiter) unassign(e *entry) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if e.state == stateIdle || e.state == stateActive {
		l.move(e, nil, l.now())
	}
}

// move makes e, which has not left, a connection of h. Caller holds l.mu.
func (l *Limiter) move(e *entry, h *addressConns, now time.Duration) {
	if e.state != stateIdle {
		l.setAddress(e, h)
		return
	}
	l.removeFromLists(e)
	l.setAddress(e, h)
	e.since = now
	l.setIdle(e)
}
