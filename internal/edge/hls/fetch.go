package hls

import (
	"context"
	"sync"

	"livego/internal/deliver/segment"
	"livego/internal/domain"
)

// maxFetched is the maximum size of a file that the owner of a session sends.
const maxFetched = 256 << 20

// fetches are the files that are being fetched from owners.
type fetches struct {
	mu      sync.Mutex
	running map[string]*fetch // by the name of the stream and of the file
}

// A fetch gets one file, for all requests that wait for it.
type fetch struct {
	done chan struct{}
	err  error // read after done
}

// fetch gives f, a file of a replicated session's list, the bytes that its owner has.
func (s *Server) fetch(ctx context.Context, name domain.Name, l *segment.List, f *segment.File) error {
	get := s.options().Fetch
	if get == nil {
		return domain.Errorf(domain.NotFound, "segment of %s not found: this server has not made it", name)
	}
	key := name.String() + "/" + f.Name
	s.fetches.mu.Lock()
	running := s.fetches.running[key]
	if running == nil {
		running = &fetch{done: make(chan struct{})}
		if s.fetches.running == nil {
			s.fetches.running = make(map[string]*fetch)
		}
		s.fetches.running[key] = running
		s.fetches.mu.Unlock()
		data, err := get(ctx, name, f.Name)
		switch {
		case err != nil:
		case len(data) == 0 || len(data) > maxFetched:
			err = domain.Errorf(domain.Unavailable, "the owner of %s sent %d bytes for a segment", name, len(data))
		default:
			l.AddFile(f.Name, data)
		}
		s.fetches.mu.Lock()
		delete(s.fetches.running, key)
		running.err = err
		close(running.done)
	}
	s.fetches.mu.Unlock()
	select {
	case <-running.done:
		return running.err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// copyWindow fetches the listed segments that this server has not made, newest first, until ctx ends or
// one cannot be had: a request for it fetches it then.
func (s *Server) copyWindow(ctx context.Context, name domain.Name, l *segment.List) {
	for _, file := range l.AbsentFiles(segment.FMP4) {
		if f := l.File(file); f.Absent() && s.fetch(ctx, name, l, &f) != nil {
			return
		}
	}
}
