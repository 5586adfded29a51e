package stream

import (
	"time"

	"livego/internal/media"
)

// A batchWindow wakes one reader at each frame, or when a batching window closes: how long frames
// are collected before the reader wakes up. stream.mu guards it; a reader that holds it shared may
// change it too, because only that reader uses these fields.
type batchWindow struct {
	wake        chan struct{} // has room for one
	waiting     bool          // the reader waits on wake
	window      time.Duration
	audioWindow time.Duration // how long an audio frame waits for the next picture, if there is video
	timer       *time.Timer
	closesAt    time.Time // when the open window closes; zero if none is open
}

// SetWindow sets the batching window of the reader. audio is how long an audio frame waits for the
// next picture, if the stream has video.
func (s *Subscriber) SetWindow(window, audio time.Duration) {
	if s.window == window && s.audioWindow == audio {
		return
	}
	s.s.mu.Lock()
	defer s.s.mu.Unlock()
	s.window, s.audioWindow = window, audio
}

// A frameInterval measures the time between pictures.
type frameInterval struct {
	last     time.Duration // DTS of the newest picture
	interval time.Duration
}

// observe records f. Pictures of several tracks may have the same time.
func (b *frameInterval) observe(f *media.Frame) {
	if f.DTS != b.last {
		b.last, b.interval = f.DTS, f.DTS-b.last
	}
}

// wakeReaders wakes the readers that wait for f, now or when their window closes. A window closes
// with the last picture that comes before its end, because a longer wait would collect nothing more.
// The caller holds s.mu.
func (s *stream) wakeReaders(f *media.Frame) {
	picture := f.Track.Kind == media.Video
	if picture {
		s.pictureInterval.observe(f)
	}
	for _, sub := range s.readers {
		if !sub.waiting {
			continue
		}
		window, next := sub.window, time.Duration(0)
		switch {
		case picture:
			next = s.pictureInterval.interval
		case f.Track.Kind == media.Audio && s.program.Has(media.Video):
			window = max(window, sub.audioWindow)
		}
		sub.schedule(window, next)
	}
}

// schedule closes the window after d unless it closes earlier. It closes the window now if that
// would be before next has passed. The caller holds stream.mu.
func (s *Subscriber) schedule(d, next time.Duration) {
	now := time.Now()
	open := !s.closesAt.IsZero()
	if open {
		d = min(d, s.closesAt.Sub(now))
	}
	switch {
	case d <= 0 || d < next:
		s.wakeUp()
		return
	case open && now.Add(d).Equal(s.closesAt):
		return
	case s.timer == nil:
		s.timer = time.AfterFunc(d, s.closeWindow)
	default:
		s.timer.Reset(d)
	}
	s.closesAt = now.Add(d)
}

func (s *Subscriber) closeWindow() {
	s.s.mu.Lock()
	defer s.s.mu.Unlock()
	// Otherwise the timer was for another window.
	if !s.closesAt.IsZero() && !time.Now().Before(s.closesAt) {
		s.wakeUp()
	}
}

// wakeUp wakes the reader. The caller holds stream.mu.
func (s *Subscriber) wakeUp() {
	if s.timer != nil {
		s.timer.Stop()
	}
	s.closesAt, s.waiting = time.Time{}, false
	select {
	case s.wake <- struct{}{}:
	default:
	}
}
