package netx

import (
	"container/list"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"livego/internal/live"
)

// A Use says what the connections of a listener are for.
type Use uint8

// Uses.
const (
	ForViewers   Use = iota // HTTP: to watch
	ForEncoders             // RTMP: to publish or to watch, which is not known before it is asked for
	forPublisher            // RTMP that publishes
)

// Descriptors is how many connections of each use a Limiter keeps, so that each has its share of the descriptors of the process. The zero
// value is no limit.
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
	// burstFactor bounds the connections that Burst keeps: a class of pupils who open a page at once, each by several connections.
	burstFactor = 16
	// rechecks is how many times within Idle a connection that has delivered media is looked at again.
	rechecks = 4
	// Of the descriptors for viewers, when more than nearlyFull percent are in use, an address that has a shareOfOne'th gets no more.
	nearlyFull, shareOfOne = 80, 4
)

// Why a connection is refused or closed.
const (
	reasonAddress     = "the address has more idle connections than conns_per_ip"
	reasonShare       = "descriptors are short, and the address has a quarter of them"
	reasonUndecided   = "too many RTMP connections neither publish nor play"
	reasonDescriptors = "descriptors are short"
)

// A Limiter bounds how many connections there are. A connection is idle while it has delivered no media for some time, or none yet.
// Idle ones are bounded by address: at the limit the oldest of the address is closed. Those that deliver are not: an office behind
// one address may watch with everybody. All of them are bounded by the descriptors of the process.
type Limiter struct {
	opt   LimitOptions
	start time.Time

	mu         sync.Mutex
	hosts      map[netip.Prefix]*host
	idle       list.List // of *entry, the oldest first, ForViewers
	undecided  list.List // of *entry, the oldest first, ForEncoders
	active     list.List // of *entry, the one to be looked at next first
	over       map[*host]struct{}
	trim       *time.Timer // nil when over is empty
	viewers    int
	publishers int
	closed     bool
}

// A host is an address that has connections.
type host struct {
	from  netip.Prefix
	conns int
	idle  list.List // of *entry, the oldest first
}

// An entry is a connection as a Limiter counts it. All but until and resting is guarded by its mu.
type entry struct {
	limiter *Limiter
	conn    io.Closer
	remote  net.Addr
	use     Use
	host    *host // nil: no limit by address holds
	state   state
	streams int           // that are under way
	since   time.Duration // on the clock of the limiter: when it was accepted, or last known to deliver
	look    time.Duration // when to look at it, while active
	inHost  *list.Element
	inAll   *list.Element

	resting atomic.Bool  // state is idle
	until   atomic.Int64 // when it will be idle, on the clock of the limiter
}

// A state says how an entry is counted.
type state uint8

const (
	left      state = iota // it is closed
	idle                   // it has delivered no media for some time, or none yet
	active                 // it has delivered media
	streaming              // it publishes, or delivers media without an end
)

// NewLimiter returns a Limiter, which is to be closed.
func NewLimiter(o LimitOptions) *Limiter {
	return &Limiter{opt: o, start: time.Now(), hosts: make(map[netip.Prefix]*host), over: make(map[*host]struct{})}
}

// Close ends the Limiter's work; what it has counted may leave after.
func (l *Limiter) Close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	if l.trim != nil {
		l.trim.Stop()
		l.trim = nil
	}
}

// now is the clock of l.
func (l *Limiter) now() time.Duration { return time.Since(l.start) }

// A verdict is what comes of a request for room: whom to close, and why.
type verdict struct {
	refused string // why; "" when there is room
	victims []*entry
	reason  string // why they are closed
}

// closing notes that e, which has left, is to be closed.
func (v *verdict) closing(e *entry, reason string) {
	v.victims, v.reason = append(v.victims, e), reason
}

// carryOut closes the victims. Caller does not hold l.mu.
func (l *Limiter) carryOut(v verdict, remote net.Addr) {
	for _, e := range v.victims {
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

// admit counts a connection of remote, whose address a proxy may have claimed; nil when there is no room, and it is to be closed.
func (l *Limiter) admit(conn io.Closer, remote net.Addr, claimed bool, use Use) *entry {
	e := &entry{limiter: l, conn: conn, remote: remote, use: use}
	l.mu.Lock()
	v := l.enter(e, ParseClient(remote.String()), claimed)
	l.mu.Unlock()
	l.carryOut(v, remote)
	if v.refused != "" {
		return nil
	}
	return e
}

// enter is admit for callers that hold l.mu.
func (l *Limiter) enter(e *entry, addr netip.Addr, claimed bool) (v verdict) {
	now := l.now()
	l.expire(now)
	h := l.hostOf(addr, claimed)
	switch d := l.opt.Descriptors; {
	case e.use == ForEncoders:
		if d.Undecided > 0 && l.undecided.Len() >= d.Undecided {
			l.evict(&v, l.undecided.Front(), reasonUndecided)
		}
	default:
		l.roomForViewer(&v, h)
	}
	if v.refused != "" {
		return v
	}
	if len(v.victims) == 0 { // which may be of this address
		l.roomOf(&v, h, now)
	}
	e.since = now
	l.join(e, h)
	return v
}

// roomForViewer makes room for another viewer of h, or notes why there is none.
func (l *Limiter) roomForViewer(v *verdict, h *host) {
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
func (l *Limiter) hasShare(h *host) bool {
	most := l.opt.Descriptors.Viewers
	return most > 0 && h != nil && l.inUse()*100 > most*nearlyFull && h.conns*shareOfOne >= most
}

// roomOf makes room for another idle connection of h.
func (l *Limiter) roomOf(v *verdict, h *host, now time.Duration) {
	if h == nil || l.opt.PerAddress == 0 || h.idle.Len() < l.opt.PerAddress {
		return
	}
	for h.idle.Len() >= l.opt.PerAddress && (l.overstays(h, now) || h.idle.Len() >= burstFactor*l.opt.PerAddress) {
		l.evict(v, h.idle.Front(), reasonAddress)
	}
	if h.idle.Len() < l.opt.PerAddress {
		return
	}
	l.over[h] = struct{}{}
	if l.trim == nil && !l.closed {
		l.trim = time.AfterFunc(l.opt.Burst, l.trimAll)
	}
}

// overstays reports whether the oldest idle connection of h, which has one, is no longer new. Caller holds l.mu.
func (l *Limiter) overstays(h *host, now time.Duration) bool {
	return now-h.idle.Front().Value.(*entry).since >= l.opt.Burst
}

// trimAll brings the addresses that had more idle connections than they may for a moment back to the limit.
func (l *Limiter) trimAll() {
	var v verdict
	l.mu.Lock()
	now := l.now()
	l.expire(now)
	for h := range l.over {
		for h.idle.Len() > l.opt.PerAddress && l.overstays(h, now) {
			l.evict(&v, h.idle.Front(), reasonAddress)
		}
		if h.idle.Len() <= l.opt.PerAddress {
			delete(l.over, h)
		}
	}
	l.trim = nil
	if len(l.over) > 0 && !l.closed {
		l.trim = time.AfterFunc(l.opt.Burst, l.trimAll)
	}
	l.mu.Unlock()
	l.carryOut(v, nil)
}

// evict has the entry of at leave, to be closed.
func (l *Limiter) evict(v *verdict, at *list.Element, reason string) {
	e := at.Value.(*entry)
	l.drop(e)
	v.closing(e, reason)
}

// hostOf returns the host of addr, nil when no limit by address holds for it. Caller holds l.mu.
func (l *Limiter) hostOf(addr netip.Addr, claimed bool) *host {
	if !addr.IsValid() || !claimed && (addr.IsLoopback() && !l.opt.Loopback || l.opt.Proxies.Trust(addr)) {
		return nil
	}
	from := origin(addr)
	if h := l.hosts[from]; h != nil {
		return h
	}
	return &host{from: from} // kept when it has a connection
}

// origin returns what counts as one address: an IPv4 address, or an IPv6 /64, which is what one subscriber gets. It is zero for a
// zero addr.
func origin(addr netip.Addr) netip.Prefix {
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

// join counts e as an idle connection of h. Caller holds l.mu.
func (l *Limiter) join(e *entry, h *host) {
	l.belong(e, h)
	switch e.use {
	case ForViewers:
		l.viewers++
	case forPublisher:
		l.publishers++
	}
	l.rest(e)
}

// belong makes e a connection of h. Caller holds l.mu, and e is in no list of its host.
func (l *Limiter) belong(e *entry, h *host) {
	if e.host != nil {
		if e.host.conns--; e.host.conns == 0 {
			delete(l.hosts, e.host.from)
			delete(l.over, e.host)
		}
	}
	if e.host = h; h != nil {
		h.conns++
		l.hosts[h.from] = h
	}
}

// rest makes e idle. Caller holds l.mu, and e is in no list.
func (l *Limiter) rest(e *entry) {
	e.state = idle
	e.resting.Store(true)
	all := &l.idle
	if e.use == ForEncoders {
		all = &l.undecided
	}
	e.inAll = all.PushBack(e)
	if e.host != nil {
		e.inHost = e.host.idle.PushBack(e)
	}
}

// unlist takes e out of the lists that it is in. Caller holds l.mu.
func (l *Limiter) unlist(e *entry) {
	if e.inHost != nil {
		e.host.idle.Remove(e.inHost)
		e.inHost = nil
	}
	if e.inAll != nil {
		switch {
		case e.state == active:
			l.active.Remove(e.inAll)
		case e.use == ForEncoders:
			l.undecided.Remove(e.inAll)
		default:
			l.idle.Remove(e.inAll)
		}
		e.inAll = nil
	}
	e.resting.Store(false)
}

// drop ends the count of e. Caller holds l.mu.
func (l *Limiter) drop(e *entry) {
	if e.state == left {
		return
	}
	l.unlist(e)
	l.belong(e, nil)
	switch e.use {
	case ForViewers:
		l.viewers--
	case forPublisher:
		l.publishers--
	}
	e.state = left
}

// leave is drop for callers that do not hold l.mu.
func (l *Limiter) leave(e *entry) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.drop(e)
}

// delivered notes that media went out by e.
func (l *Limiter) delivered(e *entry, keep time.Duration) {
	until := l.now() + max(keep, l.opt.Idle)
	e.until.Store(int64(until))
	if !e.resting.Load() {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if e.state == idle && e.use == ForViewers {
		l.unlist(e)
		l.act(e)
	}
}

// act makes e active. Caller holds l.mu, and e is in no list.
func (l *Limiter) act(e *entry) {
	e.state = active
	e.look = l.now() + l.opt.Idle/rechecks
	e.inAll = l.active.PushBack(e)
}

// expire makes those idle that have delivered nothing for long. Caller holds l.mu.
func (l *Limiter) expire(now time.Duration) {
	for at := l.active.Front(); at != nil; at = l.active.Front() {
		e := at.Value.(*entry)
		if e.look > now {
			return
		}
		l.unlist(e)
		if until := time.Duration(e.until.Load()); until > now {
			l.act(e)
		} else {
			e.since = until
			l.rest(e)
		}
	}
}

// stream notes that an answer without an end begins.
func (l *Limiter) stream(e *entry) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if e.state != left {
		l.unlist(e)
		e.state = streaming
		e.streams++
	}
}

// watch makes e that of a viewer.
func (l *Limiter) watch(e *entry) error {
	var v verdict
	l.mu.Lock()
	if e.state == idle && e.use == ForEncoders {
		if l.roomForViewer(&v, e.host); v.refused == "" {
			l.unlist(e)
			e.use = ForViewers
			l.viewers++
			l.rest(e)
		}
	}
	l.mu.Unlock()
	l.carryOut(v, e.remote)
	return v.err()
}

// streamed notes that one of the answers without an end is over.
func (l *Limiter) streamed(e *entry) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if e.state != streaming {
		return
	}
	if e.streams--; e.streams == 0 {
		e.until.Store(int64(l.now() + l.opt.Idle))
		l.act(e)
	}
}

// publish makes e that of a publisher.
func (l *Limiter) publish(e *entry) error {
	var v verdict
	l.mu.Lock()
	if e.state != left {
		if l.publishers >= l.opt.Descriptors.Publishers {
			l.roomForViewer(&v, nil)
		}
		if v.refused == "" {
			l.unlist(e)
			e.use, e.state = forPublisher, streaming
			l.publishers++
		}
	}
	l.mu.Unlock()
	l.carryOut(v, e.remote)
	return v.err()
}

func (v *verdict) err() error {
	if v.refused == "" {
		return nil
	}
	return live.Errorf(live.Limit, "the server has no room for another connection")
}

// assign makes e, a connection of a proxy, one of the client at addr.
func (l *Limiter) assign(e *entry, addr netip.Addr) error {
	var v verdict
	l.mu.Lock()
	now := l.now()
	l.expire(now)
	h := l.hostOf(addr, true)
	if l.hasShare(h) {
		v.refused = reasonShare
	} else if e.state != left {
		l.roomOf(&v, h, now)
		l.move(e, h, now)
	}
	l.mu.Unlock()
	l.carryOut(v, e.remote)
	return v.err()
}

// giveBack makes e a connection of the proxy again, unless it has become one of its client for good.
func (l *Limiter) giveBack(e *entry) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if e.state == idle || e.state == active {
		l.move(e, nil, l.now())
	}
}

// move makes e, which has not left, a connection of h. Caller holds l.mu.
func (l *Limiter) move(e *entry, h *host, now time.Duration) {
	if e.state != idle {
		l.belong(e, h)
		return
	}
	l.unlist(e)
	l.belong(e, h)
	e.since = now
	l.rest(e)
}
