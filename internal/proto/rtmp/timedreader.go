package rtmp

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"time"
)

// A running process notices a deadline within maxDeadlineDelay. After a deadline that it noticed
// later, it continues to read for lateGrace.
const (
	maxDeadlineDelay = 100 * time.Millisecond
	lateGrace        = time.Second
)

// A timedReader reads a connection below its buffer. It counts bytes, and keeps a deadline that
// arriving bytes do not extend, and the time of the next ping, without a timer or a goroutine for
// each connection.
type timedReader struct {
	nc            net.Conn
	in            io.Reader // reads nc
	leftover      []byte    // what a previous buffer still held
	total         uint64    // bytes read from nc
	deadline      time.Time
	graceDeadline time.Time     // the deadline that was set because the process noticed one late
	tickInterval  time.Duration // between calls of onTick; 0: none
	nextTick      time.Time     // time of the next tick
	onTick        func() error
	onRead        func() error

	mu      sync.Mutex // guards the following fields and the connection's read deadline
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

// shouldRetry reports whether to continue after a deadline has expired: because it was that of the
// tick, or because the deadline has moved since. A deadline that is noticed late was missed by this
// process, which was stopped or had no CPU time, and not by the peer: what arrived meanwhile is
// still to be read. On a machine that is always busy, this happens once for each deadline.
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

// arm sets the connection's read deadline to the deadline or the tick, whichever is first. An
// earlier one that is set already is left to expire: the deadline moves with each frame, and the
// system timer need not.
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

// stop ends reading through s, which no longer sets the connection's read deadline.
func (s *timedReader) stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stopped = true
}

// startTicks has onTick called every d from now on.
func (s *timedReader) startTicks(d time.Duration) {
	s.tickInterval = d
	s.nextTick = time.Now().Add(d)
}
