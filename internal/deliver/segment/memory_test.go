package segment

import (
	"testing"
	"time"

	"livego/internal/media"
)

func TestSegmentBytesAreBounded(t *testing.T) {
	const bound = 16 << 20
	s := New(0, Options{Bytes: bound})
	for _, f := range modify(video(0, 60*time.Second, 40*ms, 2*time.Second), enlarge) {
		s.Write(f)
		l := s.List()
		if l.frameBytes > bound+4<<20 {
			t.Fatalf("%d bytes held", l.frameBytes)
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

// TestMemoryOfRenderedFormats adds up the memory of a stream's segments: the frames once, and each
// requested format once, of the segments at which players are.
func TestMemoryOfRenderedFormats(t *testing.T) {
	for _, tt := range []struct {
		name string
		ask  []string // extensions
		want int      // formats in use
		past int      // complete segments at which players are
	}{
		{"no requests", nil, 0, 0},
		{"parts", []string{"parts"}, 1, 0},
		{"parts and segments", []string{"parts", extPart}, 1, renderedTargets},
		{"MPEG-TS", []string{extTS}, 1, renderedTargets},
		{"all", []string{"parts", extPart, extTS}, 2, renderedTargets},
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
						l.parts[len(l.parts)-1].data()
					} else if f := l.File(l.newest().name + ext); ext != "parts" && f.Data() == nil {
						t.Fatalf("file %s%s not found", l.newest().name, ext)
					}
				}
			}
			l := s.List()
			payload, played, made, parts := 0, 0, 0, 0
			countPart := func(p *part) {
				if n := len(p.rendered.cached()); n > 0 {
					made += n
					parts++
				}
			}
			for i, seg := range l.segments {
				n := seg.totals.payload[0] + seg.totals.payload[1]
				payload += n
				if i >= len(l.segments)-tt.past {
					played += n
				}
				made += len(seg.rendered[TS].cached()) + len(seg.rendered[FMP4].cached())
				if seg.rendered[FMP4].cached() == nil {
					for _, p := range seg.parts {
						countPart(p)
					}
				}
			}
			for _, p := range l.parts {
				played += p.totals.payload[0] + p.totals.payload[1]
				countPart(p)
			}
			if want := renderedParts * len(tt.ask); tt.past == 0 && parts != want {
				t.Errorf("%d parts are rendered, want %d", parts, want)
			}
			if most := played * tt.want * 11 / 10; made > most {
				t.Errorf("%d rendered bytes of %d formats, for %d bytes at which players are", made, tt.want, played)
			}
			if tt.want == 0 && len(l.segments) != l.listed {
				t.Errorf("%d unlisted segments are kept beside the %d in the playlist", len(l.segments)-l.listed, l.listed)
			}
			if l.frameBytes < payload || l.frameBytes > payload*11/10 {
				t.Errorf("frameBytes is %d, the frames have %d", l.frameBytes, payload)
			}
		})
	}
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
				made += cap(newest.data(form))
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
	if got := l.MemoryBytes(); got > l.frameBytes+4*p {
		t.Errorf("MemoryBytes is %d after DropRendered, the frames have %d", got, l.frameBytes)
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
