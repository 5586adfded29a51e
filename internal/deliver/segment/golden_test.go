package segment

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"flag"
	"fmt"
	"hash"
	"maps"
	"math/rand/v2"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"livego/internal/media"
)

var update = flag.Bool("update", false, "write the golden file")

const (
	goldenFile    = "testdata/golden.txt"
	goldenStreams = 32
)

// TestGolden compares all that players get of generated streams with a golden file of their hashes:
// each playlist, and the bytes, type and duration of each file that a playlist names. Names, times
// and bytes must not change, because caches and other servers have them too.
func TestGolden(t *testing.T) {
	var out bytes.Buffer
	for _, tt := range segmentationCases {
		for _, part := range []time.Duration{0, 200 * ms} {
			r := newRecorder(t)
			s := New(7, Options{Part: part, MarkUsed: r.markUsed})
			for _, f := range tt.frames {
				s = r.write(s, f)
				s.Flush()
				r.observe(s.List())
			}
			r.finish(s)
			r.end(s)
			fmt.Fprintf(&out, "%x %s, parts of %v\n", r.sum(), tt.name, part)
		}
	}
	for seed := range uint64(goldenStreams) {
		fmt.Fprintf(&out, "%x stream %d\n", recordStream(seed, newRecorder(t)), seed)
	}
	if *update {
		if err := os.WriteFile(goldenFile, out.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(goldenFile)
	if err != nil {
		t.Fatal(err)
	}
	wantLines, gotLines := strings.Split(string(want), "\n"), strings.Split(out.String(), "\n")
	if len(wantLines) != len(gotLines) {
		t.Fatalf("%d lines, the golden file has %d", len(gotLines), len(wantLines))
	}
	for i, line := range gotLines {
		if line != wantLines[i] {
			t.Errorf("got %s, want %s", line, wantLines[i])
		}
	}
}

// A recorder hashes what players get of a stream.
type recorder struct {
	t      testing.TB
	hash   hash.Hash
	seen   *List
	files  map[string]string // hash of each file by its name
	bodies map[string]string // playlists by format and ETag
	// restore, if set, makes the recorder write to another Segmenter with each frame, and observe all
	// lists.
	restore func(*Segmenter) *Segmenter
	stream  bool // frames are numbered and written by WriteStream
	frames  uint64
	stored  map[string][]byte // files of the newest segment
	programmer
}

func newRecorder(t testing.TB) *recorder {
	return &recorder{t: t, hash: sha256.New(), files: map[string]string{}, bodies: map[string]string{},
		programmer: programmer{trackWait: 2 * time.Second}}
}

func (r *recorder) sum() []byte { return r.hash.Sum(nil)[:8] }

func (r *recorder) printf(format string, args ...any) { fmt.Fprintf(r.hash, format+"\n", args...) }

func (r *recorder) markUsed(n uint64) { r.printf("number %d", n) }

// write writes f to s, and returns the Segmenter that gets the next frame.
func (r *recorder) write(s *Segmenter, f *media.Frame) *Segmenter {
	r.set(f)
	if r.restore != nil {
		s = r.replace(s)
	}
	if r.stream {
		f.Seq = r.frames
		r.frames++
		s.WriteStream(f)
	} else {
		s.Write(f)
	}
	r.printf("due %v %v, keyframe interval %v", s.Due(true), s.Due(false), s.LongKeyframeInterval())
	return s
}

// replace returns the Segmenter that takes the place of s.
func (r *recorder) replace(s *Segmenter) *Segmenter {
	n := r.restore(s)
	if r.seen == s.List() {
		r.seen = n.List()
	}
	r.store(s.List())
	return n
}

// store stores the files of the newest segment, which is without them when it is restored.
func (r *recorder) store(l *List) {
	s := l.newest()
	if s == nil || s.remote {
		return
	}
	r.stored = map[string][]byte{s.name + extTS: s.data(TS), s.name + extPart: s.data(FMP4)}
	for _, p := range s.parts {
		r.stored[p.name+extPart] = p.data()
	}
}

func (r *recorder) finish(s *Segmenter) {
	r.printf("finish %v", s.Finish())
	r.observe(s.List())
}

func (r *recorder) pause(s *Segmenter) {
	s.Pause()
	r.observe(s.List())
}

func (r *recorder) end(s *Segmenter) {
	s.End()
	r.observe(s.List())
}

var uriPattern = regexp.MustCompile(`(?m)URI="([^"]+)"|^[^#\n]+$`)

// observe records l unless it is recorded already.
func (r *recorder) observe(l *List) {
	if l == r.seen {
		return
	}
	r.seen = l
	r.printf("list ready %v, ended %v, paused %v, targets %v %v, %d bytes, %v", l.Ready, l.Ended, l.Paused, l.Target,
		l.PartTarget, l.frameBytes, l.Duration())
	names := map[string]bool{}
	for f := range formats {
		for _, delta := range []bool{false, true} {
			p, err := l.Playlist(f, delta)
			if err != nil {
				r.printf("error %v", err)
			}
			if p == nil {
				continue
			}
			r.printf("playlist %s\n%s", p.ETag, p.Body)
			tag := fmt.Sprint(f, p.ETag)
			if body, ok := r.bodies[tag]; ok && body != string(p.Body) {
				r.t.Errorf("ETag %s of two playlists:\n%s\n%s", p.ETag, body, p.Body)
			}
			r.bodies[tag] = string(p.Body)
			for _, m := range uriPattern.FindAllSubmatch(p.Body, -1) {
				if m[1] == nil {
					m[1] = m[0]
				}
				names[string(m[1])] = true
			}
		}
		peak, average := l.Bitrates(f)
		video, audio := l.Tracks(f)
		r.printf("bitrates %d %d, video %v, audio %v", peak, average, video != nil, audio != nil)
		if newest := l.newest(); newest != nil {
			for msn := newest.sequence - 1; msn <= newest.sequence+3; msn++ {
				for _, part := range []int{-1, 0, 2, 9, 50} {
					r.printf("has %v, too far ahead %v", l.Has(f, msn, part), l.TooFarAhead(msn, part))
				}
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		f := l.File(name)
		if l.IsPreloadHint(name) {
			r.printf("preload hint %s, file %q", name, f.Name)
			continue
		}
		if sum, ok := r.files[name]; ok {
			if f.Name != name {
				r.printf("file %s is gone", name)
			}
			r.printf("file %s is %s", name, sum)
			continue
		}
		if f.Absent() && !l.AddFile(name, r.stored[name]) {
			r.printf("file %s cannot be added", name)
		}
		sum := sha256.Sum256(f.Data())
		video, audio := f.SplitBytes(1000)
		r.files[name] = hex.EncodeToString(sum[:])
		r.printf("file %s %q %s, %v, part %v, %d bytes, split %d %d, %x", name, f.Name, f.Type, f.Duration, f.IsPart,
			len(f.Data()), video, audio, sum)
	}
}

// recordStream generates the stream of a seed, with every kind of change that a stream can have,
// and returns the hash of what players get.
func recordStream(seed uint64, r *recorder) []byte {
	g := &generator{rnd: rand.New(rand.NewPCG(seed, 15)), video: h264, audio: aac}
	pick := func(d ...time.Duration) time.Duration { return d[g.rnd.IntN(len(d))] }
	opt := Options{
		Segment: pick(2*time.Second, 2*time.Second, time.Second, 500*ms), Part: pick(200*ms, 200*ms, 330*ms, time.Second, 0),
		TrackWait: pick(2*time.Second, time.Second), MarkUsed: r.markUsed,
	}
	r.trackWait = opt.TrackWait
	if g.oneIn(4) {
		opt.Bytes = 1 << 20
	}
	flushEvery, observeEvery := 1, 1
	if g.oneIn(2) {
		flushEvery = 1 + g.rnd.IntN(20)
	}
	if g.oneIn(4) {
		observeEvery = 1 + g.rnd.IntN(40)
	}
	epoch := uint64(5 + g.rnd.IntN(1000))
	s := New(epoch, opt)
	n := 0
	for stretch := range 3 + g.rnd.IntN(4) {
		if stretch > 0 {
			switch g.rnd.IntN(10) {
			case 0, 1:
				r.finish(s)
				r.pause(s)
			case 2:
				r.pause(s)
			case 3:
				s = s.Successor(epoch)
			case 4, 5:
				r.finish(s)
				r.end(s)
				epoch += 1000
				s, g.at, g.last = s.Successor(epoch), 0, [media.Data]time.Duration{}
			}
			r.observe(s.List())
		}
		for _, f := range g.stretch(stretch == 0) {
			s = r.write(s, f)
			if n++; n%flushEvery == 0 {
				s.Flush()
			}
			if n%observeEvery == 0 || r.restore != nil {
				r.observe(s.List())
			}
		}
	}
	r.finish(s)
	r.end(s)
	return r.sum()
}

// A generator generates the frames of a stream.
type generator struct {
	rnd           *rand.Rand
	at            time.Duration             // the end so far
	last          [media.Data]time.Duration // DTS of the last frame of each kind
	video, audio  *media.Track
	discontinuity uint32
	frames        uint32
}

func (g *generator) oneIn(n int) bool { return g.rnd.IntN(n) == 0 }

// opus is a track that only fragmented MP4 carries.
var opus = &media.Track{Kind: media.Audio, Codec: media.Opus, Timescale: 48000, SampleRate: 48000, Channels: 2,
	Config:       []byte("OpusHead\x01\x02\x38\x01\x80\xbb\x00\x00\x00\x00\x00"),
	FrameSamples: 960, RFC6381: "opus"}

// stretch returns the frames of a stretch of the stream without changes, except those that its
// start brings.
func (g *generator) stretch(first bool) []*media.Frame {
	if !first {
		switch g.rnd.IntN(8) {
		case 0:
			g.video = h264b
		case 1:
			g.audio = aacb
		case 2:
			g.video, g.audio = h264, aac
		case 3:
			g.audio = opus
		}
		if g.oneIn(3) {
			g.discontinuity++
		}
		if g.oneIn(5) {
			g.at += time.Duration(g.rnd.Int64N(int64(12 * time.Second)))
		}
	}
	rates := []float64{25, 25, 30000.0 / 1001, 30, 50, 12.5, 2, 0.4}
	gops := []time.Duration{400 * ms, time.Second, 1200 * ms, 2 * time.Second, 2 * time.Second, 5 * time.Second,
		10 * time.Second, time.Hour}
	fps, gop := rates[g.rnd.IntN(len(rates))], gops[g.rnd.IntN(len(gops))]
	gop = max(gop, time.Duration(float64(time.Second)/fps))
	long := time.Second + time.Duration(g.rnd.Int64N(int64(24*time.Second)))
	jitter := time.Duration(0)
	if g.oneIn(3) {
		jitter = 3 * ms
	}
	pictures := videoFPS(fps, long, gop, jitter)
	sound := aacAt(long)
	switch g.rnd.IntN(10) {
	case 0:
		pictures = nil
	case 1:
		sound = nil
	case 2: // audio starts late
		sound = sound[g.rnd.IntN(len(sound)):]
	case 3: // video starts late
		pictures = pictures[g.rnd.IntN(len(pictures)):]
	case 4: // video stops
		pictures = pictures[:g.rnd.IntN(len(pictures))]
	case 5: // audio is ahead, or far behind
		by := time.Duration(g.rnd.Int64N(int64(1500 * ms)))
		modify(pictures, func(f *media.Frame) { f.DTS += by })
	}
	all := slices.Concat(pictures, sound)
	slices.SortStableFunc(all, func(a, b *media.Frame) int { return int(a.Arrived.Sub(b.Arrived)) })
	var meta *media.Meta
	if g.oneIn(3) {
		meta = &media.Meta{HasVideo: !g.oneIn(4), HasAudio: !g.oneIn(4)}
	}
	big := g.oneIn(4)
	otherFirst := 0 // ms for which tracks come that turn out not to be the first of their kind
	if first && g.oneIn(3) {
		otherFirst = g.rnd.IntN(1500)
	}
	otherVideo, otherAudio := *g.video, *g.audio
	otherVideo.ID, otherAudio.ID = 1, 1
	for _, f := range all {
		early := f.DTS < time.Duration(otherFirst)*ms
		switch isVideo := f.Track.Kind == media.Video; {
		case isVideo && early && otherFirst%2 == 0:
			f.Track = &otherVideo
		case isVideo:
			f.Track = g.video
		case early && otherFirst%3 == 0:
			f.Track = &otherAudio
		default:
			f.Track = g.audio
		}
		f.DTS = max(f.DTS+g.at, g.last[f.Track.Kind]) // no track goes back
		g.last[f.Track.Kind] = f.DTS
		f.PTS, f.Ticks = f.DTS, int64(f.DTS)*int64(f.Track.Timescale)/int64(time.Second)
		if f.Track.Kind == media.Video && g.oneIn(3) {
			f.PTS += 40 * ms
		}
		f.Arrived, f.Meta = epochTime.Add(f.DTS), meta
		setDiscontinuity(f, g.discontinuity)
		f.Payload = g.payload(f, big)
	}
	g.at += long
	return all
}

// payload returns the content of f: no two frames have the same.
func (g *generator) payload(f *media.Frame, big bool) []byte {
	n := 20 + g.rnd.IntN(200)
	if big && f.Track.Kind == media.Video {
		n += 8000
	}
	b := make([]byte, n)
	binary.BigEndian.PutUint32(b, uint32(n-4)) // the length of the only NAL unit
	b[4] = 0x41
	if f.RAP != media.NoRandomAccess {
		b[4] = 0x65
	}
	g.frames++
	binary.BigEndian.PutUint32(b[5:], g.frames|0x80808080) // no start code
	return b
}
