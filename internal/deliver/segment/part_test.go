package segment

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"livego/internal/media"
)

// videoFPS returns video frames at the given rate, stamped in whole milliseconds as in RTMP, with
// up to jitter of deviation.
func videoFPS(fps float64, long, gop time.Duration, jitter time.Duration) (fs []*media.Frame) {
	rnd := rand.New(rand.NewPCG(1, 2))
	each := int(gop.Seconds()*fps + 0.5)
	last := time.Duration(0)
	for i := 0; ; i++ {
		when := time.Duration(float64(i) / fps * float64(time.Second)).Round(ms)
		if when >= long {
			return fs
		}
		if jitter > 0 && i > 0 {
			when += time.Duration(rnd.Int64N(int64(2*jitter))) - jitter
		}
		f := frame(h264, when, when-last, i%each == 0)
		if i == 0 {
			f.Duration = 40 * ms
		}
		last = when
		fs = append(fs, f)
	}
}

// TestPartDurationsMatchTarget checks RFC 8216bis section 4.4.3.7: each part but the last of its
// segment lasts 85 to 100 % of the part target.
func TestPartDurationsMatchTarget(t *testing.T) {
	aacFrames := func() (fs []*media.Frame) {
		for i := range 800 {
			when := time.Duration(i) * 1024 * time.Second / 44100
			f := frame(aac, when.Round(ms), 1024*time.Second/44100, true)
			f.Ticks = int64(i) * 1024
			fs = append(fs, f)
		}
		return fs
	}()
	for _, tt := range []struct {
		name       string
		frames     []*media.Frame
		partTarget time.Duration
		want       time.Duration
		audio      bool // with audio whose frames are not aligned
	}{
		{"12.5 fps", videoFPS(12.5, 20*time.Second, 2*time.Second, 0), 200 * ms, 240 * ms, true},
		{"23.976 fps", videoFPS(24000.0/1001, 20*time.Second, 2*time.Second, 0), 200 * ms, 209 * ms, true},
		{"24 fps", videoFPS(24, 20*time.Second, 2*time.Second, 0), 200 * ms, 209 * ms, true},
		{"25 fps", videoFPS(25, 20*time.Second, 2*time.Second, 0), 200 * ms, 200 * ms, true},
		{"29.97 fps", videoFPS(30000.0/1001, 20*time.Second, 2*time.Second, 0), 200 * ms, 201 * ms, true},
		{"30 fps", videoFPS(30, 20*time.Second, 2*time.Second, 0), 200 * ms, 201 * ms, true},
		{"50 fps", videoFPS(50, 20*time.Second, 2*time.Second, 0), 200 * ms, 200 * ms, true},
		{"59.94 fps", videoFPS(60000.0/1001, 20*time.Second, 2*time.Second, 0), 200 * ms, 201 * ms, true},
		{"60 fps", videoFPS(60, 20*time.Second, 2*time.Second, 0), 200 * ms, 200 * ms, true},
		{"25 fps, GOP 1.92s", videoFPS(25, 20*time.Second, 1920*ms, 0), 200 * ms, 200 * ms, true},
		{"30 fps, jitter", videoFPS(30, 20*time.Second, 2*time.Second, 3*ms), 200 * ms, 206 * ms, true},
		{"30 fps, GOP 500ms", videoFPS(30, 20*time.Second, 500*ms, 0), 200 * ms, 201 * ms, true},
		{"30 fps, GOP 500ms, jitter", videoFPS(30, 20*time.Second, 500*ms, 3*ms), 200 * ms, 207 * ms, true},
		{"25 fps, GOP 400ms", videoFPS(25, 20*time.Second, 400*ms, 0), 200 * ms, 200 * ms, true},
		{"12.5 fps, GOP 480ms", videoFPS(12.5, 20*time.Second, 480*ms, 0), 200 * ms, 240 * ms, true},
		{"2 fps, GOP 500ms", videoFPS(2, 20*time.Second, 500*ms, 0), 200 * ms, 500 * ms, true},
		{"2 fps", videoFPS(2, 20*time.Second, 2*time.Second, 0), 200 * ms, 500 * ms, true},
		{"25 fps, parts of 1s", videoFPS(25, 20*time.Second, 2*time.Second, 0), time.Second, time.Second, true},
		{"audio only", aacFrames, 200 * ms, 209 * ms, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			frames := tt.frames
			if tt.audio { // ends later than the video
				frames = interleave(frames, audio(0, 20*time.Second+20*ms))
			}
			s := New(7, Options{Part: tt.partTarget})
			all := writeAll(t, s, frames)
			target := s.List().PartTarget
			if target != tt.want {
				t.Errorf("part target %v, want %v", target, tt.want)
			}
			if len(all) < 9 {
				t.Fatalf("%d segments", len(all))
			}
			for _, seg := range all {
				for i, p := range seg.parts {
					if p.Duration > target || i < len(seg.parts)-1 && p.Duration < target*85/100 {
						t.Errorf("part %s lasts %v, the part target is %v", p.Name, p.Duration, target)
					}
				}
			}
			checkSegments(t, all, frames)
		})
	}
}

// checkParts checks what holds for every segment: its parts have its frames in order and its
// duration, and are named and flagged correctly.
func checkParts(t testing.TB, s *Segment) {
	t.Helper()
	var frames []*media.Frame
	var lasts time.Duration
	for i, p := range s.parts {
		frames = append(frames, p.frames...)
		lasts += p.Duration
		if p.Name != fmt.Sprintf("%s.%d", s.Name, i) || len(p.frames) == 0 || p.Duration <= 0 {
			t.Errorf("part %d of %s is named %s, has %d frames and lasts %v", i, s.Name, p.Name, len(p.frames), p.Duration)
		}
		var pictures []*media.Frame
		for _, f := range p.frames {
			if f.Track.Kind == media.Video {
				pictures = append(pictures, f)
			}
		}
		if len(pictures) > 0 && p.independent != (pictures[0].RAP == media.Keyframe) {
			t.Errorf("part %s: independent is %v, its first picture has RAP %v", p.Name, p.independent, pictures[0].RAP)
		}
	}
	if !slices.Equal(frames, s.frames) || lasts != s.Duration {
		t.Errorf("the parts of %s have %d frames and last %v, the segment has %d and lasts %v", s.Name, len(frames), lasts,
			len(s.frames), s.Duration)
	}
}

// TestTrailingAudioJoinsLastPart ends streams whose audio is longer than the video: the last part
// has the rest of the audio and the last pictures.
func TestTrailingAudioJoinsLastPart(t *testing.T) {
	for longer := time.Duration(0); longer <= 300*ms; longer += 20 * ms {
		s := New(7, Options{Part: 200 * ms})
		writeAll(t, s, interleave(video(0, 2880*ms, 40*ms, 2*time.Second), audio(0, 2880*ms+longer)))
		last := s.List().newest()
		checkParts(t, last)
		end := last.parts[len(last.parts)-1]
		if !slices.ContainsFunc(end.frames, func(f *media.Frame) bool { return f.Track.Kind == media.Video }) {
			t.Errorf("audio longer by %v: the last part is audio only, of %v", longer, end.Duration)
		}
		said := time.Duration(0)
		for _, entry := range s.List().partEntries(last.parts) {
			if said += entry.Duration; entry.Duration > s.List().PartTarget {
				t.Errorf("audio longer by %v: a part is listed with %v", longer, entry.Duration)
			}
		}
		if said != last.Duration {
			t.Errorf("audio longer by %v: the last segment is listed with %v, its parts with %v", longer, last.Duration, said)
		}
	}
}

// TestPartsOfIrregularStreams checks that only parts of a single picture are longer than the
// target.
func TestPartsOfIrregularStreams(t *testing.T) {
	for _, tt := range segmentationCases {
		t.Run(tt.name, func(t *testing.T) {
			s := New(7, Options{Part: 200 * ms})
			all := writeAll(t, s, tt.frames)
			checkSegments(t, all, tt.frames)
			for _, seg := range all {
				for _, p := range seg.parts {
					pictures := 0
					for _, f := range p.frames {
						if f.Track.Kind == media.Video {
							pictures++
						}
					}
					if p.Duration > s.List().PartTarget && pictures > 1 {
						t.Errorf("part %s of %d pictures lasts %v", p.Name, pictures, p.Duration)
					}
				}
			}
		})
	}
}

// TestLowLatencyPlaylist checks the playlists of a stream after every frame.
func TestLowLatencyPlaylist(t *testing.T) {
	s := New(40, Options{Part: 200 * ms})
	frames := interleave(video(0, 5*time.Second, 40*ms, 2*time.Second), audio(0, 5*time.Second))
	var hint string
	for _, f := range frames {
		s.Write(f)
		s.Flush()
		l := s.List()
		if !l.Ready {
			continue
		}
		if hint != "" && !l.IsPreloadHint(hint) {
			if f := l.File(hint); f.Data() == nil {
				t.Fatalf("preload hint %s never became a part", hint)
			}
		}
		p, err := l.Playlist(FMP4, false)
		if err != nil {
			t.Fatal(err)
		}
		_, after, ok := strings.Cut(string(p.Body), `#EXT-X-PRELOAD-HINT:TYPE=PART,URI="`)
		hint, _, _ = strings.Cut(after, `"`)
		if !ok || !l.IsPreloadHint(hint) {
			t.Fatalf("no preload hint in\n%s", p.Body)
		}
	}
	l := s.List()
	p, err := l.Playlist(FMP4, false)
	if err != nil {
		t.Fatal(err)
	}
	init := l.newest().trackSet.initName
	want := `#EXTM3U
#EXT-X-VERSION:9
#EXT-X-INDEPENDENT-SEGMENTS
#EXT-X-TARGETDURATION:2
#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,PART-HOLD-BACK=0.60000,CAN-SKIP-UNTIL=12.00000
#EXT-X-PART-INF:PART-TARGET=0.20000
#EXT-X-MEDIA-SEQUENCE:40
#EXT-X-DISCONTINUITY-SEQUENCE:40
#EXT-X-MAP:URI="` + init + `.mp4"
#EXT-X-PROGRAM-DATE-TIME:2026-01-02T03:04:05.000Z
#EXT-X-PART:DURATION=0.20000,URI="40-0.0.m4s",INDEPENDENT=YES
#EXT-X-PART:DURATION=0.20000,URI="40-0.1.m4s"
#EXT-X-PART:DURATION=0.20000,URI="40-0.2.m4s"
#EXT-X-PART:DURATION=0.20000,URI="40-0.3.m4s"
#EXT-X-PART:DURATION=0.20000,URI="40-0.4.m4s"
#EXT-X-PART:DURATION=0.20000,URI="40-0.5.m4s"
#EXT-X-PART:DURATION=0.20000,URI="40-0.6.m4s"
#EXT-X-PART:DURATION=0.20000,URI="40-0.7.m4s"
#EXT-X-PART:DURATION=0.20000,URI="40-0.8.m4s"
#EXT-X-PART:DURATION=0.20000,URI="40-0.9.m4s"
#EXTINF:2.00000,
40-0.m4s
`
	if got := string(p.Body); !strings.HasPrefix(got, want) || !strings.HasSuffix(got, `
40-2000.m4s
#EXT-X-PROGRAM-DATE-TIME:2026-01-02T03:04:09.000Z
#EXT-X-PART:DURATION=0.20000,URI="40-4000.0.m4s",INDEPENDENT=YES
#EXT-X-PART:DURATION=0.20000,URI="40-4000.1.m4s"
#EXT-X-PART:DURATION=0.20000,URI="40-4000.2.m4s"
#EXT-X-PART:DURATION=0.20000,URI="40-4000.3.m4s"
#EXT-X-PRELOAD-HINT:TYPE=PART,URI="40-4000.4.m4s"
`) {
		t.Errorf("playlist\n%s", got)
	}
	z, err := gzip.NewReader(bytes.NewReader(p.Gzip()))
	if err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(z); err != nil || !bytes.Equal(b, p.Body) {
		t.Errorf("decompressed playlist\n%s", b)
	}
}

// TestDeltaUpdateSkipsOldSegments checks that segments older than six target durations are skipped.
func TestDeltaUpdateSkipsOldSegments(t *testing.T) {
	s := New(40, Options{Part: 200 * ms})
	for _, f := range video(0, 19*time.Second, 40*ms, 2*time.Second) {
		s.Write(f)
	}
	s.Flush()
	l := s.List()
	whole, err := l.Playlist(FMP4, false)
	if err != nil {
		t.Fatal(err)
	}
	delta, err := l.Playlist(FMP4, true)
	if err != nil {
		t.Fatal(err)
	}
	// 8 segments from 2 to 18 s, and parts to 18.8 s: six targets before that is 6.8 s.
	head, rest, ok := strings.Cut(string(delta.Body), "#EXT-X-SKIP:SKIPPED-SEGMENTS=2\n")
	if !ok || !strings.HasPrefix(string(whole.Body), head) || !strings.HasSuffix(string(whole.Body), rest) ||
		delta.ETag == whole.ETag || strings.Contains(rest, "MAP") {
		t.Errorf("delta update\n%s", delta.Body)
	}
	if n := strings.Count(string(whole.Body), "#EXTINF") - strings.Count(rest, "#EXTINF"); n != 2 {
		t.Errorf("%d segments are skipped", n)
	}
}

func TestBlockingReloadConditions(t *testing.T) {
	s := New(40, Options{Part: 200 * ms})
	for _, f := range video(0, 5*time.Second, 40*ms, 2*time.Second) {
		s.Write(f)
	}
	s.Flush() // segments 40 and 41, four parts of 42
	for _, tt := range []struct {
		msn          uint64
		part         int
		has, tooSoon bool
	}{
		{39, -1, true, false},
		{41, -1, true, false},
		{41, 9, true, false},
		{41, 10, true, false}, // is part 0 of 42
		{42, 3, true, false},
		{42, 4, false, false},
		{42, 18, false, false},
		{42, 19, false, true},
		{42, -1, false, false},
		{43, 0, false, false},
		{43, -1, false, false},
		{44, -1, false, true},
		{1 << 63, 0, false, true},
	} {
		if l := s.List(); l.Has(FMP4, tt.msn, tt.part) != tt.has || l.TooFarAhead(tt.msn, tt.part) != tt.tooSoon {
			t.Errorf("segment %d, part %d: Has is %v, TooFarAhead is %v", tt.msn, tt.part, l.Has(FMP4, tt.msn, tt.part),
				l.TooFarAhead(tt.msn, tt.part))
		}
	}
	s.End()
	if l := s.List(); !l.Has(FMP4, 43, 0) {
		t.Error("a reload waits for a segment that will not come")
	}
}

// setTypicalSize gives a frame the payload size it would have in a stream of 2.5 Mbit/s.
func setTypicalSize(f *media.Frame) {
	n := 12_000
	if f.Track == aac {
		n = 370
	}
	f.Payload = append([]byte{0, 0, byte((n - 4) >> 8), byte(n - 4), 0x41}, make([]byte, n-5)...)
}

func TestSegmentData(t *testing.T) {
	frames := modify(interleave(video(0, 2*time.Second, 40*ms, 2*time.Second), audio(0, 2*time.Second)), setTypicalSize)
	all := writeAll(t, New(0, Options{Part: 200 * ms}), frames)
	s := all[0]
	for f := range formats {
		if b := s.rendered[f].cached(); b != nil {
			t.Errorf("%d bytes were rendered before the first request", len(b))
		}
	}
	b := s.Data(TS)
	if len(b) == 0 || len(b)%188 != 0 || b[0] != 0x47 {
		t.Fatalf("%d bytes are no transport stream", len(b))
	}
	if e := s.estimate(TS); e < len(b)*95/100 || e > len(b)*105/100 {
		t.Errorf("estimated %d bytes of MPEG-TS, there are %d", e, len(b))
	}
	early := slices.Clone(s.parts[3].Data()) // before the whole segment
	whole := s.Data(FMP4)
	var joined []byte
	for _, p := range s.parts {
		joined = append(joined, p.Data()...)
	}
	if !bytes.Equal(whole, joined) || !bytes.Equal(early, s.parts[3].Data()) {
		t.Error("the segment is not the concatenation of its parts")
	}
	if &s.parts[0].Data()[0] != &whole[0] {
		t.Error("parts and segment use separate memory")
	}
	if e := s.estimate(FMP4); e < len(whole)*95/100 || e > len(whole)*105/100 {
		t.Errorf("estimated %d bytes of fragmented MP4, there are %d", e, len(whole))
	}
	s.dropRendered()
	if again := s.Data(FMP4); !bytes.Equal(again, whole) {
		t.Error("rendered again, the segment differs")
	}
	if v, a := s.totals.split(1000); v+a != 1000 || v < 900 || a < 20 {
		t.Errorf("1000 bytes are %d of video and %d of audio", v, a)
	}
	if v, a := new(byteTotals).split(9); v+a != 9 {
		t.Errorf("9 bytes of a segment without payload are %d and %d", v, a)
	}
}

// TestFilesAreRenderedOnce requests the same file from many goroutines: all get the same memory.
func TestFilesAreRenderedOnce(t *testing.T) {
	s := New(0, Options{Part: 200 * ms})
	writeAll(t, s, interleave(video(0, 2*time.Second, 40*ms, 2*time.Second), audio(0, 2*time.Second)))
	l := s.List()
	for _, name := range []string{"0-0.0.m4s", "0-0.ts", "0-0.m4s"} {
		got := make([][]byte, 16)
		var wg sync.WaitGroup
		for i := range got {
			wg.Go(func() {
				f := l.File(name)
				got[i] = f.Data()
			})
		}
		wg.Wait()
		for _, b := range got {
			if len(b) == 0 || &b[0] != &got[0][0] {
				t.Fatalf("%s was rendered more than once", name)
			}
		}
	}
}

// TestSegmenterFromStateIsIdentical gives one Segmenter all frames, and others its state at the start
// of a segment and the frames since then.
func TestSegmenterFromStateIsIdentical(t *testing.T) {
	frames := interleave(videoFPS(30000.0/1001, 30*time.Second, 2*time.Second, 2*ms), audio(0, 30*time.Second))
	frames = slices.Concat(frames,
		modify(interleave(video(30*time.Second, 40*time.Second, 40*ms, 1200*ms), audio(30*time.Second, 40*time.Second)),
			markDiscontinuous))
	var first *Segmenter
	var starts []state
	first = New(7, Options{Part: 200 * ms, MarkUsed: func(sequence uint64) {
		if sequence > 7 && sequence%4 == 3 {
			starts = append(starts, first.state)
		}
	}})
	var late []*Segmenter
	all := func(s *Segmenter, seen []*Segment) []*Segment {
		for _, seg := range s.List().segments {
			if len(seen) == 0 || seg.sequence > seen[len(seen)-1].sequence {
				seen = append(seen, seg)
			}
		}
		return seen
	}
	var want []*Segment
	var got [][]*Segment
	for _, f := range frames {
		first.Write(f)
		first.Flush()
		for _, s := range late {
			s.Write(f)
			s.Flush()
		}
		want = all(first, want)
		for n, s := range late {
			got[n] = all(s, got[n])
		}
		if len(starts) > len(late) {
			late, got = append(late, newAtStart(starts[len(late)], Options{Part: 200 * ms}, first.frames)), append(got, nil)
		}
	}
	if len(late) < 4 {
		t.Fatalf("%d segmenters from a state", len(late))
	}
	for n, segs := range got {
		if len(segs) == 0 {
			t.Fatalf("segmenter %d from a state has no segments", n)
		}
		same := want[len(want)-len(segs):]
		for i, s := range segs {
			w := same[i]
			if s.Name != w.Name || s.sequence != w.sequence || s.discontinuitySequence != w.discontinuitySequence ||
				s.discontinuity != w.discontinuity || s.Duration != w.Duration || !s.date.Equal(w.date) ||
				s.trackSet.initName != w.trackSet.initName {
				t.Fatalf("segmenter %d from a state: %+v, want %+v", n, s, w)
			}
			if !bytes.Equal(s.Data(TS), w.Data(TS)) || !bytes.Equal(s.Data(FMP4), w.Data(FMP4)) || len(s.parts) != len(w.parts) {
				t.Fatalf("segmenter %d from a state: %s has other bytes", n, s.Name)
			}
			for j, p := range s.parts {
				if q := w.parts[j]; p.Name != q.Name || p.Duration != q.Duration || p.independent != q.independent ||
					!bytes.Equal(p.Data(), q.Data()) {
					t.Fatalf("segmenter %d from a state: part %s differs", n, p.Name)
				}
			}
		}
	}
}

// TestMemoryOfRenderedFormats adds up the memory of a stream's segments: the frames once, and each
// requested format once, of the segments at which players are.
func TestMemoryOfRenderedFormats(t *testing.T) {
	for _, tt := range []struct {
		name string
		ask  []string // extensions
		want int      // formats in use
	}{
		{"no requests", nil, 0},
		{"parts", []string{"parts"}, 1},
		{"parts and segments", []string{"parts", extPart}, 1},
		{"MPEG-TS", []string{extTS}, 1},
		{"all", []string{"parts", extPart, extTS}, 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := New(0, Options{Part: 200 * ms})
			frames := modify(interleave(video(0, 80*time.Second, 40*ms, 2*time.Second), audio(0, 80*time.Second)),
				setTypicalSize)
			for _, f := range frames {
				s.Write(f)
				s.Flush()
				l := s.List()
				if !l.Ready || len(tt.ask) == 0 {
					continue
				}
				tsPlaylistText(t, l)
				for _, ext := range tt.ask {
					if ext == "parts" && len(l.parts) > 0 {
						l.parts[len(l.parts)-1].Data()
					} else if f := l.File(l.newest().Name + ext); ext != "parts" && f.Data() == nil {
						t.Fatalf("file %s%s not found", l.newest().Name, ext)
					}
				}
			}
			l := s.List()
			payload, played, made := 0, 0, 0
			for i, seg := range l.segments {
				n := seg.totals.videoBytes + seg.totals.audioBytes
				payload += n
				if i >= len(l.segments)-renderedTargets {
					played += n
				}
				made += len(seg.rendered[TS].cached()) + len(seg.rendered[FMP4].cached())
				if seg.rendered[FMP4].cached() == nil {
					for _, p := range seg.parts {
						made += len(p.data.cached())
					}
				}
			}
			for _, p := range l.parts {
				played += p.totals.videoBytes + p.totals.audioBytes
				made += len(p.data.cached())
			}
			if most := played * tt.want * 11 / 10; made > most {
				t.Errorf("%d rendered bytes of %d formats, for %d bytes at which players are", made, tt.want, played)
			}
			if tt.want == 0 && len(l.segments) != l.listed {
				t.Errorf("%d unlisted segments are kept beside the %d in the playlist", len(l.segments)-l.listed, l.listed)
			}
			if l.Bytes < payload || l.Bytes > payload*11/10 {
				t.Errorf("Bytes is %d, the frames have %d", l.Bytes, payload)
			}
		})
	}
}

// aacAt returns AAC frames of 44,100 Hz, stamped in whole milliseconds as in RTMP.
func aacAt(long time.Duration) (fs []*media.Frame) {
	const each = 1024 * time.Second / 44100
	for i := 0; time.Duration(i)*each < long; i++ {
		f := frame(aac, (time.Duration(i) * each).Round(ms), each, true)
		f.Ticks = int64(i) * 1024
		fs = append(fs, f)
	}
	return fs
}

// TestLongGOPsAreCutAtParts cuts long GOPs: a segment that does not end at a keyframe ends at the
// end of a part, which has video and audio like every other, and no part exceeds the target.
func TestLongGOPsAreCutAtParts(t *testing.T) {
	const long = 60 * time.Second
	hasKind := func(frames []*media.Frame, k media.Kind) bool {
		return slices.ContainsFunc(frames, func(f *media.Frame) bool { return f.Track.Kind == k })
	}
	for _, gop := range []time.Duration{2 * time.Second, 5 * time.Second, 10 * time.Second, 17 * time.Second,
		600 * time.Second} {
		for _, partTarget := range []time.Duration{100 * ms, 200 * ms, 330 * ms, time.Second} {
			for _, fps := range []float64{25, 30000.0 / 1001, 30} {
				for _, withAudio := range []bool{true, false} {
					t.Run(fmt.Sprintf("%v/%v/%.2f fps/audio %v", gop, partTarget, fps, withAudio), func(t *testing.T) {
						frames := videoFPS(fps, long, gop, 0)
						if withAudio {
							frames = interleave(frames, aacAt(long))
						}
						s := New(7, Options{Part: partTarget})
						all := writeAll(t, s, frames)
						target := s.List().PartTarget
						if len(all) < 9 {
							t.Fatalf("%d segments", len(all))
						}
						for n, seg := range all[:len(all)-1] {
							// A segment that is not cut by time is followed by a keyframe or its audio.
							byTime := !isRAP(all[n+1].frames[0])
							if byTime && withAudio {
								byTime = !slices.ContainsFunc(all[n+1].parts[0].frames[:3], isRAP)
							}
							for i, p := range seg.parts {
								least := target * 85 / 100
								if i == len(seg.parts)-1 && !byTime {
									least = 0
								}
								if p.Duration > target || p.Duration < least {
									t.Errorf("part %s of %s lasts %v, the part target is %v, cut by time: %v", p.Name, seg.Name, p.Duration,
										target,
										byTime)
								}
								if least > 0 && (!hasKind(p.frames, media.Video) || withAudio && !hasKind(p.frames, media.Audio)) {
									t.Errorf("part %s has only one of video and audio", p.Name)
								}
							}
						}
						checkSegments(t, all, frames)
					})
				}
			}
		}
	}
	t.Run("audio only", func(t *testing.T) {
		s, frames := New(7, Options{Part: 200 * ms}), aacAt(long)
		all := writeAll(t, s, frames)
		for _, seg := range all[:len(all)-1] {
			for _, p := range seg.parts {
				if target := s.List().PartTarget; p.Duration > target || p.Duration < target*85/100 {
					t.Errorf("part %s lasts %v, the part target is %v", p.Name, p.Duration, target)
				}
			}
			if seg.sequence > 8 && seg.Duration < 1800*ms { // 2 s, up to the end of a part
				t.Errorf("segment %s lasts %v", seg.Name, seg.Duration)
			}
		}
		checkSegments(t, all, frames)
	})
}

// TestLowFrameRateHasNoParts writes pictures seconds apart: playlists announce nothing about parts
// that is not true.
func TestLowFrameRateHasNoParts(t *testing.T) {
	const long = 60 * time.Second
	slow := func(from, every time.Duration) []*media.Frame { return video(from, from+long, every, every) }
	for _, tt := range []struct {
		name   string
		frames []*media.Frame
		want   []time.Duration // part targets in order
	}{
		{"a keyframe every 4 s", slow(0, 4*time.Second), []time.Duration{0}},
		{"a keyframe every 4 s, of unknown duration", modify(slow(0, 4*time.Second), func(f *media.Frame) { f.Duration = 0 }),
			[]time.Duration{0}},
		{"a keyframe every 4 s, with a duration of 40 ms",
			modify(slow(0, 4*time.Second), func(f *media.Frame) { f.Duration = 40 * ms }), []time.Duration{0}},
		{"a keyframe every 4 s, with audio", interleave(slow(0, 4*time.Second), audio(0, long)), []time.Duration{0}},
		{"a keyframe every 20 s", slow(0, 20*time.Second), []time.Duration{0}},
		{"a frame every second, a keyframe every 4 s", video(0, long, time.Second, 4*time.Second), []time.Duration{0}},
		{"2 fps", video(0, long, 500*ms, 2*time.Second), []time.Duration{500 * ms}},
		{"25 fps, then a keyframe every 4 s",
			slices.Concat(video(0, 6*time.Second, 40*ms, 2*time.Second), slow(6*time.Second, 4*time.Second)),
			[]time.Duration{200 * ms, 0}},
		{"a keyframe every 4 s, then 25 fps",
			slices.Concat(slow(0, 4*time.Second), video(long, long+20*time.Second, 40*ms, 2*time.Second)),
			[]time.Duration{0, 200 * ms}},
		{"25 fps, then a keyframe every 4 s, then 25 fps", slices.Concat(video(0, 6*time.Second, 40*ms, 2*time.Second),
			slow(6*time.Second, 4*time.Second),
			video(6*time.Second+long, 20*time.Second+long, 40*ms, 2*time.Second)), []time.Duration{200 * ms, 0, 200 * ms}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := New(7, Options{Part: 200 * ms})
			var targets []time.Duration
			var wrong int
			for _, f := range tt.frames {
				s.Write(f)
				s.Flush()
				l := s.List()
				if !l.Ready {
					continue
				}
				if n := len(targets); n == 0 || targets[n-1] != l.PartTarget {
					targets = append(targets, l.PartTarget)
				}
				text := playlistText(t, l, FMP4)
				if l.PartTarget == 0 && (strings.Contains(text, "PART") || strings.Contains(text, "CAN-BLOCK")) {
					t.Fatalf("playlist without a part target has low-latency tags\n%s", text)
				}
				if l.PartTarget > 0 {
					for _, p := range l.newest().parts {
						if p.Duration > l.PartTarget {
							wrong++
						}
					}
				}
			}
			if !slices.Equal(targets, tt.want) || wrong > 0 {
				t.Errorf("part targets %v, want %v; %d parts exceed the target", targets, tt.want, wrong)
			}
		})
	}
}

// TestSegmentLineComesWithNextPart checks what hls.js needs of playlists with parts: a segment gets
// its own line only after all its parts were in a playlist. A reload that waits for a segment gets
// its line.
func TestSegmentLineComesWithNextPart(t *testing.T) {
	const long = 40 * time.Second
	for _, gop := range []time.Duration{400 * ms, 2 * time.Second, 5 * time.Second, 10 * time.Second} {
		for _, partTarget := range []time.Duration{100 * ms, 200 * ms, 330 * ms} {
			t.Run(fmt.Sprintf("%v/%v", gop, partTarget), func(t *testing.T) {
				s := New(40, Options{Part: partTarget})
				seen := map[string]bool{} // parts
				closed := uint64(0)
				for _, f := range interleave(videoFPS(25, long, gop, 0), aacAt(long)) {
					s.Write(f)
					s.Flush()
					l := s.List()
					if !l.Ready {
						continue
					}
					text := playlistText(t, l, FMP4)
					newest := l.newest()
					first := newest.sequence == 40
					listed := strings.Contains(text, "\n"+newest.Name+extPart+"\n")
					if listed != l.Has(FMP4, newest.sequence, -1) {
						t.Fatalf("segment %d is listed: %v, a reload that waits for it returns: %v", newest.sequence, listed, !listed)
					}
					if !l.Has(TS, newest.sequence, -1) || !strings.Contains(playlistText(t, l, TS), newest.Name+extTS) {
						t.Fatalf("segment %d is not in the MPEG-TS playlist", newest.sequence)
					}
					if listed {
						closed = newest.sequence
					}
					for _, p := range newest.parts {
						if listed && !first && !seen[p.Name] {
							t.Fatalf("part %s is first listed with the line of its segment:\n%s", p.Name, text)
						}
						if seen[p.Name] = true; !strings.Contains(text, `"`+p.Name+extPart+`"`) {
							t.Fatalf("part %s is not listed in\n%s", p.Name, text)
						}
					}
					for _, p := range l.parts {
						seen[p.Name] = true
					}
					if len(l.parts) > 0 && !listed {
						t.Fatalf("a part follows a segment without a line:\n%s", text)
					}
				}
				s.End()
				if l := s.List(); !strings.Contains(playlistText(t, l, FMP4), "\n"+l.newest().Name+extPart+"\n#EXT-X-ENDLIST") ||
					closed < 43 {
					t.Errorf("at the end, after segment %d was listed:\n%s", closed, playlistText(t, l, FMP4))
				}
			})
		}
	}
}

// TestLastPartsPrecedeSegmentLine ends a stream, holds it and changes its tracks: the last parts of
// a segment are in a playlist before the segment has a line, and an ended playlist has no parts.
func TestLastPartsPrecedeSegmentLine(t *testing.T) {
	const long = 5*time.Second + 280*ms // not a whole number of parts
	frames := interleave(videoFPS(25, long, 2*time.Second, 0), aacAt(long))
	write := func() (*Segmenter, map[string]bool) {
		s, seen := New(40, Options{Part: 200 * ms}), map[string]bool{}
		for _, f := range frames {
			s.Write(f)
			s.Flush()
			recordListedParts(t, s.List(), seen)
		}
		return s, seen
	}
	check := func(t *testing.T, s *Segmenter, seen map[string]bool) {
		t.Helper()
		newest := s.List().newest()
		for _, p := range newest.parts {
			if !seen[p.Name] {
				t.Errorf("part %s was not listed before the line of its segment:\n%s", p.Name, playlistText(t, s.List(), FMP4))
			}
		}
		plain, _ := write()
		plain.End()
		if want := plain.List().newest(); newest.Duration != want.Duration || len(newest.parts) != len(want.parts) ||
			!bytes.Equal(newest.Data(FMP4), want.Data(FMP4)) {
			t.Errorf("the last segment lasts %v and has %d parts, want %v and %d", newest.Duration, len(newest.parts),
				want.Duration,
				len(want.parts))
		}
	}
	finish := func(t *testing.T, s *Segmenter, seen map[string]bool) {
		t.Helper()
		if wait := s.Finish(); wait != 400*ms {
			t.Fatalf("Finish returned %v", wait)
		}
		text := recordListedParts(t, s.List(), seen)
		if strings.Contains(text, "\n"+s.segment.Name+extPart) || strings.Contains(text, "PRELOAD-HINT") ||
			strings.Contains(text, "ENDLIST") {
			t.Fatalf("playlist after Finish:\n%s", text)
		}
		if wait := s.Finish(); wait != 0 {
			t.Fatalf("Finish without new parts returned %v", wait)
		}
	}
	t.Run("end", func(t *testing.T) {
		s, seen := write()
		finish(t, s, seen)
		s.End()
		check(t, s, seen)
		if text := playlistText(t, s.List(), FMP4); strings.Contains(text, "EXT-X-PART:") ||
			!strings.Contains(text, "EXT-X-PART-INF") {
			t.Errorf("at the end:\n%s", text)
		}
	})
	t.Run("pause", func(t *testing.T) {
		s, seen := write()
		finish(t, s, seen)
		s.Pause()
		check(t, s, seen)
		line := "\n" + s.List().newest().Name + extPart + "\n"
		for _, f := range videoFPS(25, time.Second, 2*time.Second, 0) {
			f.DTS, f.PTS = f.DTS+long, f.PTS+long
			setDiscontinuity(f, 1)
			s.Write(f)
			if s.Flush(); !strings.Contains(playlistText(t, s.List(), FMP4), line) {
				t.Fatalf("a segment has lost its line:\n%s", playlistText(t, s.List(), FMP4))
			}
		}
	})
	t.Run("frame after finish", func(t *testing.T) {
		s, seen := write()
		finish(t, s, seen)
		late := videoFPS(25, time.Second, 2*time.Second, 0)[0]
		late.DTS, late.PTS = long, long
		s.Write(late)
		if check(t, s, seen); !s.segment.discontinuity {
			t.Error("the segment after Finish is not discontinuous")
		}
	})
	t.Run("discontinuity", func(t *testing.T) {
		s, seen := write()
		for _, f := range videoFPS(25, time.Second, 2*time.Second, 0) {
			f.DTS, f.PTS = f.DTS+long, f.PTS+long
			setDiscontinuity(f, 1)
			s.Write(f)
			s.Flush()
			if s.List().newest().sequence == s.List().open.sequence-1 && s.List().open.discontinuity {
				break
			}
			recordListedParts(t, s.List(), seen)
		}
		text := recordListedParts(t, s.List(), seen)
		check(t, s, seen)
		if newest := s.List().newest(); strings.Contains(text, "\n"+newest.Name+extPart) ||
			strings.Contains(text, "PRELOAD-HINT") {
			t.Errorf("the segment before the discontinuity got its line with its last part:\n%s", text)
		}
	})
}

// recordListedParts returns the playlist of l and adds the parts that it lists to seen.
func recordListedParts(t *testing.T, l *List, seen map[string]bool) string {
	t.Helper()
	if !l.Ready {
		return ""
	}
	text := playlistText(t, l, FMP4)
	for part := range strings.SplitSeq(text, "#EXT-X-PART:") {
		if _, uri, ok := strings.Cut(part, `URI="`); ok {
			name, _, _ := strings.Cut(uri, extPart)
			seen[name] = true
		}
	}
	return text
}

// TestRenderedBytesAreBounded requests every file in every format: rendered bytes count like
// frames.
func TestRenderedBytesAreBounded(t *testing.T) {
	const most = 4 << 20
	s := New(0, Options{Part: 200 * ms, Bytes: most})
	worst, open := 0, 0
	for _, f := range modify(interleave(video(0, 60*time.Second, 40*ms, 2*time.Second), audio(0, 60*time.Second)),
		setTypicalSize) {
		s.Write(f)
		s.Flush()
		l := s.List()
		if !l.Ready {
			continue
		}
		worst = max(worst, l.MemoryBytes())
		before, made := l.MemoryBytes(), 0
		newest := l.newest()
		for _, form := range []Format{TS, FMP4} {
			if newest.rendered[form].cached() == nil {
				made += cap(newest.Data(form))
			}
		}
		if got := l.MemoryBytes() - before; got < made*9/10 || got > made*11/10 {
			t.Fatalf("rendered %d bytes, MemoryBytes grew by %d", made, got)
		}
		open = max(open, newest.renderedBytes()+newest.size)
	}
	if worst > most+2*open {
		t.Errorf("MemoryBytes is %d, want %d plus a segment of %d", worst, most, open)
	}
	l := s.List()
	with, p := l.MemoryBytes(), playlistBytes(t, l)
	if got := l.MemoryBytes() - with; got < p+compressorBytes {
		t.Errorf("playlists of %d bytes and the compressor count as %d", p, got)
	}
	l.DropRendered()
	if got := l.MemoryBytes(); got > l.Bytes+4*p {
		t.Errorf("MemoryBytes is %d after DropRendered, the frames have %d", got, l.Bytes)
	}
}

// playlistBytes renders all playlists of l and returns their size in bytes.
func playlistBytes(t *testing.T, l *List) (n int) {
	t.Helper()
	for f := range formats {
		p, err := l.Playlist(f, false)
		if err != nil {
			t.Fatal(err)
		}
		n += len(p.Body) + len(p.Gzip())
	}
	return n
}

// newAtStart returns a Segmenter that starts with the segment of a state, and has got the frames of
// that segment.
func newAtStart(a state, o Options, frames []*media.Frame) *Segmenter {
	s := New(a.epoch, o)
	s.state = a
	s.nextSequence--
	if a.discontinuous {
		s.discontinuitySequence--
	}
	s.openSegment(frames[0], a.start, a.discontinuous)
	s.state = a
	for i, f := range frames {
		if i == 0 {
			s.add(f)
		} else {
			s.Write(f)
		}
	}
	return s
}
