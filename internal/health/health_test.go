package health

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"livego/internal/media"
)

// An encoder sends frames of video and audio to an Analyzer, in simulated time.
type encoder struct {
	t   testing.TB
	a   Analyzer
	now time.Time // arrival
	at  time.Duration
	n   int // frames of video so far

	video, audio *media.Track
	program      *media.Program
	clock        time.Duration // encoder time less stream time
	facts        Facts
	size         func(n int) int // of frame n of video

	appeared, cleared []Finding
}

func newEncoder(t testing.TB) *encoder {
	t.Helper()
	e := &encoder{t: t, now: time.Date(2030, 1, 31, 12, 0, 0, 0, time.UTC), size: func(int) int { return 5000 }}
	e.connect(0)
	return e
}

// connect makes the frames that follow those of a new publisher.
func (e *encoder) connect(discontinuity uint32) {
	e.video = &media.Track{Kind: media.Video, Codec: media.VP8, Timescale: 90000, Width: 1280, Height: 720}
	e.audio = &media.Track{Kind: media.Audio, Codec: media.AAC, Timescale: 48000, SampleRate: 48000, Channels: 2,
		FrameSamples: 960}
	e.program = media.NewProgram(e.video, e.audio).WithDiscontinuity(discontinuity)
}

const frameTime = 40 * time.Millisecond

// run sends d of video and audio, with a keyframe every two seconds.
func (e *encoder) run(d time.Duration) {
	for end := e.at + d; e.at < end; e.at += frameTime {
		v := &media.Frame{Track: e.video, Program: e.program, DTS: e.at, PTS: e.at, Duration: frameTime,
			Payload: make([]byte, e.size(e.n))}
		if e.n%50 == 0 {
			v.RAP = media.Keyframe
		}
		e.a.Observe(v, e.at+e.clock, e.now)
		for i := range 2 {
			at := e.at + time.Duration(i)*frameTime/2
			sound := make([]byte, 200)
			sound[0], sound[1] = byte(e.n), byte(i)
			e.a.Observe(&media.Frame{Track: e.audio, Program: e.program, DTS: at, PTS: at, Duration: frameTime / 2,
				RAP: media.Keyframe, Payload: sound}, at+e.clock, e.now)
		}
		e.n++
		e.now = e.now.Add(frameTime)
		if e.n%25 == 0 {
			e.tick()
		}
	}
}

func (e *encoder) tick() {
	appeared, cleared := e.a.Tick(e.now, e.facts)
	e.appeared, e.cleared = append(e.appeared, appeared...), append(e.cleared, cleared...)
}

// check compares the findings that appeared and were cleared since the last check, by their codes.
func (e *encoder) check(appeared, cleared string) {
	e.t.Helper()
	codes := func(list []Finding) string {
		var s []string
		for _, f := range list {
			s = append(s, f.Code)
		}
		return strings.Join(s, " ")
	}
	if got := codes(e.appeared); got != appeared {
		e.t.Errorf("appeared %q, want %q: %+v", got, appeared, e.appeared)
	}
	if got := codes(e.cleared); got != cleared {
		e.t.Errorf("cleared %q, want %q", got, cleared)
	}
	e.appeared, e.cleared = nil, nil
}

// TestFindingStaysForAWhile checks that a finding does not come and go: it is over when its problem was
// not seen for half a minute.
func TestFindingStaysForAWhile(t *testing.T) {
	e := newEncoder(t)
	e.run(time.Minute)
	e.facts.ArrivalTimestamps = true
	e.run(time.Second)
	e.facts.ArrivalTimestamps = false
	since := e.now
	e.check("timestamps_unreliable", "")
	e.run(20 * time.Second)
	e.facts.ArrivalTimestamps = true
	e.run(time.Second)
	e.facts.ArrivalTimestamps = false
	seen := e.now
	e.run(clearAfter - time.Second)
	e.check("", "")
	list := e.a.Findings()
	if len(list) != 1 || !list[0].Since.Equal(since) || !list[0].LastSeen.Equal(seen) || list[0].Severity != Warning {
		t.Errorf("%+v, want one since %v, seen at %v", list, since, seen)
	}
	e.run(time.Second)
	if e.cleared[0].Text != list[0].Text {
		t.Errorf("the cleared finding says %q", e.cleared[0].Text)
	}
	e.check("", "timestamps_unreliable")
	if list := e.a.Findings(); len(list) != 0 {
		t.Errorf("%+v", list)
	}
}

// TestFrameRateThatWasVariable: the finding describes the frames that varied, and not the regular ones after them.
func TestFrameRateThatWasVariable(t *testing.T) {
	e := newEncoder(t)
	for i := range 2000 {
		step := frameTime
		if i < 600 && i%2 == 0 {
			step *= 2
		}
		e.a.Observe(&media.Frame{Track: e.video, Program: e.program, DTS: e.at, PTS: e.at, Duration: step,
			Payload: make([]byte, e.size(i))}, e.at, e.now)
		e.at, e.now = e.at+step, e.now.Add(step)
		if i%25 == 0 {
			e.tick()
		}
		for _, f := range e.a.Findings() {
			if f.Code == "variable_frame_rate" && !strings.Contains(f.Text, "frames are 40 to 80 ms apart") {
				t.Fatalf("frame %d: %s", i, f.Text)
			}
		}
	}
	if !slices.ContainsFunc(e.appeared, func(f Finding) bool { return f.Code == "variable_frame_rate" }) {
		t.Errorf("findings %+v, want variable_frame_rate", e.appeared)
	}
}

// TestReconnectIsNoProblem has another publisher continue a stream with another clock and another
// picture size, and one whose clock jumps, for comparison.
func TestReconnectIsNoProblem(t *testing.T) {
	e := newEncoder(t)
	e.run(time.Minute)
	e.facts.Held = true
	for range 15 {
		e.now = e.now.Add(time.Second)
		e.tick()
	}
	e.facts.Held = false
	e.connect(1)
	e.video.Width, e.video.Height, e.audio.SampleRate, e.audio.FrameSamples = 640, 360, 44100, 882
	e.clock = -e.at
	e.run(3 * time.Minute)
	e.check("", "")
	e.clock += time.Hour
	e.program = e.program.WithDiscontinuity(2) // as the timeline of a stream does
	e.run(time.Second)
	e.check("timestamp_jumps", "")
	if text := e.a.Findings()[0].Text; !strings.Contains(text, "+3600.0 s") {
		t.Error(text)
	}
	e.run(2 * time.Minute)
	e.check("", "timestamp_jumps")
}

// TestMissingFramesAreNoProblem checks that frames that the reader missed are not taken for a fault of
// the encoder.
func TestMissingFramesAreNoProblem(t *testing.T) {
	e := newEncoder(t)
	e.run(time.Minute)
	for range 20 {
		e.at += 3 * time.Second
		e.now = e.now.Add(3 * time.Second)
		e.a.Skip()
		e.run(2 * time.Second)
	}
	e.check("", "")
}

// TestViewersThatFallBehind checks the share of viewers from which on the bitrate is too high for them.
func TestViewersThatFallBehind(t *testing.T) {
	for _, tt := range []struct {
		viewers, behind int
		found           string
	}{
		{3, 3, ""}, {4, 0, ""}, {4, 1, "slow_viewers"}, {100, 24, ""}, {100, 25, "slow_viewers"},
	} {
		t.Run(fmt.Sprintf("%d of %d", tt.behind, tt.viewers), func(t *testing.T) {
			e := newEncoder(t)
			e.facts = Facts{Viewers: tt.viewers, Behind: tt.behind}
			e.run(10 * time.Second)
			e.check(tt.found, "")
			if list := e.a.Findings(); len(list) > 0 && !strings.Contains(list[0].Text, "1.1 Mbit/s") {
				t.Error(list[0].Text)
			}
		})
	}
}

// TestPlaybackStalls checks the share of players that stall from which on it is a problem, and that it is none if the
// publisher has paused.
func TestPlaybackStalls(t *testing.T) {
	for _, tt := range []struct {
		name  string
		facts Facts
		pause bool
		text  string // a part of the sentence; "" for none
	}{
		{"nobody reports", Facts{Viewers: 50}, false, ""},
		{"nobody stalls", Facts{Playback: Playback{Players: 100}}, false, ""},
		{"few players", Facts{Playback: Playback{Players: 2, Stalled: 2}}, false, ""},
		{"a small share", Facts{Playback: Playback{Players: 100, Stalled: 4}}, false, ""},
		{"a share", Facts{Playback: Playback{Players: 100, Stalled: 7}}, false, "7 of 100 players (7 %) stalled in the " +
			"last minute. Their lines may take less than the 1.1 Mbit/s of the stream: in OBS lower"},
		{"one browser", Facts{Playback: Playback{Players: 100, Stalled: 7, Most: "HLS in Safari"}}, false,
			"minute; most of them play HLS in Safari. Watch the stream like that"},
		{"slow lines in one browser", Facts{Playback: Playback{Players: 100, Stalled: 7, Slow: 5, Most: "in Safari"}}, false,
			"most of them play in Safari. Their lines may take less"},
		{"the publisher paused", Facts{Playback: Playback{Players: 100, Stalled: 100}}, true, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e := newEncoder(t)
			e.run(10 * time.Second)
			if tt.pause {
				e.now = e.now.Add(2 * time.Second)
			}
			e.facts = tt.facts
			e.run(10 * time.Second)
			if tt.text == "" {
				e.check("", "")
			} else {
				e.check("playback_stalls", "")
				if list := e.a.Findings(); len(list) > 0 && !strings.Contains(list[0].Text, tt.text) {
					t.Error(list[0].Text)
				}
			}
			if h := e.a.History(); h[len(h)-1].Stalled != int32(tt.facts.Playback.Stalled) {
				t.Errorf("the history has %d players that stalled", h[len(h)-1].Stalled)
			}
		})
	}
}

// TestShortlyUnusableTrack checks that a configuration may come after the first frames.
func TestShortlyUnusableTrack(t *testing.T) {
	e := newEncoder(t)
	e.facts.Unusable = []media.UnusableTrack{{Kind: media.Audio, Codec: "aac", Cause: media.SkipNoConfig}}
	e.run((unusableSeconds - 1) * time.Second)
	e.facts.Unusable = nil
	e.run(time.Minute)
	e.check("", "")
	e.facts.Unusable = []media.UnusableTrack{{Kind: media.Audio, Codec: "aac", Cause: media.SkipNoConfig}}
	e.run(unusableSeconds * time.Second)
	e.check("no_configuration", "")
}

// TestFrozenPicture checks when a picture counts as frozen.
func TestFrozenPicture(t *testing.T) {
	const moves, stops = 500, 1010 // frames
	for _, tt := range []struct {
		name  string
		size  func(n int) int
		found string
	}{
		{"freezes", func(n int) int { return map[bool]int{true: 5000, false: 20}[n < stops] }, "frozen_picture"},
		{"improves first", func(n int) int { return max(20, min(5000, 5000-40*(n-stops))) }, "frozen_picture"},
		{"new scene", func(n int) int {
			if n == stops {
				return 40_000
			}
			return map[bool]int{true: 5000, false: 20}[n < stops]
		}, ""},
		{"never moved", func(int) int { return 20 }, ""},
		{"moved for a short time", func(n int) int { return map[bool]int{true: 5000, false: 20}[n > moves && n < moves+100] },
			""},
		{"some motion", func(n int) int { return map[bool]int{true: 2000, false: 20}[n < stops || n%10 < 3] }, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e := newEncoder(t)
			e.size = tt.size
			e.run(stops*frameTime + 25*time.Second)
			e.check(tt.found, "")
		})
	}
}

// TestHistory checks that the last ten minutes are kept, in order.
func TestHistory(t *testing.T) {
	var a Analyzer
	if a.History() != nil {
		t.Error("a new Analyzer has samples")
	}
	start := time.Date(2030, 1, 31, 12, 0, 0, 0, time.UTC)
	for i := range HistoryLength + 7 {
		a.Tick(start.Add(time.Duration(i)*time.Second), Facts{Viewers: i})
	}
	list := a.History()
	if len(list) != HistoryLength {
		t.Fatalf("%d samples", len(list))
	}
	for i, s := range list {
		if want := i + 7; int(s.Viewers) != want || !s.Time.Equal(start.Add(time.Duration(want)*time.Second)) {
			t.Fatalf("sample %d is that of %v, with %d viewers", i, s.Time, s.Viewers)
		}
	}
}

// steadyStream returns a function that sends a second of a stream, with 25 frames of video and 50 of
// audio, after ten minutes of it.
func steadyStream(t testing.TB) (e *encoder, second func()) {
	t.Helper()
	e = newEncoder(t)
	e.run(HistoryLength * time.Second)
	video := &media.Frame{Track: e.video, Program: e.program, Payload: make([]byte, 5000)}
	sounds := [2]*media.Frame{}
	for i := range sounds {
		sounds[i] = &media.Frame{Track: e.audio, Program: e.program, Duration: frameTime / 2, Payload: make([]byte, 200)}
		sounds[i].Payload[0] = byte(i)
	}
	return e, func() {
		for range 25 {
			video.DTS, video.PTS, video.RAP = e.at, e.at, media.NoRandomAccess
			if e.n%50 == 0 {
				video.RAP = media.Keyframe
			}
			e.a.Observe(video, e.at, e.now)
			for i, f := range sounds {
				f.DTS = e.at + time.Duration(i)*frameTime/2
				e.a.Observe(f, f.DTS, e.now)
			}
			e.n++
			e.at, e.now = e.at+frameTime, e.now.Add(frameTime)
		}
		e.tick()
	}
}

// TestHealthyStreamAllocatesNothing checks that the examination of a stream without a problem needs no
// new memory.
func TestHealthyStreamAllocatesNothing(t *testing.T) {
	e, second := steadyStream(t)
	if n := testing.AllocsPerRun(100, second); n != 0 {
		t.Errorf("%v allocations for a second", n)
	}
	e.check("", "")
}

// BenchmarkSecond measures a second of a stream.
func BenchmarkSecond(b *testing.B) {
	_, second := steadyStream(b)
	b.ReportAllocs()
	for b.Loop() {
		second()
	}
}
