package api

import (
	"context"
	"iter"
	"math"
	"net/http"
	"net/netip"
	"runtime"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"livego/internal/domain"
	"livego/internal/ops/logging"
	"livego/internal/stream"
)

const sessionsPath = v1 + "/sessions"

// Kinds of sessions.
const (
	kindPublisher = "publisher"
	kindViewer    = "viewer"
)

// routeSessions registers the routes for sessions.
func (s *server) routeSessions(api huma.API) {
	huma.Register(api, operation("GET", sessionsPath, "list-sessions",
		"List publishers and viewers of every protocol, and relays"), s.listSessions)
	huma.Register(api, operation("DELETE", sessionsPath, "end-sessions",
		"End the sessions of a room's viewers: they are disconnected, and need a valid token to watch a private room again",
		http.StatusNotFound), s.endSessions)
	huma.Register(api, operation("GET", sessionsPath+"/{id}", "get-session", "Get a publisher, viewer or relay",
		http.StatusNotFound), s.getSession)
	huma.Register(api, operation("DELETE", sessionsPath+"/{id}", "end-session",
		"Disconnect a publisher, viewer or relay. The stream of a publisher is held. A viewer by HLS cannot use its session "+
			"again. Encoders, players and relays may reconnect by themselves.",
		http.StatusNotFound), s.endSession)
}

// A session is a publisher, a viewer or a relay.
type session struct {
	ID        string    `json:"id" doc:"Unique while the server runs."`
	Kind      string    `json:"kind" enum:"publisher,viewer"`
	App       string    `json:"app"`
	Room      string    `json:"room"`
	Proto     string    `json:"proto" doc:"rtmp, flv, ws (FLV over WebSocket) or hls; push or pull for a relay."`
	TLS       bool      `json:"tls,omitempty" doc:"The connection is encrypted: RTMPS, HTTPS or WSS."`
	Relay     bool      `json:"relay,omitempty" doc:"It is a relay to or from another server."`
	Remote    string    `json:"remote" doc:"The address of the client, host:port. For HLS, of the first request."`
	UserAgent string    `json:"user_agent,omitempty" doc:"The name of the client, as it says: User-Agent of HTTP, flashVer of RTMP."`
	Since     time.Time `json:"since" doc:"When it connected."`
	Bytes     uint64    `json:"bytes" doc:"Bytes of media that were received from a publisher or sent to a viewer."`
	Bitrate   uint64    `json:"bitrate" doc:"Over the last seconds, in kbit/s."`
	DelayMS   *int64    `json:"delay_ms,omitempty" doc:"Of a viewer: how far it is behind the newest frame. Absent if unknown, as for HLS."`
	Skips     *uint64   `json:"skips,omitempty" doc:"Of a viewer: how often it fell behind and skipped to a newer keyframe. Absent if unknown, as for HLS."`
	Role      string    `json:"role,omitempty" enum:"primary,backup" doc:"Of a publisher."`
	Active    bool      `json:"active,omitempty" doc:"Of a publisher: viewers get its frames."`
	Encoder   string    `json:"encoder,omitempty" doc:"Of an active publisher: the encoder, as its metadata says."`
}

func newSession(name domain.Name, c *stream.ConnInfo) session {
	v := session{
		ID: strconv.FormatUint(c.ID, 10), Kind: kindViewer, App: name.App, Room: name.Room, Proto: c.Proto, TLS: c.TLS,
		Relay: c.Relay, Remote: c.Remote, UserAgent: logging.MaskKeys(c.Agent), Since: c.Since.UTC(),
		Bytes: c.VideoBytes + c.AudioBytes, Bitrate: uint64(math.Round(c.VideoKbps + c.AudioKbps)),
	}
	if c.DelayKnown {
		v.DelayMS, v.Skips = new(c.Delay.Milliseconds()), new(c.Skips)
	}
	return v
}

func newPublisher(name domain.Name, c *stream.ConnInfo, encoder string) session {
	p := newSession(name, c)
	p.Kind, p.Role, p.Active = kindPublisher, c.Role.String(), c.Active
	if c.Active {
		p.Encoder = encoder
	}
	return p
}

// publishers returns the publishers of a stream.
func publishers(in stream.Info) []session {
	list := make([]session, 0, len(in.Publishers))
	for i := range in.Publishers {
		list = append(list, newPublisher(in.Name, &in.Publishers[i], encoderOf(in)))
	}
	return list
}

// encoderOf returns the encoder of a stream, as its metadata says; "" if unknown.
func encoderOf(in stream.Info) string {
	if in.Meta == nil {
		return ""
	}
	return in.Meta.Encoder
}

// A listedSession is what a session is made of when it is on the page.
type listedSession struct {
	name      domain.Name
	c         stream.ConnInfo
	publisher bool
	encoder   string
}

func (v *listedSession) session() session {
	if v.publisher {
		return newPublisher(v.name, &v.c, v.encoder)
	}
	return newSession(v.name, &v.c)
}

func sessionFields() sortable[listedSession] {
	return sortable[listedSession]{
		"id":      func(v *listedSession) sortKey { return numberKey(v.c.ID) },
		"app":     func(v *listedSession) sortKey { return textKey(v.name.App) },
		"room":    func(v *listedSession) sortKey { return textKey(v.name.Room) },
		"proto":   func(v *listedSession) sortKey { return textKey(v.c.Proto) },
		"remote":  func(v *listedSession) sortKey { return textKey(v.c.Remote) },
		"since":   func(v *listedSession) sortKey { return timeKey(v.c.Since) },
		"bytes":   func(v *listedSession) sortKey { return numberKey(v.c.VideoBytes + v.c.AudioBytes) },
		"bitrate": func(v *listedSession) sortKey { return numberKey(v.c.VideoKbps + v.c.AudioKbps) },
		"skips":   func(v *listedSession) sortKey { return numberKey(v.c.Skips) },
		"kind": func(v *listedSession) sortKey {
			if v.publisher {
				return textKey(kindPublisher)
			}
			return textKey(kindViewer)
		},
		"delay_ms": func(v *listedSession) sortKey {
			if !v.c.DelayKnown {
				return numberKey(-1)
			}
			return numberKey(v.c.Delay.Milliseconds())
		},
	}
}

type sessionsInput struct {
	ListInput
	App    string `query:"app" maxLength:"128" doc:"Only sessions of this app."`
	Room   string `query:"room" maxLength:"128" doc:"Only sessions of this room."`
	Kind   string `query:"kind" enum:"publisher,viewer" doc:"Only sessions of this kind."`
	Proto  string `query:"proto" enum:"rtmp,flv,ws,hls,push,pull" doc:"Only sessions of this protocol."`
	Remote string `query:"remote" maxLength:"64" doc:"Only clients with this address, or in this network: 192.0.2.7, 2001:db8::/32."`
}

type sessionList struct {
	Body struct {
		Sessions []session `json:"sessions"`
		Next     string    `json:"next,omitempty" doc:"Cursor of the next page; absent on the last page."`
	}
}

func (s *server) listSessions(_ context.Context, in *sessionsInput) (*sessionList, error) {
	page, err := newPager(in.ListInput, sessionFields(), "id", "id")
	if err != nil {
		return nil, humaError(err)
	}
	var network netip.Prefix
	if in.Remote != "" {
		if network, err = parseNetwork(in.Remote); err != nil {
			return nil, humaError(err)
		}
	}
	selects := func(c *stream.ConnInfo) bool {
		return (in.Proto == "" || c.Proto == in.Proto) && (in.Remote == "" || isIn(c.Remote, network))
	}
	buf := make([]stream.ConnInfo, statBatch)
	for _, name := range s.Hub.Names() {
		if in.App != "" && name.App != in.App || in.Room != "" && name.Room != in.Room {
			continue
		}
		if info, live := s.Hub.Info(name); live && in.Kind != kindViewer {
			for _, c := range info.Publishers {
				if selects(&c) {
					page.add(listedSession{name, c, true, encoderOf(info)})
				}
			}
		}
		if in.Kind == kindPublisher {
			continue
		}
		for c := range viewers(s.Hub.Sessions, name, buf) {
			if selects(c) {
				page.add(listedSession{name: name, c: *c})
			}
		}
	}
	list, next := page.page()
	out := new(sessionList)
	out.Body.Sessions, out.Body.Next = make([]session, 0, len(list)), next
	for _, v := range list {
		out.Body.Sessions = append(out.Body.Sessions, v.session())
	}
	return out, nil
}

// parseNetwork parses an address or a network.
func parseNetwork(s string) (netip.Prefix, error) {
	if network, err := netip.ParsePrefix(s); err == nil {
		return network, nil
	}
	addr, err := netip.ParseAddr(s)
	if err != nil || addr.Zone() != "" {
		return netip.Prefix{}, domain.Errorf(domain.Invalid, "invalid remote: neither an address nor a network")
	}
	addr = addr.Unmap()
	return netip.PrefixFrom(addr, addr.BitLen()), nil
}

// isIn reports whether the address remote, host:port, is in network.
func isIn(remote string, network netip.Prefix) bool {
	addr, err := netip.ParseAddrPort(remote)
	return err == nil && network.Contains(addr.Addr().Unmap().WithZone(""))
}

// viewers iterates over what read returns for name, which is Hub.Viewers or Hub.Sessions. It copies as
// many as fit into buf at a time; a yielded value is valid until the next one. After each piece it
// lets other goroutines run first: a list of 10,000 viewers takes longer than a frame may wait.
func viewers(read func(domain.Name, uint64, []stream.ConnInfo) int, name domain.Name,
	buf []stream.ConnInfo) iter.Seq[*stream.ConnInfo] {
	return func(yield func(*stream.ConnInfo) bool) {
		for after, n := uint64(0), len(buf); n == len(buf); {
			n = read(name, after, buf)
			for i := range buf[:n] {
				if !yield(&buf[i]) {
					return
				}
				after = buf[i].ID
			}
			runtime.Gosched()
		}
	}
}

type sessionInput struct {
	ID string `path:"id" maxLength:"20" doc:"id of the session."`
}

// number returns the ID, 0 if it is no number: no session has that.
func (in *sessionInput) number() uint64 {
	id, err := strconv.ParseUint(in.ID, 10, 64)
	if err != nil {
		return 0
	}
	return id
}

var errNoSession = domain.Errorf(domain.NotFound, "there is no such session")

type oneSession struct{ Body session }

func (s *server) getSession(_ context.Context, in *sessionInput) (*oneSession, error) {
	name, c, isPublisher, ok := s.Hub.Session(in.number())
	if !ok {
		return nil, humaError(errNoSession)
	}
	if !isPublisher {
		return &oneSession{newSession(name, &c)}, nil
	}
	info, _ := s.Hub.Info(name)
	for _, p := range publishers(info) {
		if p.ID == in.ID {
			return &oneSession{p}, nil
		}
	}
	return nil, humaError(errNoSession) // it has left meanwhile
}

func (s *server) endSession(_ context.Context, in *sessionInput) (*struct{}, error) {
	reason := domain.CodeErrorf(domain.Denied, domain.SessionEnded, "session ended by the operator")
	if s.Hub.Kick(in.number(), reason) != nil {
		return nil, humaError(errNoSession)
	}
	s.Log.Info("control", "action", "end session", "session", in.ID)
	return nil, nil
}

type endSessionsInput struct {
	Room string `query:"room" required:"true" maxLength:"128"`
	App  string `query:"app" maxLength:"128" doc:"Only viewers of this app. Absent: of every app."`
}

type endedSessions struct {
	Body struct {
		Ended int `json:"ended" doc:"How many viewers were disconnected."`
	}
}

func (s *server) endSessions(_ context.Context, in *endSessionsInput) (*endedSessions, error) {
	err := domain.CheckRoom(in.Room)
	if err == nil {
		err = s.checkConfigured(in.App)
	}
	if err != nil {
		return nil, humaError(err)
	}
	out := new(endedSessions)
	out.Body.Ended = s.EndSessions(in.App, in.Room)
	s.Log.Info("control", "action", "end sessions", "app", in.App, "room", in.Room, "ended", out.Body.Ended)
	return out, nil
}
