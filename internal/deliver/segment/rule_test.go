package segment

import (
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"livego/internal/media"
)

// TestRuleAlone cuts the segmentation cases by a rule without segments: the durations are those of
// TestSegmentDurations.
func TestRuleAlone(t *testing.T) {
	for _, tt := range segmentationCases {
		t.Run(tt.name, func(t *testing.T) {
			s, programs := New(7, Options{}), programmer{trackWait: 2 * time.Second}
			r, b := s.rule, new(buffer)
			var segs []*segment // only what formatDurations reads
			start := func(end boundary, f *media.Frame) {
				switch {
				case end.index > 0:
					r.endSegment(end.length)
					segs[len(segs)-1].duration, r.period.fixed = end.length, true
				case r.open:
					segs = segs[:len(segs)-1]
				}
				r.startAt(f, end.at, end.discontinuous)
				segs, b.frames, b.points = append(segs, &segment{discontinuity: end.discontinuous}), nil, nil
			}
			add := func(f *media.Frame) {
				r.add(f)
				b.frames = append(b.frames, f)
			}
			for _, f := range tt.frames {
				programs.set(f)
				r.observe(f)
				for again := true; again; {
					again = false
					switch action, end := r.decide(b, f, false); action {
					case startSegment:
						start(end, f)
						add(f)
					case extendSegment:
						add(f)
					case holdFrame:
						b.held = append(b.held, f)
					case dropFrame:
					case startWithHeld:
						start(end, b.held[0])
						for _, f := range b.held {
							add(f)
						}
						b.held, again = nil, true
					case dropHeld:
						b.held, again = nil, true
					case deferHeld:
						r.nextAudio, b.held, again = b.held[0].Track, nil, true
					case divideSegment:
						rest := b.frames[end.index:]
						b.frames = b.frames[:end.index]
						start(end, rest[0])
						for _, f := range rest {
							add(f)
						}
						again = true
					default:
						t.Fatalf("action %d without parts", action)
					}
				}
			}
			segs[len(segs)-1].duration = r.openDuration()
			if got := formatDurations(segs); got != tt.want {
				t.Errorf("segments %s, want %s", got, tt.want)
			}
		})
	}
}

// TestDecide checks what becomes of a frame that follows others.
func TestDecide(t *testing.T) {
	key := func(at time.Duration) *media.Frame { return frame(h264, at, 40*ms, true) }
	picture := func(at time.Duration) *media.Frame { return frame(h264, at, 40*ms, false) }
	sound := func(at time.Duration) *media.Frame { return frame(aac, at, 20*ms, true) }
	with := func(f *media.Frame, change func(*media.Frame)) *media.Frame { change(f); return f }
	both := func(to time.Duration) []*media.Frame {
		return interleave(video(0, to, 40*ms, 2*time.Second), audio(0, to))
	}
	announced := func(f *media.Frame) { f.Program = f.Program.WithAwaited(media.KindsOf(media.Audio)) }
	parts := Options{Part: 200 * ms}
	for _, tt := range []struct {
		name   string
		opt    Options
		frames []*media.Frame
		next   *media.Frame
		want   action
		end    boundary
	}{
		{"first frame", parts, nil, key(80 * ms), startSegment, boundary{at: 80 * ms}},
		{"after a pause", parts, append(both(5*time.Second), nil), key(5 * time.Second), startSegment,
			boundary{at: 5 * time.Second, discontinuous: true}},
		{"picture", parts, both(2400 * ms), picture(2400 * ms), extendSegment, boundary{}},
		{"audio", parts, both(2400 * ms), sound(2400 * ms), extendSegment, boundary{}},
		{"keyframe in a new time slot", parts, both(4 * time.Second), key(4 * time.Second), startSegment,
			boundary{150, 2 * time.Second, 4 * time.Second, false, false}},
		{"second keyframe in a time slot", parts, both(3 * time.Second), key(3 * time.Second), extendSegment, boundary{}},
		{"keyframe that ends the first segment", parts, video(0, 400*ms, 40*ms, time.Hour), key(400 * ms), startSegment,
			boundary{10, 400 * ms, 400 * ms, false, false}},
		{"keyframe too soon for the first segment", parts, video(0, 360*ms, 40*ms, time.Hour), key(360 * ms), extendSegment,
			boundary{}},
		{"maximum duration", parts, slices.Concat(video(0, 4*time.Second, 40*ms, 2*time.Second),
			video(4*time.Second, 6480*ms, 40*ms, time.Hour)), picture(6480 * ms), divideSegment,
			boundary{60, 2400 * ms, 6400 * ms, false, false}},
		{"maximum duration without parts", Options{}, video(0, 6480*ms, 40*ms, time.Hour), picture(6480 * ms), startSegment,
			boundary{162, 6480 * ms, 6480 * ms, false, false}},
		{"maximum duration of the first segment", parts, video(0, 6480*ms, 40*ms, time.Hour), picture(6480 * ms),
			measureParts, boundary{}},
		{"size", Options{Bytes: 8 << 20}, modify(video(0, 80*ms, 40*ms, time.Hour), enlarge), picture(80 * ms), startSegment,
			boundary{2, 80 * ms, 80 * ms, false, false}},
		{"end of the first segment of audio", parts, audio(0, time.Second), sound(time.Second), measureParts, boundary{}},
		{"announced audio is missing", parts, modify(video(0, 1800*ms, 40*ms, time.Second), announced),
			with(key(1800*ms), announced), extendSegment, boundary{}},
		{"announced audio does not come", parts, modify(video(0, 2*time.Second, 40*ms, time.Second), announced),
			with(key(2*time.Second), announced), startSegment, boundary{50, 2 * time.Second, 2 * time.Second, false, false}},
		{"audio starts in the middle of a GOP", parts, video(0, 5*time.Second, 40*ms, 2*time.Second), sound(5 * time.Second),
			holdFrame, boundary{}},
		{"audio starts after a keyframe", parts, video(0, 4080*ms, 40*ms, 2*time.Second), sound(4080 * ms), divideSegment,
			boundary{0, 0, 4 * time.Second, true, false}},
		{"then a picture", parts, append(video(0, 5*time.Second, 40*ms, 2*time.Second), sound(5*time.Second)),
			picture(5 * time.Second), deferHeld, boundary{}},
		{"then a keyframe", parts, append(video(0, 5*time.Second, 40*ms, 2*time.Second), sound(5*time.Second)),
			key(5 * time.Second), startWithHeld, boundary{25, time.Second, 5 * time.Second, true, true}},
		{"then a picture and audio", parts, append(video(0, 5*time.Second, 40*ms, 2*time.Second), sound(5*time.Second),
			picture(5*time.Second)), sound(5020 * ms), dropFrame, boundary{}},
		{"other audio, then the old", parts, append(both(5*time.Second), with(sound(5*time.Second), changeAudio)),
			sound(5020 * ms), dropHeld, boundary{}},
		{"video starts late", parts, audio(0, 5*time.Second), key(5 * time.Second), startSegment,
			boundary{50, time.Second, 5 * time.Second, true, true}},
		{"new parameters", parts, both(3 * time.Second), with(key(3*time.Second), changeVideo), startSegment,
			boundary{75, time.Second, 3 * time.Second, true, true}},
		{"clock set in the middle of a GOP", parts, both(3 * time.Second), with(picture(3*time.Second), markDiscontinuous),
			extendSegment, boundary{}},
		{"clock set at a keyframe", parts, both(3 * time.Second), with(key(3*time.Second), markDiscontinuous), startSegment,
			boundary{75, time.Second, 3 * time.Second, true, true}},
		{"gap", parts, both(3 * time.Second), key(12 * time.Second), startSegment,
			boundary{75, time.Second, 12 * time.Second, true, true}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := New(7, tt.opt)
			for _, f := range tt.frames {
				if f == nil {
					s.Pause()
				} else {
					s.Write(f)
				}
			}
			r := s.rule // a copy
			r.observe(tt.next)
			before := r.state
			got, end := r.decide(&s.buffer, tt.next, false)
			if got != tt.want || end != tt.end {
				t.Errorf("action %d, boundary %v, want %d, %v", got, end, tt.want, tt.end)
			}
			if r.state != before {
				t.Error("the decision has changed the state")
			}
		})
	}
}

// TestPartEnd checks where a part of 200 ms ends, by the points and frames so far, in ms.
func TestPartEnd(t *testing.T) {
	for _, tt := range []struct {
		name   string
		frames []int // DTS
		points []int // indexes of frames
		at     int   // of the point after the frames
		want   int   // index of the frame at the end; -1: the part continues
	}{
		{"too short", []int{0, 40, 80, 120}, []int{0, 1, 2, 3}, 160, -1},
		{"nearest frame", []int{0, 40, 80, 120, 160}, []int{0, 1, 2, 3, 4}, 200, 5},
		{"frame that is a little early", []int{0, 40, 80, 120, 160}, []int{0, 1, 2, 3, 4}, 185, 5},
		{"last frame too long", []int{0, 40, 80, 120, 180}, []int{0, 1, 2, 3, 4}, 240, 4},
		{"single frame", []int{0}, []int{0}, 500, 1},
		{"second frame too long", []int{0, 40}, []int{0, 1}, 500, 1},
		{"audio where a picture is too long", []int{0, 100, 175, 190}, []int{0}, 400, 3},
		{"no audio long enough", []int{0, 100, 150}, []int{0}, 400, 3},
		{"no frame", nil, nil, 500, -1},
	} {
		r := rule{state: state{partTarget: 200 * ms, frameDuration: 40 * ms}}
		b := new(buffer)
		for _, at := range tt.frames {
			b.frames = append(b.frames, frame(h264, time.Duration(at)*ms, 40*ms, false))
		}
		for _, i := range tt.points {
			b.points = append(b.points, cutPoint{i, b.frames[i].DTS})
		}
		end, ok := r.partEnd(b, cutPoint{len(b.frames), time.Duration(tt.at) * ms})
		if ok != (tt.want >= 0) || ok && end.index != tt.want {
			t.Errorf("%s: the part ends at %v, %v, want frame %d", tt.name, end, ok, tt.want)
		}
	}
}

// TestDecisionDoesNotAllocate decides about frames of every kind.
func TestDecisionDoesNotAllocate(t *testing.T) {
	s := New(7, Options{Part: 200 * ms})
	frames := interleave(video(0, 4*time.Second, 40*ms, 2*time.Second), audio(0, 4*time.Second))
	for _, f := range frames {
		s.Write(f)
	}
	next := []*media.Frame{frame(h264, 4*time.Second, 40*ms, true), frame(h264, 4*time.Second, 40*ms, false),
		frame(aac, 4*time.Second, 20*ms, true), frame(aacb, 4*time.Second, 20*ms, true)}
	if n := testing.AllocsPerRun(100, func() {
		for _, f := range next {
			r := s.rule
			r.observe(f)
			r.decide(&s.buffer, f, false)
			r.partEnd(&s.buffer, cutPoint{len(s.frames), f.DTS})
		}
	}); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

// TestStateIsValue checks that a copy of a state shares nothing that changes with the original:
// another server can continue from it.
func TestStateIsValue(t *testing.T) {
	var check func(path []string, typ reflect.Type)
	check = func(path []string, typ reflect.Type) {
		switch typ {
		case reflect.TypeFor[*media.Track](), reflect.TypeFor[time.Time](): // immutable
			return
		}
		switch typ.Kind() {
		case reflect.Struct:
			for i := range typ.NumField() {
				f := typ.Field(i)
				check(append(slices.Clip(path), f.Name), f.Type)
			}
		case reflect.Bool, reflect.Int, reflect.Int64, reflect.Uint32, reflect.Uint64:
		default:
			t.Errorf("%s is a %s", strings.Join(path, "."), typ)
		}
	}
	check(nil, reflect.TypeFor[state]())
}
