package monitor

import (
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"livego/internal/domain"
	"livego/internal/media"
	"livego/internal/stream"
)

// audioFrame returns a frame of a radio stream at a time; no two in a row are equal.
func audioFrame(track *media.Track, n int) *media.Frame {
	at := time.Duration(n) * 20 * time.Millisecond
	return &media.Frame{Track: track, DTS: at, PTS: at, RAP: media.Keyframe, Arrived: time.Now(),
		Payload: []byte(strings.Repeat(string(rune('a'+n%20)), 100))}
}

// sendRadio publishes n seconds of audio.
func (s *simulation) sendRadio(seconds int, how stream.EndReason) {
	s.t.Helper()
	p, err := s.hub.Publish(s.t.Context(), s.name, stream.PublishOptions{Proto: "test"})
	if err != nil {
		s.t.Fatal(err)
	}
	track := &media.Track{Kind: media.Audio, Codec: media.AAC, Timescale: 48000, SampleRate: 48000, FrameSamples: 960}
	for n := range seconds * 50 {
		if err := p.Write(audioFrame(track, n)); err != nil {
			s.t.Fatal(err)
		}
		time.Sleep(20 * time.Millisecond)
	}
	p.End(how)
}

// TestHistoryOfASession checks that the history of a stream goes on while it is held and when another
// publisher continues it, and that it is gone when the stream has ended.
func TestHistoryOfASession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := simulate(t)
		if s.m.History(s.name) != nil || s.m.FindingsOf(s.name) != nil {
			t.Error("a stream that does not exist has a history")
		}
		s.sendRadio(60, stream.Lost)
		time.Sleep(20 * time.Second) // held
		s.sendRadio(60, stream.Lost)
		time.Sleep(2 * interval)
		h := s.m.History(s.name)
		if len(h) < 135 || len(h) > 145 {
			t.Errorf("%d samples of 142 seconds", len(h))
		}
		sound, none := 0, 0
		for _, sample := range h {
			switch {
			case sample.AudioKbps > 30 && sample.AudioKbps < 50:
				sound++
			case sample.AudioKbps == 0:
				none++
			case sample.AudioKbps > 50:
				t.Errorf("a second has %v kbit/s", sample.AudioKbps)
			}
		}
		if sound < 115 || none < 18 {
			t.Errorf("%d seconds have sound and %d have none, of 120 and 22", sound, none)
		}
		if len(s.found) != 0 {
			t.Errorf("findings %+v", s.found)
		}
		time.Sleep(2 * time.Minute) // the stream ends
		if h := s.m.History(s.name); h != nil {
			t.Errorf("%d samples after the end", len(h))
		}
		if len(s.m.streams) != 0 {
			t.Errorf("%d streams are kept after the end", len(s.m.streams))
		}
	})
}

// TestViewersThatSkip has some of many viewers skip. The share of those that did so lately is a finding,
// whether or not they have skipped before, and those that left do not count.
func TestViewersThatSkip(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := simulate(t)
		done := make(chan struct{})
		go func() {
			defer close(done)
			s.sendRadio(5*60, stream.Clean)
		}()
		time.Sleep(2 * time.Second)
		var viewers []*stream.Viewer
		for range 200 {
			v, err := s.hub.Join(s.name, stream.ViewerOptions{Proto: "flv"})
			if err != nil {
				t.Fatal(err)
			}
			viewers = append(viewers, v)
		}
		skip := func(n int, times int) {
			for range times {
				for _, v := range viewers[:n] {
					v.Skip()
				}
				time.Sleep(viewersInterval + interval)
			}
		}
		behind := func() int32 {
			h := s.m.History(s.name)
			return h[len(h)-1].Behind
		}
		skip(49, 3)
		if n := behind(); n != 49 || len(s.found) != 0 {
			t.Errorf("%d viewers are behind, findings %+v", n, s.found)
		}
		time.Sleep(behindFor)
		if n := behind(); n != 0 {
			t.Errorf("%d viewers are behind although none has skipped", n)
		}
		h := s.m.History(s.name)
		if last, first := h[len(h)-1], h[0]; last.Viewers != 200 || last.Protocols["flv"] != 200 ||
			len(last.Protocols) != 1 || len(first.Protocols) != 0 {
			t.Errorf("viewers by protocol: first %v, last %v", first.Protocols, last.Protocols)
		}
		skip(50, 1)
		if n := behind(); n != 50 || len(s.found) != 1 || s.found[0].Code != "slow_viewers" {
			t.Errorf("%d viewers are behind, findings %+v", n, s.found)
		}
		all := s.m.Findings()
		if len(all) != 1 || all[0].Name != s.name || all[0].Code != "slow_viewers" {
			t.Errorf("all findings: %+v", all)
		}
		for _, v := range viewers {
			v.Leave()
		}
		time.Sleep(behindFor + interval)
		if n := behind(); n != 0 {
			t.Errorf("%d viewers are behind although all have left", n)
		}
		<-done
		if cleared := slices.Contains(s.cleared, "slow_viewers"); !cleared {
			t.Error("the finding was not cleared")
		}
	})
}

// TestEventOfAFinding checks what an event says.
func TestEventOfAFinding(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var events []domain.Event
		s := simulate(t)
		s.m.opt.Event = func(e domain.Event) { events = append(events, e) }
		p, err := s.hub.Publish(t.Context(), s.name, stream.PublishOptions{Proto: "test"})
		if err != nil {
			t.Fatal(err)
		}
		track := &media.Track{Kind: media.Audio, Codec: media.AAC, Timescale: 48000, SampleRate: 96000, FrameSamples: 1920}
		for n := range 250 {
			if err := p.Write(audioFrame(track, n)); err != nil {
				t.Fatal(err)
			}
			time.Sleep(20 * time.Millisecond)
		}
		p.End(stream.Clean)
		time.Sleep(2 * interval)
		if len(events) != 1 || events[0].Type != domain.EventFindingAppeared || events[0].App != "live" ||
			events[0].Room != "movie" || !strings.HasPrefix(events[0].Reason, "The sample rate is 96000 Hz") ||
			events[0].Fields["finding"] != "sample_rate" || events[0].Fields["severity"] != "warning" {
			t.Errorf("events %+v", events)
		}
	})
}

// BenchmarkSecond measures what a second of one stream with 50 frames costs the server.
func BenchmarkSecond(b *testing.B) {
	hub := stream.NewHub(stream.Options{TrackWait: 1})
	defer hub.Close()
	m := New(hub, Options{Log: slog.New(slog.DiscardHandler)})
	name := domain.Name{App: "live", Room: "movie"}
	p, err := hub.Publish(b.Context(), name, stream.PublishOptions{Proto: "test"})
	if err != nil {
		b.Fatal(err)
	}
	track := &media.Track{Kind: media.Audio, Codec: media.AAC, Timescale: 48000, SampleRate: 48000, FrameSamples: 960}
	now, n := time.Now(), 0
	write := func() {
		for range 50 {
			f := audioFrame(track, n)
			f.Arrived = now.Add(time.Duration(n) * 20 * time.Millisecond)
			if err := p.Write(f); err != nil {
				b.Fatal(err)
			}
			n++
		}
	}
	write()
	e := new(examination)
	if e.sub, err = hub.Subscribe(b.Context(), name, stream.SubscribeOptions{Viewer: stream.ViewerOptions{Internal: true},
		GOPs: 1}); err != nil {
		b.Fatal(err)
	}
	defer e.sub.Leave()
	frames := make([]*media.Frame, 64)
	b.ReportAllocs()
	for b.Loop() {
		b.StopTimer()
		write()
		b.StartTimer()
		if err := e.read(b.Context(), frames); err != nil {
			b.Fatal(err)
		}
		m.tick(name, e, now.Add(time.Duration(n)*20*time.Millisecond))
	}
	if got := e.analyzer.Findings(); len(got) != 0 {
		b.Errorf("findings %+v", got)
	}
}
