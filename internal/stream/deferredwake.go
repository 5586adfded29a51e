package stream

import (
	"context"
	"time"

	"livego/internal/media"
)

// An deferredWake wakes those who need no frame before some stream time. It rings for all of them
// when it rings for one. The caller locks.
type deferredWake struct {
	at        time.Duration // DTS from which on it rings
	bytesLeft int           // bytes of payload after which it rings, whatever the time
	ch        chan struct{} // closed when it rings; nil: nobody waits

	flushSeq uint64 // how many frames there are up to the newest that cannot wait
}

// observe is told of each frame when the ring has it. urgent tells that it cannot wait.
func (a *deferredWake) observe(f *media.Frame, urgent bool) {
	if urgent {
		a.flushSeq = f.Seq + 1
	}
	if a.ch == nil {
		return
	}
	if a.bytesLeft -= len(f.Payload) + frameOverhead; urgent || f.DTS >= a.at || a.bytesLeft < 0 {
		a.fire()
	}
}

func (a *deferredWake) fire() {
	if a.ch != nil {
		close(a.ch)
		a.ch = nil
	}
}

// arm returns what is closed when the alarm rings: at the latest at DTS at, or after so many bytes.
func (a *deferredWake) arm(at time.Duration, bytes int) <-chan struct{} {
	if a.ch == nil {
		a.ch, a.at, a.bytesLeft = make(chan struct{}), at, bytes
	}
	a.at, a.bytesLeft = min(a.at, at), min(a.bytesLeft, bytes)
	return a.ch
}

// WaitUntil is Next for who has no need of frames before stream time at: it waits until the DTS of
// one has reached at, and takes all that have come. It waits no longer when a random access point,
// a new track or a joint of the timeline has come, or the ring could let go of what has not been
// taken: so it costs a wake for what happens, not for each frame.
func (s *Subscriber) WaitUntil(ctx context.Context, dst []*media.Frame, at time.Duration) (int, error) {
	for {
		rung := s.deferUntil(at)
		if rung == nil {
			if n, err := s.Poll(dst); n > 0 || err != nil {
				return n, err
			}
			continue // what came was of tracks that s does not want
		}
		select {
		case <-rung:
		case <-s.kicked:
			return 0, s.reason
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
}

// deferUntil returns what is closed when s is to look again; nil when it is to look now.
func (s *Subscriber) deferUntil(at time.Duration) <-chan struct{} {
	st := s.s
	st.mu.Lock()
	defer st.mu.Unlock()
	r, l := &st.ring, st.limits()
	if !s.positioned || st.ended != nil || s.cursor < st.deferred.flushSeq {
		return nil
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
		// The ring keeps what is younger than keep, whatever comes.
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

// Flush ends a sleep in WaitUntil, or else the next one: it returns with what has come, or with the
// next frame. Any goroutine may call it.
func (s *Subscriber) Flush() {
	st := s.s
	st.mu.Lock()
	defer st.mu.Unlock()
	s.flushPending = true
	st.deferred.fire()
}
