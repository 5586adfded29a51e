package segment

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"livego/internal/media"
)

var (
	epochTime = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

	// avcC of 1280x720, High profile.
	avcC = []byte("\x01\x64\x00\x1f\xff\xe1\x00\x1a\x67\x64\x00\x1f\xac\xd9\x40\x50\x05\xbb" +
		"\x01\x10\x00\x00\x03\x00\x10\x00\x00\x03\x03\xc0\xf1\x83\x19\x60\x01\x00\x06\x68\xeb\xe3\xcb\x22\xc0")

	h264 = &media.Track{Kind: media.Video, Codec: media.H264, Config: avcC, Timescale: 90000, RFC6381: "avc1.64001f",
		Width: 1280, Height: 720}
	h264b = &media.Track{Kind: media.Video, Codec: media.H264, Config: avcC, Timescale: 90000, RFC6381: "avc1.64001f",
		Width: 640, Height: 360}
	aac = &media.Track{Kind: media.Audio, Codec: media.AAC, Config: []byte{0x12, 0x10}, Timescale: 44100,
		SampleRate: 44100, Channels: 2, FrameSamples: 1024, RFC6381: "mp4a.40.2"}
	aacb = &media.Track{Kind: media.Audio, Codec: media.AAC, Config: []byte{0x11, 0x90}, Timescale: 48000,
		SampleRate: 48000, Channels: 2, FrameSamples: 1024, RFC6381: "mp4a.40.2"}
)

const ms = time.Millisecond

func frame(t *media.Track, at, long time.Duration, rap bool) *media.Frame {
	f := &media.Frame{
		Track: t, DTS: at, PTS: at, Duration: long, Ticks: int64(at) * int64(t.Timescale) / int64(time.Second),
		Arrived: epochTime.Add(at), Payload: []byte{0, 0, 0, 2, 0x41, 0x9a}, Program: new(media.Program),
	}
	if rap {
		f.RAP, f.Payload = media.Keyframe, []byte{0, 0, 0, 2, 0x65, 0x88}
	}
	return f
}

// video returns frames of h264 from one time to another, with a keyframe every gop.
func video(from, to, interval, gop time.Duration) (fs []*media.Frame) {
	each := int((gop + interval/2) / interval)
	for i, at := 0, from; at < to; i, at = i+1, at+interval {
		fs = append(fs, frame(h264, at, interval, i%each == 0))
	}
	return fs
}

// audio returns AAC frames of 20 ms.
func audio(from, to time.Duration) (fs []*media.Frame) {
	for at := from; at < to; at += 20 * ms {
		fs = append(fs, frame(aac, at, 20*ms, true))
	}
	return fs
}

// interleave sorts by DTS and keeps the order of each list.
func interleave(lists ...[]*media.Frame) []*media.Frame {
	all := slices.Concat(lists...)
	slices.SortStableFunc(all, func(a, b *media.Frame) int { return int(a.DTS - b.DTS) })
	return all
}

// modify changes frames, such as their track or discontinuity.
func modify(fs []*media.Frame, change func(*media.Frame)) []*media.Frame {
	for _, f := range fs {
		change(f)
	}
	return fs
}

// A programmer gives frames the Programs that a stream gives them.
type programmer struct {
	trackWait time.Duration
	program   *media.Program
	before    media.Kinds // kinds of the discontinuity before
	from      time.Duration
}

func (p *programmer) set(f *media.Frame) {
	if disc := f.Program.Discontinuity; p.program == nil || p.program.Discontinuity != disc {
		if p.program != nil {
			p.before = media.Kinds{media.Video: p.program.Has(media.Video), media.Audio: p.program.Has(media.Audio)}
		}
		p.program, p.from = new(media.Program).WithDiscontinuity(disc), f.DTS
	}
	q := p.program.With(f.Track)
	if id, ok := q.DefaultID(f.Track.Kind); !ok || f.Track.ID < id {
		q = q.WithDefault(f.Track)
	}
	var awaited media.Kinds
	if f.DTS-p.from < p.trackWait {
		awaited = p.before
		if m := f.Meta; m != nil && (m.HasVideo || m.HasAudio) {
			awaited = media.Kinds{media.Video: m.HasVideo, media.Audio: m.HasAudio}
		}
		for k := range awaited {
			awaited[k] = awaited[k] && !q.Has(media.Kind(k))
		}
	}
	p.program = q.WithAwaited(awaited)
	f.Program = p.program
}

func markDiscontinuous(f *media.Frame)          { setDiscontinuity(f, 1) }
func setDiscontinuity(f *media.Frame, n uint32) { f.Program = f.Program.WithDiscontinuity(n) }

func changeVideo(f *media.Frame) { f.Track = h264b }

// changeBoth changes the parameters of both tracks.
func changeBoth(f *media.Frame) {
	if f.Track == h264 {
		f.Track = h264b
	} else {
		f.Track = aacb
	}
}

// modifyAfter changes frames from a time on.
func modifyAfter(at time.Duration, fs []*media.Frame, change func(*media.Frame)) []*media.Frame {
	return modify(fs, func(f *media.Frame) {
		if f.DTS >= at {
			change(f)
		}
	})
}

// changeAudio changes the parameters of the audio track.
func changeAudio(f *media.Frame) {
	if f.Track == aac {
		f.Track = aacb
	}
}

func enlarge(f *media.Frame) { f.Payload = make([]byte, 1<<20) }

// segmentationCases are frames and the durations of their segments, with "|" before a discontinuous
// one.
var segmentationCases = []struct {
	name   string
	frames []*media.Frame
	target int
	want   string
}{
	{"GOP 2s", interleave(video(0, 8*time.Second, 40*ms, 2*time.Second), audio(0, 8*time.Second)), 2, "2 2 2 2"},
	{"GOP 1s", video(0, 6*time.Second, 40*ms, time.Second), 2, "1 1 2 2"},
	{"GOP 1.5s", video(0, 6*time.Second, 50*ms, 1500*ms), 2, "1.5 1.5 1.5 1.5"},
	{"GOP 1.2s", video(0, 6*time.Second, 40*ms, 1200*ms), 2, "1.2 1.2 2.4 1.2"},
	{"GOP 4.2s", video(0, 12600*ms, 40*ms, 4200*ms), 4, "4.2 4.2 4.2"},
	{"GOP 10s", video(0, 20*time.Second, 40*ms, 10*time.Second), 6, "6.48 3.52 6.48 3.52"},
	{"GOP 600s", video(0, 20*time.Second, 40*ms, 600*time.Second), 6, "6.48 6.48 6.48 0.56"},
	{"every frame a keyframe", video(0, 5*time.Second, 40*ms, 40*ms), 2, "0.4 1.6 2 1"},
	{"GOP 500ms", video(0, 5*time.Second, 50*ms, 500*ms), 2, "0.5 1.5 2 1"},
	{"240 fps", video(0, 4*time.Second, 4*ms, 4*ms), 2, "0.4 1.6 2"},
	{"NTSC", video(0, 6005*ms, 1001*time.Second/30000, 2002*ms), 2, "2.002 2.002 2.002"},
	{"audio only", audio(0, 5*time.Second), 2, "1 1 2 1"},
	{"one frame", video(0, 40*ms, 40*ms, time.Second), 2, "0.04"},
	{"no duration", []*media.Frame{frame(h264, 0, 0, true)}, 2, "0.001"},
	{"audio ahead of video", interleave(video(0, 8*time.Second, 40*ms, 2*time.Second), audio(0, 300*ms),
		modify(audio(300*ms, 8*time.Second), func(f *media.Frame) { f.DTS -= 300 * ms })), 2, "2 2 2 2"},
	{"video 9s behind", modify(interleave(video(0, 12*time.Second, 40*ms, 2*time.Second), audio(0, 12*time.Second)),
		func(f *media.Frame) {
			if f.Track == aac {
				f.DTS += 9 * time.Second
			}
		}), 2, "0.04 |1.98 2 2 2 2 2.02"},
	{"late start", video(1900*ms, 7900*ms, 40*ms, 2*time.Second), 2, "2 2 2"},
	{"longer GOP later", slices.Concat(video(0, 4*time.Second, 40*ms, 2*time.Second),
		video(4*time.Second, 9*time.Second, 40*ms, 5*time.Second)), 2, "2 2 2.48 2.48 0.04"},
	{"discontinuity", slices.Concat(video(0, 3*time.Second, 40*ms, 2*time.Second),
		modify(video(3*time.Second, 6*time.Second, 40*ms, 2*time.Second), markDiscontinuous)), 2, "2 1 |2 1"},
	{"discontinuity of both tracks", slices.Concat(
		interleave(video(0, 3*time.Second, 40*ms, 2*time.Second), audio(0, 3*time.Second)),
		modify(interleave(video(3*time.Second, 5*time.Second, 40*ms, 2*time.Second), audio(3*time.Second, 5*time.Second)),
			markDiscontinuous)), 2, "2 1 |2"},
	{"parameters change", slices.Concat(video(0, 3*time.Second, 40*ms, 2*time.Second),
		modify(video(3*time.Second, 6*time.Second, 40*ms, 2*time.Second), changeVideo)), 2, "2 1 |2 1"},
	{"parameters of both change", slices.Concat(interleave(video(0, 3*time.Second, 40*ms, 2*time.Second),
		audio(0, 3*time.Second)),
		modify(interleave(video(3*time.Second, 6*time.Second, 40*ms, 2*time.Second), audio(3*time.Second, 6*time.Second)),
			changeBoth)), 2, "2 1 |2 1"},
	{"audio starts late", interleave(video(0, 8*time.Second, 40*ms, 2*time.Second), audio(5*time.Second, 8*time.Second)),
		2,
		"2 2 |2 2"},
	{"audio starts late in a long GOP", interleave(video(0, 8*time.Second, 40*ms, 600*time.Second),
		audio(5*time.Second, 8*time.Second)), 6, "6.48 1.52"},
	{"clock set in the middle of a GOP", modifyAfter(3*time.Second,
		interleave(video(0, 8*time.Second, 40*ms, 2*time.Second), audio(0, 8*time.Second)), markDiscontinuous), 2,
		"2 2 |2 2"},
	{"clock set in a long GOP", modifyAfter(3*time.Second,
		interleave(video(0, 8*time.Second, 40*ms, 600*time.Second), audio(0, 8*time.Second)), markDiscontinuous), 6,
		"6.48 1.52"},
	{"clock set with audio only", modifyAfter(3*time.Second, audio(0, 8*time.Second), markDiscontinuous), 2,
		"1 1 1 |1 2 2"},
	{"audio changes in the middle of a GOP", modifyAfter(5*time.Second,
		interleave(video(0, 8*time.Second, 40*ms, 2*time.Second), audio(0, 8*time.Second)), changeAudio), 2, "2 2 2 |2"},
	{"audio changes after a keyframe",
		modifyAfter(4010*ms, interleave(video(0, 8*time.Second, 40*ms, 2*time.Second), audio(0, 4*time.Second),
			audio(4020*ms, 8*time.Second)), changeAudio), 2, "2 2 |2 2"},
	{"audio changes after a second keyframe",
		modifyAfter(5010*ms, interleave(video(0, 8*time.Second, 40*ms, time.Second), audio(0, 5*time.Second),
			audio(5020*ms, 8*time.Second)), changeAudio), 2, "1 1 2 1 |1 2"},
	{"audio changes right before a keyframe",
		modifyAfter(3970*ms, interleave(video(0, 8*time.Second, 40*ms, 2*time.Second), audio(0, 8*time.Second)), changeAudio),
		2, "2 2 |2.02 2"},
	{"changed audio at a constant time", slices.Concat(interleave(video(0, 3*time.Second, 40*ms, 2*time.Second),
		audio(0, 3*time.Second)),
		modify(audio(3*time.Second, 9*time.Second), func(f *media.Frame) { changeAudio(f); f.DTS = 3 * time.Second }),
		video(4*time.Second, 6*time.Second, 40*ms, 2*time.Second)), 2, "2 1 |1 2"},
	{"next file, audio first", slices.Concat(interleave(video(0, 4*time.Second, 40*ms, 2*time.Second),
		audio(0, 4*time.Second)),
		modify(interleave(audio(4*time.Second, 8*time.Second), video(4100*ms, 8*time.Second, 40*ms, 2*time.Second)),
			changeBoth)), 2, "2 2 |2.1 1.92"},
	{"video starts late", interleave(audio(0, 8*time.Second), video(4*time.Second, 8*time.Second, 40*ms, 2*time.Second)),
		2,
		"1 1 2 0.02 |1.999 2"},
	{"audio starts right after video",
		interleave(video(0, 4*time.Second, 40*ms, 2*time.Second), audio(100*ms, 4*time.Second)),
		2, "2 2"},
	{"video stops", interleave(video(0, 2400*ms, 40*ms, 2*time.Second), audio(0, 7*time.Second)), 2,
		"2 2.48 2.48 0.04"},
	{"gap of 9s", slices.Concat(audio(0, 3*time.Second), audio(12*time.Second, 15*time.Second)), 2, "1 1 1 |2 1"},
	{"gap of 9s in both", slices.Concat(
		interleave(video(0, 3*time.Second, 40*ms, 2*time.Second), audio(0, 3*time.Second)),
		interleave(video(12*time.Second, 15*time.Second, 40*ms, 2*time.Second), audio(12*time.Second, 15*time.Second))), 2,
		"2 1 |2 1"},
	{"audio arrives after a pause of the video", slices.Concat(video(0, 80*ms, 40*ms, 2*time.Second),
		video(460*ms, 580*ms, 40*ms, 2*time.Second)[1:], audio(160*ms, 220*ms),
		video(2*time.Second, 3*time.Second, 40*ms, 2*time.Second)), 2, "2 1"},
	{"equal times", modify(video(0, 10*40*ms, 40*ms, 40*ms), func(f *media.Frame) { f.DTS = 0 }), 2, "0.04"},
	{"hundreds of megabytes", modify(video(0, 4*time.Second, 40*ms, 2*time.Second), enlarge), 2, "1.28 0.72 1.28 0.72"},
}

// writeAll writes frames to a Segmenter, with a pause before each of pauses, and returns all
// segments.
func writeAll(t testing.TB, s *Segmenter, frames []*media.Frame, pauses ...*media.Frame) []*Segment {
	t.Helper()
	programs := programmer{trackWait: s.opt.TrackWait}
	var all []*Segment
	var seen *List
	changes := 0                // since a playlist was checked
	lines := lastLine(s.List()) // the highest media sequence number that has had its line
	look := func() {
		t.Helper()
		if s.List() == seen {
			return
		}
		seen = s.List()
		if last := lastLine(seen); last < lines {
			t.Fatalf("the playlist ends with segment %d, and ended with %d before", last, lines)
		} else {
			lines = last
		}
		fresh := len(seen.segments)
		for fresh > 0 && (len(all) == 0 || seen.segments[fresh-1].sequence > all[len(all)-1].sequence) {
			fresh--
		}
		all = append(all, seen.segments[fresh:]...)
		// Long lists, as only the fuzzer makes them, are not checked at every change: all checks
		// together take time in proportion to the number of frames.
		const often = 32
		if changes++; changes*often >= len(seen.segments) || seen.Ended {
			checkPlaylist(t, seen)
			changes = 0
		}
	}
	for _, f := range frames {
		if len(pauses) > 0 && pauses[0] == f { // pauses are in order
			pauses = pauses[1:]
			s.Finish()
			look()
			s.Pause()
			look()
		}
		programs.set(f)
		s.Write(f)
		s.Flush()
		look()
	}
	s.Finish()
	look()
	s.End()
	look()
	return all
}

// lastLine returns the media sequence number of the last segment that has a line in the playlist of
// fragmented MP4, 0 when none has.
func lastLine(l *List) uint64 {
	switch {
	case !l.Ready:
		return 0
	case l.newestByPartsOnly(FMP4):
		return l.newest().sequence - 1
	}
	return l.newest().sequence
}

// TestPauseKeepsSegments checks that a hold changes only when segments are published, not which.
func TestPauseKeepsSegments(t *testing.T) {
	for _, tt := range segmentationCases {
		t.Run(tt.name, func(t *testing.T) {
			var joins []*media.Frame
			for i, f := range tt.frames {
				// As after every pause.
				if i > 0 && f.Program.Discontinuity != tt.frames[i-1].Program.Discontinuity && f.RAP != media.NoRandomAccess {
					joins = append(joins, f)
				}
			}
			s := New(7, Options{})
			all := writeAll(t, s, tt.frames, joins...)
			if got := formatDurations(all); got != tt.want {
				t.Errorf("segments %s, want %s", got, tt.want)
			}
			checkSegments(t, all, tt.frames)
		})
	}

	t.Run("then end", func(t *testing.T) {
		s := New(7, Options{})
		for _, f := range video(0, 3*time.Second, 40*ms, 2*time.Second) {
			s.Write(f)
		}
		for range 2 {
			s.Pause()
			if l := s.List(); formatDurations(l.current()) != "2 1" || l.Ended {
				t.Errorf("while paused: %s", tsPlaylistText(t, l))
			}
		}
		paused := s.List()
		s.End()
		l := s.List()
		checkPlaylist(t, l)
		if want := tsPlaylistText(t, paused) + "#EXT-X-ENDLIST\n"; tsPlaylistText(t, l) != want || !l.Ended ||
			l.etag(TS, false) == paused.etag(TS, false) || paused.Ended {
			t.Errorf("after the end, tag %q:\n%s", l.etag(TS, false), tsPlaylistText(t, l))
		}
	})
	t.Run("with parts", func(t *testing.T) { // hls.js needs a line after the last segment
		s := New(7, Options{Part: 200 * ms})
		for _, f := range video(0, 3*time.Second, 40*ms, 2*time.Second) {
			s.Write(f)
		}
		s.Pause()
		p, err := s.List().Playlist(FMP4, false)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.HasSuffix(p.Body, []byte(".m4s\n#EXT-X-DISCONTINUITY\n")) {
			t.Errorf("while paused:\n%s", p.Body)
		}
	})
	t.Run("before the first frame", func(t *testing.T) {
		s := New(7, Options{})
		s.Pause()
		s.End()
		if l := s.List(); l.Ready || tsPlaylistText(t, l) != "" {
			t.Errorf("playlist %q", tsPlaylistText(t, l))
		}
	})
}

// TestSuccessorAfterPanic continues in the middle of a stream session after a panic, with frames
// that may be known: no name is used twice, and no sequence number is left out.
func TestSuccessorAfterPanic(t *testing.T) {
	broken := false
	s := New(7, Options{MarkUsed: func(uint64) {
		if broken {
			panic("segmenting fails")
		}
	}})
	write := func(s *Segmenter, fs []*media.Frame) {
		for _, f := range fs {
			s.Write(f)
		}
	}
	write(s, video(0, 5*time.Second, 40*ms, 2*time.Second))
	func() {
		defer func() { recover() }()
		broken = true
		write(s, video(5*time.Second, 9*time.Second, 40*ms, 2*time.Second))
	}()
	broken = false
	n := s.Successor(7)
	write(n, video(2*time.Second, 7*time.Second, 40*ms, 2*time.Second))
	n.End()
	l := n.List()
	checkPlaylist(t, l)
	names := map[string]bool{}
	for i, seg := range l.current() {
		if names[seg.Name] || seg.sequence != 7+uint64(i) {
			t.Errorf("segment %s has number %d:\n%s", seg.Name, seg.sequence, tsPlaylistText(t, l))
		}
		names[seg.Name] = true
	}
	if got := formatDurations(l.current()); !strings.HasPrefix(got, "2 2 |") || strings.Count(got, "|") != 1 {
		t.Errorf("segments %s", got)
	}
}

func TestLongKeyframeInterval(t *testing.T) {
	for _, tt := range []struct {
		name   string
		frames []*media.Frame
		want   time.Duration
	}{
		{"2s", video(0, 20*time.Second, 40*ms, 2*time.Second), 0},
		{"6s", video(0, 20*time.Second, 40*ms, 6*time.Second), 0},
		{"10s", video(0, 25*time.Second, 40*ms, 10*time.Second), 10 * time.Second},
		{"5s after 2s", slices.Concat(video(0, 4*time.Second, 40*ms, 2*time.Second),
			video(4*time.Second, 16*time.Second, 40*ms, 5*time.Second)), 5 * time.Second},
		{"once", slices.Concat(video(0, 4*time.Second, 40*ms, 2*time.Second),
			video(12*time.Second, 20*time.Second, 40*ms, 2*time.Second)), 0},
		{"one keyframe", video(0, 31*time.Second, 40*ms, time.Hour), 30960 * ms},
		{"video stops", interleave(video(0, 4*time.Second, 40*ms, 2*time.Second), audio(0, 60*time.Second)), 0},
		{"audio", audio(0, 60*time.Second), 0},
		{"nothing", nil, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := New(7, Options{})
			writeAll(t, s, tt.frames)
			if got := s.LongKeyframeInterval(); got != tt.want {
				t.Errorf("LongKeyframeInterval is %v, want %v", got, tt.want)
			}
		})
	}
}

// tsPlaylistText returns the media playlist of MPEG-TS.
func tsPlaylistText(t testing.TB, l *List) string {
	t.Helper()
	p, err := l.Playlist(TS, false)
	if err != nil {
		t.Fatal(err)
	}
	if p == nil {
		return ""
	}
	return string(p.Body)
}

func formatDurations(segs []*Segment) string {
	var out []string
	for _, s := range segs {
		mark := ""
		if s.discontinuity {
			mark = "|"
		}
		out = append(out, mark+strconv.FormatFloat(s.Duration.Round(ms).Seconds(), 'g', -1, 64))
	}
	return strings.Join(out, " ")
}

func TestSegmentDurations(t *testing.T) {
	for _, tt := range segmentationCases {
		t.Run(tt.name, func(t *testing.T) {
			s := New(7, Options{})
			all := writeAll(t, s, tt.frames)
			if got := formatDurations(all); got != tt.want {
				t.Errorf("segments %s, want %s", got, tt.want)
			}
			if got := int(s.List().Target / time.Second); got != tt.target {
				t.Errorf("target %d s, want %d s", got, tt.target)
			}
			checkSegments(t, all, tt.frames)
		})
	}
}

// checkSegments checks what holds for all segments: every frame is in one of them, in order,
// numbers have no gaps, and times add up.
func checkSegments(t testing.TB, segs []*Segment, frames []*media.Frame) {
	t.Helper()
	names := map[string]bool{}
	var got []*media.Frame
	for i, s := range segs {
		got = append(got, s.frames...)
		if names[s.Name] {
			t.Errorf("name %s was used twice", s.Name)
		}
		names[s.Name] = true
		if s.Duration <= 0 {
			t.Errorf("segment %s lasts %v", s.Name, s.Duration)
		}
		if len(s.frames) == 0 {
			t.Errorf("segment %s is empty", s.Name)
		}
		checkParts(t, s)
		if i == 0 {
			continue
		}
		last := segs[i-1]
		if s.sequence != last.sequence+1 {
			t.Errorf("sequence number %d follows %d", s.sequence, last.sequence)
		}
		if discs := last.discontinuitySequence; s.discontinuity && s.discontinuitySequence != discs+1 || !s.discontinuity &&
			s.discontinuitySequence != discs {
			t.Errorf("discontinuity sequence number %d follows %d, discontinuity %v", s.discontinuitySequence, discs,
				s.discontinuity)
		}
		if want := last.date.Add(last.Duration); !s.discontinuity && !s.date.Equal(want) {
			t.Errorf("segment %s starts at %v, the one before ends at %v", s.Name, s.date, want)
		}
	}
	if err := checkFrames(got, frames); err != nil {
		t.Error(err)
	}
}

// checkFrames checks that segments have all written frames in order, except audio of a track that
// has not started yet.
func checkFrames(got, frames []*media.Frame) error {
	var sound *media.Track // the last one in a segment
	n := 0
	for i, f := range frames {
		if i > 0 && f.Program.Discontinuity != frames[i-1].Program.Discontinuity {
			sound = nil
		}
		switch {
		case n < len(got) && got[n] == f:
			if n++; f.Track.Kind == media.Audio {
				sound = f.Track
			}
		case f.Track.Kind != media.Audio || f.Track == sound:
			return fmt.Errorf("frame %d of %d at %v is in no segment or out of order", i, len(frames), f.DTS)
		}
	}
	if n < len(got) {
		return fmt.Errorf("%d frames in segments, only %d of them in the order written", len(got), n)
	}
	return nil
}

// TestAudioBeforeVideoOfNextFile writes audio of the next file before its first picture: one
// segment has both.
func TestAudioBeforeVideoOfNextFile(t *testing.T) {
	before := interleave(video(0, 4*time.Second, 40*ms, 2*time.Second), audio(0, 4*time.Second))
	after := interleave(audio(4*time.Second, 8*time.Second), video(4100*ms, 8*time.Second, 40*ms, 2*time.Second))
	for name, change := range map[string]func(*media.Frame){"both tracks change": changeBoth,
		"audio changes": changeAudio} {
		frames := slices.Concat(before, modify(after, change))
		n := 0
		for _, s := range writeAll(t, New(7, Options{Part: 200 * ms}), frames) {
			n += len(s.frames)
		}
		if n != len(frames) {
			t.Errorf("%s: %d frames in segments, %d were written", name, n, len(frames))
		}
	}
}

// TestLateAudioWaitsForKeyframe counts the audio frames that are dropped when audio starts in the
// middle of a GOP: none if it starts with a keyframe, or if nothing since the keyframe is
// published.
func TestLateAudioWaitsForKeyframe(t *testing.T) {
	for _, tt := range []struct {
		name      string
		gop, from time.Duration
		part      time.Duration
		want      int
	}{
		{"in the middle of a GOP", 2 * time.Second, 5 * time.Second, 200 * ms, 50},
		{"without parts", 2 * time.Second, 5 * time.Second, 0, 0},
		{"with a keyframe", 2 * time.Second, 4 * time.Second, 200 * ms, 0},
		{"soon after a keyframe", 2 * time.Second, 4100 * ms, 200 * ms, 0},
		{"after a part was published", 2 * time.Second, 4300 * ms, 200 * ms, 85},
		{"soon after a keyframe between parts", time.Second, 5100 * ms, 200 * ms, 0},
		{"soon after a keyframe in a part", 1120 * ms, 5620 * ms, 200 * ms, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			frames := interleave(video(0, 8*time.Second, 40*ms, tt.gop), audio(tt.from, 8*time.Second))
			n := 0
			for _, s := range writeAll(t, New(7, Options{Part: tt.part}), frames) {
				n += len(s.frames)
				if s.discontinuity && !s.parts[0].independent {
					t.Errorf("segment %s is discontinuous and starts in the middle of a GOP", s.Name)
				}
			}
			if left := len(frames) - n; left != tt.want {
				t.Errorf("%d frames are in no segment, want %d", left, tt.want)
			}
		})
	}
}

// checkPlaylist checks the rules of RFC 8216 that apply to a single playlist.
func checkPlaylist(t testing.TB, l *List) {
	t.Helper()
	if !l.Ready {
		return
	}
	for _, s := range l.current() {
		if s.Duration.Round(time.Second) > l.Target {
			t.Fatalf("segment %s lasts %v, the target duration is %v", s.Name, s.Duration, l.Target)
		}
	}
	for f := range formats {
		p, err := l.Playlist(f, false)
		if err != nil {
			t.Fatal(err)
		}
		if l.Ended != bytes.Contains(p.Body, []byte("#EXT-X-ENDLIST")) {
			t.Fatalf("Ended is %v, playlist\n%s", l.Ended, p.Body)
		}
	}
}

func TestPlaylist(t *testing.T) {
	s := New(40, Options{})
	writeAll(t, s, slices.Concat(video(0, 3*time.Second, 40*ms, 2*time.Second),
		modify(video(3*time.Second, 5*time.Second, 40*ms, 2*time.Second), markDiscontinuous)))
	want := `#EXTM3U
#EXT-X-VERSION:3
#EXT-X-INDEPENDENT-SEGMENTS
#EXT-X-TARGETDURATION:2
#EXT-X-MEDIA-SEQUENCE:40
#EXT-X-DISCONTINUITY-SEQUENCE:40
#EXT-X-PROGRAM-DATE-TIME:2026-01-02T03:04:05.000Z
#EXTINF:2.00000,
40-0.ts
#EXT-X-PROGRAM-DATE-TIME:2026-01-02T03:04:07.000Z
#EXTINF:1.00000,
40-2000.ts
#EXT-X-DISCONTINUITY
#EXT-X-PROGRAM-DATE-TIME:2026-01-02T03:04:08.000Z
#EXTINF:2.00000,
40-3000.ts
#EXT-X-ENDLIST
`
	l := s.List()
	if diff := cmp.Diff(want, tsPlaylistText(t, l)); diff != "" {
		t.Errorf("playlist (-want +got):\n%s", diff)
	}
	v, a := l.Tracks(TS)
	if peak, average := l.Bitrates(TS); v != h264 || a != nil || peak < average || average == 0 {
		t.Errorf("list has video %v, audio %v, peak %d, average %d", v, a, peak, average)
	}
}

func TestPlaylistWindow(t *testing.T) {
	s := New(0, Options{})
	var frames []*media.Frame
	for i := range time.Duration(60) { // a discontinuity every 4 s
		frames = append(frames, modify(video(i*4*time.Second, (i+1)*4*time.Second, 40*ms, 2*time.Second),
			func(f *media.Frame) { setDiscontinuity(f, uint32(i)) })...)
	}
	left := map[string]int{} // index of the frame at which a segment left the playlist
	var first *Segment
	for i, f := range frames {
		s.Write(f)
		l := s.List()
		cur := l.current()
		if len(cur) == 0 {
			continue
		}
		tsPlaylistText(t, l) // a segment in no rendered playlist is dropped at once
		if first != nil && cur[0] != first {
			left[first.Name] = i
		}
		first = cur[0]
		if n := len(cur); n > 8 || n < 8 && cur[0].sequence > 0 {
			t.Fatalf("%d segments in the playlist, want 8", n)
		}
		for name, at := range left {
			if gone := time.Duration(i-at) * 40 * ms; gone <= 18*time.Second && l.segment(name) == nil {
				t.Fatalf("segment %s was dropped within %v after it left the playlist", name, gone)
			} else if gone > 40*time.Second && l.segment(name) != nil {
				t.Fatalf("segment %s is still kept %v after it left the playlist", name, gone)
			}
		}
		tags := fmt.Sprintf("#EXT-X-DISCONTINUITY-SEQUENCE:%d\n", cur[0].sequence/2-b2u(cur[0].discontinuity))
		if n := cur[0].sequence/2 - b2u(cur[0].discontinuity); n > 0 && !strings.Contains(tsPlaylistText(t, l), tags) {
			t.Fatalf("playlist lacks %q:\n%s", tags, tsPlaylistText(t, l))
		}
	}
}

func b2u(b bool) uint64 {
	if b {
		return 1
	}
	return 0
}

func TestSegmentBytesAreBounded(t *testing.T) {
	const bound = 16 << 20
	s := New(0, Options{Bytes: bound})
	for _, f := range modify(video(0, 60*time.Second, 40*ms, 2*time.Second), enlarge) {
		s.Write(f)
		l := s.List()
		if l.Bytes > bound+4<<20 {
			t.Fatalf("%d bytes held", l.Bytes)
		}
		if l.listed > 0 && l.listed < 3 && l.current()[0].sequence > 0 {
			t.Fatalf("only %d segments in the playlist", l.listed)
		}
	}
}

func TestSegmentCountIsBounded(t *testing.T) {
	s := New(0, Options{})
	for i, f := range video(0, 60*time.Second, 40*ms, 40*ms) {
		setDiscontinuity(f, uint32(i))
		s.Write(f)
		if l := s.List(); l.listed > 8*8 || len(l.segments) > 3*8*8 {
			t.Fatalf("%d segments, %d of them in the playlist", len(l.segments), l.listed)
		}
	}
}

func TestSuccessorContinuesPlaylist(t *testing.T) {
	var raised uint64
	first := New(10, Options{MarkUsed: func(n uint64) { raised = n }})
	writeAll(t, first, video(0, 6*time.Second, 40*ms, 2*time.Second))
	if raised != 12 {
		t.Errorf("last number marked as used is %d, want 12", raised)
	}
	second := first.Successor(20)
	if l := second.List(); l.Ready || l.segment("10-2000") == nil {
		t.Errorf("before its first segment the next session has playlist %q, old segment %v", tsPlaylistText(t, l),
			l.segment("10-2000"))
	}
	writeAll(t, second, video(0, 8*time.Second, 40*ms, 4*time.Second))
	l := second.List()
	if got, want := formatDurations(l.current()), "2 2 2 |4 4"; got != want {
		t.Errorf("playlist of %s, want %s", got, want)
	}
	if l.Target != 4*time.Second || l.current()[3].sequence != 13 || l.current()[3].discontinuitySequence != 11 ||
		l.current()[3].Name != "20-0" {
		t.Errorf("target %v, first new segment %+v", l.Target, l.current()[3])
	}
	select {
	case <-second.Ready():
	default:
		t.Error("not ready")
	}

	empty := New(30, Options{})
	writeAll(t, empty, nil)
	<-empty.Ready()
	third := empty.Successor(31)
	writeAll(t, third, audio(0, time.Second))
	if got := third.List().current()[0]; got.sequence != 31 || got.discontinuity {
		t.Errorf("after a session without segments: %+v", got)
	}
}

// TestFirstTrackComesLast starts with a track that turns out not to be the first of its kind:
// nothing of it is left.
func TestFirstTrackComesLast(t *testing.T) {
	other := *h264
	other.ID = 1
	early := modify(video(0, 80*ms, 40*ms, 2*time.Second), func(f *media.Frame) { f.Track = &other })
	rest := interleave(video(80*ms, 4080*ms, 40*ms, 2*time.Second), audio(80*ms, 4080*ms))
	s := New(7, Options{Part: 200 * ms})
	segs := writeAll(t, s, append(early, rest...))
	if got := formatDurations(segs); got != "2 2" {
		t.Errorf("segments %q", got)
	}
	if segs[0].sequence != 7 || segs[0].Name != "7-80" {
		t.Errorf("the first segment is %s, number %d", segs[0].Name, segs[0].sequence)
	}
	for _, f := range segs[0].frames {
		if f.Track == &other {
			t.Errorf("the first segment has the frame at %v of the other track", f.DTS)
		}
	}
}

// TestFirstSoundComesLast starts with audio that turns out not to be the first: the pictures so far
// are kept.
func TestFirstSoundComesLast(t *testing.T) {
	second, third := *aac, *aac
	second.ID, third.ID = 1, 1
	for _, tt := range []struct {
		name  string
		early []*media.Frame
	}{
		{"one track", modify(audio(0, 1500*ms), func(f *media.Frame) { f.Track = &second })},
		{"one track that changes", modifyAfter(1400*ms, modify(audio(0, 1500*ms), func(f *media.Frame) { f.Track = &second }),
			func(f *media.Frame) { f.Track = &third })},
	} {
		t.Run(tt.name, func(t *testing.T) {
			frames := interleave(video(0, 4*time.Second, 40*ms, 2*time.Second), tt.early, audio(1500*ms, 4*time.Second))
			segs := writeAll(t, New(7, Options{Part: 200 * ms}), frames)
			if got := formatDurations(segs); got != "2 2" {
				t.Errorf("segments %q", got)
			}
			checkSegments(t, segs, slices.DeleteFunc(frames,
				func(f *media.Frame) bool { return f.Track == &second || f.Track == &third }))
		})
	}
}

// TestFirstPictureComesLast starts the first video track while other audio is pending: both are
// dropped.
func TestFirstPictureComesLast(t *testing.T) {
	other := *h264
	other.ID = 1
	early := interleave(modify(video(0, 80*ms, 40*ms, 2*time.Second), func(f *media.Frame) { f.Track = &other }),
		audio(0, 80*ms))
	held := modify(audio(60*ms, 80*ms), changeAudio)
	rest := interleave(video(80*ms, 4080*ms, 40*ms, 2*time.Second), modify(audio(80*ms, 4080*ms), changeAudio))
	segs := writeAll(t, New(7, Options{Part: 200 * ms}), slices.Concat(early, held, rest))
	if got := formatDurations(segs); got != "2 2" {
		t.Errorf("segments %q", got)
	}
	checkSegments(t, segs, rest)
}

// TestPendingAudioIsBounded checks the memory of audio that waits for a picture.
func TestPendingAudioIsBounded(t *testing.T) {
	const most = 8 << 20
	s := New(7, Options{Bytes: most})
	frames := interleave(video(0, 3*time.Second, 40*ms, 2*time.Second), audio(0, 3*time.Second))
	for _, f := range append(frames,
		modify(audio(3*time.Second, 4*time.Second), func(f *media.Frame) { changeAudio(f); enlarge(f) })...) {
		s.Write(f)
		size := 0
		for _, f := range s.held {
			size += len(f.Payload)
		}
		if size > most/4 {
			t.Fatalf("at %v %d bytes of audio are pending", f.DTS, size)
		}
	}
}

// TestFirstPlaylistDelay checks how long the first viewer waits: a GOP, or 400 ms if that is
// longer; with audio only half a segment.
func TestFirstPlaylistDelay(t *testing.T) {
	const long = 20 * time.Second
	for _, tt := range []struct {
		name   string
		frames []*media.Frame
		most   time.Duration
	}{
		{"all keyframes", interleave(video(0, long, 40*ms, 40*ms), audio(0, long)), 400 * ms},
		{"GOP 250ms", interleave(video(0, long, 25*ms, 250*ms), audio(0, long)), 500 * ms},
		{"GOP 500ms", interleave(video(0, long, 25*ms, 500*ms), audio(0, long)), 500 * ms},
		{"GOP 1s", interleave(video(0, long, 40*ms, time.Second), audio(0, long)), time.Second},
		{"GOP 1.5s", interleave(video(0, long, 50*ms, 1500*ms), audio(0, long)), 1500 * ms},
		{"GOP 2s", interleave(video(0, long, 40*ms, 2*time.Second), audio(0, long)), 2 * time.Second},
		{"GOP 4s", video(0, long, 40*ms, 4*time.Second), 4 * time.Second},
		{"GOP 10s", video(0, long, 40*ms, 10*time.Second), 6500 * ms},
		{"audio", audio(0, long), time.Second},
	} {
		for _, part := range []time.Duration{0, 200 * ms} {
			s := New(1, Options{Part: part})
			i := slices.IndexFunc(tt.frames, func(f *media.Frame) bool {
				s.Write(f)
				return s.List().Ready
			})
			if i < 0 || tt.frames[i].DTS > tt.most {
				t.Errorf("%s, parts of %v: frame %d completes the first playlist, want a frame at %v or before", tt.name, part, i,
					tt.most)
			}
		}
	}
}

// TestSuccessorWithoutMedia ends a stream session without media: the playlist of the session before
// stays, with its end.
func TestSuccessorWithoutMedia(t *testing.T) {
	first := New(7, Options{Part: 200 * ms})
	writeAll(t, first, video(0, 5*time.Second, 40*ms, 2*time.Second)) // ends it
	s := first.Successor(100)
	if l := s.List(); l.Ready {
		t.Error("ready before the first segment")
	}
	s.End()
	<-s.Ready()
	for f := range formats {
		want, got := playlistText(t, first.List(), f), playlistText(t, s.List(), f)
		if got != want || !strings.Contains(got, "#EXT-X-ENDLIST") {
			t.Errorf("playlist\n%s\nwant\n%s", got, want)
		}
	}
	if none := New(7, Options{}).Successor(100); none.List().Ready {
		t.Error("ready without a segment")
	}
}

func playlistText(t *testing.T, l *List, f Format) string {
	t.Helper()
	p, err := l.Playlist(f, false)
	if err != nil {
		t.Fatal(err)
	}
	return string(p.Body)
}
