package hls

import (
	"bytes"
	"context"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"livego/internal/container/m3u8"
	"livego/internal/deliver/segment"
	"livego/internal/domain"
	"livego/internal/media"
	"livego/internal/ops/httpx"
	"livego/internal/ops/netx"
	"livego/internal/proto/cmcd"
	"livego/internal/quality"
)

const playlistExt = ".m3u8"

// File names of the media playlists, by format.
var playlists = [...]string{segment.FMP4: "index.m3u8", segment.TS: "ts.m3u8"}

// minCompressed is the size from which on a playlist that is for one viewer only is compressed, in
// bytes. A server sends as much at once to a new connection (RFC 6928), and it costs less to send
// than to compress.
const minCompressed = 10 * 1460

// Values of Cache-Control.
const (
	cacheNone = "no-store" // for one viewer only
	// A playlist changes several times a second; the minimum is 1.
	cachePlaylist  = "public, max-age=1"
	cacheImmutable = "public, max-age=3600, immutable" // the name is never reused
	cachePrivate   = "private, max-age=3600, immutable"
)

// ServeHTTP responds to GET and HEAD for the paths of the package comment. Error responses say why,
// in plain text.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		w.Header().Set("Connection", "close") // the request body is not read
		http.Error(w, "method not allowed: use GET or HEAD", http.StatusMethodNotAllowed)
		return
	}
	if err := s.route(w, r); err != nil && r.Context().Err() == nil {
		if domain.KindOf(err) == domain.Unavailable {
			w.Header().Set("Retry-After", "1")
		}
		httpx.WriteError(w, err)
	}
}

func (s *Server) route(w http.ResponseWriter, r *http.Request) error {
	app, rest, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	room, file, within := strings.Cut(rest, "/")
	if !within {
		room, ok := strings.CutSuffix(room, playlistExt)
		if !ok {
			return errNotFound
		}
		name, err := s.parseName(app, room)
		if err != nil {
			return err
		}
		return s.serveMultivariant(w, r, name)
	}
	if !segment.IsFile(file) && file != playlists[segment.FMP4] && file != playlists[segment.TS] {
		return errNotFound
	}
	name, err := s.parseName(app, room)
	if err != nil {
		return err
	}
	for f, list := range playlists {
		if file == list {
			return s.serveMediaPlaylist(w, r, name, segment.Format(f))
		}
	}
	return s.serveFile(w, r, name, file)
}

var errNotFound = domain.Errorf(domain.NotFound, "not found: the address of a stream is /APP/ROOM%s", playlistExt)

// parseName returns the name of a stream in an app that has HLS.
func (s *Server) parseName(app, room string) (domain.Name, error) {
	name, err := domain.ParseName(app, room)
	if err == nil && !s.servesApp(app) {
		err = domain.Errorf(domain.NotFound, "application %q has no HLS", app)
	}
	return name, err
}

// authorize asks the authorizer for access to the stream that is requested as name.
func (s *Server) authorize(r *http.Request, name domain.Name, token string) (domain.Grant, error) {
	return s.authorizer.Authorize(r.Context(), domain.AuthRequest{
		Action: domain.Play, App: name.App, Name: name.Room, Token: token, Proto: "hls", Remote: r.RemoteAddr,
		DryRun: r.Method == http.MethodHead,
	})
}

// serveMultivariant starts a viewer session. The playlist leads to the room that the authorizer
// granted, which may have another name.
func (s *Server) serveMultivariant(w http.ResponseWriter, r *http.Request, requested domain.Name) error {
	query, err := parseQuery(r.URL.RawQuery)
	if err != nil {
		return err
	}
	choose, err := formatChooser(query.format)
	if err != nil {
		return err
	}
	token, err := httpx.Token(r)
	if err != nil {
		return err
	}
	r = s.registry.tracer.Connect(r, "hls")
	grant, err := s.authorize(r, requested, token)
	if err != nil {
		return err
	}
	l, body, err := s.multivariantOf(r.Context(), grant.Name, query.format, choose)
	if err != nil {
		return err
	}
	head, file, err := cutURI(body)
	if err != nil {
		return err
	}
	uri, cache := grant.Name.Room+"/"+file, cachePlaylist
	if !s.options().NoSessions || token != "" || s.isPrivate(grant.Name) || grant != (domain.Grant{Name: requested}) {
		uri, cache = uri+"?s="+s.registry.issueToken(grant, s.playback(r)), cacheNone
	}
	if grant.Name.App != requested.App {
		uri = "../" + grant.Name.App + "/" + uri
	}
	s.setResponseDeadline(w, r, l, 0)
	(&response{contentType: m3u8.ContentType, cache: cache, body: append(append(head, uri...), '\n')}).send(w, r)
	return nil
}

// multivariantOf returns the list of name and the multivariant playlist, as Answer has it, for a viewer that
// requests format.
func (s *Server) multivariantOf(ctx context.Context, name domain.Name, format string,
	choose func(*segment.List) segment.Format) (*segment.List, []byte, error) {
	sess, l, err := s.awaitSession(ctx, name)
	if err == nil && !sess.byName.Load() {
		body, err := multivariant(l, choose(l))
		return l, body, err
	}
	if err != nil && (domain.KindOf(err) != domain.NotFound || !s.mayFetch(name)) {
		return nil, nil, err
	}
	body, fetchErr := s.fetchMultivariant(ctx, name, format)
	return new(segment.List), body, fetchErr
}

// playback returns the ID of the playback that the player of r has named; 0 for none.
func (s *Server) playback(r *http.Request) quality.ID {
	d, _ := cmcd.ParseRequest(r)
	return s.registry.quality.ID(d.Session)
}

// idleTargets is after how many target durations without a response a connection is idle, if that
// is longer than the usual idle timeout.
const idleTargets = 3

// maxSlowdown is how many times its playing time a client may take to receive a response, if that
// is longer than AnswerTimeout. A player that takes longer for a segment cannot play the stream.
const maxSlowdown = 4

// setResponseDeadline prepares w for a response with content of l and the given playing time: it
// bounds the time in which the client must receive it.
func (s *Server) setResponseDeadline(w http.ResponseWriter, r *http.Request, l *segment.List, plays time.Duration) {
	if r.Method == http.MethodGet {
		netx.MarkDelivered(netx.ConnOf(r.Context()), idleTargets*l.Target)
	}
	if w, ok := w.(interface{ SetWriteDeadline(time.Time) error }); ok {
		// An error means that the connection is failing anyway.
		_ = w.SetWriteDeadline(time.Now().Add(max(s.options().AnswerTimeout, maxSlowdown*plays)))
	}
}

// formatChooser returns a function that chooses the format for a viewer of a list, by the format
// parameter of the request.
func formatChooser(format string) (func(*segment.List) segment.Format, error) {
	prefer := segment.FMP4
	switch format {
	case "", "fmp4":
	case "ts":
		prefer = segment.TS
	default:
		return nil, domain.Errorf(domain.Invalid, "invalid format: want fmp4 or ts")
	}
	return func(l *segment.List) segment.Format {
		other := segment.TS
		if prefer == segment.TS {
			other = segment.FMP4
		}
		has, others := carriedTracks(l, prefer), carriedTracks(l, other)
		if has == 0 || format == "" && (has < others || has == others && isMP3(l)) {
			return other
		}
		return prefer
	}, nil
}

// isMP3 reports whether the audio is MP3, which neither hls.js nor Safari plays in MP4 together
// with video.
func isMP3(l *segment.List) bool {
	_, audio := l.Tracks(segment.FMP4)
	return audio != nil && audio.Codec == media.MP3
}

// carriedTracks returns how many tracks format f carries.
func carriedTracks(l *segment.List, f segment.Format) (n int) {
	video, audio := l.Tracks(f)
	if video != nil {
		n++
	}
	if audio != nil {
		n++
	}
	return n
}

// multivariant encodes the playlist that leads to the media playlist of l in format f.
func multivariant(l *segment.List, f segment.Format) ([]byte, error) {
	peak, average := l.Bitrates(f)
	v := m3u8.Variant{URI: playlists[f], Bandwidth: max(1, peak), AverageBandwidth: average}
	video, audio := l.Tracks(f)
	if video != nil {
		v.Width, v.Height, v.FrameRate = video.Width, video.Height, video.FrameRate
	}
	for _, t := range []*media.Track{video, audio} {
		if t == nil {
			continue
		}
		if t.RFC6381 == "" { // players drop tracks that an incomplete list leaves out
			v.Codecs = nil
			break
		}
		v.Codecs = append(v.Codecs, t.RFC6381)
	}
	p := m3u8.Multivariant{Variants: []m3u8.Variant{v}}
	return p.Encode()
}

// serveMediaPlaylist serves a viewer with a session, or one that needs no token. Its parts call each other
// only here, so that neither a request that waits nor a response needs a stack of more than 4 kB.
func (s *Server) serveMediaPlaylist(w http.ResponseWriter, r *http.Request, name domain.Name, f segment.Format) error {
	d, err := parseQuery(r.URL.RawQuery)
	if err != nil {
		return err
	}
	private := s.isPrivate(name)
	l, fetched, err := s.awaitList(r, name, private, f, &d)
	if err != nil {
		return err
	}
	var resp response
	if fetched != nil {
		fetched.playlist(&resp, private, d.session)
	} else if err := s.playlist(&resp, r, name, private, l, f, &d); err != nil {
		return err
	}
	w.Header()["Vary"] = varyEncoding
	s.setResponseDeadline(w, r, l, 0)
	resp.send(w, r)
	return nil
}

// awaitList authorizes r, a request for a media playlist of name, and returns the list to respond with,
// for which a blocking reload waits, or the playlist of the owner. A session that is no longer valid, as
// after a restart, counts as none.
func (s *Server) awaitList(r *http.Request, name domain.Name, private bool, f segment.Format, d *query) (
	l *segment.List, fetched *Answer, err error) {
	token, err := s.registry.verifyToken(d.session, name)
	switch {
	case err == nil && private:
		err = s.registry.authorize(token, name, r)
	case err != nil && !private:
		err = s.authorizeWithoutToken(r, name)
	}
	if err != nil {
		return nil, nil, err
	}
	sess, l, err := s.awaitSession(r.Context(), name)
	if err != nil {
		if domain.KindOf(err) != domain.NotFound || !s.mayFetch(name) {
			return nil, nil, err
		}
		l = new(segment.List)
	} else if token != nil && r.Method == http.MethodGet {
		if err := s.registry.recordPlaylist(token, name, sess.epoch, l, r); err != nil {
			return nil, nil, err
		}
		s.registry.observePlayback(token, name, r)
	}
	switch {
	case sess == nil, sess.byName.Load(), sess.replicated && d.blocks && !l.Ended && l.TooFarAhead(d.msn, d.part):
		fetched, err = s.fetchPlaylist(r.Context(), name, f, d) // the owner decides, and waits
	case d.blocks:
		l, err = sess.blockReload(r.Context(), l, f, d)
	default:
		return l, nil, nil
	}
	if err != nil {
		return nil, nil, err
	}
	if token != nil && l.Ended {
		s.registry.recordEndSeen(token)
	}
	if private { // the session may have ended or expired while the request was blocked
		err = s.registry.authorize(token, name, r)
	}
	return l, fetched, err
}

// authorizeWithoutToken authorizes a request for a media playlist without a session.
func (s *Server) authorizeWithoutToken(r *http.Request, name domain.Name) error {
	grant, err := s.authorize(r, name, "")
	if err == nil && grant.Name != name {
		err = domain.Errorf(domain.Denied, "session required: start at %s%s", name, playlistExt)
	}
	return err
}

// playlist makes resp the media playlist of l, the list of name, in format f, for r.
func (s *Server) playlist(resp *response, r *http.Request, name domain.Name, private bool, l *segment.List,
	f segment.Format, d *query) error {
	p, err := s.render(name, l, f, d.skip)
	if err != nil {
		return err
	}
	resp.contentType, resp.cache, resp.etag, resp.body = m3u8.ContentType, cachePlaylist, p.ETag, p.Body
	switch gzip := httpx.AcceptsGzip(r); {
	case private: // each URI has the session of this viewer
		resp.cache, resp.etag, resp.body = cacheNone, "", p.WithQuery("s="+d.session)
		if resp.gzipped = gzip && len(resp.body) > minCompressed; resp.gzipped {
			resp.body = p.Compress(resp.body)
		}
	case gzip:
		resp.etag, resp.body, resp.gzipped = p.ETag+"-gzip", p.Gzip(), true
	}
	return nil
}

// render returns the media playlist of l, the list of name, in format f.
func (s *Server) render(name domain.Name, l *segment.List, f segment.Format, delta bool) (*segment.Playlist, error) {
	if carriedTracks(l, f) == 0 {
		return nil, domain.Errorf(domain.NotFound, "%s has no track that this HLS format can carry, only %s: start at %s%s",
			name, codecs(s.defaultTracks(name)), name, playlistExt)
	}
	return l.Playlist(f, delta)
}

// playlist makes resp the response with a, a media playlist of the owner.
func (a *Answer) playlist(resp *response, private bool, session string) {
	resp.contentType, resp.cache, resp.etag, resp.body = a.Type, cachePlaylist, a.ETag, a.Body
	if private {
		resp.cache, resp.etag, resp.body = cacheNone, "", m3u8.AddQuery(a.Body, "s="+session)
	}
}

// Header values that all responses share: never modified.
var (
	varyEncoding = []string{"Accept-Encoding"}
	gzipEncoding = []string{"gzip"}
	acceptRanges = []string{"bytes"}
)

// A query is the parsed query string of a request: its session, the requested format, and the
// delivery directives of RFC 8216bis section 6.2.5.
type query struct {
	session string
	format  string
	blocks  bool // a blocking reload, which waits for msn and part
	msn     uint64
	part    int // -1: the whole segment
	skip    bool
}

// parseQuery parses the query string of every request, so that no second parser can read another of
// two values. net/url would allocate a map, for a playlist that each viewer requests many times a
// second. Unknown parameters are ignored, and names that cannot be unescaped.
func parseQuery(raw string) (q query, err error) {
	var session, format, msn, part, skip parameter
	for len(raw) > 0 {
		var pair string
		pair, raw, _ = strings.Cut(raw, "&")
		key, value, _ := strings.Cut(pair, "=")
		if key, err = unescape(key); err != nil {
			continue
		}
		var to *parameter
		switch key {
		case "s":
			to = &session
		case "format":
			to = &format
		case "_HLS_msn":
			to = &msn
		case "_HLS_part":
			to = &part
		case "_HLS_skip":
			to = &skip
		default:
			continue
		}
		if value, err = unescape(value); err != nil {
			return query{}, domain.Errorf(domain.Invalid, "invalid %s: invalid URL escape", key)
		}
		if to.given && to.value != value {
			return query{}, domain.Errorf(domain.Invalid, "invalid %s: two different values", key)
		}
		*to = parameter{value, true}
	}
	q = query{
		session: session.value, format: format.value, blocks: msn.given, part: -1,
		skip: skip.value == "YES" || skip.value == "v2",
	}
	if msn.given {
		if q.msn, err = strconv.ParseUint(msn.value, 10, 63); err != nil {
			return query{}, domain.Errorf(domain.Invalid, "invalid _HLS_msn: not a media sequence number")
		}
	}
	if part.given {
		n, err := strconv.ParseUint(part.value, 10, 31)
		if err != nil {
			return query{}, domain.Errorf(domain.Invalid, "invalid _HLS_part: not a number")
		}
		if q.part = int(n); !msn.given {
			return query{}, domain.Errorf(domain.Invalid, "invalid _HLS_part: _HLS_msn is missing")
		}
	}
	return q, nil
}

// A parameter is one of a query.
type parameter struct {
	value string
	given bool
}

// unescape is url.QueryUnescape with a fast path for strings without escapes.
func unescape(s string) (string, error) {
	if !strings.ContainsAny(s, "%+") {
		return s, nil
	}
	return url.QueryUnescape(s)
}

// serveFile serves a segment, a part or an initialization section. It waits for a part that is the
// preload hint.
func (s *Server) serveFile(w http.ResponseWriter, r *http.Request, name domain.Name, file string) error {
	cache := cacheImmutable
	var token *sessionToken
	if s.isPrivate(name) {
		var err error
		if token, err = s.authorizeMedia(r, name); err != nil {
			return err
		}
		cache = cachePrivate
	}
	var f segment.File
	l, err := s.awaitFile(&f, r, name, token, file)
	if err != nil {
		return err
	}
	if f.Absent() {
		if err := s.fetchAbsent(r.Context(), name, l, &f); err != nil {
			return err
		}
	}
	resp := response{contentType: f.Type, cache: cache, etag: file, body: f.Data(), ranges: true}
	if f.Name == "" && s.mayFetch(name) {
		a, err := s.fetchFile(r.Context(), name, file)
		if err != nil {
			return err
		}
		resp.contentType, resp.body = a.Type, a.Body
	}
	if len(resp.body) == 0 {
		return errNoFile(name)
	}
	s.setResponseDeadline(w, r, l, f.Duration)
	n := resp.send(w, r)
	s.registry.countBytes(token, name, r, &f, n)
	s.registry.observePlayback(token, name, r)
	return nil
}

// awaitFile sets f to the file of name that r requests, and returns the list that has it. f stays the
// zero File if there is none here.
func (s *Server) awaitFile(f *segment.File, r *http.Request, name domain.Name, token *sessionToken, file string) (
	*segment.List, error) {
	sess, l := s.lookupList(name)
	if s.clustered() && (l == nil || l.File(file).Name == "") && !s.hub.Has(name) {
		ctx, cancel := context.WithTimeout(r.Context(), s.options().FirstWait)
		_ = s.hub.Await(ctx, name, 0) // replicates a stream that is live on another server, which has the file in any case
		cancel()
		sess, l = s.lookupList(name)
	}
	if sess == nil {
		return new(segment.List), nil
	}
	from := l
	l, err := sess.awaitFile(r.Context(), f, l, file)
	if err == nil && token != nil && l != from { // the session may have ended or expired while the request was blocked
		err = s.registry.authorize(token, name, r)
	}
	return l, err
}

// authorizeMedia returns the session of r, a request for media of a private stream, or the error
// for the client.
func (s *Server) authorizeMedia(r *http.Request, name domain.Name) (*sessionToken, error) {
	query, err := parseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, err
	}
	token, err := s.registry.verifyToken(query.session, name)
	if err != nil {
		return nil, err
	}
	if err := s.registry.authorize(token, name, r); err != nil {
		return nil, err
	}
	if r.Method == http.MethodGet {
		err = s.registry.recordMedia(token, name, r)
	}
	return token, err
}

// awaitReloads waits until the requests blocked for the playlist l have been woken. A part is many
// times as large as a playlist, so all have the playlist soon, and no part waits long for another.
// The wait takes as long as it takes to wake them, whatever they do then.
func awaitReloads(ctx context.Context, l *segment.List) {
	done := l.WaitersDone()
	if done == nil {
		return
	}
	select {
	case <-done:
	case <-ctx.Done():
	}
}

// A response is the response to a request.
type response struct {
	contentType, cache string
	etag               string // identifies the content; "" when it is never requested again
	body               []byte // shared: not modified
	gzipped            bool
	ranges             bool // ranges are supported
}

// send sends the response and returns how many bytes of the body were written. For content in
// memory it does the work of http.ServeContent, which it calls for range requests.
func (p *response) send(w http.ResponseWriter, r *http.Request) int {
	h := w.Header()
	// values is one allocation for all headers.
	values := [...]string{p.contentType, p.cache, `"` + p.etag + `"`, strconv.Itoa(len(p.body))}
	h["Content-Type"], h["Cache-Control"] = values[0:1:1], values[1:2:2]
	if p.gzipped {
		h["Content-Encoding"] = gzipEncoding
	}
	if p.etag != "" {
		h["Etag"] = values[2:3:3]
		if match := r.Header["If-None-Match"]; len(match) > 0 && matchesETag(match, values[2]) {
			w.WriteHeader(http.StatusNotModified)
			return 0
		}
	}
	if p.ranges {
		if httpx.LimitRanges(r); r.Header.Get("Range") != "" {
			body := &countingReader{Reader: bytes.NewReader(p.body)}
			http.ServeContent(w, r, "", time.Time{}, body)
			return body.n
		}
		h["Accept-Ranges"] = acceptRanges
	}
	h["Content-Length"] = values[3:4:4]
	if r.Method == http.MethodHead {
		w.WriteHeader(http.StatusOK)
		return 0
	}
	n, _ := w.Write(p.body) // an error means that the client has gone
	return n
}

// matchesETag reports whether an If-None-Match header has tag or "*" (RFC 9110 section 13.1.2).
func matchesETag(match []string, tag string) bool {
	for _, list := range match {
		for one := range strings.SplitSeq(list, ",") {
			one = strings.TrimPrefix(strings.TrimSpace(one), "W/")
			if one == tag || one == "*" {
				return true
			}
		}
	}
	return false
}

// A countingReader counts the bytes that are read of a segment: those that are sent, except for the
// last read before a connection fails.
type countingReader struct {
	*bytes.Reader
	n int
}

func (c *countingReader) Read(b []byte) (int, error) {
	n, err := c.Reader.Read(b)
	c.n += n
	return n, err
}
