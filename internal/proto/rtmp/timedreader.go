package rtmp

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"time"
)

// A process that has a processor notices a deadline within maxDeadlineDelay. After one that it
// noticed later, it reads on for lateGrace.
const (
	maxDeadlineDelay = 100 * time.Millisecond
	lateGrace        = time.Second
)

// A timedReader is the reading side of a connection below its buffer. It counts, and it is where
// time is kept: a deadline that arriving bytes don't move, and the wake-up for the next ping,
// without a timer or a goroutine a connection.
type timedReader struct {
	nc            net.Conn
	in            io.Reader // of nc
	leftover      []byte    // what a former buffer still held
	total         uint64    // bytes read from nc
	deadline      time.Time
	graceDeadline time.Time     // the limit that was set for lack of a processor
	tickInterval  time.Duration // between calls of onTick; 0 for none
	nextTick      time.Time     // of the next tick
	onTick        func() error
	onRead        func() error

	mu      sync.Mutex // guards the following and the connection's read deadline
	armed   time.Time
	stopped bool
}

func (s *timedReader) Read(p []byte) (int, error) {
	if len(s.leftover) > 0 {
		n := copy(p, s.leftover)
		s.leftover = s.leftover[n:]
		return n, nil
	}
	for {
		if err := s.arm(); err != nil {
			return 0, err
		}
		n, err := s.in.Read(p)
		s.total += uint64(n)
		now := time.Now()
		if s.tickInterval > 0 && !now.Before(s.nextTick) {
			s.nextTick = now.Add(s.tickInterval)
			if err := s.onTick(); err != nil {
				return n, err
			}
		}
		if n > 0 {
			if err := s.onRead(); err != nil {
				return n, err
			}
		}
		if n == 0 && errors.Is(err, os.ErrDeadlineExceeded) && s.shouldRetry(now) {
			continue
		}
		return n, err
	}
}

// shouldRetry tells whether a deadline that expired is not the end: when it was for the tick, or
// the limit has moved since. A limit that is past for a while was missed by us - the process was
// stopped, or the machine is busy - and not by the peer: what it sent meanwhile is still to be
// read. On a machine that is always busy that is done once for each limit.
func (s *timedReader) shouldRetry(now time.Time) bool {
	if s.deadline.IsZero() || now.Before(s.deadline) {
		return true
	}
	late := now.Sub(s.deadline)
	if late < maxDeadlineDelay || late < lateGrace && s.deadline.Equal(s.graceDeadline) {
		return false
	}
	s.deadline = now.Add(lateGrace)
	s.graceDeadline = s.deadline
	return true
}

// arm sets the connection's read deadline to the limit or the tick, whichever is first. One that is
// set for an earlier time is left to expire: the limit moves with each frame, and a system timer
// needn't.
func (s *timedReader) arm() error {
	want := s.deadline
	if s.tickInterval > 0 && (want.IsZero() || s.nextTick.Before(want)) {
		want = s.nextTick
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped {
		return net.ErrClosed
	}
	if s.armed.Equal(want) || !s.armed.IsZero() && !want.IsZero() && s.armed.Before(want) && time.Now().Before(s.armed) {
		return nil
	}
	s.armed = want
	return s.nc.SetReadDeadline(want)
}

// stop ends reading through s: the connection's read deadline is no longer ours.
func (s *timedReader) stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stopped = true
}

// startTicks makes onTick be called every d from now on.
func (s *timedReader) startTicks(d time.Duration) {
	s.tickInterval = d
	s.nextTick = time.Now().Add(d)
}
