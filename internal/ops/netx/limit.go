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

// A Use is the purpose of the connections of a listener.
type Use uint8

// Purposes of connections.
const (
	ForViewers   Use = iota // HTTP, to watch
	ForEncoders             // RTMP, to publish or to play; the first commands tell which
	forPublisher            // RTMP, publishes
)

// LimitOptions are the limits of a Limiter.
type LimitOptions struct {
	PerAddress  int           // idle connections of one address (of a /64 for IPv6); 0: no limit
	Loopback    bool          // limit the addresses of this machine too
	Idle        time.Duration // a connection without media for less than this is not idle
	Burst       time.Duration // new connections beyond PerAddress are kept for this time
	Descriptors Descriptors
	Proxies     Proxies // trusted proxies, whose connections carry many clients
	// Report, if set, is called for each connection that is refused or closed, with the reason.
	Report func(remote net.Addr, reason string)
}

const (
	// burstFactor times PerAddress limits the connections that Burst keeps: a school class that
	// opens a page at once, with several connections each.
	burstFactor = 16
	// rechecks is how many times within Idle a connection that has sent media is checked.
	rechecks = 4
	// If more than nearlyFullPercent of the descriptors for viewers are in use, an address that
	// has one part in maxShareDivisor of them gets no more.
	nearlyFullPercent, maxShareDivisor = 80, 4
)

// Reasons why a connection is refused or closed.
const (
	reasonAddress     = "the address has more idle connections than conns_per_ip"
	reasonShare       = "file descriptors are scarce, and the address has a quarter of them"
	reasonUndecided   = "too many RTMP connections without publish or play"
	reasonDescriptors = "file descriptors are scarce"
)

// A Limiter limits the number of connections. A connection is idle if it has sent no media yet, or
// none for LimitOptions.Idle. Idle ones are limited by address: at the limit, the oldest one of the
// address is closed. Those that send media are not, because an office behind one address may watch
// together. All connections are limited by the file descriptors of the process.
type Limiter struct {
	opt   atomic.Pointer[LimitOptions]
	start time.Time

	mu         sync.Mutex
	addrs      map[netip.Prefix]*addressConns
	idle       list.List // of *entry that are ForViewers, the oldest first
	undecided  list.List // of *entry that are ForEncoders, the oldest first
	active     list.List // of *entry, by recheckAt
	overLimit  map[*addressConns]struct{}
	trimTimer  *time.Timer // nil if overLimit is empty
	viewers    int
	publishers int
	closed     bool
	limited    map[string]uint64 // by reason
}

// LimitStatistics describe a Limiter at one moment.
type LimitStatistics struct {
	Connections int               // of now
	Limited     map[string]uint64 // refused or closed so far, by a word for the reason
}

// limitedNames are the words for the reasons in LimitStatistics.
var limitedNames = map[string]string{
	reasonAddress: "address_limit", reasonShare: "address_share", reasonUndecided: "undecided_limit",
	reasonDescriptors: "descriptors",
}

// Statistics returns the current state. Limited has every reason.
func (l *Limiter) Statistics() LimitStatistics {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := LimitStatistics{l.viewers + l.publishers + l.undecided.Len(), make(map[string]uint64, len(limitedNames))}
	for reason, name := range limitedNames {
		s.Limited[name] = l.limited[reason]
	}
	return s
}

// An addressConns counts the connections of an address.
type addressConns struct {
	prefix netip.Prefix
	conns  int
	idle   list.List // of *entry, the oldest first
}

// An entry is a connection that a Limiter counts. The Limiter's mu guards all fields but idleAt and
// isIdle.
type entry struct {
	limiter *Limiter
	conn    io.Closer
	remote  net.Addr
	use     Use
	address *addressConns // nil: not limited by address
	state   state
	streams int // responses without an end that are in progress
	// since is when it was accepted or last sent media, on the clock of the Limiter.
	since     time.Duration
	recheckAt time.Duration // clock of the Limiter, for stateActive
	inAddress *list.Element
	inAll     *list.Element

	isIdle atomic.Bool  // state is stateIdle
	idleAt atomic.Int64 // clock of the Limiter: when it becomes idle
}

// A state is the state of an entry.
type state uint8

const (
	stateClosed    state = iota // closed
	stateIdle                   // has sent no media for some time, or none yet
	stateActive                 // has sent media
	stateStreaming              // publishes, or sends media without an end
)

// NewLimiter returns a Limiter. Close must be called.
func NewLimiter(o LimitOptions) *Limiter {
	l := &Limiter{start: time.Now(), addrs: make(map[netip.Prefix]*addressConns),
		overLimit: make(map[*addressConns]struct{}), limited: make(map[string]uint64)}
	l.SetOptions(o)
	return l
}

func (l *Limiter) options() *LimitOptions { return l.opt.Load() }

// SetOptions replaces the limits for connections that arrive from now on. Open connections stay,
// also those beyond the new limits, until another of their address arrives. They are counted for the
// address for which they were admitted.
func (l *Limiter) SetOptions(o LimitOptions) { l.opt.Store(&o) }

// Close stops the timer of the Limiter. Its connections may be removed later.
func (l *Limiter) Close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	if l.trimTimer != nil {
		l.trimTimer.Stop()
		l.trimTimer = nil
	}
}

// now returns the time on the clock of l.
func (l *Limiter) now() time.Duration { return time.Since(l.start) }

// A decision is the result of a request for room: which connections to close, and why.
type decision struct {
	refused string // reason; "" if there is room
	evicted []*entry
	reason  string // why they are closed
}

func (l *Limiter) report(remote net.Addr, reason string) {
	if l.options().Report != nil {
		l.options().Report(remote, reason)
	}
}

// admit counts a connection from remote, whose address a proxy may have reported. It returns nil if
// there is no room; the caller then closes the connection.
func (l *Limiter) admit(conn io.Closer, remote net.Addr, claimed bool, use Use) *entry {
	e := &entry{limiter: l, conn: conn, remote: remote, use: use}
	err := l.decide(remote, func(dec *decision) {
		now := l.now()
		l.expire(now)
		ac := l.addressOf(ParseClient(remote.String()), claimed)
		if use != ForEncoders {
			l.makeRoomForViewer(dec, ac)
		} else if most := l.options().Descriptors.Undecided; most > 0 && l.undecided.Len() >= most {
			l.evict(dec, l.undecided.Front(), reasonUndecided)
		}
		if dec.refused != "" {
			return
		}
		if len(dec.evicted) == 0 { // one of them may be of this address
			l.makeRoomForAddress(dec, ac, now)
		}
		l.setAddress(e, ac)
		if use == ForViewers {
			l.viewers++
		}
		e.since = now
		l.setIdle(e)
	})
	if err != nil {
		return nil
	}
	return e
}

// decide calls decide under l.mu and applies its decision, of which remote is the subject. The error
// is of kind domain.Limit if there is no room.
func (l *Limiter) decide(remote net.Addr, decide func(*decision)) error {
	var dec decision
	func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		decide(&dec)
		l.limited[dec.reason] += uint64(len(dec.evicted))
		if dec.refused != "" {
			l.limited[dec.refused]++
		}
	}()
	for _, e := range dec.evicted {
		_ = e.conn.Close()
		l.report(e.remote, dec.reason)
	}
	if dec.refused == "" {
		return nil
	}
	l.report(remote, dec.refused)
	return domain.Errorf(domain.Limit, "connection limit reached")
}

// makeRoomForViewer makes room for another viewer at ac, or sets the reason why there is none.
func (l *Limiter) makeRoomForViewer(dec *decision, ac *addressConns) {
	most := l.options().Descriptors.Viewers
	if most == 0 {
		return
	}
	switch {
	case l.hasShare(ac):
		dec.refused = reasonShare
	case l.inUse() < most:
	case l.idle.Len() > 0:
		l.evict(dec, l.idle.Front(), reasonDescriptors)
	default:
		dec.refused = reasonDescriptors
	}
}

// inUse returns how many descriptors for viewers are in use. The caller holds l.mu.
func (l *Limiter) inUse() int {
	return l.viewers + max(0, l.publishers-l.options().Descriptors.Publishers)
}

// hasShare reports whether descriptors are scarce and ac has its share of them. The caller holds
// l.mu.
func (l *Limiter) hasShare(ac *addressConns) bool {
	most := l.options().Descriptors.Viewers
	return most > 0 && ac != nil && l.inUse()*100 > most*nearlyFullPercent && ac.conns*maxShareDivisor >= most
}

// makeRoomForAddress makes room for another idle connection of ac.
func (l *Limiter) makeRoomForAddress(dec *decision, ac *addressConns, now time.Duration) {
	most := l.options().PerAddress
	if ac == nil || most == 0 || ac.idle.Len() < most {
		return
	}
	for ac.idle.Len() >= most && (l.isPastBurst(ac, now) || ac.idle.Len() >= burstFactor*most) {
		l.evict(dec, ac.idle.Front(), reasonAddress)
	}
	if ac.idle.Len() < most {
		return
	}
	l.overLimit[ac] = struct{}{}
	if l.trimTimer == nil && !l.closed {
		l.trimTimer = time.AfterFunc(l.options().Burst, l.trimAll)
	}
}

// isPastBurst reports whether the oldest idle connection of ac, which has one, is older than Burst.
// The caller holds l.mu.
func (l *Limiter) isPastBurst(ac *addressConns, now time.Duration) bool {
	return now-ac.idle.Front().Value.(*entry).since >= l.options().Burst
}

// trimAll closes idle connections of the addresses that exceed the limit after a burst.
func (l *Limiter) trimAll() {
	_ = l.decide(nil, func(dec *decision) { // nothing is refused
		now := l.now()
		l.expire(now)
		most := l.options().PerAddress
		for ac := range l.overLimit {
			for most > 0 && ac.idle.Len() > most && l.isPastBurst(ac, now) {
				l.evict(dec, ac.idle.Front(), reasonAddress)
			}
			if most == 0 || ac.idle.Len() <= most {
				delete(l.overLimit, ac)
			}
		}
		l.trimTimer = nil
		if len(l.overLimit) > 0 && !l.closed {
			l.trimTimer = time.AfterFunc(l.options().Burst, l.trimAll)
		}
	})
}

// evict removes the entry at at, to be closed.
func (l *Limiter) evict(dec *decision, at *list.Element, reason string) {
	e := at.Value.(*entry)
	l.removeLocked(e)
	dec.evicted, dec.reason = append(dec.evicted, e), reason
}

// addressOf returns the addressConns of addr; nil if addr is not limited. The caller holds l.mu.
func (l *Limiter) addressOf(addr netip.Addr, claimed bool) *addressConns {
	if !addr.IsValid() || !claimed && (addr.IsLoopback() && !l.options().Loopback || l.options().Proxies.trust(addr)) {
		return nil
	}
	from := AddressPrefix(addr)
	if ac := l.addrs[from]; ac != nil {
		return ac
	}
	return &addressConns{prefix: from} // added to l.addrs with its first connection
}

// AddressPrefix returns what counts as one address: an IPv4 address or an IPv6 /64, which is what
// one subscriber gets. It is zero for the zero Addr.
func AddressPrefix(addr netip.Addr) netip.Prefix {
	bits := 32
	if addr.Is6() {
		bits = 64
		if addr.IsLoopback() {
			bits = 128
		}
	}
	from, _ := addr.Prefix(bits) // no error: addr has so many bits
	return from
}

// setAddress makes e a connection of ac. The caller holds l.mu, and e is in no list of its address.
func (l *Limiter) setAddress(e *entry, ac *addressConns) {
	if e.address != nil {
		if e.address.conns--; e.address.conns == 0 {
			delete(l.addrs, e.address.prefix)
			delete(l.overLimit, e.address)
		}
	}
	if e.address = ac; ac != nil {
		ac.conns++
		l.addrs[ac.prefix] = ac
	}
}

// setIdle makes e idle. The caller holds l.mu, and e is in no list.
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

// removeFromLists removes e from its lists. The caller holds l.mu.
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

// removeLocked ends the count of e. The caller holds l.mu.
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

// remove is removeLocked for callers that do not hold l.mu.
func (l *Limiter) remove(e *entry) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.removeLocked(e)
}

// markDelivered records that media was sent on e.
func (l *Limiter) markDelivered(e *entry, keep time.Duration) {
	until := l.now() + max(keep, l.options().Idle)
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

// setActive makes e active. The caller holds l.mu, and e is in no list.
func (l *Limiter) setActive(e *entry) {
	e.state = stateActive
	e.recheckAt = l.now() + l.options().Idle/rechecks
	e.inAll = l.active.PushBack(e)
}

// expire makes connections idle that have not sent media for their time. The caller holds l.mu.
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

// startStream records that a response without an end starts.
func (l *Limiter) startStream(e *entry) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if e.state != stateClosed {
		l.removeFromLists(e)
		e.state = stateStreaming
		e.streams++
	}
}

// becomeViewer makes e a connection of a viewer.
func (l *Limiter) becomeViewer(e *entry) error {
	return l.decide(e.remote, func(dec *decision) {
		if e.state != stateIdle || e.use != ForEncoders {
			return
		}
		if l.makeRoomForViewer(dec, e.address); dec.refused == "" {
			l.removeFromLists(e)
			e.use = ForViewers
			l.viewers++
			l.setIdle(e)
		}
	})
}

// endStream records that a response without an end has ended.
func (l *Limiter) endStream(e *entry) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if e.state != stateStreaming {
		return
	}
	if e.streams--; e.streams == 0 {
		e.idleAt.Store(int64(l.now() + l.options().Idle))
		l.setActive(e)
	}
}

// becomePublisher makes e a connection of a publisher.
func (l *Limiter) becomePublisher(e *entry) error {
	return l.decide(e.remote, func(dec *decision) {
		if e.state == stateClosed {
			return
		}
		if l.publishers >= l.options().Descriptors.Publishers {
			l.makeRoomForViewer(dec, nil)
		}
		if dec.refused == "" {
			l.removeFromLists(e)
			e.use, e.state = forPublisher, stateStreaming
			l.publishers++
		}
	})
}

// assign counts e, a connection of a proxy, for the client at addr.
func (l *Limiter) assign(e *entry, addr netip.Addr) error {
	return l.decide(e.remote, func(dec *decision) {
		now := l.now()
		l.expire(now)
		ac := l.addressOf(addr, true)
		if l.hasShare(ac) {
			dec.refused = reasonShare
		} else if e.state != stateClosed {
			l.makeRoomForAddress(dec, ac, now)
			l.move(e, ac, now)
		}
	})
}

// unassign counts e for the proxy again, unless it streams to its client.
func (l *Limiter) unassign(e *entry) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if e.state == stateIdle || e.state == stateActive {
		l.move(e, nil, l.now())
	}
}

// move makes e, which is not closed, a connection of ac. The caller holds l.mu.
func (l *Limiter) move(e *entry, ac *addressConns, now time.Duration) {
	if e.state != stateIdle {
		l.setAddress(e, ac)
		return
	}
	l.removeFromLists(e)
	l.setAddress(e, ac)
	e.since = now
	l.setIdle(e)
}
