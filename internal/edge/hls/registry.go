package hls

import (
	"container/list"
	"crypto/hmac"
	"hash/maphash"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"sync"
	"time"

	"livego/internal/deliver/segment"
	"livego/internal/domain"
	"livego/internal/ops/httpx"
	"livego/internal/ops/netx"
	"livego/internal/stream"
)

const (
	// maxSessions bounds the viewers who are counted; those beyond are served all the same, but for
	// those whose token has a limit.
	maxSessions = 100_000
	// maxUnfetched bounds, for each address, the sessions that have fetched no media yet and whose
	// number nothing limits: the oldest is forgotten for a new one, and counted again when it comes
	// back. It is what a school fills whose viewers all start at once.
	maxUnfetched = 1024
	// maxUnlimited bounds, for each address, all sessions whose number nothing limits: those beyond
	// are served and not counted.
	maxUnlimited = maxSessions / 10
	// maxLimited bounds, for each address, the sessions whose token has a limit.
	maxLimited = maxSessions / 10
	// maxRoamAddresses is from how many addresses within roamTime a session with a limit may be used
	// and count as one viewer: a phone that moves between networks. With more it counts as one for
	// each.
	maxRoamAddresses = 3
	roamTime         = time.Minute
	// maxEndedRooms bounds the rooms of which it is known that their sessions were ended. When it is
	// full, all sessions so far end.
	maxEndedRooms = 100_000
	// kickRetention is how long after his last request one who was kicked is remembered.
	kickRetention = time.Hour
	// endGrace is how long after he was told of the end a viewer may take the last segments while the server stops.
	endGrace = time.Second
)

// sessionID tells sessions apart; nobody can guess one.
type sessionID [16]byte

// An sessionRegistry knows who watches. HLS has no connection that would tell: a viewer is a signed
// session that asks for the media playlist again and again. Segments of public rooms have the same
// addresses for all, so their bytes are put down to the session that last asked for the playlist
// from the same address with the same player.
type sessionRegistry struct {
	*signer
	hub      *stream.Hub
	timeout  time.Duration
	loopback bool // the limits by address hold for this machine too
	seed     maphash.Seed

	mu          sync.Mutex // before the hub's locks
	sessions    map[sessionID]*viewerSession
	byClient    map[client]*viewerSession // who asked last
	unfetched   map[netip.Addr]*list.List // of guests without media and limit, by address; the oldest first
	limited     map[netip.Addr]int        // from how many sessions with a limit an address watches
	unlimited   map[netip.Addr]int        // how many of the guests without a limit first came from an address
	endSequence uint32                    // how many times sessions were ended
	ended       map[domain.Name]uint32    // the last of these times; App is "" for every app
	endedAll    uint32
	closed      bool
}

// A client is what a request tells of who made it, besides the session.
type client struct {
	name  domain.Name
	host  string
	agent uint64 // hash of the User-Agent
}

type viewerSession struct {
	token    sessionToken // whose signature has been found to be good for room
	room     domain.Name
	client   client
	viewer   *stream.Viewer // nil when the stream had ended before he came
	epoch    uint64         // of the session that viewer belongs to
	lastSeen time.Time
	target   time.Duration // how often he asks, at the least
	endSeen  time.Time     // when he was endSeen of the end; zero before
	kicked   bool

	address   netip.Addr
	unfetched *list.Element // nil for one with a limit, or that has fetched media

	// Of a session with a limit.
	slots     int // of its pass that it holds
	addresses []usedAddress
}

// A usedAddress is an address that a session with a limit is used from.
type usedAddress struct {
	addr netip.Addr
	last time.Time
}

func newSessionRegistry(hub *stream.Hub, timeout time.Duration, loopback bool) *sessionRegistry {
	return &sessionRegistry{
		signer: newSigner(), hub: hub, timeout: timeout, loopback: loopback, seed: maphash.MakeSeed(),
		sessions: make(map[sessionID]*viewerSession), byClient: make(map[client]*viewerSession),
		unfetched: make(map[netip.Addr]*list.List), limited: make(map[netip.Addr]int),
		unlimited: make(map[netip.Addr]int), ended: make(map[domain.Name]uint32),
	}
}

// issueToken returns a new signed session of what was granted, for a URL. Nothing is kept of it.
func (a *sessionRegistry) issueToken(grant domain.Grant) string {
	a.mu.Lock()
	sequence := a.endSequence
	a.mu.Unlock()
	return a.encode(grant, sequence)
}

// verifyToken returns the session of name that s is; the error tells why it is none, or may not be used.
func (a *sessionRegistry) verifyToken(s string, name domain.Name) (sessionToken, error) {
	if s == "" {
		return sessionToken{}, domain.CodeErrorf(domain.Denied, domain.SessionMissing, "session missing: start at %s%s", name,
			playlistExt)
	}
	t, ok := a.decode(s)
	if !ok || !a.isKnown(&t, name) && !a.verify(&t, name) {
		return sessionToken{}, domain.CodeErrorf(domain.Denied, domain.SessionInvalid, "session invalid: start at %s%s", name,
			playlistExt)
	}
	return t, nil
}

// isKnown reports whether t has been found to be good for name: to compute a signature costs more
// than all else of a request.
func (a *sessionRegistry) isKnown(t *sessionToken, name domain.Name) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	g := a.sessions[t.id]
	return g != nil && g.room == name && g.token.length == t.length &&
		hmac.Equal(g.token.encoded[:t.length], t.encoded[:t.length])
}

// authorize returns why the session t of name, which is private, must not be used for r.
func (a *sessionRegistry) authorize(t *sessionToken, name domain.Name, r *http.Request) error {
	if err := t.authorize(r); err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if t.endSequence < max(a.endedAll, a.ended[name], a.ended[domain.Name{Room: name.Room}]) {
		return domain.CodeErrorf(domain.Denied, domain.SessionEnded, "session ended by the operator")
	}
	return nil
}

// endSessions ends the sessions of room so far, in app or for "" in every app, and returns how many
// of them were in use.
func (a *sessionRegistry) endSessions(app, room string) (n int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.endSequence++
	if len(a.ended) >= maxEndedRooms {
		clear(a.ended)
		a.endedAll = a.endSequence
	}
	a.ended[domain.Name{App: app, Room: room}] = a.endSequence
	for _, g := range a.sessions {
		if g.room.Room == room && (app == "" || g.room.App == app) {
			a.remove(g)
			n++
		}
	}
	return n
}

func (a *sessionRegistry) clientOf(name domain.Name, r *http.Request) client {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		host = r.RemoteAddr
	}
	return client{name, host, maphash.String(a.seed, r.UserAgent())}
}

// subnet returns what counts as one address: an IPv6 network of 64 bits, of which a single client
// has as many addresses as it likes.
func subnet(addr netip.Addr) netip.Addr {
	if addr.Is6() && !addr.IsLoopback() {
		p, _ := addr.Prefix(64) // no error: 64 bits are there
		return p.Addr()
	}
	return addr
}

// recordPlaylist notes that the viewer with session t gets list l of the session epoch of name. The
// error is that of admit.
func (a *sessionRegistry) recordPlaylist(t *sessionToken, name domain.Name, epoch uint64, l *segment.List,
	r *http.Request) error {
	now := time.Now()
	a.mu.Lock()
	defer a.mu.Unlock()
	g, err := a.admit(t, name, r, now)
	if g == nil {
		return err
	}
	g.target = l.Target
	if c := a.clientOf(name, r); g.client != c {
		a.unlinkClient(g)
		g.client = c
	}
	a.byClient[g.client] = g
	if !l.Ended {
		g.endSeen = time.Time{}
	} else if g.endSeen.IsZero() {
		g.endSeen = now
	}
	a.attachViewer(g, epoch, r)
	return nil
}

// recordMedia notes that the viewer with session t, of the private room name, fetches media. The
// error is that of admit.
func (a *sessionRegistry) recordMedia(t *sessionToken, name domain.Name, r *http.Request) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	_, err := a.admit(t, name, r, time.Now())
	return err
}

// admit returns the guest that the session t is, of which r is a request; nil without an error for
// one that is served and not counted. The error tells that it was kicked (Denied), that too many
// watch with its token, or from its address (Limit). Caller holds a.mu.
func (a *sessionRegistry) admit(t *sessionToken, name domain.Name, r *http.Request, now time.Time) (*viewerSession,
	error) {
	from := subnet(netx.ClientAddr(r))
	g := a.sessions[t.id]
	if g == nil {
		g = &viewerSession{token: *t, room: name, address: from}
		if a.closed || t.viewerLimit.Max == 0 && a.isFull(from) {
			return nil, nil
		}
	}
	if g.kicked = g.kicked || g.wasKicked(); g.kicked {
		g.lastSeen = now
		a.release(g)
		return nil, domain.Errorf(domain.Denied, "disconnected by the operator")
	}
	if t.viewerLimit.Max > 0 {
		if err := a.countAddress(g, from, now); err != nil {
			return nil, err
		}
	}
	g.lastSeen = now
	if a.sessions[t.id] == nil {
		a.sessions[t.id] = g
		if t.viewerLimit.Max == 0 {
			a.unlimited[from]++
			a.addUnfetched(g)
		}
	}
	return g, nil
}

// isFull reports whether no more sessions without a limit are counted, or none from an address. Caller holds a.mu.
func (a *sessionRegistry) isFull(from netip.Addr) bool {
	return len(a.sessions) >= maxSessions || a.unlimited[from] >= maxUnlimited && a.limitsApply(from)
}

// limitsApply reports whether the limitsApply of sessions hold for an address. Those behind a proxy
// on this machine may be any number.
func (a *sessionRegistry) limitsApply(from netip.Addr) bool { return a.loopback || !from.IsLoopback() }

// addUnfetched counts a new guest without a limit to those that have fetched nothing. Caller holds a.mu.
func (a *sessionRegistry) addUnfetched(g *viewerSession) {
	l := a.unfetched[g.address]
	if l == nil {
		l = list.New()
		a.unfetched[g.address] = l
	}
	g.unfetched = l.PushBack(g)
	if l.Len() > maxUnfetched {
		a.remove(l.Front().Value.(*viewerSession))
	}
}

// removeUnfetched notes that g has removeUnfetched media, or is to be counted no longer to those
// that have not. Caller holds a.mu.
func (a *sessionRegistry) removeUnfetched(g *viewerSession) {
	if g.unfetched == nil {
		return
	}
	l := a.unfetched[g.address]
	l.Remove(g.unfetched)
	if g.unfetched = nil; l.Len() == 0 {
		delete(a.unfetched, g.address)
	}
}

// countAddress notes that g, which has a limit, is used from an address, and takes the places of
// its pass that it needs for that. An error of kind Limit leaves all as it was: those who watch
// already go on. Caller holds a.mu.
func (a *sessionRegistry) countAddress(g *viewerSession, from netip.Addr, now time.Time) error {
	for i := range g.addresses {
		if g.addresses[i].addr == from {
			g.addresses[i].last = now
			return nil
		}
	}
	a.expireAddresses(g, now.Add(-roamTime))
	if a.limited[from] >= maxLimited && a.limitsApply(from) {
		return domain.CodeErrorf(domain.Limit, domain.AddressLimit, "too many sessions from one address (%d)", maxLimited)
	}
	need := slotsFor(len(g.addresses) + 1)
	if err := a.hub.ReserveViewers(g.token.viewerLimit, need-g.slots); err != nil {
		return err
	}
	g.slots = need
	g.addresses = append(g.addresses, usedAddress{from, now})
	a.limited[from]++
	return nil
}

// slotsFor returns as how many viewers a session counts that is used from n addresses.
func slotsFor(n int) int {
	if n > 0 && n <= maxRoamAddresses {
		return 1
	}
	return n
}

// expireAddresses forgets the addresses that g was last used from before a time, and gives back the
// places that it does not need for the others; one it keeps for as long as it is a guest. Caller
// holds a.mu.
func (a *sessionRegistry) expireAddresses(g *viewerSession, before time.Time) {
	g.addresses = slices.DeleteFunc(g.addresses, func(u usedAddress) bool {
		if !u.last.Before(before) {
			return false
		}
		if a.limited[u.addr]--; a.limited[u.addr] == 0 {
			delete(a.limited, u.addr)
		}
		return true
	})
	need := min(g.slots, max(1, slotsFor(len(g.addresses))))
	a.hub.ReleaseViewers(g.token.viewerLimit, g.slots-need)
	g.slots = need
}

// recordEndSeen notes that the viewer with session t learns of the end from a request that was held for it.
func (a *sessionRegistry) recordEndSeen(t *sessionToken) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if g := a.sessions[t.id]; g != nil && g.endSeen.IsZero() {
		g.endSeen = time.Now()
	}
}

// attachViewer makes g a viewer of the session epoch of his stream, as which statistics and kicks
// see him. Caller holds a.mu.
func (a *sessionRegistry) attachViewer(g *viewerSession, epoch uint64, r *http.Request) {
	if g.viewer != nil && g.epoch == epoch {
		return
	}
	g.detachViewer() // before he joins: he counts once
	v, err := a.hub.Join(g.client.name, stream.ViewerOptions{
		Proto: "hls", Remote: r.RemoteAddr, URL: httpx.DisplayURL(r, "http", "/"+g.client.name.String()+playlistExt),
	})
	if err == nil { // else it has ended: what is kept has no viewers
		g.viewer, g.epoch = v, v.Epoch()
	}
}

// countBytes puts n bytes of f down to the session t, or where that is nil to the one that seems to have made r.
func (a *sessionRegistry) countBytes(t *sessionToken, name domain.Name, r *http.Request, f *segment.File, n int) {
	if n == 0 {
		return
	}
	c := a.clientOf(name, r)
	a.mu.Lock()
	defer a.mu.Unlock()
	g := a.byClient[c]
	if t != nil {
		g = a.sessions[t.id]
	}
	if g == nil {
		return
	}
	a.removeUnfetched(g)
	if g.viewer != nil {
		g.viewer.ObserveBytes(f.SplitBytes(n))
	}
}

// expire lets those go who have not asked for anything for too long.
func (a *sessionRegistry) expire(now time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, g := range a.sessions {
		patience := max(a.timeout, 3*g.target)
		if g.kicked || g.wasKicked() {
			g.kicked, patience = true, kickRetention
			a.release(g)
		}
		if now.Sub(g.lastSeen) >= patience {
			a.remove(g)
		} else if g.slots > 1 {
			a.expireAddresses(g, now.Add(-roamTime))
		}
	}
}

// drained reports whether nobody is left who does not know of his stream's end.
func (a *sessionRegistry) drained(now time.Time) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, g := range a.sessions {
		gone := now.Sub(g.lastSeen) > 3*g.target/2+time.Second
		told := !g.endSeen.IsZero() && now.Sub(g.endSeen) >= endGrace
		if !gone && !told && !g.kicked {
			return false
		}
	}
	return true
}

// close lets all go.
func (a *sessionRegistry) close() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.closed = true
	for _, g := range a.sessions {
		a.remove(g)
	}
}

// remove lets g go. Caller holds a.mu.
func (a *sessionRegistry) remove(g *viewerSession) {
	a.release(g)
	a.unlinkClient(g)
	delete(a.sessions, g.token.id)
	if g.token.viewerLimit.Max > 0 {
		return
	}
	if a.unlimited[g.address]--; a.unlimited[g.address] == 0 {
		delete(a.unlimited, g.address)
	}
}

// release gives back all that g holds: what is left is who it is. Caller holds a.mu.
func (a *sessionRegistry) release(g *viewerSession) {
	g.detachViewer()
	a.removeUnfetched(g)
	for _, u := range g.addresses {
		if a.limited[u.addr]--; a.limited[u.addr] == 0 {
			delete(a.limited, u.addr)
		}
	}
	a.hub.ReleaseViewers(g.token.viewerLimit, g.slots)
	g.addresses, g.slots = nil, 0
}

// unlinkClient has g counted for nothing more. Caller holds a.mu.
func (a *sessionRegistry) unlinkClient(g *viewerSession) {
	if a.byClient[g.client] == g {
		delete(a.byClient, g.client)
	}
}

func (g *viewerSession) detachViewer() {
	if g.viewer != nil {
		g.viewer.Leave()
		g.viewer = nil
	}
}

func (g *viewerSession) wasKicked() bool {
	if g.viewer == nil {
		return false
	}
	select {
	case <-g.viewer.Kicked():
		return true
	default:
		return false
	}
}
