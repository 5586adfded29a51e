package stream

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"testing"
	"time"

	"livego/internal/media"
)

func TestTimeline(t *testing.T) {
	const s = time.Second
	type in struct {
		audio bool
		at    time.Duration
	}
	v := func(at time.Duration) in { return in{false, at} }
	a := func(at time.Duration) in { return in{true, at} }
	for _, tt := range []struct {
		name string
		in   []in
		want []time.Duration
		disc uint32
	}{
		{"starts at 0", []in{v(5 * s), a(5*s + 10*ms), v(5*s + 40*ms)}, []time.Duration{0, 10 * ms, 40 * ms}, 0},
		{"times before the first frame become 0", []in{v(5 * s), a(5*s - 21*ms), a(5*s + 2*ms)},
			[]time.Duration{0, 0, 2 * ms}, 0},
		{"jitter is clamped within its track", []in{v(0), v(40 * ms), a(20 * ms), v(30 * ms), v(80 * ms)},
			[]time.Duration{0, 40 * ms, 20 * ms, 41 * ms, 80 * ms}, 0},
		{"frames after jitter are clamped until they catch up",
			[]in{v(0), v(40 * ms), v(38 * ms), v(41 * ms), v(42 * ms), v(80 * ms)},
			[]time.Duration{0, 40 * ms, 41 * ms, 42 * ms, 43 * ms, 80 * ms}, 0},
		{"a gap of 10 s stays", []in{v(0), v(10 * s)}, []time.Duration{0, 10 * s}, 0},
		{"a longer gap is closed", []in{v(0), v(40 * ms), v(10*s + 41*ms), v(10*s + 81*ms)},
			[]time.Duration{0, 40 * ms, 80 * ms, 120 * ms}, 1},
		{"a long step back is closed", []in{v(100 * s), v(100*s + 40*ms), v(0), v(40 * ms)},
			[]time.Duration{0, 40 * ms, 80 * ms, 120 * ms}, 1},
		{"tracks jump one by one and keep their distance",
			[]in{v(0), a(10 * ms), v(40 * ms), a(33 * ms), v(3600 * s), a(56 * ms), a(3600*s + 9*ms), v(3600*s + 40*ms)},
			[]time.Duration{0, 10 * ms, 40 * ms, 33 * ms, 80 * ms, 56 * ms, 89 * ms, 120 * ms}, 1},
		{"tracks jump back by a few seconds one by one",
			[]in{v(9 * s), a(9 * s), v(9*s + 40*ms), v(4 * s), a(9*s + 23*ms), a(4*s + 6*ms),
				v(4*s + 40*ms)},
			[]time.Duration{0, 0, 40 * ms, 80 * ms, 23 * ms, 86 * ms, 120 * ms}, 1},
		{"audio and video clocks are unrelated", []in{v(0), v(40 * ms), a(3600 * s), a(3600*s + 23*ms), v(80 * ms)},
			[]time.Duration{0, 40 * ms, 40 * ms, 63 * ms, 80 * ms}, 0},
		{"a sparse track has no gap", []in{v(0), a(0), v(9 * s), v(18 * s), a(18 * s)},
			[]time.Duration{0, 0, 9 * s, 18 * s, 18 * s}, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var line timeline
			for i, in := range tt.in {
				track := h264
				if in.audio {
					track = &media.Track{Kind: media.Audio, Timescale: 48000}
				}
				f := &media.Frame{Track: track, DTS: in.at, PTS: in.at + 80*ms}
				line.setTimes(f)
				if f.DTS != tt.want[i] {
					t.Errorf("frame %d: DTS %v, want %v", i, f.DTS, tt.want[i])
				}
				if f.PTS-f.DTS != 80*ms {
					t.Errorf("frame %d: composition offset %v, want it kept", i, f.PTS-f.DTS)
				}
			}
			if line.disc != tt.disc {
				t.Errorf("%d discontinuities, want %d", line.disc, tt.disc)
			}
		})
	}
}

func TestTimelineReconnect(t *testing.T) {
	var line timeline
	place := func(at time.Duration) *media.Frame {
		f := video(at, false)
		line.setTimes(f)
		return f
	}
	place(0)
	place(40 * ms)
	line.reconnect()
	for i, want := range []time.Duration{80 * ms, 120 * ms} {
		if f := place(50*time.Hour + time.Duration(i)*40*ms); f.DTS != want || line.disc != 1 {
			t.Errorf("frame %d after reconnect: DTS %v, discontinuity %d; want %v, 1", i, f.DTS, line.disc, want)
		}
	}
}

// TestTicksAreSampleExact checks that players with finer clocks do not get the rounding of RTMP's
// milliseconds.
func TestTicksAreSampleExact(t *testing.T) {
	var line timeline
	for i := range 100000 { // 39 minutes
		exact := time.Duration(i) * 1024 * time.Second / 44100
		f := &media.Frame{Track: aac, DTS: exact.Round(ms)}
		line.setTimes(f)
		if want := int64(i) * 1024; f.Ticks != want {
			t.Fatalf("frame %d: tick %d, want %d", i, f.Ticks, want)
		}
	}
	clamped := line // a small step back makes ticks neither go back nor stand still
	clamped.clocks = map[trackKey]*clock{}
	for k, c := range line.clocks {
		copied := *c
		clamped.clocks[k] = &copied
	}
	tick := clamped.clocks[trackKey{media.Audio, 0}].lastTick
	for i := range 100 {
		f := &media.Frame{Track: aac, DTS: ((99999*1024 - 20000 + time.Duration(i)*100) * time.Second / 44100).Round(ms)}
		if clamped.setTimes(f); f.Ticks <= tick {
			t.Fatalf("clamped frame %d: tick %d after %d", i, f.Ticks, tick)
		}
		tick = f.Ticks
	}
	lost := &media.Frame{Track: aac, DTS: (100010 * 1024 * time.Second / 44100).Round(ms)}
	line.setTimes(lost)
	if d := lost.Ticks - 100010*1024; d < -44 || d > 44 {
		t.Errorf("after ten lost frames: %d samples off, want under a millisecond", d)
	}
}

// FuzzTimeline checks the model: the DTS of a track never goes back and is never negative, no step
// is longer than an allowed gap, and times are kept, gaps included, until something needs
// correction.
func FuzzTimeline(f *testing.F) {
	f.Add([]byte{0, 0, 0, 0, 0, 0, 0, 40, 1, 0, 0, 23, 0x80, 255, 255, 255})
	f.Add([]byte{0, 0, 0, 0, 2, 127, 255, 255, 1, 0, 0, 0, 0, 0, 0, 1})
	f.Add(bytes.Repeat([]byte{0x40, 0, 0, 0}, 200))                  // a clock that stands still
	f.Add(bytes.Repeat([]byte{0x60, 1, 0, 0, 0x60, 255, 0, 0}, 100)) // a clock that jumps
	f.Fuzz(func(t *testing.T, data []byte) {
		var line timeline
		last := map[*media.Track]time.Duration{}
		var end, enc time.Duration
		now := time.Unix(1_000_000, 0)
		faithful := true
		for first := true; len(data) >= 4; data, first = data[4:], false {
			track := h264
			if data[0]&1 != 0 {
				track = aac
			}
			if data[0]&0x10 != 0 {
				line.reconnect()
				faithful = faithful && first
			}
			if data[0]&0x40 != 0 {
				now = now.Add(40 * ms)
			}
			step := time.Duration(int32(binary.BigEndian.Uint32(data)<<8)>>8) * ms // signed 24 bits: hours forward and back
			if data[0]&0x20 == 0 {
				step %= 100 * ms
			}
			if first {
				step = 0
			}
			enc += step
			fr := &media.Frame{Track: track, DTS: enc, PTS: enc, Arrived: now}
			line.setTimes(fr)
			prev, seen := last[track]
			faithful = faithful && enc >= end && enc <= end+maxGap && !line.unreliable()
			switch {
			case fr.DTS < 0:
				t.Fatalf("negative DTS %v", fr.DTS)
			case seen && fr.DTS < prev:
				t.Fatalf("DTS %v after %v", fr.DTS, prev)
			case faithful && fr.DTS != enc:
				t.Fatalf("DTS %v for a timestamp of %v that needs no correction", fr.DTS, enc)
			case fr.PTS != fr.DTS:
				t.Fatalf("PTS %v, DTS %v", fr.PTS, fr.DTS)
			case seen && fr.DTS > max(prev, end)+maxGap+time.Second:
				t.Fatalf("gap from %v to %v", max(prev, end), fr.DTS)
			}
			last[track], end = fr.DTS, max(end, fr.DTS)
		}
	})
}

// TestTimelineOfData has script data with time 0, far ahead, and correct: audio and video are not
// affected, and the data gets their time.
func TestTimelineOfData(t *testing.T) {
	script := &media.Track{Kind: media.Data, Codec: media.ScriptData, Timescale: 90000}
	var line timeline
	for i := range 100 {
		at := time.Duration(i) * time.Second
		stamp := []time.Duration{0, at + time.Hour, at}[i%3]
		data := &media.Frame{Track: script, DTS: stamp, PTS: stamp}
		line.setTimes(data)
		v := &media.Frame{Track: h264, DTS: at + 1000*time.Second, PTS: at + 1000*time.Second}
		line.setTimes(v)
		a := &media.Frame{Track: aac, DTS: at + 1000*time.Second + 20*ms, PTS: at + 1000*time.Second + 20*ms}
		line.setTimes(a)
		if v.DTS != at || a.DTS != at+20*ms || line.disc != 0 {
			t.Fatalf("%d: video at %v, audio at %v, %d discontinuities; want %v", i, v.DTS, a.DTS, line.disc, at)
		}
		if (data.DTS - at).Abs() > time.Second {
			t.Errorf("%d: data at %v, want it near %v", i, data.DTS, at)
		}
	}
}

// TestUnreliableClocks has encoders whose timestamps are useless: their frames are timestamped by
// arrival, and the other track stays as it is. An encoder that sends faster than real time, or over
// a network that stalls, is not affected.
func TestUnreliableClocks(t *testing.T) {
	const s = time.Second
	rnd := rand.New(rand.NewPCG(1, 2))
	right := func(at time.Duration) time.Duration { return at }
	setBack := func(at time.Duration) time.Duration { return at + time.Hour - at.Truncate(30*s)/30*100 }
	for _, tt := range []struct {
		name         string
		video, audio func(at time.Duration) time.Duration
		arrives      func(at time.Duration) time.Duration
		unreliable   bool
	}{
		{"right", right, right, right, false},
		{"all zero", func(time.Duration) time.Duration { return 0 }, func(time.Duration) time.Duration { return 0 }, right,
			true},
		{"all equal", func(time.Duration) time.Duration { return 7 * time.Hour },
			func(time.Duration) time.Duration { return 7 * time.Hour }, right, true},
		{"video stands", func(time.Duration) time.Duration { return 0 }, right, right, true},
		{"audio stands", right, func(time.Duration) time.Duration { return 0 }, right, true},
		{"one millisecond a frame", func(at time.Duration) time.Duration { return at / 40 }, right, right, true},
		{"random", func(time.Duration) time.Duration { return time.Duration(rnd.IntN(1<<32)) * ms },
			func(time.Duration) time.Duration { return time.Duration(rnd.IntN(1<<32)) * ms }, right, true},
		{"random within half a second", func(time.Duration) time.Duration { return time.Duration(rnd.IntN(500)) * ms }, right,
			right, true},
		{"random within ten seconds", func(time.Duration) time.Duration { return time.Duration(rnd.IntN(10_000)) * ms },
			right, right, true},
		{"set once", func(at time.Duration) time.Duration { return at + at.Truncate(30*s)*1000 },
			func(at time.Duration) time.Duration { return at + at.Truncate(30*s)*1000 }, right, false},
		{"set back once", setBack, setBack, right, false},
		{"half as fast", func(at time.Duration) time.Duration { return at / 2 },
			func(at time.Duration) time.Duration { return at / 2 }, right, false},
		{"pushed at once", right, right, func(time.Duration) time.Duration { return 0 }, false},
		{"ten times as fast", right, right, func(at time.Duration) time.Duration { return at / 10 }, false},
		{"over a network that stalls", right, right, func(at time.Duration) time.Duration { return at.Truncate(9*s) + 9*s },
			false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var line timeline
			began := time.Unix(1_000_000, 0)
			last := map[*media.Track]time.Duration{}
			var skew time.Duration
			for i := range 60 * 25 {
				at := time.Duration(i) * 40 * ms
				for track, stamp := range map[*media.Track]time.Duration{h264: tt.video(at), aac: tt.audio(at)} {
					f := &media.Frame{Track: track, DTS: stamp, PTS: stamp, Arrived: began.Add(tt.arrives(at))}
					line.setTimes(f)
					if f.DTS < last[track] {
						t.Fatalf("frame %d: DTS %v after %v", i, f.DTS, last[track])
					}
					last[track] = f.DTS
				}
				if i > 15*25 {
					skew = max(skew, (last[h264] - last[aac]).Abs())
				}
			}
			if got := line.unreliable(); got != tt.unreliable {
				t.Fatalf("timestamped by arrival: %v, want %v", got, tt.unreliable)
			}
			// some gaps are kept until the clock is unreliable
			if end := max(last[h264], last[aac]); tt.unreliable && (end < 45*s || end > 80*s) {
				t.Errorf("a minute came out as %v", end)
			}
			if tt.unreliable && skew > 11*s {
				t.Errorf("video and audio are up to %v apart", skew)
			}
		})
	}
}
