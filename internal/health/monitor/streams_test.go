package monitor

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"livego/e2e/sample"
	"livego/internal/container/flv"
	"livego/internal/domain"
	"livego/internal/health"
	"livego/internal/media"
	"livego/internal/stream"
)

// A simulation is an encoder, a hub and a Monitor in simulated time.
type simulation struct {
	t     *testing.T
	hub   *stream.Hub
	m     *Monitor
	name  domain.Name
	mu    sync.Mutex
	found []health.Finding // that appeared

	cleared []string // codes of findings

	history []health.Sample // before the end of the stream
}

func simulate(t *testing.T) *simulation {
	t.Helper()
	s := &simulation{t: t, name: domain.Name{App: "live", Room: "movie"},
		hub: stream.NewHub(stream.Options{Hold: time.Minute, RAPWait: time.Second})}
	s.m = New(s.hub, Options{Log: slog.New(slog.DiscardHandler), Event: func(e domain.Event) {
		s.mu.Lock()
		defer s.mu.Unlock()
		code := e.Fields["finding"].(string)
		if e.Type == domain.EventFindingAppeared {
			s.found = append(s.found, health.Finding{Code: code, Text: e.Reason})
		} else {
			s.cleared = append(s.cleared, code)
		}
	}})
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { s.m.Run(ctx) })
	t.Cleanup(func() {
		s.hub.Close()
		cancel()
		running.Wait()
	})
	return s
}

// push publishes tags when they are due, for at most d.
func (s *simulation) push(tags []sample.TimedTag, d time.Duration, jitter bool) {
	s.t.Helper()
	var demux flv.Demuxer
	skips := new(media.Skips)
	demux.Skips = skips
	p, err := s.hub.Publish(s.t.Context(), s.name, stream.PublishOptions{Proto: "test", Skips: skips})
	if err != nil {
		s.t.Fatal(err)
	}
	defer p.End(stream.Clean)
	random := rand.New(rand.NewPCG(1, 2))
	start := time.Now()
	for _, tag := range tags {
		at := tag.At
		if at > d {
			break
		}
		if jitter {
			at += time.Duration(random.IntN(60)) * time.Millisecond
		}
		time.Sleep(time.Until(start.Add(at)))
		frames, err := demux.Message(tag.Type, tag.Time, bytes.Clone(tag.Body), time.Now())
		if err != nil && !errors.Is(err, flv.ErrSkip) {
			s.t.Fatal(err)
		}
		for _, f := range frames {
			if err := p.Write(f); err != nil {
				s.t.Fatal(err)
			}
		}
	}
	time.Sleep(interval)
	s.history = s.m.History(s.name)
}

// withoutNumbers returns s with a 0 in place of each number, and a space in place of white space.
func withoutNumbers(s string) string {
	return regexp.MustCompile(`[-+]?\d+(\.\d+)?`).ReplaceAllString(strings.Join(strings.Fields(s), " "), "0")
}

// maxReason is how many bytes of an event's reason are kept.
const maxReason = 512

// TestFaultyStreams examines streams with one fault each: each gets its finding, and no other.
func TestFaultyStreams(t *testing.T) {
	text, err := os.ReadFile("../../../docs/doctor.md")
	if err != nil {
		t.Fatal(err)
	}
	document := withoutNumbers(strings.ReplaceAll(string(text), "\n>", " "))
	for _, f := range sample.FaultyStreams() {
		t.Run(f.Name, func(t *testing.T) {
			t.Parallel()
			tags := f.Tags(t, 6)
			synctest.Test(t, func(t *testing.T) {
				s := simulate(t)
				s.push(tags, 3*time.Minute, false)
				if len(s.found) == 0 {
					t.Fatalf("no finding, want %s; the last sample is %+v", f.Finding, s.history[len(s.history)-1])
				}
				for _, got := range s.found {
					if got.Code != f.Finding || !strings.Contains(got.Text, f.Text) {
						t.Errorf("%s: %s, want %s with %q", got.Code, got.Text, f.Finding, f.Text)
					}
					if !strings.Contains(got.Text, " In OBS ") || !strings.Contains(got.Text, "; in ffmpeg ") ||
						len(got.Text) > maxReason {
						t.Errorf("%s: %s: want at most %d bytes, and the settings in OBS and ffmpeg", got.Code, got.Text, maxReason)
					}
				}
				t.Log(s.found[0].Text)
				if want := withoutNumbers(s.found[0].Text); !strings.Contains(document, want) {
					t.Errorf("not in docs/doctor.md: %s", s.found[0].Text)
				}
			})
		})
	}
}

// TestHealthyStreams examines healthy streams for ten minutes: none gets a finding.
func TestHealthyStreams(t *testing.T) {
	for _, f := range sample.HealthyStreams() {
		t.Run(f.Name, func(t *testing.T) {
			t.Parallel()
			tags := f.Tags(t, 20)
			synctest.Test(t, func(t *testing.T) {
				s := simulate(t)
				s.push(tags, 10*time.Minute, true)
				for _, got := range s.found {
					t.Errorf("%s: %s", got.Code, got.Text)
				}
				if len(s.history) < health.HistoryLength-5 {
					t.Errorf("%d samples of ten minutes", len(s.history))
				}
			})
		})
	}
}
