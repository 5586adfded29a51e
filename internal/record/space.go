package record

import (
	"errors"
	"fmt"
	"sync"
	"time"
)

// A Space is an amount of disk space: a number of bytes, or if that is 0 a percentage of the disk.
type Space struct {
	Bytes   int64
	Percent float64
}

// resumeFactor is how many times Limits.MinFree must be free to start a file after a recording
// was ended or not started for lack of space: a file for each megabyte that becomes free is of no
// use.
const resumeFactor = 2.5

// of returns s in bytes, on a disk of size bytes.
func (s Space) of(size int64) int64 {
	if s.Bytes > 0 {
		return s.Bytes
	}
	return int64(s.Percent / 100 * float64(size))
}

func (s Space) times(n float64) Space {
	return Space{Bytes: int64(n * float64(s.Bytes)), Percent: n * s.Percent}
}

// spaceInterval is how long a measurement of the free space is used.
const spaceInterval = time.Second

// A spaceBudget limits what is written to a disk, so that its recordings together leave the space
// free that Limits.MinFree demands.
type spaceBudget struct {
	mu       sync.Mutex
	measured time.Time
	left     int64 // bytes that may be written until the next measurement
	writing  int64 // bytes that are being written: they may be measured as free
	written  int64 // bytes that were written since the start
}

// errDiskFull is the error of a disk that has too little free space.
var errDiskFull = errors.New("the disk is full")

// checkSpace returns an error if the disk has less than need free.
func (r *Recorder) checkSpace(need Space) error {
	free, size, err := r.disk.free()
	if err == nil && size > 0 && free < need.of(size) {
		err = fmt.Errorf("%w: %s is needed to start a file", errDiskFull, need.describe(free, size))
	}
	return err
}

// describe returns text such as "1.5 % is free, 2 %".
func (s Space) describe(free, size int64) string {
	if s.Bytes > 0 {
		return fmt.Sprintf("%.1f MiB is free, %.4g MiB", float64(free)/(1<<20), float64(s.Bytes)/(1<<20))
	}
	return fmt.Sprintf("%.1f %% is free, %.3g %%", 100*float64(free)/float64(size), s.Percent)
}

// write calls f, which writes n bytes, if that leaves Limits.MinFree free.
func (r *Recorder) write(n int, f func() error) error {
	need, s := int64(n), &r.space
	reserve := func() bool {
		if s.left < need {
			return false
		}
		s.left, s.writing = s.left-need, s.writing+need
		return true
	}
	s.mu.Lock()
	ok, before := time.Since(s.measured) < spaceInterval && reserve(), s.written
	s.mu.Unlock()
	if !ok {
		free, size, err := r.disk.free()
		if err != nil {
			return err
		}
		minFree := r.limits.Load().MinFree
		left := free - minFree.of(size)
		if size == 0 { // unknown
			left = 1 << 62
		}
		s.mu.Lock()
		s.measured, s.left = time.Now(), left-s.writing-(s.written-before)
		ok = reserve()
		s.mu.Unlock()
		if !ok {
			return fmt.Errorf("%w: %s must stay free", errDiskFull, minFree.describe(free, size))
		}
	}
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.writing, s.written = s.writing-need, s.written+need
	}()
	return f()
}
