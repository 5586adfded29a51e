package playout

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"livego/internal/media"
)

var (
	pictures = &media.Track{Kind: media.Video, Codec: media.H264}
	sound    = &media.Track{Kind: media.Audio, Codec: media.AAC, SampleRate: 50000, FrameSamples: 1000}
)

// v and a return frames with decoding and presentation time in ms.
func v(dts, pts int) *media.Frame {
	return &media.Frame{Track: pictures, DTS: ms(dts), PTS: ms(pts), Duration: ms(40)}
}

func a(at int) *media.Frame {
	return &media.Frame{Track: sound, DTS: ms(at), PTS: ms(at), Duration: ms(20)}
}

func ms(n int) time.Duration { return time.Duration(n) * time.Millisecond }

// An inputFile is the frames of one file. head is how many of them are known at the join.
type inputFile struct {
	head        int
	declared    time.Duration // declared duration of the previous file
	audioChange bool
	frames      []*media.Frame
}

func TestTimeline(t *testing.T) {
	for _, tt := range []struct {
		name  string
		films []inputFile
		want  string // kind, DTS and PTS
	}{
		{"one file starts at 0, its audio before its video",
			[]inputFile{{2, 0, false, []*media.Frame{a(-20), v(-80, 0), a(0), v(-40, 80), v(0, 40)}}},
			"a60 v0/80 a80 v40/160 v80/120"},
		{"joined where the video ends", []inputFile{
			{1, 0, false, []*media.Frame{v(0, 0), a(0), a(20), v(40, 40), a(40), a(60), a(80)}},
			{2, 0, false, []*media.Frame{a(-20), v(0, 0), a(0), a(20), v(40, 40)}}},
			"v0/0 a0 a20 v40/40 a40 a60 a80 v80/80 a100 v120/120"},
		{"joined after the old audio where the audio changes", []inputFile{
			{1, 0, false, []*media.Frame{v(0, 0), a(0), a(20), v(40, 40), a(40), a(60), a(80)}},
			{1, 0, true, []*media.Frame{v(-40, 0), a(0), v(0, 40)}}},
			"v0/0 a0 a20 v40/40 a40 a60 a80 v86/126 a126 v126/166"},
		{"audio that ends much later is played", []inputFile{
			{1, 0, false, []*media.Frame{v(0, 0), a(0), a(200)}},
			{1, 0, false, []*media.Frame{v(0, 0), a(0)}}},
			"v0/0 a0 a200 v220/220 a220"},
		{"B-frames in the second file only", []inputFile{
			{1, 0, false, []*media.Frame{v(0, 0), v(40, 40)}},
			{1, 0, false, []*media.Frame{v(-80, 0), v(-40, 80), v(0, 40)}}},
			"v0/0 v40/40 v80/160 v120/240 v160/200"},
		{"timestamps that start far from 0", []inputFile{
			{1, 0, false, []*media.Frame{v(1000000, 1000000), a(1000000), v(1000040, 1000040)}},
			{1, 0, false, []*media.Frame{v(5, 5), a(5)}}},
			"v0/0 a0 v40/40 v80/80 a80"},
		{"declared shorter", []inputFile{
			{1, 0, false, []*media.Frame{v(0, 0), v(40, 40), v(80, 80)}},
			{1, ms(60), false, []*media.Frame{v(0, 0)}}},
			"v0/0 v40/40 v80/80 v120/120"},
		{"declared longer", []inputFile{
			{1, 0, false, []*media.Frame{v(0, 0), v(40, 40)}},
			{1, ms(500), false, []*media.Frame{v(0, 0)}}},
			"v0/0 v40/40 v500/500"},
		{"audio only, then video only", []inputFile{
			{1, 0, false, []*media.Frame{a(0), a(20)}},
			{1, 0, false, []*media.Frame{v(0, 0), v(40, 40)}}},
			"a0 a20 v40/40 v80/80"},
		{"a jump forward, in both tracks", []inputFile{{1, 0, false,
			[]*media.Frame{v(0, 0), a(0), v(40, 40), a(20), v(90000, 90000), a(40), a(89980), a(90000), v(90040, 90040)}}},
			"v0/0 a0 v40/40 a20 v80/80 a40 a60 a80 v120/120"},
		{"a jump back, in both tracks", []inputFile{{1, 0, false,
			[]*media.Frame{v(90000, 90000), a(90000), v(90040, 90040), v(0, 0), a(90020), a(0), a(20), v(40, 40)}}},
			"v0/0 a0 v40/40 v80/80 a20 a80 a100 v120/120"},
		{"a small step back is levelled",
			[]inputFile{{1, 0, false, []*media.Frame{v(0, 0), v(40, 40), v(30, 30), v(80, 80)}}},
			"v0/0 v40/40 v40/30 v80/80"},
		{"milliseconds at 30 frames per second", []inputFile{{1, 0, false, []*media.Frame{
			{Track: pictures}, {Track: pictures, DTS: time.Second / 30, PTS: time.Second / 30},
			{Track: pictures, DTS: 2 * time.Second / 30, PTS: 2 * time.Second / 30}}}},
			"v0/0 v33/33 v67/67"},
	} {
		var line timeline
		var got []string
		for _, f := range tt.films {
			line.join(f.frames[:f.head], f.declared, f.audioChange)
			for _, m := range f.frames {
				if !line.rebase(m, false) {
					continue
				}
				w := fmt.Sprintf("a%d", m.DTS.Milliseconds())
				if m.Track.Kind == media.Video {
					w = fmt.Sprintf("v%d/%d", m.DTS.Milliseconds(), m.PTS.Milliseconds())
				}
				if m.DTS%time.Millisecond != 0 || m.PTS%time.Millisecond != 0 {
					t.Errorf("%s: %v, %v", tt.name, m.DTS, m.PTS)
				}
				got = append(got, w)
			}
		}
		if s := strings.Join(got, " "); s != tt.want {
			t.Errorf("%s: %s\nwant %s", tt.name, s, tt.want)
		}
	}
}
