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
)

const playlistExt = ".m3u8"

// What the media playlists are called, by format.
var playlists = [...]string{segment.FMP4: "index.m3u8", segment.TS: "ts.m3u8"}

// maxRanges is how many pieces of a segment one request may ask for before it gets the whole.
const maxRanges = 8

// How long caches may keep what.
const (
	cacheNone = "no-store" // it is for one viewer alone
	// it changes several times a second, and this is the least that there is
	cachePlaylist  = "public, max-age=1"
	cacheImmutable = "public, max-age=3600, immutable" // its name is never used again
	cachePrivate   = "private, max-age=3600, immutable"
)

// ServeHTTP answers GET and HEAD for the paths of the package comment. What is refused is told why, in plain text.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		w.Header().Set("Connection", "close") // its body stays unread
		http.Error(w, "only GET and HEAD are served here", http.StatusMethodNotAllowed)
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

var errNotFound = domain.Errorf(domain.NotFound, "nothing is here: watch at /APP/ROOM%s", playlistExt)

// parseName returns the parseName of a stream in an app that has HLS.
func (s *Server) parseName(app, room string) (domain.Name, error) {
	name, err := domain.ParseName(app, room)
	if err == nil && !s.servesApp(app) {
		err = domain.Errorf(domain.NotFound, "application %q has no HLS", app)
	}
	return name, err
}

// authorize asks the gate for the stream that is asked for as name.
func (s *Server) authorize(r *http.Request, name domain.Name, token string) (domain.Grant, error) {
	return s.authorizer.Authorize(r.Context(), domain.AuthRequest{
		Action: domain.Play, App: name.App, Name: name.Room, Token: token, Proto: "hls", Remote: r.RemoteAddr,
		DryRun: r.Method == http.MethodHead,
	})
}

// serveMultivariant lets a viewer in. The playlist leads to the room that the gate granted, which
// may have another name.
func (s *Server) serveMultivariant(w http.ResponseWriter, r *http.Request, asked domain.Name) error {
	query, err := parseQuery(r.URL.RawQuery)
	if err != nil {
		return err
	}
	wish, err := formatChooser(query.format)
	if err != nil {
		return err
	}
	token, err := httpx.Token(r)
	if err != nil {
		return err
	}
	grant, err := s.authorize(r, asked, token)
	if err != nil {
		return err
	}
	_, l, err := s.awaitSession(r.Context(), grant.Name)
	if err != nil {
		return err
	}
	f := wish(l)
	uri := grant.Name.Room + "/" + playlists[f] + "?s=" + s.registry.issueToken(grant)
	if grant.Name.App != asked.App {
		uri = "../" + grant.Name.App + "/" + uri
	}
	body, err := multivariant(uri, l, f)
	if err != nil {
		return err
	}
	s.setResponseDeadline(w, r, l, 0)
	response{contentType: m3u8.ContentType, cache: cacheNone, body: body}.send(w, r)
	return nil
}

// idleTargets is after how many target durations without an answer a connection is idle, where that
// is longer than others may be.
const idleTargets = 3

// maxSlowdown is how many times as long as it plays a client may take for an answer, where that is
// longer than AnswerTimeout. Players that take longer for a segment see none of the stream.
const maxSlowdown = 4

// setResponseDeadline notes that w will be an answer with something of l, which plays for so long,
// and bounds the time in which the client takes it.
func (s *Server) setResponseDeadline(w http.ResponseWriter, r *http.Request, l *segment.List, plays time.Duration) {
	if r.Method == http.MethodGet {
		netx.MarkDelivered(netx.ConnOf(r.Context()), idleTargets*l.Target)
	}
	if w, ok := w.(interface{ SetWriteDeadline(time.Time) error }); ok {
		// of a connection that fails anyway
		_ = w.SetWriteDeadline(time.Now().Add(max(s.opt.AnswerTimeout, maxSlowdown*plays)))
	}
}

// formatChooser returns how to choose the format that the viewer of a list is led to, by what he has asked for.
func formatChooser(wish string) (func(*segment.List) segment.Format, error) {
	prefer := segment.FMP4
	switch wish {
	case "", "fmp4":
	case "ts":
		prefer = segment.TS
	default:
		return nil, domain.Errorf(domain.Invalid, "format is fmp4 or ts")
	}
	return func(l *segment.List) segment.Format {
		other := segment.TS
		if prefer == segment.TS {
			other = segment.FMP4
		}
		has, others := carriedTracks(l, prefer), carriedTracks(l, other)
		if has == 0 || wish == "" && (has < others || has == others && isMP3(l)) {
			return other
		}
		return prefer
	}, nil
}

// isMP3 reports whether the sound is MP3, which neither hls.js nor Safari takes out of MP4 beside a picture.
func isMP3(l *segment.List) bool {
	_, audio := l.Tracks(segment.FMP4)
	return audio != nil && audio.Codec == media.MP3
}

// carriedTracks returns of how many tracks format f carries something.
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

// multivariant writes the playlist that leads to uri, where l is in format f.
func multivariant(uri string, l *segment.List, f segment.Format) ([]byte, error) {
	peak, average := l.Bitrates(f)
	v := m3u8.Variant{URI: uri, Bandwidth: max(1, peak), AverageBandwidth: average}
	video, audio := l.Tracks(f)
	if video != nil {
		v.Width, v.Height, v.FrameRate = video.Width, video.Height, video.FrameRate
	}
	for _, t := range []*media.Track{video, audio} {
		if t == nil {
			continue
		}
		if t.RFC6381 == "" { // a list with a hole makes players leave out what is not in it
			v.Codecs = nil
			break
		}
		v.Codecs = append(v.Codecs, t.RFC6381)
	}
	p := m3u8.Multivariant{Variants: []m3u8.Variant{v}}
	return p.Encode()
}

// serveMediaPlaylist answers a viewer who has a session, or whom the gate lets in without a token.
// A session that is not good any more, as after a restart, counts as none.
func (s *Server) serveMediaPlaylist(w http.ResponseWriter, r *http.Request, name domain.Name, f segment.Format) error {
	d, err := parseQuery(r.URL.RawQuery)
	if err != nil {
		return err
	}
	private := s.isPrivate(name)
	token, err := s.registry.verifyToken(d.session, name)
	known := err == nil
	if private {
		if err == nil {
			err = s.registry.authorize(&token, name, r)
		}
		if err != nil {
			return err
		}
	}
	if !known {
		if grant, err := s.authorize(r, name, ""); err != nil {
			return err
		} else if grant.Name != name {
			return domain.Errorf(domain.Denied, "this playlist needs a session: start at %s%s", name, playlistExt)
		}
	}
	sess, l, err := s.awaitSession(r.Context(), name)
	if err != nil {
		return err
	}
	if known && r.Method == http.MethodGet {
		if err := s.registry.recordPlaylist(&token, name, sess.epoch, l, r); err != nil {
			return err
		}
	}
	if d.blocks {
		if l, err = sess.blockReload(r.Context(), l, f, d); err != nil {
			return err
		}
		if known && l.Ended {
			s.registry.recordEndSeen(&token)
		}
		if private { // it may have been ended, or have expired, meanwhile
			if err := s.registry.authorize(&token, name, r); err != nil {
				return err
			}
		}
	}
	if carriedTracks(l, f) == 0 {
		in, _ := s.hub.Info(name)
		return domain.Errorf(domain.NotFound, "%s has no track that this form of HLS can carry, only %s: start at %s%s", name,
			codecs(in.Firsts), name, playlistExt)
	}
	p, err := l.Playlist(f, d.skip)
	if err != nil {
		return err
	}
	s.setResponseDeadline(w, r, l, 0)
	if private {
		response{contentType: m3u8.ContentType, cache: cacheNone, body: withSession(p.Body, d.session)}.send(w, r)
		return nil
	}
	a := response{contentType: m3u8.ContentType, cache: cachePlaylist, etag: p.ETag, body: p.Body}
	w.Header()["Vary"] = varyEncoding
	if acceptsGzip(r) {
		a.etag, a.body, a.gzipped = p.ETag+"-gzip", p.Gzip(), true
	}
	a.send(w, r)
	return nil
}

// Values of headers that all answers share: they are never modified.
var (
	varyEncoding = []string{"Accept-Encoding"}
	gzipEncoding = []string{"gzip"}
	acceptRanges = []string{"bytes"}
)

// A query is what a request says in its query: which session it belongs to, in which format a
// viewer wants to watch, and the directives of RFC 8216bis section 6.2.5.
type query struct {
	session string
	format  string
	blocks  bool // until there is
	msn     uint64
	part    int // of it; -1 for all of it
	skip    bool
}

// parseQuery reads the query of every request: there is no second way to read one, by which another
// of two values would count. net/url would make a map of it, and a playlist is asked for many times
// a second by each viewer. Arguments that are not known are passed over, as is what cannot be
// unescaped.
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
			return query{}, domain.Errorf(domain.Invalid, "invalid %s: not escaped as a URL is", key)
		}
		if to.given && to.value != value {
			return query{}, domain.Errorf(domain.Invalid, "%s is given twice", key)
		}
		*to = parameter{value, true}
	}
	q = query{session: session.value, format: format.value, blocks: msn.given, part: -1, skip: skip.value == "YES" ||
		skip.value == "v2"}
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

// An parameter is one of a query.
type parameter struct {
	value string
	given bool
}

// unescape is url.QueryUnescape, for the most part without looking twice.
func unescape(s string) (string, error) {
	if !strings.ContainsAny(s, "%+") {
		return s, nil
	}
	return url.QueryUnescape(s)
}

// serveFile answers with a segment, a part or an initialization section. A part that playlists hint at is waited for.
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
	sess, l := s.lookupList(name)
	var f segment.File
	asked := true // as a playlist said, and no hint
	if l != nil {
		if f = l.File(file); f.Name == "" && l.IsPreloadHint(file) {
			asked = false
			var err error
			if l, err = sess.hold(r.Context(), l, false,
				func(l *segment.List) bool { return !l.IsPreloadHint(file) }); err != nil {
				return err
			}
			if token != nil { // it may have been ended, or have expired, meanwhile
				if err := s.registry.authorize(token, name, r); err != nil {
					return err
				}
			}
			f = l.File(file)
		}
	}
	if asked && f.IsPart() {
		awaitReloads(r.Context(), l)
	}
	data := f.Data()
	if len(data) == 0 {
		return domain.Errorf(domain.NotFound, "this segment of %s is not here, or no longer", name)
	}
	s.setResponseDeadline(w, r, l, f.Duration())
	n := response{contentType: f.Type, cache: cache, etag: f.Name, body: data, ranges: true}.send(w, r)
	s.registry.countBytes(token, name, r, &f, n)
	return nil
}

// awaitReloads lets those go first who wait for the playlist l: a part is many times as long, so
// all have the playlist soon, and nobody's part waits long for that of another. It takes as long as
// it takes to wake them, whatever they do.
func awaitReloads(ctx context.Context, l *segment.List) {
	told := l.WaitersDone()
	if told == nil {
		return
	}
	select {
	case <-told:
	case <-ctx.Done():
	}
}

// An response is what a request is answered with.
type response struct {
	contentType, cache string
	etag               string // names the content; "" when it is never asked for again
	body               []byte // shared: not modified
	gzipped            bool
	ranges             bool // pieces may be asked for
}

// send answers and returns how many bytes of the body went out. It does for what is in memory, and
// asked for many times, what http.ServeContent does, which is left what asks for pieces.
func (a response) send(w http.ResponseWriter, r *http.Request) int {
	h := w.Header()
	values := [...]string{a.contentType, a.cache, `"` + a.etag + `"`, strconv.Itoa(len(a.body))} // in one piece of memory
	h["Content-Type"], h["Cache-Control"] = values[0:1:1], values[1:2:2]
	if a.gzipped {
		h["Content-Encoding"] = gzipEncoding
	}
	if a.etag != "" {
		h["Etag"] = values[2:3:3]
		if match := r.Header["If-None-Match"]; len(match) > 0 && matchesETag(match, values[2]) {
			w.WriteHeader(http.StatusNotModified)
			return 0
		}
	}
	if a.ranges {
		if asked := r.Header.Get("Range"); asked != "" && strings.Count(asked, ",") < maxRanges {
			body := &countingReader{Reader: bytes.NewReader(a.body)}
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
	n, _ := w.Write(a.body) // who is gone is gone
	return n
}

// matchesETag reports whether tag is among those of If-None-Match, or any will do (RFC 9110 section 13.1.2).
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

// acceptsGzip reports whether who made r takes what is compressed so (RFC 9110 section 12.5.3).
func acceptsGzip(r *http.Request) bool {
	for _, list := range r.Header["Accept-Encoding"] {
		for one := range strings.SplitSeq(list, ",") {
			coding, weight, _ := strings.Cut(one, ";")
			if strings.TrimSpace(coding) == "gzip" {
				return strings.Trim(weight, " q=0.") != "" || !strings.Contains(weight, "0")
			}
		}
	}
	return false
}

// countingReader counts what is read of a segment, which is what has been sent but for the last
// piece of one that broke off.
type countingReader struct {
	*bytes.Reader
	n int
}

func (c *countingReader) Read(b []byte) (int, error) {
	n, err := c.Reader.Read(b)
	c.n += n
	return n, err
}
