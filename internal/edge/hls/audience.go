package hls

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"hash/maphash"
	"net"
	"net/http"
	"sync"
	"time"

	"livego/internal/live"
	"livego/internal/netx"
	"livego/internal/segment"
	"livego/internal/stream"
)

const (
	// maxGuests bounds the viewers who are counted; those beyond are served all the same.
	maxGuests = 100_000
	// kickedFor is how long after his last request one who was kicked is remembered.
	kickedFor = time.Hour
	// passKept is how long it is known what somebody came in by who asks for nothing.
	passKept = 25 * time.Hour
	// lastLook is how long after he was told of the end a viewer may take the last segments while the server stops.
	lastLook = time.Second
)

// guestID tells sessions apart; nobody can guess one.
type guestID [16]byte

// An audience knows who watches. HLS has no connection that would tell: a viewer is a signed session that asks for the media
// playlist again and again. Segments have the same addresses for all, so their bytes are put down to the session that last asked
// for the playlist from the same address with the same player.
type audience struct {
	hub     *stream.Hub
	timeout time.Duration
	secret  [32]byte // signs sessions, until the server ends
	coding  *base64.Encoding
	seed    maphash.Seed

	mu       sync.Mutex // before the hub's locks
	guests   map[guestID]*guest
	byClient map[client]*guest // who asked last
	passes   map[guestID]passed
	closed   bool
}

// passed is what somebody came in by who has a session and has asked for nothing yet.
type passed struct {
	pass live.Pass
	at   time.Time
}

// A client is what a request tells of who made it, besides the session.
type client struct {
	name  live.Name
	host  string
	agent uint64 // hash of the User-Agent
}

type guest struct {
	ticket [ticketLen]byte // whose signature has been found to be good for room
	room   live.Name
	client client
	viewer *stream.Viewer // nil when the stream had ended before he came
	pass   live.Pass
	epoch  uint64 // of the session that viewer belongs to
	seen   time.Time
	target time.Duration // how often he asks, at the least
	told   time.Time     // when he was told of the end; zero before
	kicked bool
}

func newAudience(hub *stream.Hub, timeout time.Duration) *audience {
	a := &audience{
		hub: hub, timeout: timeout, coding: base64.RawURLEncoding.Strict(), seed: maphash.MakeSeed(),
		guests: make(map[guestID]*guest), byClient: make(map[client]*guest), passes: make(map[guestID]passed),
	}
	rand.Read(a.secret[:])
	return a
}

// A ticket is the ID, the Unix time when it expires (0: never) and the first 16 bytes of the signature.
const (
	ticketBody = len(guestID{}) + 8
	ticketLen  = ticketBody + 16
)

// ticket returns a fresh signed session of what was granted for a URL.
func (a *audience) ticket(grant live.Grant) string {
	var t [ticketLen]byte
	rand.Read(t[:len(guestID{})])
	if !grant.Expires.IsZero() {
		binary.BigEndian.PutUint64(t[len(guestID{}):], uint64(grant.Expires.Unix()))
	}
	copy(t[ticketBody:], a.sign(grant.Name, t[:ticketBody]))
	if grant.Pass.Max > 0 {
		a.mu.Lock()
		defer a.mu.Unlock()
		if len(a.passes) < maxGuests {
			a.passes[guestID(t[:len(guestID{})])] = passed{grant.Pass, time.Now()}
		}
	}
	return a.coding.EncodeToString(t[:])
}

// open returns whose session of name s is; false when it is none of ours or has expired.
func (a *audience) open(s string, name live.Name) (id guestID, ok bool) {
	if a.coding.DecodedLen(len(s)) != ticketLen {
		return id, false
	}
	var t [ticketLen]byte
	if _, err := a.coding.Decode(t[:], []byte(s)); err != nil {
		return id, false
	}
	if !a.knows(t, name) {
		if !hmac.Equal(t[ticketBody:], a.sign(name, t[:ticketBody])[:ticketLen-ticketBody]) {
			return id, false
		}
		a.remember(t, name)
	}
	if until := binary.BigEndian.Uint64(t[len(id):]); until != 0 && time.Now().Unix() >= int64(until) {
		return id, false
	}
	return guestID(t[:len(id)]), true
}

// knows reports whether t has been found to be good for name: to compute a signature costs more than all else of a request.
func (a *audience) knows(t [ticketLen]byte, name live.Name) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	g := a.guests[guestID(t[:len(guestID{})])]
	return g != nil && g.room == name && hmac.Equal(g.ticket[:], t[:])
}

// remember notes that t, which is of a guest, is good for name.
func (a *audience) remember(t [ticketLen]byte, name live.Name) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if g := a.guests[guestID(t[:len(guestID{})])]; g != nil {
		g.ticket, g.room = t, name
	}
}

func (a *audience) sign(name live.Name, body []byte) []byte {
	mac := hmac.New(sha256.New, a.secret[:])
	mac.Write(body) // of fixed length, so that the parts cannot be shifted
	mac.Write([]byte(name.String()))
	return mac.Sum(nil)
}

func (a *audience) clientOf(name live.Name, r *http.Request) client {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		host = r.RemoteAddr
	}
	return client{name, host, maphash.String(a.seed, r.UserAgent())}
}

// visit notes that the viewer with session id gets list l of the session epoch of name. The error tells that he was kicked (Denied),
// or that too many watch with what he came in by (Limit).
func (a *audience) visit(id guestID, name live.Name, epoch uint64, l *segment.List, r *http.Request) error {
	now := time.Now()
	a.mu.Lock()
	defer a.mu.Unlock()
	g := a.guests[id]
	if g == nil {
		if len(a.guests) >= maxGuests || a.closed {
			return nil
		}
		g = &guest{pass: a.passes[id].pass}
		delete(a.passes, id)
		a.guests[id] = g
	}
	g.seen, g.target = now, l.Target
	if g.kicked = g.kicked || g.wasKicked(); g.kicked {
		g.leave()
		return live.Errorf(live.Denied, "disconnected by the operator")
	}
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
	if err := a.join(g, epoch, r); err != nil {
		a.remove(id, g)
		return err
	}
	return nil
}

// tell notes that the viewer with session id learns of the end from a request that was held for it.
func (a *audience) tell(id guestID) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if g := a.guests[id]; g != nil && g.told.IsZero() {
		g.told = time.Now()
	}
}

// join makes g a viewer of the session epoch of his stream, as which statistics and kicks see him. Caller holds a.mu.
func (a *audience) join(g *guest, epoch uint64, r *http.Request) error {
	if g.viewer != nil && g.epoch == epoch {
		return nil
	}
	g.leave() // before he joins: he counts once
	v, err := a.hub.Join(g.client.name, stream.ViewerOptions{
		Proto: "hls", Pass: g.pass, Remote: r.RemoteAddr, URL: netx.ShownURL(r, "http", "/"+g.client.name.String()+playlistExt),
	})
	switch {
	case live.KindOf(err) == live.Limit:
		return err
	case err == nil: // else it has ended: what is kept has no viewers
		g.viewer, g.epoch = v, v.Epoch()
	}
	return nil
}

// count puts n bytes of f down to who made r.
func (a *audience) count(name live.Name, r *http.Request, f *segment.File, n int) {
	if n == 0 {
		return
	}
	c := a.clientOf(name, r)
	a.mu.Lock()
	defer a.mu.Unlock()
	if g := a.byClient[c]; g != nil && g.viewer != nil {
		g.viewer.Count(f.Share(n))
	}
}

// sweep lets those go who have not asked for anything for too long.
func (a *audience) sweep(now time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for id, p := range a.passes {
		if now.Sub(p.at) >= passKept {
			delete(a.passes, id)
		}
	}
	for id, g := range a.guests {
		patience := max(a.timeout, 3*g.target)
		if g.kicked || g.wasKicked() {
			g.kicked, patience = true, kickedFor
			g.leave()
		}
		if now.Sub(g.seen) >= patience {
			a.remove(id, g)
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
	for id, g := range a.guests {
		a.remove(id, g)
	}
}

// remove lets g go. Caller holds a.mu.
func (a *audience) remove(id guestID, g *guest) {
	g.leave()
	a.forget(g)
	delete(a.guests, id)
	if g.pass.Max > 0 && len(a.passes) < maxGuests {
		a.passes[id] = passed{g.pass, time.Now()} // he may come again
	}
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
