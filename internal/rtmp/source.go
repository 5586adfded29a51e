package rtmp

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"time"
)

// A process that has a processor notices a deadline within lateness. After one that it noticed later, it reads on for grace.
const (
	lateness = 100 * time.Millisecond
	grace    = time.Second
)

// A source is the reading side of a connection below its buffer. It counts, and it is where time is kept: a deadline that arriving bytes
// don't move, and the wake-up for the next ping, without a timer or a goroutine a connection.
type source struct {
	nc     net.Conn
	in     io.Reader // of nc
	head   []byte    // what a former buffer still held
	total  uint64    // bytes read from nc
	limit  time.Time
	given  time.Time     // the limit that was set for lack of a processor
	tick   time.Duration // between calls of onTick; 0 for none
	due    time.Time     // of the next tick
	onTick func() error
	onRead func() error

	mu    sync.Mutex // guards the following and the connection's read deadline
	armed time.Time
	shut  bool
}

func (s *source) Read(p []byte) (int, error) {
	if len(s.head) > 0 {
		n := copy(p, s.head)
		s.head = s.head[n:]
		return n, nil
	}
	for {
		if err := s.arm(); err != nil {
			return 0, err
		}
		n, err := s.in.Read(p)
		s.total += uint64(n)
		now := time.Now()
		if s.tick > 0 && !now.Before(s.due) {
			s.due = now.Add(s.tick)
			if err := s.onTick(); err != nil {
				return n, err
			}
		}
		if n > 0 {
			if err := s.onRead(); err != nil {
				return n, err
			}
		}
		if n == 0 && errors.Is(err, os.ErrDeadlineExceeded) && s.goesOn(now) {
			continue
		}
		return n, err
	}
}

// goesOn tells whether a deadline that expired is not the end: when it was for the tick, or the limit has moved since. A limit
// that is past for a while was missed by us - the process was stopped, or the machine is busy - and not by the peer: what it sent
// meanwhile is still to be read. On a machine that is always busy that is done once for each limit.
func (s *source) goesOn(now time.Time) bool {
	if s.limit.IsZero() || now.Before(s.limit) {
		return true
	}
	late := now.Sub(s.limit)
	if late < lateness || late < grace && s.limit.Equal(s.given) {
		return false
	}
	s.limit = now.Add(grace)
	s.given = s.limit
	return true
}

// arm sets the connection's read deadline to the limit or the tick, whichever is first. One that is set for an earlier time is left
// to expire: the limit moves with each frame, and a system timer needn't.
func (s *source) arm() error {
	want := s.limit
	if s.tick > 0 && (want.IsZero() || s.due.Before(want)) {
		want = s.due
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.shut {
		return net.ErrClosed
	}
	if s.armed.Equal(want) || !s.armed.IsZero() && !want.IsZero() && s.armed.Before(want) && time.Now().Before(s.armed) {
		return nil
	}
	s.armed = want
	return s.nc.SetReadDeadline(want)
}

// shutDown ends reading through s: the connection's read deadline is no longer ours.
func (s *source) shutDown() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.shut = true
}

// startTicks makes onTick be called every d from now on.
func (s *source) startTicks(d time.Duration) {
	s.tick = d
	s.due = time.Now().Add(d)
}
