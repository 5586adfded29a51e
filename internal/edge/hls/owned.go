package hls

import (
	"net/http"
	"time"

	"livego/internal/deliver/segment"
	"livego/internal/domain"
	"livego/internal/ops/httpx"
)

// ServeAnswer responds with the Answer for the file of name, with the query of r, to another server, which
// replicates the stream and authorizes and counts its viewers itself.
func (s *Server) ServeAnswer(w http.ResponseWriter, r *http.Request, name domain.Name, file string) {
	_ = http.NewResponseController(w).SetReadDeadline(time.Time{}) // it may wait for the next segment
	uri := file
	if r.URL.RawQuery != "" {
		uri += "?" + r.URL.RawQuery
	}
	a, err := s.Answer(r.Context(), name, uri)
	if err != nil {
		httpx.WriteError(w, err)
		return
	}
	s.setResponseDeadline(w, r, new(segment.List), 0)
	(&response{contentType: a.Type, cache: cacheNone, etag: a.ETag, body: a.Body}).send(w, r)
}

// Watched reports whether a playlist of name was requested a short while ago, by viewers with and without
// a session.
func (s *Server) Watched(name domain.Name) bool {
	sess, running, _ := s.session(name)
	return running && sess.watched()
}

// Target returns the target duration of name, 0 if it is not segmented.
func (s *Server) Target(name domain.Name) time.Duration {
	if _, l := s.lookupList(name); l != nil {
		return l.Target
	}
	return 0
}
