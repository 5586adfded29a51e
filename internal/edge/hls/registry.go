package hls

import (
	"cmp"
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
	"livego/internal/ops/tracing"
	"livego/internal/proto/cmcd"
	"livego/internal/quality"
	"livego/internal/stream"
)

const (
	// maxSessions bounds the viewer sessions that are counted. Those beyond are served but not
	// counted, unless their token has a viewer limit.
	maxSessions = 100_000
	// maxUnfetched bounds, per address, the unlimited sessions that have fetched no media yet. The
	// oldest is dropped for a new one, and counted again when it returns. It is large enough for a
	// school whose viewers all start at once.
	maxUnfetched = 1024
	// maxUnlimited bounds, per address, all sessions without a viewer limit: those beyond are
	// served and not counted.
	maxUnlimited = maxSessions / 10
	// maxLimited bounds, per address, the sessions whose token has a viewer limit.
	maxLimited = maxSessions / 10
	// maxRoamAddresses is from how many addresses within roamTime a limited session may be used and
	// count as one viewer, such as a phone that moves between networks. With more addresses it
	// counts as one viewer for each.
	maxRoamAddresses = 3
	roamTime         = time.Minute
	// maxEndedRooms bounds the rooms whose ended sessions are remembered. When it is exceeded, all
	// sessions so far end.
	maxEndedRooms = 100_000
	// kickRetention is how long after its last request a kicked session is remembered at least. One
	// that expires is remembered until then.
	kickRetention = time.Hour
	// endGrace is how long after a viewer has seen the end of the playlist it may fetch the last
	// segments while the server stops.
	endGrace = time.Second
)

// sessionID identifies a viewer session; it cannot be guessed.
type sessionID [16]byte

// A sessionRegistry counts the viewers. HLS has no connection per viewer: a viewer is a signed
// session that requests the media playlist repeatedly. Segments of public rooms have the same URLs
// for all viewers, so their bytes count for the session that last requested the playlist from the
// same address with the same player.
type sessionRegistry struct {
	*signer
	hub      *stream.Hub
	limiter  domain.ViewerLimiter
	loopback bool               // limits per address hold for loopback too
	quality  *quality.Collector // may be nil
	seed     maphash.Seed

	mu       sync.Mutex      // locked before the hub's locks
	tracer   *tracing.Tracer // may be nil
	timeout  time.Duration
	sessions map[sessionID]*viewerSession
	byClient map[client]*viewerSession // the session that requested a playlist last
	// unfetched are the unlimited sessions without media, by address; the oldest first.
	unfetched map[netip.Addr]*list.List
	limited   map[netip.Addr]int    // uses of limited sessions, by address
	unlimited map[netip.Addr]int    // unlimited sessions, by the address of their first request
	ended     map[domain.Name]int64 // when sessions were ended last; App "" means every app
	endedAll  int64
	last      int64 // the newest time of a token, or of an end
	closed    bool
}

// A client is what identifies the sender of a request apart from the session.
type client struct {
	name  domain.Name
	host  string
	agent uint64 // hash of the User-Agent
}

type viewerSession struct {
	token    sessionToken // its signature is verified for room
	room     domain.Name
	client   client
	viewer   *stream.Viewer  // nil when the stream had ended before the session started
	epoch    uint64          // of the stream session that viewer belongs to
	quality  *quality.Viewer // nil if its player cannot report
	lastSeen time.Time
	target   time.Duration // maximum time between two playlist requests
	endSeen  time.Time     // when the viewer was sent the end of the playlist; zero before
	kicked   bool

	address   netip.Addr
	unfetched *list.Element // nil for a limited session, and after it has fetched media

	// For a limited session.
	slots     int // of the viewer limit that the session occupies
	addresses []usedAddress
}

// A usedAddress is an address from which a limited session is used.
type usedAddress struct {
	addr netip.Addr
	last time.Time
}

func newSessionRegistry(hub *stream.Hub, limiter domain.ViewerLimiter, o Options) *sessionRegistry {
	return &sessionRegistry{
		signer: newSigner(o.Secrets), hub: hub, limiter: limiter, tracer: o.Tracer, quality: o.Quality,
		timeout: o.SessionTimeout, loopback: o.LimitLoopback, seed: maphash.MakeSeed(),
		sessions: make(map[sessionID]*viewerSession), byClient: make(map[client]*viewerSession),
		unfetched: make(map[netip.Addr]*list.List), limited: make(map[netip.Addr]int),
		unlimited: make(map[netip.Addr]int), ended: make(map[domain.Name]int64),
	}
}

// setTimeout sets the time without a request after which a session ends.
func (reg *sessionRegistry) setTimeout(d time.Duration) {
	reg.mu.Lock()
	defer reg.mu.Unlock()
	reg.timeout = d
}

// issueToken returns a new signed session token for grant and the playback of a player, for a URL.
// The registry stores nothing for it.
func (reg *sessionRegistry) issueToken(grant domain.Grant, playback quality.ID) string {
	reg.mu.Lock()
	issued := reg.nextTime()
	reg.mu.Unlock()
	return reg.encode(grant, playback, issued)
}

// nextTime returns the Unix time in ns: later than at the call before, so that it shows which sessions
// were issued before their end. Other servers have other clocks, but not by much. The caller holds reg.mu.
func (reg *sessionRegistry) nextTime() int64 {
	reg.last = max(reg.last+1, time.Now().UnixNano())
	return reg.last
}

// verifyToken decodes the session token s and verifies that it is for name. The error has a code
// for the client. Shared: do not modify the token.
func (reg *sessionRegistry) verifyToken(s string, name domain.Name) (*sessionToken, error) {
	if s == "" {
		return nil, domain.CodeErrorf(domain.Denied, domain.SessionMissing, "session missing: start at %s%s", name,
			playlistExt)
	}
	var t sessionToken
	if reg.decode(&t, s) {
		if known := reg.knownToken(&t, name); known != nil {
			return known, nil
		}
		// A copy, so that t needs no memory for the requests of known sessions.
		if t := new(t); reg.verify(t, name) {
			return t, nil
		}
	}
	return nil, domain.CodeErrorf(domain.Denied, domain.SessionInvalid, "session invalid: start at %s%s", name,
		playlistExt)
}

// knownToken returns the token of a session of name in use that is equal to t, nil if there is none:
// to verify a signature costs more than all else of a request.
func (reg *sessionRegistry) knownToken(t *sessionToken, name domain.Name) *sessionToken {
	reg.mu.Lock()
	defer reg.mu.Unlock()
	vs := reg.sessions[t.id]
	if vs != nil && vs.room == name && vs.token.length == t.length &&
		hmac.Equal(vs.token.encoded[:t.length], t.encoded[:t.length]) {
		return &vs.token
	}
	return nil
}

// authorize returns an error if session t may not be used for r, a request for name, which is
// private.
func (reg *sessionRegistry) authorize(t *sessionToken, name domain.Name, r *http.Request) error {
	if err := t.authorize(r); err != nil {
		return err
	}
	reg.mu.Lock()
	defer reg.mu.Unlock()
	if t.issued < max(reg.endedAll, reg.ended[name], reg.ended[domain.Name{Room: name.Room}]) {
		return domain.CodeErrorf(domain.Denied, domain.SessionEnded, "session ended by the operator")
	}
	return nil
}

// endSessions ends all sessions of room so far, in app or in every app if that is "", and returns
// how many of them were in use.
func (reg *sessionRegistry) endSessions(app, room string) (n int) {
	reg.mu.Lock()
	defer reg.mu.Unlock()
	at := reg.nextTime()
	if len(reg.ended) >= maxEndedRooms {
		clear(reg.ended)
		reg.endedAll = at
	}
	reg.ended[domain.Name{App: app, Room: room}] = at
	for _, vs := range reg.sessions {
		if vs.room.Room == room && (app == "" || vs.room.App == app) {
			reg.remove(vs)
			n++
		}
	}
	return n
}

func (reg *sessionRegistry) clientOf(name domain.Name, r *http.Request) client {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		host = r.RemoteAddr
	}
	return client{name, host, maphash.String(reg.seed, r.UserAgent())}
}

// recordPlaylist records that the viewer of session t receives list l of the stream session epoch
// of name. The error is that of admit.
func (reg *sessionRegistry) recordPlaylist(t *sessionToken, name domain.Name, epoch uint64, l *segment.List,
	r *http.Request) error {
	now := time.Now()
	reg.mu.Lock()
	defer reg.mu.Unlock()
	vs, err := reg.admit(t, name, r, now)
	if vs == nil {
		return err
	}
	vs.target = l.Target
	if c := reg.clientOf(name, r); vs.client != c {
		reg.unlinkClient(vs)
		vs.client = c
	}
	reg.byClient[vs.client] = vs
	if !l.Ended {
		vs.endSeen = time.Time{}
	} else if vs.endSeen.IsZero() {
		vs.endSeen = now
	}
	reg.attachViewer(vs, epoch, r)
	return nil
}

// recordMedia records that the viewer of session t fetches media of the private room name. The
// error is that of admit.
func (reg *sessionRegistry) recordMedia(t *sessionToken, name domain.Name, r *http.Request) error {
	reg.mu.Lock()
	defer reg.mu.Unlock()
	_, err := reg.admit(t, name, r, time.Now())
	return err
}

// admit returns the session of t, which is used for r; nil without an error if it is served and not
// counted. The error is Denied if the session was kicked, Limit if too many viewers use its token
// or its address. Caller holds reg.mu.
func (reg *sessionRegistry) admit(t *sessionToken, name domain.Name, r *http.Request, now time.Time) (*viewerSession,
	error) {
	vs := reg.sessions[t.id]
	known := vs != nil
	var from netip.Addr
	if !known || t.viewerLimit.Max > 0 {
		from = netx.AddressPrefix(netx.ClientAddr(r)).Addr()
	}
	if !known {
		vs = &viewerSession{token: *t, room: name, address: from}
		if reg.closed || t.viewerLimit.Max == 0 && reg.isFull(from) {
			return nil, nil
		}
	}
	if vs.kicked = vs.kicked || vs.wasKicked(); vs.kicked {
		vs.lastSeen = now
		reg.release(vs)
		return nil, domain.CodeErrorf(domain.Denied, domain.SessionEnded, "disconnected by the operator")
	}
	if t.viewerLimit.Max > 0 {
		if err := reg.countAddress(vs, from, now); err != nil {
			return nil, err
		}
	}
	vs.lastSeen = now
	if !known {
		reg.sessions[t.id] = vs
		if t.viewerLimit.Max == 0 {
			reg.unlimited[from]++
			reg.addUnfetched(vs)
		}
	}
	return vs, nil
}

// isFull reports whether no more unlimited sessions are counted, in total or from an address.
// Caller holds reg.mu.
func (reg *sessionRegistry) isFull(from netip.Addr) bool {
	return len(reg.sessions) >= maxSessions || reg.unlimited[from] >= maxUnlimited && reg.limitsApply(from)
}

// limitsApply reports whether the limits per address hold for an address. A proxy on this machine
// may have any number of viewers behind it.
func (reg *sessionRegistry) limitsApply(from netip.Addr) bool {
	return reg.loopback || !from.IsLoopback()
}

// addUnfetched adds vs, new and unlimited, to the sessions that have fetched no media. Caller holds
// reg.mu.
func (reg *sessionRegistry) addUnfetched(vs *viewerSession) {
	l := reg.unfetched[vs.address]
	if l == nil {
		l = list.New()
		reg.unfetched[vs.address] = l
	}
	vs.unfetched = l.PushBack(vs)
	if l.Len() > maxUnfetched {
		reg.remove(l.Front().Value.(*viewerSession))
	}
}

// removeUnfetched removes vs from the sessions that have fetched no media. Caller holds reg.mu.
func (reg *sessionRegistry) removeUnfetched(vs *viewerSession) {
	if vs.unfetched == nil {
		return
	}
	l := reg.unfetched[vs.address]
	l.Remove(vs.unfetched)
	if vs.unfetched = nil; l.Len() == 0 {
		delete(reg.unfetched, vs.address)
	}
}

// countAddress records that vs, a limited session, is used from an address, and reserves the slots
// of its viewer limit that it needs for that. An error of kind Limit changes nothing: viewers that
// watch already continue. Caller holds reg.mu.
func (reg *sessionRegistry) countAddress(vs *viewerSession, from netip.Addr, now time.Time) error {
	for i := range vs.addresses {
		if vs.addresses[i].addr == from {
			vs.addresses[i].last = now
			return nil
		}
	}
	reg.expireAddresses(vs, now.Add(-roamTime))
	if reg.limited[from] >= maxLimited && reg.limitsApply(from) {
		return domain.CodeErrorf(domain.Limit, domain.AddressLimit, "too many sessions from one address (%d)", maxLimited)
	}
	need := slotsFor(len(vs.addresses) + 1)
	if err := reg.limiter.ReserveViewers(vs.token.viewerLimit, need-vs.slots); err != nil {
		return err
	}
	vs.slots = need
	vs.addresses = append(vs.addresses, usedAddress{from, now})
	reg.limited[from]++
	return nil
}

// slotsFor returns how many viewers a session used from n addresses counts as.
func slotsFor(n int) int {
	if n > 0 && n <= maxRoamAddresses {
		return 1
	}
	return n
}

// expireAddresses removes addresses from which vs was last used before a time, and releases the
// slots that it no longer needs. It keeps one slot as long as it is registered. Caller holds reg.mu.
func (reg *sessionRegistry) expireAddresses(vs *viewerSession, before time.Time) {
	vs.addresses = slices.DeleteFunc(vs.addresses, func(u usedAddress) bool {
		if !u.last.Before(before) {
			return false
		}
		decrement(reg.limited, u.addr)
		return true
	})
	need := min(vs.slots, max(1, slotsFor(len(vs.addresses))))
	reg.limiter.ReleaseViewers(vs.token.viewerLimit, vs.slots-need)
	vs.slots = need
}

// recordEndSeen records that the viewer of session t is sent the end of the playlist by a blocked
// request.
func (reg *sessionRegistry) recordEndSeen(t *sessionToken) {
	reg.mu.Lock()
	defer reg.mu.Unlock()
	if vs := reg.sessions[t.id]; vs != nil && vs.endSeen.IsZero() {
		vs.endSeen = time.Now()
	}
}

// attachViewer makes vs a viewer of the stream session epoch, for statistics and kicks. Caller holds
// reg.mu.
func (reg *sessionRegistry) attachViewer(vs *viewerSession, epoch uint64, r *http.Request) {
	if vs.viewer != nil && vs.epoch == epoch {
		return
	}
	vs.detachViewer() // before Join, so that it counts once
	v, err := reg.hub.Join(vs.client.name, stream.ViewerOptions{
		Proto: "hls", Remote: r.RemoteAddr, URL: httpx.DisplayURL(r, "http", "/"+vs.client.name.String()+playlistExt),
		Agent: r.UserAgent(), TLS: r.TLS != nil, FirstMedia: reg.tracer.FirstFrame(r.Context(), vs.client.name, "hls"),
	})
	if err != nil { // the stream has ended, and has no viewers
		return
	}
	vs.viewer, vs.epoch = v, v.Epoch()
	vs.quality = reg.quality.Join(vs.token.playback, vs.client.name, "hls", r.UserAgent())
}

// observePlayback records what the player of the session t says with r, a request for name. Without
// t it is the session that the player names, or the one that probably sent r.
func (reg *sessionRegistry) observePlayback(t *sessionToken, name domain.Name, r *http.Request) {
	d, found := cmcd.ParseRequest(r)
	if !found || reg.quality == nil || r.Method != http.MethodGet {
		return
	}
	reg.mu.Lock()
	defer reg.mu.Unlock()
	vs := reg.byClient[reg.clientOf(name, r)]
	if t != nil {
		vs = reg.sessions[t.id]
	}
	if vs != nil && t != nil && vs.quality == nil && vs.viewer != nil {
		id := reg.quality.ID(cmp.Or(d.Session, string(t.id[:])))
		vs.quality = reg.quality.Join(id, name, "hls", r.UserAgent())
	}
	var v *quality.Viewer
	if vs != nil {
		v = vs.quality
	}
	reg.quality.ObserveRequest(v, name, &d)
}

// countBytes counts n bytes of f for the session t or, if that is nil, for the session that
// probably sent r.
func (reg *sessionRegistry) countBytes(t *sessionToken, name domain.Name, r *http.Request, f *segment.File, n int) {
	if n == 0 {
		return
	}
	c := reg.clientOf(name, r)
	reg.mu.Lock()
	defer reg.mu.Unlock()
	vs := reg.byClient[c]
	if t != nil {
		vs = reg.sessions[t.id]
	}
	if vs == nil {
		return
	}
	reg.removeUnfetched(vs)
	if vs.viewer != nil {
		vs.viewer.ObserveBytes(f.SplitBytes(n))
	}
}

// expire removes sessions that have made no request for too long.
func (reg *sessionRegistry) expire(now time.Time) {
	reg.mu.Lock()
	defer reg.mu.Unlock()
	for _, vs := range reg.sessions {
		timeout := max(reg.timeout, 3*vs.target)
		if vs.kicked || vs.wasKicked() {
			vs.kicked, timeout = true, max(kickRetention, time.Unix(vs.token.expires, 0).Sub(vs.lastSeen))
			reg.release(vs)
		}
		if now.Sub(vs.lastSeen) >= timeout {
			reg.remove(vs)
		} else if vs.slots > 1 {
			reg.expireAddresses(vs, now.Add(-roamTime))
		}
	}
}

// drained reports whether every viewer knows of the end of its stream.
func (reg *sessionRegistry) drained(now time.Time) bool {
	reg.mu.Lock()
	defer reg.mu.Unlock()
	for _, vs := range reg.sessions {
		gone := now.Sub(vs.lastSeen) > 3*vs.target/2+time.Second
		seen := !vs.endSeen.IsZero() && now.Sub(vs.endSeen) >= endGrace
		if !gone && !seen && !vs.kicked {
			return false
		}
	}
	return true
}

// close removes all sessions.
func (reg *sessionRegistry) close() {
	reg.mu.Lock()
	defer reg.mu.Unlock()
	reg.closed = true
	for _, vs := range reg.sessions {
		reg.remove(vs)
	}
}

// remove removes vs. Caller holds reg.mu.
func (reg *sessionRegistry) remove(vs *viewerSession) {
	reg.release(vs)
	reg.unlinkClient(vs)
	delete(reg.sessions, vs.token.id)
	if vs.token.viewerLimit.Max == 0 {
		decrement(reg.unlimited, vs.address)
	}
}

// decrement counts one less for addr.
func decrement(counts map[netip.Addr]int, addr netip.Addr) {
	if counts[addr]--; counts[addr] == 0 {
		delete(counts, addr)
	}
}

// release releases all that vs holds except its identity. Caller holds reg.mu.
func (reg *sessionRegistry) release(vs *viewerSession) {
	vs.detachViewer()
	reg.removeUnfetched(vs)
	for _, u := range vs.addresses {
		decrement(reg.limited, u.addr)
	}
	reg.limiter.ReleaseViewers(vs.token.viewerLimit, vs.slots)
	vs.addresses, vs.slots = nil, 0
}

// unlinkClient stops counting the bytes of vs's client for vs. Caller holds reg.mu.
func (reg *sessionRegistry) unlinkClient(vs *viewerSession) {
	if reg.byClient[vs.client] == vs {
		delete(reg.byClient, vs.client)
	}
}

func (vs *viewerSession) detachViewer() {
	if vs.viewer != nil {
		vs.viewer.Leave()
		vs.quality.Leave()
		vs.viewer, vs.quality = nil, nil
	}
}

func (vs *viewerSession) wasKicked() bool {
	if vs.viewer == nil {
		return false
	}
	select {
	case <-vs.viewer.Kicked():
		return true
	default:
		return false
	}
}
