package hls

import (
	"bytes"
	"context"
	"strconv"
	"strings"
	"sync"
	"time"

	"livego/internal/container/m3u8"
	"livego/internal/deliver/segment"
	"livego/internal/domain"
)

// Limits of what is fetched from other servers.
const (
	maxFetched = 256 << 20 // bytes of a file
	maxFetches = 4096      // at a time, of all owners; the node limits those of one
	// maxKept bounds the bytes of fetched files that are in no list of this server.
	maxKept = 64 << 20
	// fetchTimeout is the longest time of a fetch: that of a blocked request for a playlist with the
	// longest target duration, and some more.
	fetchTimeout = 30 * time.Second
	// copyAttempts is how often in a row copies of a playlist's segments may fail, with copyPause
	// between.
	copyAttempts = 5
	copyPause    = 500 * time.Millisecond
)

// multivariantFile is the name under which Answer has what a multivariant playlist says.
const multivariantFile = "multivariant.m3u8"

// An Answer is what a server has under a name: a playlist or a file.
type Answer struct {
	Type string // media type
	ETag string // of a playlist; "" for a file, which its name identifies
	Body []byte // shared: do not modify
}

// Answer returns what this server has under uri, for another server whose viewers request it: a file, a
// media playlist, with the query of a blocking reload, or the multivariant playlist, which refers to a
// media playlist without a session. It waits as a viewer's request does. It sends no request to another
// server, and neither authorizes nor counts viewers.
func (s *Server) Answer(ctx context.Context, name domain.Name, uri string) (Answer, error) {
	file, raw, _ := strings.Cut(uri, "?")
	d, err := parseQuery(raw)
	switch {
	case err != nil:
		return Answer{}, err
	case !s.servesApp(name.App):
		return Answer{}, domain.Errorf(domain.NotFound, "application %q has no HLS", name.App)
	case segment.IsFile(file):
		return s.answerFile(ctx, name, file)
	}
	sess, l, err := s.awaitSession(ctx, name)
	if err != nil {
		return Answer{}, err
	}
	if sess.byName.Load() { // another server has it
		return Answer{}, errNotOwner(name)
	}
	if file == multivariantFile {
		choose, err := formatChooser(d.format)
		if err != nil {
			return Answer{}, err
		}
		body, err := multivariant(l, choose(l))
		return Answer{Type: m3u8.ContentType, Body: body}, err
	}
	for f, list := range playlists {
		if file != list {
			continue
		}
		if d.blocks {
			if l, err = sess.blockReload(ctx, l, segment.Format(f), &d); err != nil {
				return Answer{}, err
			}
		}
		p, err := s.render(name, l, segment.Format(f), d.skip)
		if err != nil {
			return Answer{}, err
		}
		return Answer{Type: m3u8.ContentType, ETag: p.ETag, Body: p.Body}, nil
	}
	return Answer{}, errNotFound
}

func (s *Server) answerFile(ctx context.Context, name domain.Name, file string) (Answer, error) {
	var f segment.File
	if sess, l := s.lookupList(name); l != nil {
		var err error
		if _, err = sess.awaitFile(ctx, &f, l, file); err != nil {
			return Answer{}, err
		}
	}
	if data := f.Data(); len(data) > 0 {
		return Answer{Type: f.Type, Body: data}, nil
	}
	return Answer{}, errNoFile(name)
}

func errNotOwner(name domain.Name) error {
	return domain.Errorf(domain.NotFound, "this server does not own %s", name)
}

func errNoFile(name domain.Name) error {
	return domain.Errorf(domain.NotFound, "segment of %s not found: it does not exist or has expired", name)
}

// clustered reports whether other servers may own streams.
func (s *Server) clustered() bool { return s.options().Fetch != nil }

// mayFetch reports whether another server may own name.
func (s *Server) mayFetch(name domain.Name) bool {
	sess, running, _ := s.session(name)
	return s.clustered() && (!running || sess.replicated)
}

// fetches are the requests to owners.
type fetches struct {
	mu      sync.Mutex
	running map[string]*fetch // by the name of the stream and the URI

	// Files that are in no list, the oldest first: their names are never reused.
	kept      map[string]Answer
	order     []string
	keptBytes int
}

// A fetch is one request, for all requests of viewers that wait for it.
type fetch struct {
	done   chan struct{}
	answer Answer // read after done
	err    error  // read after done
}

// fetch returns what the owner of name has under uri, or the error of ctx. work ends the request to the
// owner, whose answer others may wait for.
func (s *Server) fetch(ctx, work context.Context, name domain.Name, uri string) (Answer, error) {
	key := name.String() + "/" + uri
	fs := &s.fetches
	fs.mu.Lock()
	if a, ok := fs.kept[key]; ok {
		fs.mu.Unlock()
		return a, nil
	}
	running := fs.running[key]
	switch {
	case running != nil:
		fs.mu.Unlock()
	case len(fs.running) >= maxFetches:
		fs.mu.Unlock()
		return Answer{}, domain.Errorf(domain.Unavailable, "too many requests to other servers (%d)", maxFetches)
	default:
		running = &fetch{done: make(chan struct{})}
		if fs.running == nil {
			fs.running = make(map[string]*fetch)
		}
		fs.running[key] = running
		fs.mu.Unlock()
		running.answer, running.err = s.fetchOnce(work, name, uri)
		fs.mu.Lock()
		delete(fs.running, key)
		fs.mu.Unlock()
		close(running.done)
	}
	select {
	case <-running.done:
		return running.answer, running.err
	case <-ctx.Done():
		return Answer{}, context.Cause(ctx)
	}
}

// fetchForViewer is fetch for the request of a viewer.
func (s *Server) fetchForViewer(ctx context.Context, name domain.Name, uri string) (Answer, error) {
	return s.fetch(ctx, context.WithoutCancel(ctx), name, uri)
}

// fetchOnce sends a request to the owner.
func (s *Server) fetchOnce(ctx context.Context, name domain.Name, uri string) (Answer, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, fetchTimeout,
		domain.Errorf(domain.Unavailable, "the owner of %s does not answer", name))
	defer cancel()
	a, err := s.options().Fetch(ctx, name, uri)
	if err == nil && (len(a.Body) == 0 || len(a.Body) > maxFetched) {
		err = domain.Errorf(domain.Unavailable, "the owner of %s sent %d bytes", name, len(a.Body))
	}
	return a, err
}

// fetchFile returns a file that is in no list of this server, and keeps it.
func (s *Server) fetchFile(ctx context.Context, name domain.Name, file string) (Answer, error) {
	a, err := s.fetchForViewer(ctx, name, file)
	if err == nil {
		s.fetches.keep(name.String()+"/"+file, a)
	}
	return a, err
}

// keep keeps a file, and drops the oldest ones beyond maxKept.
func (fs *fetches) keep(key string, a Answer) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	if _, ok := fs.kept[key]; ok || len(a.Body) > maxKept {
		return
	}
	if fs.kept == nil {
		fs.kept = make(map[string]Answer)
	}
	fs.kept[key], fs.order, fs.keptBytes = a, append(fs.order, key), fs.keptBytes+len(a.Body)
	for fs.keptBytes > maxKept {
		oldest := fs.order[0]
		fs.order, fs.keptBytes = fs.order[1:], fs.keptBytes-len(fs.kept[oldest].Body)
		delete(fs.kept, oldest)
	}
}

// fetchAbsent sets the bytes of f, a file of a replicated session's list, to those that its owner has.
func (s *Server) fetchAbsent(ctx context.Context, name domain.Name, l *segment.List, f *segment.File) error {
	if !s.clustered() {
		return errNoFile(name)
	}
	a, err := s.fetchForViewer(ctx, name, f.Name)
	if err == nil {
		l.AddFile(f.Name, a.Body)
	}
	return err
}

// fetchPlaylist returns the media playlist of name in format f that d asks for.
func (s *Server) fetchPlaylist(ctx context.Context, name domain.Name, f segment.Format, d *query) (*Answer, error) {
	uri := playlists[f]
	and := "?"
	add := func(parameter string) {
		uri += and + parameter
		and = "&"
	}
	if d.blocks {
		add("_HLS_msn=" + strconv.FormatUint(d.msn, 10))
	}
	if d.part >= 0 {
		add("_HLS_part=" + strconv.Itoa(d.part))
	}
	if d.skip {
		add("_HLS_skip=YES")
	}
	a, err := s.fetchForViewer(ctx, name, uri)
	return &a, err
}

// fetchMultivariant returns the multivariant playlist of name for a viewer that requests format.
func (s *Server) fetchMultivariant(ctx context.Context, name domain.Name, format string) ([]byte, error) {
	uri := multivariantFile
	if format != "" {
		uri += "?format=" + format
	}
	a, err := s.fetchForViewer(ctx, name, uri)
	return a.Body, err
}

// cutURI returns a playlist of Answer without its last line, and that line: the name of a media playlist.
func cutURI(body []byte) (head []byte, file string, err error) {
	head, ok := bytes.CutSuffix(body, []byte("\n"))
	at := bytes.LastIndexByte(head, '\n') + 1
	file = string(head[at:])
	if !ok || file != playlists[segment.FMP4] && file != playlists[segment.TS] {
		return nil, "", domain.Errorf(domain.Unavailable, "the owner sent a playlist of %q", file[:min(len(file), 64)])
	}
	return head[:at:at], file, nil
}

// copyWindow fetches the listed segments that this server has not made, newest first, until ctx ends or
// it fails too often: a request for one fetches it then.
func (s *Server) copyWindow(ctx context.Context, name domain.Name, l *segment.List) {
	failed := 0
	for _, file := range l.AbsentFiles(segment.FMP4) {
		for failed < copyAttempts {
			f := l.File(file)
			if !f.Absent() {
				break
			}
			a, err := s.fetch(ctx, ctx, name, f.Name)
			if err == nil {
				l.AddFile(f.Name, a.Body)
			}
			if err == nil || domain.KindOf(err) == domain.NotFound { // it has left the playlist
				failed = 0
				break
			}
			failed++
			select {
			case <-time.After(copyPause):
			case <-ctx.Done():
				return
			}
		}
	}
}
