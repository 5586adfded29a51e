package stream

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"livego/internal/domain"
	"livego/internal/media"
)

// A supervised is a hub whose sessions are handled by a consumer until stop is called.
type supervised struct {
	*Hub
	t    *testing.T
	log  bytes.Buffer // read while all goroutines wait
	stop func()

	recordEnds bool // of the consumer "test"

	mu     sync.Mutex
	events []string
}

func supervise(t *testing.T, o Options) *supervised {
	t.Helper()
	h := &supervised{Hub: NewHub(o), t: t, stop: func() {}}
	t.Cleanup(func() {
		h.Close()
		h.stop()
	})
	return h
}

// consume runs a consumer.
func (h *supervised) consume(name string, run func(context.Context, *Session) error) {
	ctx, cancel := context.WithCancel(h.t.Context())
	wait := h.Supervise(ctx, Consumer{Name: name, Run: run, Log: slog.New(slog.NewTextHandler(&h.log, nil)),
		Ended: func(s *Session) {
			if name == "test" && h.recordEnds {
				h.record("%s is done", s.Name())
			}
		}})
	before := h.stop
	h.stop = func() {
		before()
		cancel()
		wait()
	}
	synctest.Wait()
}

func (h *supervised) record(format string, args ...any) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.events = append(h.events, fmt.Sprintf(format, args...))
}

// check compares the recorded events, and forgets them.
func (h *supervised) check(want ...string) {
	h.t.Helper()
	synctest.Wait()
	h.mu.Lock()
	defer h.mu.Unlock()
	if slices.Sort(h.events); !slices.Equal(h.events, want) {
		h.t.Errorf("%q, want %q", h.events, want)
	}
	h.events = nil
}

func (h *supervised) publish(room string) *Publisher {
	h.t.Helper()
	p, err := h.Publish(h.t.Context(), domain.Name{App: "live", Room: room}, PublishOptions{Proto: "test"})
	if err != nil {
		h.t.Fatal(err)
	}
	return p
}

// TestSuperviseFollowsSessions has a consumer handle the session that exists before it, those that
// start later, and those of one name one after the other.
func TestSuperviseFollowsSessions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := supervise(t, Options{Hold: time.Minute})
		early := h.publish("early")
		finish := make(chan struct{}) // lets the consumer finish a session
		h.consume("test", func(ctx context.Context, s *Session) error {
			h.record("%s starts", s.Name())
			if s.Sleep(ctx, time.Hour); ctx.Err() != nil {
				h.record("%s stops", s.Name())
				return nil
			}
			<-finish
			h.record("%s ends", s.Name())
			return nil
		})
		h.check("live/early starts")
		early.End(Clean)
		h.check()
		finish <- struct{}{}
		h.check("live/early ends")

		p := h.publish("late")
		h.check("live/late starts")
		write(t, p, audio(0))
		p.End(Lost)
		p = h.publish("late") // the same session continues
		h.check()
		p.End(Clean)
		h.publish("late").End(Clean) // over before the consumer is done with the one before
		p = h.publish("late")
		h.check()
		finish <- struct{}{}
		h.check("live/late ends", "live/late starts")
		h.publish("another")
		h.check("live/another starts")

		h.stop()
		h.check("live/another stops", "live/late stops")
		h.publish("later")
		h.check()
		p.End(Clean)
		if len(h.supervisors) != 0 {
			t.Errorf("%d supervisors remain", len(h.supervisors))
		}
	})
}

// TestConsumerThatFailsIsRestarted has a consumer fail again and again for one session: it is
// restarted three times, then off for this session, and for no other session and consumer.
func TestConsumerThatFailsIsRestarted(t *testing.T) {
	for _, tt := range []struct {
		name string
		fail func() error
		logs string
	}{
		{"panic", func() error { panic("cannot go on") }, `err="panic: cannot go on" stack=`},
		{"error", func() error { return errors.New("cannot go on") }, `err="cannot go on"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := supervise(t, Options{RestartPause: 3 * time.Second})
				h.recordEnds = true
				begin := time.Now()
				h.consume("test", func(ctx context.Context, s *Session) error {
					h.record("%s after %v, restarted %v", s.Name(), time.Since(begin), s.Restarted())
					if s.Name() == movie {
						return tt.fail()
					}
					s.Sleep(ctx, 2*time.Hour)
					return nil
				})
				h.consume("other", func(ctx context.Context, s *Session) error {
					s.Sleep(ctx, 2*time.Hour)
					h.record("%s ends", s.Name())
					return nil
				})
				healthy, p := h.publish("healthy"), h.publish("movie")
				time.Sleep(time.Hour)
				h.check("live/healthy after 0s, restarted false", "live/movie after 0s, restarted false",
					"live/movie after 21s, restarted true", "live/movie after 3s, restarted true",
					"live/movie after 9s, restarted true", "live/movie is done")
				in, _ := h.Info(movie)
				if other, _ := h.Info(healthy.Name()); !slices.Equal(in.Off, []string{"test"}) || other.Off != nil {
					t.Errorf("off for the movie: %v, for the other: %v", in.Off, other.Off)
				}
				if n := strings.Count(h.log.String(), "\n"); n != 2 || strings.Count(h.log.String(), "level=ERROR") != 2 ||
					!strings.Contains(h.log.String(), tt.logs) ||
					strings.Count(h.log.String(), "consumer=test stream=live/movie") != 2 {
					t.Errorf("%d lines in the log:\n%s", n, h.log.String())
				}
				write(t, p, audio(0)) // the stream itself goes on
				p.End(Clean)
				h.check("live/movie ends")

				begin = time.Now()
				h.publish("movie")
				h.check("live/movie after 0s, restarted false")
				if in, _ := h.Info(movie); in.Off != nil {
					t.Errorf("the next session has off %v", in.Off)
				}
			})
		})
	}
}

// TestFailuresAreForgotten has a consumer fail after long runs. Only failures in a row count.
func TestFailuresAreForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := supervise(t, Options{})
		h.recordEnds = true
		var runs atomic.Int32
		h.consume("test", func(ctx context.Context, s *Session) error {
			runs.Add(1)
			s.Sleep(ctx, stableRun)
			return errors.New("cannot go on")
		})
		p := h.publish("movie")
		time.Sleep(10*stableRun + stableRun/2)
		if in, _ := h.Info(movie); runs.Load() != 11 || in.Off != nil {
			t.Errorf("%d runs, off: %v", runs.Load(), in.Off)
		}
		h.check()
		p.End(Clean) // fails at the end of the session, and is not restarted
		h.check("live/movie is done")
		if runs.Load() != 11 {
			t.Errorf("%d runs after the end", runs.Load())
		}
	})
}

// TestSessionEndsDuringPause ends a session whose consumer is to be restarted, and starts another.
func TestSessionEndsDuringPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := supervise(t, Options{RestartPause: time.Hour})
		h.recordEnds = true
		fails := true
		h.consume("test", func(ctx context.Context, s *Session) error {
			if fails {
				return errors.New("cannot go on")
			}
			h.record("%s runs", s.Name())
			s.Sleep(ctx, 2*time.Hour)
			return nil
		})
		p := h.publish("movie")
		h.check()
		fails = false
		p.End(Clean)
		h.check("live/movie is done")
		p = h.publish("movie")
		h.check("live/movie runs")
		p.End(Clean)
	})
}

// TestSessionSubscribe checks that a subscriber of a session reads that session to its end, and
// cannot join another of the same name.
func TestSessionSubscribe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := supervise(t, Options{})
		again := make(chan struct{}) // closed when another session has started
		h.consume("test", func(ctx context.Context, s *Session) error {
			sub, err := s.Subscribe(ctx, SubscribeOptions{GOPs: 1})
			if err != nil {
				return err
			}
			defer sub.Leave()
			for buf := make([]*media.Frame, 2); err == nil; {
				var n int
				n, err = sub.Next(ctx, buf)
				h.record("%d frames, %v", n, err)
			}
			<-again
			if _, err := s.Subscribe(ctx, SubscribeOptions{}); domain.KindOf(err) != domain.NotFound {
				t.Errorf("another session: %v", err)
			}
			return nil
		})
		p := h.publish("movie")
		h.check() // waits for the tracks
		write(t, p, video(0, true), audio(0))
		h.check("2 frames, <nil>")
		p.End(Clean)
		h.check("0 frames, EOF")
		p = h.publish("movie")
		write(t, p, video(0, true), audio(0))
		close(again)
		h.check("2 frames, <nil>")
		p.End(Clean)
		h.check("0 frames, EOF")
	})
}

// TestSessionSubscribeEnds ends a session that had no frame while a consumer waits to subscribe. The
// consumer does not go on to wait for another session, which may never come.
func TestSessionSubscribeEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := supervise(t, Options{})
		h.consume("test", func(ctx context.Context, s *Session) error {
			_, err := s.Subscribe(ctx, SubscribeOptions{Viewer: ViewerOptions{Internal: true}, Wait: -1})
			h.record("%v", err)
			return nil
		})
		h.publish("movie").End(Clean)
		h.check("nobody is publishing live/movie")
		if h.mu.Lock(); len(h.streams) != 0 {
			t.Errorf("%d stream entries are left", len(h.streams))
		}
		h.mu.Unlock()
	})
}
