package hls

import (
	"bytes"
	"io"
	"net/http"
	"strings"
	"time"

	"livego/internal/container/m3u8"
	"livego/internal/live"
	"livego/internal/media"
	"livego/internal/netx"
	"livego/internal/segment"
)

const (
	playlistExt = ".m3u8"
	segmentExt  = ".ts"
	mediaFile   = "ts.m3u8"

	// maxRanges is how many parts of a segment one request may ask for before it gets the whole.
	maxRanges = 8
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
		if live.KindOf(err) == live.Unavailable {
			w.Header().Set("Retry-After", "1")
		}
		netx.WriteError(w, err)
	}
}

func (s *Server) route(w http.ResponseWriter, r *http.Request) error {
	path := strings.Split(strings.TrimPrefix(r.URL.Path, "/"), "/")
	if len(path) == 2 && strings.HasSuffix(path[1], playlistExt) {
		name, err := s.name(path[0], strings.TrimSuffix(path[1], playlistExt))
		if err != nil {
			return err
		}
		return s.serveMultivariant(w, r, name)
	}
	if len(path) != 3 || path[2] != mediaFile && !strings.HasSuffix(path[2], segmentExt) {
		return live.Errorf(live.NotFound, "nothing is here: watch at /APP/ROOM%s", playlistExt)
	}
	name, err := s.name(path[0], path[1])
	switch {
	case err != nil:
		return err
	case path[2] == mediaFile:
		return s.serveMedia(w, r, name)
	}
	return s.serveSegment(w, r, name, strings.TrimSuffix(path[2], segmentExt))
}

// name returns the name of a stream in an app that has HLS.
func (s *Server) name(app, room string) (live.Name, error) {
	name, err := live.ParseName(app, room)
	if err == nil && !s.has(app) {
		err = live.Errorf(live.NotFound, "application %q has no HLS", app)
	}
	return name, err
}

// allow asks the gate for the stream that is asked for as name.
func (s *Server) allow(r *http.Request, name live.Name, token string) (live.Grant, error) {
	return s.gate.Allow(r.Context(), live.Request{
		Action: live.Play, App: name.App, Name: name.Room, Token: token, Proto: "hls", Remote: r.RemoteAddr,
	})
}

// serveMultivariant lets a viewer in. The playlist leads to the room that the gate granted, which may have another name.
func (s *Server) serveMultivariant(w http.ResponseWriter, r *http.Request, asked live.Name) error {
	token, err := netx.Token(r)
	if err != nil {
		return err
	}
	grant, err := s.allow(r, asked, token)
	if err != nil {
		return err
	}
	_, l, err := s.await(r.Context(), grant.Name)
	if err != nil {
		return err
	}
	uri := grant.Name.Room + "/" + mediaFile + "?s=" + s.audience.ticket(grant)
	if grant.Name.App != asked.App {
		uri = "../" + grant.Name.App + "/" + uri
	}
	body, err := multivariant(uri, l)
	if err != nil {
		return err
	}
	w.Header().Set("Cache-Control", "no-store") // it is his alone
	serve(w, r, m3u8.ContentType, bytes.NewReader(body))
	return nil
}

// multivariant writes the playlist that leads to uri, which is described by l.
func multivariant(uri string, l *segment.List) ([]byte, error) {
	v := m3u8.Variant{URI: uri, Bandwidth: max(1, l.Peak), AverageBandwidth: l.Average}
	if t := l.Video; t != nil {
		v.Width, v.Height, v.FrameRate = t.Width, t.Height, t.FrameRate
	}
	for _, t := range []*media.Track{l.Video, l.Audio} {
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

// serveMedia answers a viewer who has a session, or whom the gate lets in without a token. A session that is not good any more,
// as after a restart, counts as none.
func (s *Server) serveMedia(w http.ResponseWriter, r *http.Request, name live.Name) error {
	id, known := s.audience.open(r.URL.Query().Get("s"), name)
	if !known && s.isPrivate(name) {
		return s.checkSession(r, name)
	}
	if !known {
		if grant, err := s.allow(r, name, ""); err != nil {
			return err
		} else if grant.Name != name {
			return live.Errorf(live.Denied, "this playlist needs a session: start at %s%s", name, playlistExt)
		}
	}
	sess, l, err := s.await(r.Context(), name)
	if err != nil {
		return err
	}
	if known && r.Method == http.MethodGet {
		if err := s.audience.visit(id, name, sess.epoch, l, r); err != nil {
			return err
		}
	}
	if s.isPrivate(name) {
		return servePrivate(w, r, l.Playlist)
	}
	w.Header().Set("Cache-Control", "public, max-age=1")
	w.Header().Set("ETag", `"`+l.Tag+`"`)
	serve(w, r, m3u8.ContentType, bytes.NewReader(l.Playlist))
	return nil
}

func (s *Server) serveSegment(w http.ResponseWriter, r *http.Request, name live.Name, file string) error {
	if err := s.checkSession(r, name); err != nil {
		return err
	}
	seg := s.find(name, file)
	if seg == nil {
		return live.Errorf(live.NotFound, "this segment of %s is not here, or no longer", name)
	}
	if strings.Count(r.Header.Get("Range"), ",") >= maxRanges {
		r.Header.Del("Range")
	}
	w.Header().Set("Cache-Control", s.cacheable(name)+", max-age=3600, immutable") // its name is never used again
	w.Header().Set("ETag", `"`+seg.Name+`"`)
	body := &counted{Reader: bytes.NewReader(seg.Data())}
	serve(w, r, "video/mp2t", body)
	s.audience.count(name, r, seg, body.n)
	return nil
}

// serve answers with content, which has no date.
func serve(w http.ResponseWriter, r *http.Request, contentType string, content io.ReadSeeker) {
	w.Header().Set("Content-Type", contentType)
	http.ServeContent(w, r, "", time.Time{}, content)
}

// counted counts what is read of a segment, which is what has been sent but for the last piece of one that broke off.
type counted struct {
	*bytes.Reader
	n int
}

func (c *counted) Read(b []byte) (int, error) {
	n, err := c.Reader.Read(b)
	c.n += n
	return n, err
}
