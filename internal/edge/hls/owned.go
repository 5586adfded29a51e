package hls

import (
	"net/http"
	"time"

	"livego/internal/domain"
	"livego/internal/ops/httpx"
)

// ServeOwned responds with a file of name to another server, which replicates the stream and authorizes
// and counts its viewers itself.
func (s *Server) ServeOwned(w http.ResponseWriter, r *http.Request, name domain.Name, file string) {
	_, l := s.lookupList(name)
	if l == nil {
		httpx.WriteError(w, domain.Errorf(domain.NotFound, "nobody is publishing %s", name))
		return
	}
	f := l.File(file)
	data := f.Data()
	if len(data) == 0 {
		httpx.WriteError(w, domain.Errorf(domain.NotFound, "segment of %s not found: it does not exist or has expired", name))
		return
	}
	s.setResponseDeadline(w, r, l, f.Duration)
	(&response{contentType: f.Type, cache: cacheNone, body: data}).send(w, r)
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
