package api

import (
	"context"
	"net/http"
	"net/url"
	"runtime/metrics"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"livego/internal/domain"
)

const serverPath = v1 + "/server"

// A Listener is an address at which the server accepts connections.
type Listener struct {
	Service string `json:"service" doc:"What it serves: RTMP, HTTP-FLV, HLS, operator's HTTP, ..."`
	Address string `json:"address" doc:"host:port, as it is bound."`
	TLS     bool   `json:"tls" doc:"It speaks TLS."`
}

// Features are the parts of the server that settings turn on.
type Features struct {
	Tokens     bool `json:"tokens" doc:"The server can make tokens: token.secret is set."`
	Recordings bool `json:"recordings" doc:"Streams are recorded: flv_archive."`
	Thumbnails bool `json:"thumbnails" doc:"Streams have pictures: ffmpeg is installed, and the setting thumbnails is not off."`
	Redis      bool `json:"redis" doc:"Keys are in Redis, which other servers may share."`
}

// routeServer registers the route for the server itself.
func (s *server) routeServer(api huma.API) {
	op := operation("GET", serverPath, "get-server",
		"Get the version and the state of the server, the role of the caller, and the addresses to publish and to watch")
	op.Middlewares = huma.Middlewares{withRequest}
	huma.Register(api, op, s.getServer)
}

type serverInfo struct {
	Body struct {
		Version string    `json:"version"`
		Started time.Time `json:"started" doc:"When the server started."`
		Uptime  float64   `json:"uptime" doc:"Since it started, in seconds."`
		Ready   bool      `json:"ready" doc:"Whether it can serve: the answer of /readyz."`

		Role      string     `json:"role" enum:"read,operate,admin" doc:"The role of the caller."`
		CSRFToken string     `json:"csrf_token,omitempty" doc:"The value of X-CSRF-Token, which a browser that has logged in sends with every request that changes something. Absent without a login."`
		Expires   *time.Time `json:"session_expires,omitempty" doc:"When the login ends. Absent without a login."`

		Apps      []appInfo  `json:"apps" doc:"The apps that accept publishers, the main app first."`
		Features  Features   `json:"features"`
		Listeners []Listener `json:"listeners"`
		Memory    memoryInfo `json:"memory"`
	}
}

type appInfo struct {
	App     string    `json:"app"`
	Publish []address `json:"publish" doc:"The server for encoders. A stream key, or a room with a token, comes after it."`
	Play    []address `json:"play" doc:"URLs to watch a stream. Replace {room} by the room."`
	Relays  bool      `json:"relays" doc:"Relays are allowed."`
}

// An address is one URL, as seen from the client.
type address struct {
	Protocol string `json:"protocol" enum:"rtmp,flv,ws,hls,page" doc:"ws: FLV over WebSocket. page: the player page."`
	URL      string `json:"url"`
}

type memoryInfo struct {
	Used  uint64 `json:"used" doc:"Memory of the process, in bytes, without buffers of the kernel."`
	Limit int64  `json:"limit,omitempty" doc:"The limit of the control group or of the Go runtime, in bytes. Absent if there is none."`
}

type serverInput struct{ HostInput }

func (s *server) getServer(ctx context.Context, in *serverInput) (*serverInfo, error) {
	r, _ := ctx.Value(requestKey{}).(*http.Request)
	out := new(serverInfo)
	b := &out.Body
	b.Version, b.Started, b.Uptime = s.Version, s.Started.UTC(), round3(time.Since(s.Started).Seconds())
	b.Ready = s.Ready == nil || s.Ready() == nil
	b.Role = s.Auth().Rights(r).String()
	if session, ok := s.Auth().Session(r); ok {
		b.CSRFToken, b.Expires = session.CSRF, new(session.Expires.UTC())
	}
	b.Apps = []appInfo{}
	for _, app := range s.Apps {
		b.Apps = append(b.Apps, s.describeApp(app, in.host))
	}
	b.Features, b.Listeners, b.Memory = s.Features, s.Listeners, memoryInfo{usedMemory(), s.MemoryLimit}
	return out, nil
}

// describeApp returns the addresses of app, as seen from a client that requested host.
func (s *server) describeApp(app App, host string) appInfo {
	a := appInfo{App: app.Name, Publish: []address{}, Play: []address{}, Relays: app.Relays}
	for _, base := range []string{s.RTMP, s.RTMPS} {
		if u := s.rtmpURL(base, host, app.Name); u != "" {
			a.Publish = append(a.Publish, address{"rtmp", u})
		}
	}
	for _, l := range s.links(app, domain.Name{App: app.Name, Room: "{room}"}, host) {
		u, err := url.PathUnescape(string(l.URL))
		if err != nil {
			continue
		}
		a.Play = append(a.Play, address{l.Protocol, u})
		if watch, isFLV := strings.CutSuffix(u, ".flv"); isFLV {
			a.Play = append(a.Play, address{"ws", "ws" + strings.TrimPrefix(u, "http")}, address{"page", watch})
		} else if watch, isHLS := strings.CutSuffix(u, ".m3u8"); isHLS && !app.FLV {
			a.Play = append(a.Play, address{"page", watch})
		}
	}
	return a
}

// usedMemory returns the memory that the process has from the system, in bytes.
func usedMemory() uint64 {
	samples := []metrics.Sample{{Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"}}
	metrics.Read(samples)
	return samples[0].Value.Uint64() - samples[1].Value.Uint64()
}
