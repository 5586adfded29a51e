package stream

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
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
	done := make(chan struct{})
	go func() {
		defer close(done)
		h.Supervise(ctx, Consumer{Name: name, Run: run, Log: slog.New(slog.NewTextHandler(&h.log, nil)),
			Failed: func(s *Session) { h.record("%s failed", s.Name()) }})
	}()
	before := h.stop
	h.stop = func() {
		before()
		cancel()
		<-done
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
			select {
			case <-s.Done():
				<-finish
				h.record("%s ends", s.Name())
			case <-ctx.Done():
				h.record("%s stops", s.Name())
			}
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
				begin := time.Now()
				h.consume("test", func(ctx context.Context, s *Session) error {
					h.record("%s after %v, restarted %v", s.Name(), time.Since(begin), s.Restarted())
					if s.Name() == movie {
						return tt.fail()
					}
					<-s.Done()
					return nil
				})
				h.consume("other", func(ctx context.Context, s *Session) error {
					<-s.Done()
					h.record("%s ends", s.Name())
					return nil
				})
				healthy, p := h.publish("healthy"), h.publish("movie")
				time.Sleep(time.Hour)
				h.check("live/healthy after 0s, restarted false", "live/movie after 0s, restarted false",
					"live/movie after 21s, restarted true", "live/movie after 3s, restarted true",
					"live/movie after 9s, restarted true", "live/movie failed")
				in, _ := h.Info(movie)
				if other, _ := h.Info(healthy.Name()); !slices.Equal(in.Off, []string{"test"}) || other.Off != nil ||
					!h.Session(movie).Off("test") || h.Session(movie).Off("other") {
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
		h.check("live/movie failed")
		if runs.Load() != 11 {
			t.Errorf("%d runs after the end", runs.Load())
		}
	})
}

// TestSessionEndsDuringPause ends a session whose consumer is to be restarted, and starts another.
func TestSessionEndsDuringPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := supervise(t, Options{RestartPause: time.Hour})
		fails := true
		h.consume("test", func(ctx context.Context, s *Session) error {
			if fails {
				return errors.New("cannot go on")
			}
			h.record("%s runs", s.Name())
			<-s.Done()
			return nil
		})
		p := h.publish("movie")
		h.check()
		fails = false
		p.End(Clean)
		h.check("live/movie failed")
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
		p := h.publish("movie")
		first := h.Session(movie)
		if !first.Published() {
			t.Error("not published")
		}
		joined := make(chan *Subscriber)
		go func() {
			s, err := first.Subscribe(t.Context(), SubscribeOptions{GOPs: 1})
			if err != nil {
				t.Error(err)
			}
			joined <- s
		}()
		synctest.Wait()
		write(t, p, video(0, true), audio(0))
		s := <-joined
		defer s.Leave()
		p.End(Clean)
		p = h.publish("movie")
		write(t, p, video(0, true), audio(0))
		buf := make([]*media.Frame, 2)
		if n, err := s.Next(t.Context(), buf); n != 2 || err != nil {
			t.Errorf("%d frames, %v", n, err)
		}
		if n, err := s.Next(t.Context(), buf); n != 0 || err != io.EOF {
			t.Errorf("%d frames, %v; want the end", n, err)
		}
		if _, err := first.Subscribe(t.Context(), SubscribeOptions{}); domain.KindOf(err) != domain.NotFound {
			t.Errorf("the ended session: %v", err)
		}
		if first.Published() || h.Session(domain.Name{App: "live", Room: "none"}) != nil {
			t.Error("an ended or missing session is live")
		}
	})
}
