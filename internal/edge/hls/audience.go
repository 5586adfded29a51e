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

	"livego/internal/live"
	"livego/internal/netx"
	"livego/internal/segment"
	"livego/internal/stream"
)

const (
	// maxGuests bounds the viewers who are counted; those beyond are served all the same, but for those whose token has a limit.
	maxGuests = 100_000
	// maxUnfetched bounds, for each address, the sessions that have fetched no media yet and whose number nothing limits: the oldest is
	// forgotten for a new one, and counted again when it comes back. It is what a school fills whose viewers all start at once.
	maxUnfetched = 1024
	// maxUnlimited bounds, for each address, all sessions whose number nothing limits: those beyond are served and not counted.
	maxUnlimited = maxGuests / 10
	// maxLimited bounds, for each address, the sessions whose token has a limit.
	maxLimited = maxGuests / 10
	// fewAddresses is from how many addresses within roamTime a session with a limit may be used and count as one viewer: a phone that
	// moves between networks. With more it counts as one for each.
	fewAddresses = 3
	roamTime     = time.Minute
	// maxEndings bounds the rooms of which it is known that their sessions were ended. When it is full, all sessions so far end.
	maxEndings = 100_000
	// kickedFor is how long after his last request one who was kicked is remembered.
	kickedFor = time.Hour
	// lastLook is how long after he was told of the end a viewer may take the last segments while the server stops.
	lastLook = time.Second
)

// guestID tells sessions apart; nobody can guess one.
type guestID [16]byte

// An audience knows who watches. HLS has no connection that would tell: a viewer is a signed session that asks for the media
// playlist again and again. Segments of public rooms have the same addresses for all, so their bytes are put down to the session that
// last asked for the playlist from the same address with the same player.
type audience struct {
	*signer
	hub      *stream.Hub
	timeout  time.Duration
	loopback bool // the limits by address hold for this machine too
	seed     maphash.Seed

	mu        sync.Mutex // before the hub's locks
	guests    map[guestID]*guest
	byClient  map[client]*guest         // who asked last
	unfetched map[netip.Addr]*list.List // of guests without media and limit, by address; the oldest first
	limited   map[netip.Addr]int        // from how many sessions with a limit an address watches
	unlimited map[netip.Addr]int        // how many of the guests without a limit first came from an address
	sequence  uint32                    // how many times sessions were ended
	ended     map[live.Name]uint32      // the last of these times; App is "" for every app
	endedAll  uint32
	closed    bool
}

// A client is what a request tells of who made it, besides the session.
type client struct {
	name  live.Name
	host  string
	agent uint64 // hash of the User-Agent
}

type guest struct {
	token  sessionToken // whose signature has been found to be good for room
	room   live.Name
	client client
	viewer *stream.Viewer // nil when the stream had ended before he came
	epoch  uint64         // of the session that viewer belongs to
	seen   time.Time
	target time.Duration // how often he asks, at the least
	told   time.Time     // when he was told of the end; zero before
	kicked bool

	from      netip.Addr
	unfetched *list.Element // nil for one with a limit, or that has fetched media

	// Of a session with a limit.
	places    int // of its pass that it holds
	addresses []usedAddress
}

// A usedAddress is an address that a session with a limit is used from.
type usedAddress struct {
	addr netip.Addr
	last time.Time
}

func newAudience(hub *stream.Hub, timeout time.Duration, loopback bool) *audience {
	return &audience{
		signer: newSigner(), hub: hub, timeout: timeout, loopback: loopback, seed: maphash.MakeSeed(),
		guests: make(map[guestID]*guest), byClient: make(map[client]*guest),
		unfetched: make(map[netip.Addr]*list.List), limited: make(map[netip.Addr]int),
		unlimited: make(map[netip.Addr]int), ended: make(map[live.Name]uint32),
	}
}

// ticket returns a new signed session of what was granted, for a URL. Nothing is kept of it.
func (a *audience) ticket(grant live.Grant) string {
	a.mu.Lock()
	sequence := a.sequence
	a.mu.Unlock()
	return a.make(grant, sequence)
}

// open returns the session of name that s is; the error tells why it is none, or may not be used.
func (a *audience) open(s string, name live.Name) (sessionToken, error) {
	if s == "" {
		return sessionToken{}, live.Refuse(live.Denied, live.SessionMissing, "session missing: start at %s%s", name, playlistExt)
	}
	t, ok := a.parse(s)
	if !ok || !a.knows(&t, name) && !a.verify(&t, name) {
		return sessionToken{}, live.Refuse(live.Denied, live.SessionInvalid, "session invalid: start at %s%s", name, playlistExt)
	}
	return t, nil
}

// knows reports whether t has been found to be good for name: to compute a signature costs more than all else of a request.
func (a *audience) knows(t *sessionToken, name live.Name) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	g := a.guests[t.id]
	return g != nil && g.room == name && g.token.length == t.length && hmac.Equal(g.token.encoded[:t.length], t.encoded[:t.length])
}

// check returns why the session t of name, which is private, must not be used for r.
func (a *audience) check(t *sessionToken, name live.Name, r *http.Request) error {
	if err := t.check(r); err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if t.sequence < max(a.endedAll, a.ended[name], a.ended[live.Name{Room: name.Room}]) {
		return live.Refuse(live.Denied, live.SessionEnded, "session ended by the operator")
	}
	return nil
}

// end ends the sessions of room so far, in app or for "" in every app, and returns how many of them were in use.
func (a *audience) end(app, room string) (n int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.sequence++
	if len(a.ended) >= maxEndings {
		clear(a.ended)
		a.endedAll = a.sequence
	}
	a.ended[live.Name{App: app, Room: room}] = a.sequence
	for _, g := range a.guests {
		if g.room.Room == room && (app == "" || g.room.App == app) {
			a.remove(g)
			n++
		}
	}
	return n
}

func (a *audience) clientOf(name live.Name, r *http.Request) client {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		host = r.RemoteAddr
	}
	return client{name, host, maphash.String(a.seed, r.UserAgent())}
}

// subnet returns what counts as one address: an IPv6 network of 64 bits, of which a single client has as many addresses as it likes.
func subnet(addr netip.Addr) netip.Addr {
	if addr.Is6() && !addr.IsLoopback() {
		p, _ := addr.Prefix(64) // no error: 64 bits are there
		return p.Addr()
	}
	return addr
}

// visit notes that the viewer with session t gets list l of the session epoch of name. The error is that of admit.
func (a *audience) visit(t *sessionToken, name live.Name, epoch uint64, l *segment.List, r *http.Request) error {
	now := time.Now()
	a.mu.Lock()
	defer a.mu.Unlock()
	g, err := a.admit(t, name, r, now)
	if g == nil {
		return err
	}
	g.target = l.Target
	if c := a.clientOf(name, r); g.client != c {
		a.forget(g)
		g.client = c
	}
	a.byClient[g.client] = g
	if !l.Ended {
		g.told = time.Time{}
	} else if g.told.IsZero() {
		g.told = now
	}
	a.join(g, epoch, r)
	return nil
}

// use notes that the viewer with session t, of the private room name, fetches media. The error is that of admit.
func (a *audience) use(t *sessionToken, name live.Name, r *http.Request) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	_, err := a.admit(t, name, r, time.Now())
	return err
}

// admit returns the guest that the session t is, of which r is a request; nil without an error for one that is served and not counted. The
// error tells that it was kicked (Denied), that too many watch with its token, or from its address (Limit). Caller holds a.mu.
func (a *audience) admit(t *sessionToken, name live.Name, r *http.Request, now time.Time) (*guest, error) {
	from := subnet(netx.ClientAddr(r))
	g := a.guests[t.id]
	if g == nil {
		g = &guest{token: *t, room: name, from: from}
		if a.closed || t.pass.Max == 0 && a.isFull(from) {
			return nil, nil
		}
	}
	if g.kicked = g.kicked || g.wasKicked(); g.kicked {
		g.seen = now
		a.standDown(g)
		return nil, live.Errorf(live.Denied, "disconnected by the operator")
	}
	if t.pass.Max > 0 {
		if err := a.countAddress(g, from, now); err != nil {
			return nil, err
		}
	}
	g.seen = now
	if a.guests[t.id] == nil {
		a.guests[t.id] = g
		if t.pass.Max == 0 {
			a.unlimited[from]++
			a.awaitMedia(g)
		}
	}
	return g, nil
}

// isFull reports whether no more sessions without a limit are counted, or none from an address. Caller holds a.mu.
func (a *audience) isFull(from netip.Addr) bool {
	return len(a.guests) >= maxGuests || a.unlimited[from] >= maxUnlimited && a.bounds(from)
}

// bounds reports whether the bounds of sessions hold for an address. Those behind a proxy on this machine may be any number.
func (a *audience) bounds(from netip.Addr) bool { return a.loopback || !from.IsLoopback() }

// awaitMedia counts a new guest without a limit to those that have fetched nothing. Caller holds a.mu.
func (a *audience) awaitMedia(g *guest) {
	l := a.unfetched[g.from]
	if l == nil {
		l = list.New()
		a.unfetched[g.from] = l
	}
	g.unfetched = l.PushBack(g)
	if l.Len() > maxUnfetched {
		a.remove(l.Front().Value.(*guest))
	}
}

// fetched notes that g has fetched media, or is to be counted no longer to those that have not. Caller holds a.mu.
func (a *audience) fetched(g *guest) {
	if g.unfetched == nil {
		return
	}
	l := a.unfetched[g.from]
	l.Remove(g.unfetched)
	if g.unfetched = nil; l.Len() == 0 {
		delete(a.unfetched, g.from)
	}
}

// countAddress notes that g, which has a limit, is used from an address, and takes the places of its pass that it needs for that. An error
// of kind Limit leaves all as it was: those who watch already go on. Caller holds a.mu.
func (a *audience) countAddress(g *guest, from netip.Addr, now time.Time) error {
	for i := range g.addresses {
		if g.addresses[i].addr == from {
			g.addresses[i].last = now
			return nil
		}
	}
	a.forgetAddresses(g, now.Add(-roamTime))
	if a.limited[from] >= maxLimited && a.bounds(from) {
		return live.Refuse(live.Limit, live.AddressLimit, "too many sessions from one address (%d)", maxLimited)
	}
	need := placesOf(len(g.addresses) + 1)
	if err := a.hub.Reserve(g.token.pass, need-g.places); err != nil {
		return err
	}
	g.places = need
	g.addresses = append(g.addresses, usedAddress{from, now})
	a.limited[from]++
	return nil
}

// placesOf returns as how many viewers a session counts that is used from n addresses.
func placesOf(n int) int {
	if n > 0 && n <= fewAddresses {
		return 1
	}
	return n
}

// forgetAddresses forgets the addresses that g was last used from before a time, and gives back the places that it does not need for the
// others; one it keeps for as long as it is a guest. Caller holds a.mu.
func (a *audience) forgetAddresses(g *guest, before time.Time) {
	g.addresses = slices.DeleteFunc(g.addresses, func(u usedAddress) bool {
		if !u.last.Before(before) {
			return false
		}
		if a.limited[u.addr]--; a.limited[u.addr] == 0 {
			delete(a.limited, u.addr)
		}
		return true
	})
	need := min(g.places, max(1, placesOf(len(g.addresses))))
	a.hub.Release(g.token.pass, g.places-need)
	g.places = need
}

// tell notes that the viewer with session t learns of the end from a request that was held for it.
func (a *audience) tell(t *sessionToken) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if g := a.guests[t.id]; g != nil && g.told.IsZero() {
		g.told = time.Now()
	}
}

// join makes g a viewer of the session epoch of his stream, as which statistics and kicks see him. Caller holds a.mu.
func (a *audience) join(g *guest, epoch uint64, r *http.Request) {
	if g.viewer != nil && g.epoch == epoch {
		return
	}
	g.leave() // before he joins: he counts once
	v, err := a.hub.Join(g.client.name, stream.ViewerOptions{
		Proto: "hls", Remote: r.RemoteAddr, URL: netx.ShownURL(r, "http", "/"+g.client.name.String()+playlistExt),
	})
	if err == nil { // else it has ended: what is kept has no viewers
		g.viewer, g.epoch = v, v.Epoch()
	}
}

// count puts n bytes of f down to the session t, or where that is nil to the one that seems to have made r.
func (a *audience) count(t *sessionToken, name live.Name, r *http.Request, f *segment.File, n int) {
	if n == 0 {
		return
	}
	c := a.clientOf(name, r)
	a.mu.Lock()
	defer a.mu.Unlock()
	g := a.byClient[c]
	if t != nil {
		g = a.guests[t.id]
	}
	if g == nil {
		return
	}
	a.fetched(g)
	if g.viewer != nil {
		g.viewer.Count(f.Share(n))
	}
}

// sweep lets those go who have not asked for anything for too long.
func (a *audience) sweep(now time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, g := range a.guests {
		patience := max(a.timeout, 3*g.target)
		if g.kicked || g.wasKicked() {
			g.kicked, patience = true, kickedFor
			a.standDown(g)
		}
		if now.Sub(g.seen) >= patience {
			a.remove(g)
		} else if g.places > 1 {
			a.forgetAddresses(g, now.Add(-roamTime))
		}
	}
}

// drained reports whether nobody is left who does not know of his stream's end.
func (a *audience) drained(now time.Time) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, g := range a.guests {
		gone := now.Sub(g.seen) > 3*g.target/2+time.Second
		told := !g.told.IsZero() && now.Sub(g.told) >= lastLook
		if !gone && !told && !g.kicked {
			return false
		}
	}
	return true
}

// close lets all go.
func (a *audience) close() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.closed = true
	for _, g := range a.guests {
		a.remove(g)
	}
}

// remove lets g go. Caller holds a.mu.
func (a *audience) remove(g *guest) {
	a.standDown(g)
	a.forget(g)
	delete(a.guests, g.token.id)
	if g.token.pass.Max > 0 {
		return
	}
	if a.unlimited[g.from]--; a.unlimited[g.from] == 0 {
		delete(a.unlimited, g.from)
	}
}

// standDown gives back all that g holds: what is left is who it is. Caller holds a.mu.
func (a *audience) standDown(g *guest) {
	g.leave()
	a.fetched(g)
	for _, u := range g.addresses {
		if a.limited[u.addr]--; a.limited[u.addr] == 0 {
			delete(a.limited, u.addr)
		}
	}
	a.hub.Release(g.token.pass, g.places)
	g.addresses, g.places = nil, 0
}

// forget has g counted for nothing more. Caller holds a.mu.
func (a *audience) forget(g *guest) {
	if a.byClient[g.client] == g {
		delete(a.byClient, g.client)
	}
}

func (g *guest) leave() {
	if g.viewer != nil {
		g.viewer.Leave()
		g.viewer = nil
	}
}

func (g *guest) wasKicked() bool {
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
