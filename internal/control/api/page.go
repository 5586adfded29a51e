package api

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"fmt"
	"html/template"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"livego/internal/control/auth"
	"livego/internal/domain"
	"livego/internal/media"
	"livego/internal/stream"
)

var (
	//go:embed page/page.html
	pageHTML string
	//go:embed page/login.html
	loginHTML string
	//go:embed page/page.css
	pageCSS string
	//go:embed page/page.js
	pageJS string
	//go:embed static/livego.svg
	icon []byte
)

// A page holds the templates and the parts that do not change. Style and script are inline, so that
// the page works where each request needs a token; the policy allows them by their digests, so that
// no other script runs.
type page struct {
	main, login *template.Template
	policy      string
	css         template.CSS
	js          template.JS
	icon        template.URL
}

func newPage() *page {
	digest := func(s string) string {
		sum := sha256.Sum256([]byte(s))
		return "'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
	}
	return &page{
		main:   template.Must(template.New("page").Parse(pageHTML)),
		login:  template.Must(template.New("login").Parse(loginHTML)),
		policy: policy + "; img-src data:; style-src " + digest(pageCSS) + "; script-src " + digest(pageJS),
		css:    template.CSS(pageCSS),
		js:     template.JS(pageJS),
		icon:   template.URL("data:image/svg+xml;base64," + base64.StdEncoding.EncodeToString(icon)),
	}
}

// pageData is the data of the page's template.
type pageData struct {
	CSS     template.CSS
	JS      template.JS
	Icon    template.URL
	Version string
	Streams []streamData
	Tour    *quickStartData // nil if no app accepts publishers
	Tokens  bool            // the page has the form that makes tokens
	Keys    bool            // the page has the form that shows a key
	CSRF    string          // token of the session, "" if the browser needs none
}

// streamData is a live stream as the page shows it.
type streamData struct {
	Name    string
	Held    bool
	Up      string // time since the stream started
	Tracks  []trackData
	Off     string   // parts of the server that have failed and are off
	Health  []string // sentences of its problems
	Skipped uint64   // frames and messages of the publisher that no viewer receives
	From    string   // the publisher: "rtmp from 192.0.2.7, OBS 30"
	Viewers int
	Protos  string // viewers by protocol: "2 rtmp, 1 hls"
	Lag     string // delay of the slowest viewer, "" if all are up to date
	Links   []link
}

type trackData struct {
	Kind  string
	Facts []string
	Rate  string
}

type link struct {
	Label    string
	Protocol string // as in the API: rtmp, flv, hls
	URL      template.URL
}

// quickStartData is the data of the quick start: three steps to a first stream.
type quickStartData struct {
	GetKey string // URL
	Server string // RTMP URL without the key
	Watch  []link
}

// servePage serves /.
func (s *server) servePage(w http.ResponseWriter, r *http.Request) {
	if s.Console != nil {
		s.serveConsole(w, r)
		return
	}
	now := time.Now()
	session, loggedIn := s.Auth().Session(r)
	operates := !loggedIn || session.Rights >= auth.Operate
	data := pageData{
		CSS: s.page.css, JS: s.page.js, Icon: s.page.icon, Version: s.Version, Tour: s.quickStart(r), CSRF: session.CSRF,
		Keys: operates, Tokens: operates && s.TokenIssuer.Secret != "" && len(s.Apps) > 0,
	}
	for _, in := range s.Hub.Snapshot() {
		data.Streams = append(data.Streams, s.describeStream(in, r.Host, now))
	}
	s.writePage(w, r, s.page.main, http.StatusOK, data)
}

// serveConsole serves the console to a browser.
func (s *server) serveConsole(w http.ResponseWriter, r *http.Request) {
	setPageHeaders(w.Header(), s.consolePolicy(r.Host))
	s.Console(w, r)
}

// consolePolicy returns the Content-Security-Policy of the console. It may load thumbnails and streams from the
// viewers' listeners, as seen from a client that requested host, and from nowhere else.
func (s *server) consolePolicy(host string) string {
	var load, connect string
	for _, base := range []string{s.FLV, s.HLS, s.HTTPS, s.PublicURL} {
		u, err := url.Parse(joinURL(base, host))
		if err != nil || u.Host == "" || strings.Contains(load, " "+u.Scheme+"://"+u.Host+" ") {
			continue
		}
		load += " " + u.Scheme + "://" + u.Host + " "
		connect += " ws" + strings.TrimPrefix(u.Scheme, "http") + "://" + u.Host
	}
	load = strings.Join(strings.Fields(load), " ")
	return "default-src 'none'; script-src 'self'; style-src 'self'; font-src 'self'; img-src 'self' data: blob: " + load +
		"; media-src 'self' blob: " + load + "; connect-src 'self' " + load + connect + "; worker-src 'self' blob:; " +
		"base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
}

// setPageHeaders sets the headers of a page for operators.
func setPageHeaders(h http.Header, policy string) {
	h.Set("Content-Security-Policy", policy)
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	// With no-referrer a browser would send "Origin: null" with the page's own forms, which over
	// plain HTTP is all that identifies them.
	h.Set("Referrer-Policy", "same-origin")
}

// writePage executes a template as the response.
func (s *server) writePage(w http.ResponseWriter, r *http.Request, t *template.Template, status int, data any) {
	var body bytes.Buffer
	if err := t.Execute(&body, data); err != nil {
		s.Log.Error("page failed", "err", err)
		writeError(w, r, err)
		return
	}
	setPageHeaders(w.Header(), s.page.policy)
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	w.Write(body.Bytes())
}

func (s *server) quickStart(r *http.Request) *quickStartData {
	if len(s.Apps) == 0 {
		return nil
	}
	app := s.Apps[0]
	base := s.PublicURL
	if base == "" {
		base = scheme(r) + "://" + r.Host
	}
	return &quickStartData{
		GetKey: strings.TrimSuffix(base, "/") + "/control/get?room=movie",
		Server: s.rtmpURL(s.RTMP, r.Host, app.Name),
		Watch:  s.links(app, domain.Name{App: app.Name, Room: "movie"}, r.Host),
	}
}

func (s *server) describeStream(in stream.Info, host string, now time.Time) streamData {
	d := streamData{
		Name: in.Name.String(), Held: in.Held, Up: formatDuration(now.Sub(in.Since)),
	}
	app, _ := s.app(in.Name.App)
	d.Links = s.links(app, in.Name, host)
	var active stream.ConnInfo
	for _, c := range in.Publishers {
		if c.Active {
			active = c
			d.From = describePublisher(c, in.Meta)
		}
	}
	for _, t := range in.Program.Tracks {
		d.Tracks = append(d.Tracks, describeTrack(t, active))
	}
	for _, t := range active.Skipped.Unusable {
		facts := []string{strings.ToUpper(t.Codec), "unusable: " + t.Reason}
		d.Tracks = append(d.Tracks, trackData{Kind: t.Kind.String(), Facts: facts})
	}
	d.Skipped, d.Off = active.Skipped.Total(), strings.Join(in.Off, ", ")
	for _, f := range s.Health.FindingsOf(in.Name) {
		d.Health = append(d.Health, f.Text)
	}
	for _, sum := range in.Viewers {
		d.Viewers += sum.Viewers
	}
	d.Protos = formatProtocols(in.Viewers)
	lag := time.Duration(0)
	for v := range viewers(s.Hub.Viewers, in.Name, make([]stream.ConnInfo, statBatch)) {
		lag = max(lag, v.Delay)
	}
	if lag >= time.Second {
		d.Lag = fmt.Sprintf("%.1f s", lag.Seconds())
	}
	return d
}

func describeTrack(t *media.Track, c stream.ConnInfo) trackData {
	d := trackData{Kind: t.Kind.String()}
	add := func(known bool, format string, args ...any) {
		if known {
			d.Facts = append(d.Facts, fmt.Sprintf(format, args...))
		}
	}
	name := strings.ToUpper(t.Codec.String())
	if t.Codec == media.Passthrough {
		name = t.Label
	}
	add(name != "", "%s", name)
	add(t.Width > 0 && t.Height > 0, "%d×%d", t.Width, t.Height)
	add(t.FrameRate > 0, "%.4g fps", t.FrameRate)
	add(t.SampleRate > 0, "%.4g kHz", float64(t.SampleRate)/1000)
	add(t.Channels > 0, "%s", channelLayout(t.Channels))
	switch t.Kind {
	case media.Video:
		d.Rate = formatBitrate(c.VideoKbps)
	case media.Audio:
		d.Rate = formatBitrate(c.AudioKbps)
	}
	return d
}

func channelLayout(channels int) string {
	switch channels {
	case 1:
		return "mono"
	case 2:
		return "stereo"
	}
	return fmt.Sprintf("%d channels", channels)
}

// describePublisher returns the protocol, host and encoder of a publisher.
func describePublisher(c stream.ConnInfo, m *media.Meta) string {
	s := c.Proto
	if host, _, err := net.SplitHostPort(c.Remote); err == nil {
		s += " from " + host
	}
	if m != nil && m.Encoder != "" {
		s += ", " + m.Encoder
	}
	return s
}

// formatProtocols returns the number of viewers by protocol, the largest first.
func formatProtocols(sums map[string]stream.ProtoStats) string {
	names := slices.Collect(maps.Keys(sums))
	names = slices.DeleteFunc(names, func(n string) bool { return sums[n].Viewers == 0 })
	slices.SortFunc(names, func(a, b string) int {
		return cmp.Or(cmp.Compare(sums[b].Viewers, sums[a].Viewers), cmp.Compare(a, b))
	})
	for i, n := range names {
		names[i] = fmt.Sprintf("%d %s", sums[n].Viewers, n)
	}
	return strings.Join(names, ", ")
}

// links returns the URLs at which name can be watched, as seen from a client that requested host.
func (s *server) links(app App, name domain.Name, host string) []link {
	var links []link
	add := func(on bool, protocol, label, u string) {
		if on && u != "" {
			links = append(links, link{label, protocol, template.URL(u)})
		}
	}
	flv, hls, https := s.FLV, s.HLS, s.HTTPS
	if s.PublicURL != "" {
		flv, hls, https = s.PublicURL, s.PublicURL, ""
	}
	add(true, "rtmp", "RTMP", s.rtmpURL(s.RTMP, host, name.App, name.Room))
	add(app.FLV, "flv", "FLV", joinURL(flv, host, name.App, name.Room+".flv"))
	add(app.HLS, "hls", "HLS", joinURL(hls, host, name.App, name.Room+".m3u8"))
	// URLs over TLS come last: scripts may rely on the order of the others.
	add(true, "rtmp", "RTMPS", s.rtmpURL(s.RTMPS, host, name.App, name.Room))
	add(app.FLV, "flv", "FLV by HTTPS", joinURL(https, host, name.App, name.Room+".flv"))
	add(app.HLS, "hls", "HLS by HTTPS", joinURL(https, host, name.App, name.Room+".m3u8"))
	return links
}

// rtmpURL is joinURL for an RTMP listener. With a public URL it has the host of that and the port
// of the listener.
func (s *server) rtmpURL(base, requestHost string, parts ...string) string {
	u, err := url.Parse(base)
	public, publicErr := url.Parse(s.PublicURL)
	if s.PublicURL == "" || base == "" || err != nil || publicErr != nil {
		return joinURL(base, requestHost, parts...)
	}
	u.Host = net.JoinHostPort(public.Hostname(), u.Port())
	return u.JoinPath(parts...).String()
}

// joinURL returns base with a path. An unspecified host is replaced by that of the request. It
// returns "" for an empty base.
func joinURL(base, requestHost string, parts ...string) string {
	u, err := url.Parse(base)
	if err != nil || base == "" {
		return ""
	}
	host := u.Hostname()
	if ip, err := netip.ParseAddr(host); host == "" || err == nil && ip.IsUnspecified() {
		host = hostname(requestHost)
		if port := u.Port(); port != "" {
			u.Host = net.JoinHostPort(host, port)
		} else {
			u.Host = host
		}
	}
	return u.JoinPath(parts...).String()
}

// hostname returns host without its port and the brackets of an IPv6 address.
func hostname(host string) string {
	if h, _, err := net.SplitHostPort(host); err == nil {
		return h
	}
	return strings.Trim(host, "[]")
}

// formatDuration returns d as text, such as "1 h 30 min".
func formatDuration(d time.Duration) string {
	switch m, h := int(d.Minutes()), int(d.Hours()); {
	case m < 1:
		return fmt.Sprintf("%d s", int(d.Seconds()))
	case h < 1:
		return fmt.Sprintf("%d min", m)
	case h < 24:
		return fmt.Sprintf("%d h %d min", h, m%60)
	default:
		return fmt.Sprintf("%d d %d h", h/24, h%24)
	}
}

// formatBitrate returns a bitrate as text, such as "2.5 Mbit/s"; "" for none.
func formatBitrate(kbps float64) string {
	switch {
	case kbps < 1:
		return ""
	case kbps < 1000:
		return fmt.Sprintf("%.0f kbit/s", kbps)
	default:
		return fmt.Sprintf("%.1f Mbit/s", kbps/1000)
	}
}
