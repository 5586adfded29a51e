// Package thumbnail serves the newest keyframe of a stream as a small JPEG, which ffmpeg makes. Only
// streams that are asked for are rendered, one at a time in the whole server. The package knows no
// store and no configuration.
//
// A child process decodes the video, since that comes from an encoder that may be hostile: what
// crashes or hangs ffmpeg ends that process.
package thumbnail

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"log/slog"
	"net/http"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"livego/internal/domain"
	"livego/internal/ops/histogram"
	"livego/internal/ops/httpx"
	"livego/internal/stream"
)

// Options of a Server.
type Options struct {
	FFmpeg string // the program; "": there are no thumbnails
	Reason string // why there are none, for clients
	// Interval is how long a stream keeps its thumbnail at least. Default 10 s.
	Interval time.Duration
	// Timeout is how long ffmpeg may take for a thumbnail, and twice that how long a client waits for
	// the first of a stream. Default 10 s.
	Timeout time.Duration
	Private func(domain.Name) bool // rooms whose thumbnails no cache may share; nil: none
	Log     *slog.Logger
}

const (
	sweepInterval = time.Minute
	// maxDoublings limits the back-off for a stream whose keyframes cannot be rendered.
	maxDoublings = 5
)

// A Server serves thumbnails.
type Server struct {
	hub        *stream.Hub
	authorizer domain.Authorizer
	opt        atomic.Pointer[Options]
	duration   *histogram.Histogram
	failures   atomic.Uint64
	wake       chan struct{} // has a value if queue may not be empty

	mu         sync.Mutex
	thumbnails map[domain.Name]*thumbnail // of the newest session of each name
	queue      []*thumbnail               // to render, in order
	closed     bool                       // Run has ended
}

// A thumbnail is that of a stream session. The server's lock protects it.
type thumbnail struct {
	name     domain.Name
	session  time.Time
	picture  *picture      // the newest, nil before the first
	tried    time.Time     // when it was last rendered
	err      error         // of the last rendering, for clients
	failed   int           // renderings that failed in a row
	logged   bool          // a failure was logged
	rendered chan struct{} // closed after the rendering that is due, nil if none is
}

// A picture is a JPEG. It is immutable.
type picture struct {
	data []byte
	etag string
	at   time.Time // when the keyframe arrived
	seq  uint64    // of the keyframe
}

// New returns a Server of the streams of hub for clients that authorizer grants access. It renders
// nothing until Run.
func New(hub *stream.Hub, authorizer domain.Authorizer, o Options) *Server {
	s := &Server{
		hub: hub, authorizer: authorizer, duration: histogram.New(durationBounds), wake: make(chan struct{}, 1),
		thumbnails: make(map[domain.Name]*thumbnail),
	}
	s.SetOptions(o)
	return s
}

// SetOptions replaces the options for requests from now on.
func (s *Server) SetOptions(o Options) {
	o.Interval = cmp.Or(o.Interval, 10*time.Second)
	o.Timeout = cmp.Or(o.Timeout, 10*time.Second)
	s.opt.Store(&o)
}

// Serve answers a GET or HEAD for the thumbnail of app and room. It is no viewer: it uses up no
// one-time token and counts for no limit of viewers.
func (s *Server) Serve(w http.ResponseWriter, r *http.Request, app, room string) {
	token, err := httpx.Token(r)
	var grant domain.Grant
	if err == nil {
		grant, err = s.authorizer.Authorize(r.Context(), domain.AuthRequest{
			Action: domain.Play, App: app, Name: room, Token: token, Proto: "thumbnail", Remote: r.RemoteAddr, DryRun: true,
		})
	}
	var p *picture
	var maxAge time.Duration
	if err == nil {
		p, maxAge, err = s.find(r.Context(), grant.Name)
	}
	if err != nil {
		if r.Context().Err() != nil {
			return
		}
		if domain.KindOf(err) == domain.Unavailable {
			w.Header().Set("Retry-After", "1")
		}
		httpx.WriteError(w, err)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "image/jpeg")
	h.Set("ETag", p.etag)
	h.Set("Cross-Origin-Resource-Policy", "cross-origin")
	o := s.opt.Load()
	h.Set("Cache-Control", fmt.Sprintf("public, max-age=%d", max(1, int(min(maxAge, o.Interval).Seconds()))))
	if o.Private != nil && o.Private(grant.Name) {
		h.Set("Cache-Control", "private, no-cache")
	}
	http.ServeContent(w, r, "", p.at, bytes.NewReader(p.data))
}

// find returns the thumbnail of name, and for how long there will be no newer one. It has a stale one
// rendered again, and returns the stale one meanwhile, unless that is so old that nobody has asked for
// some time.
func (s *Server) find(ctx context.Context, name domain.Name) (*picture, time.Duration, error) {
	o := s.opt.Load()
	if o.FFmpeg == "" {
		return nil, 0, domain.Errorf(domain.NotFound, "%s", o.Reason)
	}
	frame, session, err := s.hub.Keyframe(name)
	if err != nil && domain.KindOf(err) == domain.NotFound {
		return nil, 0, err
	}
	now := time.Now()
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil, 0, domain.Errorf(domain.Unavailable, "the server is stopping")
	}
	t := s.thumbnails[name]
	if t == nil || !t.session.Equal(session) {
		t = &thumbnail{name: name, session: session}
		s.thumbnails[name] = t
	}
	fresh := t.tried.Add(o.Interval << min(t.failed, maxDoublings)).Sub(now)
	if err == nil && fresh <= 0 && t.rendered == nil && (t.picture == nil || t.picture.seq != frame.Seq) {
		t.rendered = make(chan struct{})
		s.queue = append(s.queue, t)
		select {
		case s.wake <- struct{}{}:
		default:
		}
	}
	p, rendered, failure := t.picture, t.rendered, cmp.Or(err, t.err)
	recent := now.Sub(t.tried) < 2*o.Interval
	s.mu.Unlock()
	switch {
	case p != nil && (rendered == nil || recent):
		return p, fresh, nil
	case rendered == nil:
		return nil, 0, failure
	}
	if err := wait(ctx, rendered, 2*o.Timeout); err != nil && p == nil {
		return nil, 0, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if t.picture == nil {
		return nil, 0, t.err
	}
	return t.picture, o.Interval, nil
}

// wait waits until done is closed.
func wait(ctx context.Context, done <-chan struct{}, timeout time.Duration) error {
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return domain.Errorf(domain.Unavailable, "the thumbnail is not rendered yet: too many others are due")
	}
}

// Run renders thumbnails until ctx is done, which kills ffmpeg.
func (s *Server) Run(ctx context.Context) {
	runtime.LockOSThread() // the end of the thread that starts a process is its death signal
	defer s.close()
	sweep := time.NewTicker(sweepInterval)
	defer sweep.Stop()
	for {
		select {
		case <-s.wake:
			for ctx.Err() == nil && s.renderNext(ctx) {
			}
		case <-sweep.C:
			s.sweep()
		case <-ctx.Done():
			return
		}
	}
}

// renderNext renders the next thumbnail that is due. It reports false if there is none.
func (s *Server) renderNext(ctx context.Context) bool {
	s.mu.Lock()
	if len(s.queue) == 0 {
		s.mu.Unlock()
		return false
	}
	t := s.queue[0]
	s.queue = s.queue[1:]
	s.mu.Unlock()
	s.render(ctx, t)
	return true
}

// render renders t from the newest keyframe.
func (s *Server) render(ctx context.Context, t *thumbnail) {
	o := s.opt.Load()
	start := time.Now()
	p, err := s.renderKeyframe(ctx, o, t)
	if ctx.Err() != nil {
		err = domain.Errorf(domain.Unavailable, "the server is stopping")
	}
	ended := err != nil && domain.KindOf(err) != domain.Internal // nothing was rendered
	failed := err != nil && !ended
	if failed {
		s.failures.Add(1)
	}
	if !ended {
		s.duration.Observe(time.Since(start))
	}
	s.mu.Lock()
	report := failed && !t.logged
	switch t.err = err; {
	case failed:
		t.failed++
		t.logged = true
		t.err = domain.Errorf(domain.NotFound, "%s has no thumbnail: its newest keyframe could not be decoded", t.name)
	case !ended:
		t.failed, t.picture = 0, p
	}
	if !ended {
		t.tried = time.Now()
	}
	close(t.rendered)
	t.rendered = nil
	s.mu.Unlock()
	if report {
		o.Log.Warn("thumbnail failed", "stream", t.name.String(), "err", err)
	}
}

// renderKeyframe returns the picture of the newest keyframe of t. An error without a kind is one of
// the picture.
func (s *Server) renderKeyframe(ctx context.Context, o *Options, t *thumbnail) (*picture, error) {
	f, session, err := s.hub.Keyframe(t.name)
	if err != nil {
		return nil, err
	}
	if !session.Equal(t.session) {
		return nil, domain.Errorf(domain.Unavailable, "%s has ended and started again", t.name)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, o.Timeout, fmt.Errorf("ffmpeg took longer than %v", o.Timeout))
	defer cancel()
	data, err := render(ctx, o.FFmpeg, f)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(data)
	return &picture{data: data, etag: `"` + hex.EncodeToString(sum[:12]) + `"`, at: f.Arrived, seq: f.Seq}, nil
}

// sweep removes the thumbnails of streams that have ended.
func (s *Server) sweep() {
	live := make(map[domain.Name]bool)
	for _, name := range s.hub.Names() {
		live[name] = true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for name := range s.thumbnails {
		if !live[name] {
			delete(s.thumbnails, name)
		}
	}
}

// close ends the wait of all clients.
func (s *Server) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	for _, t := range s.queue {
		t.err = domain.Errorf(domain.Unavailable, "the server is stopping")
		close(t.rendered)
		t.rendered = nil
	}
	s.queue = nil
}

// durationBounds are of the time to render a thumbnail: Timeout is 10 s by default.
var durationBounds = []time.Duration{
	25 * time.Millisecond, 50 * time.Millisecond, 100 * time.Millisecond, 200 * time.Millisecond,
	500 * time.Millisecond, time.Second, 2 * time.Second, 5 * time.Second,
	10 * time.Second,
}

// Statistics are counts since the start of the server.
type Statistics struct {
	Duration histogram.Snapshot // of each rendering
	Failures uint64
}

// Statistics returns the counts.
func (s *Server) Statistics() Statistics { return Statistics{s.duration.Snapshot(), s.failures.Load()} }
