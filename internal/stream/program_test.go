package stream

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"livego/internal/domain"
	"livego/internal/media"
)

// formatProgram returns the discontinuity and the tracks of p, as in "1: v0* d0 a?": kind, ID and
// configuration of each, "*" for the default, and the kinds that are awaited.
func formatProgram(p *media.Program) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d:", p.Discontinuity)
	for _, t := range p.Tracks {
		fmt.Fprintf(&b, " %c%d%s", t.Kind.String()[0], t.ID, t.Config)
		if p.IsDefault(t) {
			b.WriteByte('*')
		}
	}
	for _, k := range []media.Kind{media.Video, media.Audio} {
		if p.Awaited.Has(k) {
			fmt.Fprintf(&b, " %c?", k.String()[0])
		}
	}
	return b.String()
}

// TestPrograms writes frames and checks the Program of each.
func TestPrograms(t *testing.T) {
	for _, tt := range []struct {
		name string
		// frames are the kind, ID and configuration of each, "V" for a keyframe, and after "/" the
		// kinds that the encoder announces: otherwise both. "join": another publisher, "jump": the
		// encoder's clock is set, "wait": TrackWait passes.
		frames string
		want   []string // by frame: its Program, "=": that of the frame before, "-": it is dropped
	}{
		{"tracks come one by one", "V0 a0 v0 a0", []string{"0: v0* a?", "0: v0* a0*", "=", "="}},
		{"audio first", "a0 V0 a0", []string{"0: a0* v?", "0: v0* a0*", "="}},
		{"no video", "a0 a0 wait a0", []string{"0: a0* v?", "=", "0: a0*"}},
		{"only video announced", "V0/v v0/v", []string{"0: v0*", "="}},
		{"nothing announced", "V0/ v0/ wait v0/ join V0/", []string{"0: v0* a?", "=", "0: v0*", "1: v0*"}},
		{"no keyframe", "v0 a0 v0", []string{"-", "0: a0* v?", "-"}},
		{"data", "V0 a0 d0 v0 d0", []string{"0: v0* a?", "0: v0* a0*", "0: v0* a0* d0*", "=", "="}},
		{"several tracks in any order", "a1 V9 a0 V3 a1 v9",
			[]string{"0: a1* v?", "0: v9* a1*", "0: v9* a0* a1", "0: v3* v9 a0* a1", "=", "="}},
		{"a lower ID without a keyframe", "a0 V1 v1 v0 v1 V0 v1",
			[]string{"0: a0* v?", "0: v1* a0*", "=", "-", "0: v1 a0*", "0: v0* v1 a0*", "="}},
		{"a lower ID after TrackWait", "V1 a0 wait V0 v1", []string{"0: v1* a?", "0: v1* a0*", "0: v0 v1* a0*", "="}},
		{"a kind after TrackWait", "V0 wait a1 a0", []string{"0: v0* a?", "0: v0* a1*", "0: v0* a0 a1*"}},
		{"another configuration", "V0 a0 V0b v0b a0b V0", []string{"0: v0* a?", "0: v0* a0*", "0: v0b* a0*", "=",
			"0: v0b* a0b*", "0: v0* a0b*"}},
		{"a join", "V1 a0 join V0 a0 v0", []string{"0: v1* a?", "0: v1* a0*", "1: v0* a?", "1: v0* a0*", "="}},
		{"a join, nothing announced", "V1/ a0/ join a0/ V0/",
			[]string{"0: v1* a?", "0: v1* a0*", "1: a0* v?", "1: v0* a0*"}},
		{"a join with data first", "V1 a0 join d0 V0",
			[]string{"0: v1* a?", "0: v1* a0*", "1: d0* v? a?", "1: v0* d0* a?"}},
		{"joins without video", "V0 a0 join a0/a join a0/",
			[]string{"0: v0* a?", "0: v0* a0*", "1: a0*", "2: a0*"}},
		{"a jump keeps the tracks", "V0 a0 jump V0 a0", []string{"0: v0* a?", "0: v0* a0*", "1: v0* a0*", "="}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := NewHub(Options{Hold: time.Minute})
				defer h.Close()
				p := mustPublish(t, h, PublishOptions{})
				tracks, at := map[string]*media.Track{}, time.Duration(0)
				var before *media.Program
				want := tt.want
				for _, in := range strings.Fields(tt.frames) {
					at += 20 * ms
					switch in {
					case "join":
						p.End(Lost)
						p = mustPublish(t, h, PublishOptions{})
						continue
					case "jump":
						at += time.Hour
						continue
					case "wait":
						time.Sleep(h.options().TrackWait)
						continue
					}
					name, announced, some := strings.Cut(strings.ToLower(in), "/")
					if tracks[name] == nil {
						kind := map[byte]media.Kind{'v': media.Video, 'a': media.Audio, 'd': media.Data}[name[0]]
						tracks[name] = &media.Track{ID: name[1] - '0', Kind: kind, Config: []byte(name[2:]), Timescale: 90000}
					}
					f := trackFrame(tracks[name], at, in[0] == 'V')
					if some {
						f.Meta = &media.Meta{HasVideo: strings.Contains(announced, "v"), HasAudio: strings.Contains(announced, "a")}
					}
					write(t, p, f)
					got := "-"
					if f.Program != nil {
						got = formatProgram(f.Program)
						if f.Program == before {
							got = "="
						}
						before = f.Program
					}
					if got != want[0] {
						t.Errorf("%s at %v: %s, want %s", in, at, got, want[0])
					}
					want = want[1:]
				}
				if in, _ := h.Info(movie); in.Program != before {
					t.Errorf("Info has the Program %s", formatProgram(in.Program))
				}
			})
		})
	}
}

// TestViewersGetOneDefault has the default change while frames of the track that was the default are
// kept: a viewer that starts among these gets none of them, and its Program is the newest.
func TestViewersGetOneDefault(t *testing.T) {
	h := NewHub(Options{})
	defer h.Close()
	p := mustPublish(t, h, PublishOptions{})
	v, a := numbered(media.Video, 1, 0), numbered(media.Audio, 1, 0)
	write(t, p, trackFrame(v[0], 0, true), trackFrame(a[0], 0, false), trackFrame(v[1], 40*ms, true),
		trackFrame(v[0], 80*ms, true), trackFrame(a[0], 80*ms, false), trackFrame(a[1], 80*ms, false))
	s := mustSubscribe(t, h, SubscribeOptions{GOPs: 10})
	if got := formatProgram(s.Program()); got != "0: v0* v1 a0* a1" {
		t.Errorf("the viewer starts with the Program %s", got)
	}
	for _, f := range readAll(t, s) {
		if f.Track.ID != 0 {
			t.Errorf("the viewer gets %v track %d at %v", f.Track.Kind, f.Track.ID, f.DTS)
		}
	}
}

// TestFirstFramesHaveAllTracks has tracks come late, but before viewers may start: the frames before
// them have the same Program.
func TestFirstFramesHaveAllTracks(t *testing.T) {
	h := NewHub(Options{})
	defer h.Close()
	p := mustPublish(t, h, PublishOptions{})
	v, a := numbered(media.Video, 1, 0), numbered(media.Audio, 0)
	write(t, p, trackFrame(v[0], 0, true), trackFrame(v[0], 40*ms, false), trackFrame(v[1], 80*ms, true),
		trackFrame(a[0], 100*ms, false))
	frames := readAll(t, mustSubscribe(t, h, SubscribeOptions{GOPs: 10, AllTracks: true}))
	if len(frames) != 2 || frames[0].Track != v[1] || frames[0].Program != frames[1].Program {
		t.Errorf("%d frames, the first with the Program %s", len(frames), formatProgram(frames[0].Program))
	}
}

// TestProgramAllocates checks that frames of known tracks make no Program.
func TestProgramAllocates(t *testing.T) {
	h := NewHub(Options{})
	defer h.Close()
	p := mustPublish(t, h, PublishOptions{})
	tracks := append(numbered(media.Video, 0, 1, 2), numbered(media.Audio, 0, 1, 2)...)
	frames := make([]*media.Frame, 6000)
	for i := range frames {
		frames[i] = trackFrame(tracks[i%len(tracks)], time.Duration(i)*ms, true)
	}
	write(t, p, frames[:4000]...) // until the ring has its size
	frames = frames[4000:]
	if n := testing.AllocsPerRun(1000, func() {
		_ = p.Write(frames[0])
		frames = frames[1:]
	}); n >= 0.1 {
		t.Errorf("%v allocations for each frame", n)
	}
}

// TestVideoIsGone continues a stream that had video with an encoder that has none. A viewer that joins
// starts near the live edge, not at the last keyframe, of which the distance grows.
func TestVideoIsGone(t *testing.T) {
	h := NewHub(Options{Hold: time.Minute, GOPs: 1, TrackWait: 1})
	defer h.Close()
	p := mustPublish(t, h, owned(nil, domain.Primary))
	gop(t, p, 0, 2)
	p.End(Lost)
	p = mustPublish(t, h, owned(nil, domain.Primary))
	defer p.End(Clean)
	for i := range 500 {
		f := audio(time.Duration(i) * 20 * ms)
		f.Meta = &media.Meta{HasAudio: true}
		write(t, p, f)
		if i != 10 && i != 499 {
			continue
		}
		s := mustSubscribe(t, h, SubscribeOptions{GOPs: 1})
		frames := readAll(t, s)
		if d := frames[len(frames)-1].DTS - frames[0].DTS; d > time.Second {
			t.Errorf("after %d frames without video, a viewer starts %v back", i+1, d)
		}
		for _, f := range frames {
			if f.Track.Kind == media.Video {
				t.Fatalf("after %d frames without video, a viewer gets video from the middle of a GOP", i+1)
			}
		}
		s.Leave()
	}
	if r := &h.session(movie).ring; r.newest().DTS-r.at(r.tail).DTS > h.options().KeepTime+time.Second {
		t.Errorf("the ring keeps %v", r.newest().DTS-r.at(r.tail).DTS)
	}
}
