package stream

import (
	"context"
	"time"

	"livego/internal/media"
)

// A deferredWake wakes the readers that need no frame before some stream time, all at once when the
// first of them is due. The caller locks.
type deferredWake struct {
	at        time.Duration // the DTS that wakes them
	bytesLeft int           // payload bytes after which they wake, whatever the time
	ch        chan struct{} // closed to wake them; nil if none wait

	// flushSeq is the Seq after the newest frame that readers must get at once.
	flushSeq uint64
}

// observe records a frame that was added to the ring. flush reports that readers must get it at
// once.
func (a *deferredWake) observe(f *media.Frame, flush bool) {
	if flush {
		a.flushSeq = f.Seq + 1
	}
	if a.ch == nil {
		return
	}
	if a.bytesLeft -= len(f.Payload) + frameOverhead; flush || f.DTS >= a.at || a.bytesLeft < 0 {
		a.fire()
	}
}

func (a *deferredWake) fire() {
	if a.ch != nil {
		close(a.ch)
		a.ch = nil
	}
}

// arm returns a channel that is closed at the latest when a frame has DTS at, or after so many
// bytes.
func (a *deferredWake) arm(at time.Duration, bytes int) <-chan struct{} {
	if a.ch == nil {
		a.ch, a.at, a.bytesLeft = make(chan struct{}), at, bytes
	}
	a.at, a.bytesLeft = min(a.at, at), min(a.bytesLeft, bytes)
	return a.ch
}

// WaitUntil is Next for a reader that needs no frames before stream time at: it waits until a
// frame's DTS has reached at, and returns all frames that have come. It returns earlier after a
// random access point, a new track, a discontinuity, or when the ring may soon drop frames that
// were not read. So it costs one wake-up for what happens in the stream, not one for each frame.
func (s *Subscriber) WaitUntil(ctx context.Context, dst []*media.Frame, at time.Duration) (int, error) {
	for {
		due := s.deferUntil(at)
		if due == nil {
			if n, err := s.Poll(dst); n > 0 || err != nil {
				return n, err
			}
			continue // the new frames are of tracks that s does not get
		}
		select {
		case <-due:
		case <-s.kicked:
			return 0, s.reason
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
}

// deferUntil returns a channel that is closed when s is to read again; nil if it is to read now.
func (s *Subscriber) deferUntil(at time.Duration) <-chan struct{} {
	st := s.s
	st.mu.Lock()
	defer st.mu.Unlock()
	r, l := &st.ring, st.limits()
	if !s.positioned || st.ended != nil || s.cursor < st.deferred.flushSeq {
		return nil
	}
	if s.every != nil {
		if _, mark, err := s.limitEvery(); mark || err != nil {
			return nil
		}
	}
	if s.flushPending {
		if s.cursor < r.head {
			s.flushPending = false
			return nil
		}
		at = 0
	}
	unread := 0
	if s.cursor < r.head {
		// The ring keeps what is younger than minTime in any case.
		at = min(at, r.at(max(s.cursor, r.tail)).DTS+min(l.minTime, l.time)/2)
		if st.timeline.end >= at {
			return nil
		}
		for seq := max(s.cursor, r.tail); seq < r.head; seq++ {
			unread += len(r.at(seq).Payload) + frameOverhead
		}
	} else if f := r.newest(); f != nil {
		at = min(at, f.DTS+min(l.minTime, l.time)/2)
	}
	if unread > l.bytes/4 {
		return nil
	}
	return st.deferred.arm(at, l.bytes/4-unread)
}

// Flush ends the current WaitUntil, or else the next one: it returns the frames that have come, or
// the next frame. Any goroutine may call it.
func (s *Subscriber) Flush() {
	st := s.s
	st.mu.Lock()
	defer st.mu.Unlock()
	s.flushPending = true
	st.deferred.fire()
}
