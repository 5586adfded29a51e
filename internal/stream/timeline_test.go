package stream

import (
	"encoding/binary"
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
		{"what comes before the first frame is at 0", []in{v(5 * s), a(5*s - 21*ms), a(5*s + 2*ms)}, []time.Duration{0, 0, 2 * ms}, 0},
		{"jitter is clamped within its track", []in{v(0), v(40 * ms), a(20 * ms), v(30 * ms), v(80 * ms)},
			[]time.Duration{0, 40 * ms, 20 * ms, 41 * ms, 80 * ms}, 0},
		{"a gap of 10 s is kept", []in{v(0), v(10 * s)}, []time.Duration{0, 10 * s}, 0},
		{"a longer one is closed", []in{v(0), v(40 * ms), v(10*s + 41*ms), v(10*s + 81*ms)},
			[]time.Duration{0, 40 * ms, 80 * ms, 120 * ms}, 1},
		{"a long step back is closed", []in{v(100 * s), v(100*s + 40*ms), v(0), v(40 * ms)},
			[]time.Duration{0, 40 * ms, 80 * ms, 120 * ms}, 1},
		{"tracks jump one by one and keep their distance", []in{v(0), a(10 * ms), v(40 * ms), a(33 * ms), v(3600 * s), a(56 * ms), a(3600*s + 9*ms), v(3600*s + 40*ms)},
			[]time.Duration{0, 10 * ms, 40 * ms, 33 * ms, 80 * ms, 56 * ms, 89 * ms, 120 * ms}, 1},
		{"also a short way back", []in{v(9 * s), a(9 * s), v(9*s + 40*ms), v(4 * s), a(9*s + 23*ms), a(4*s + 6*ms), v(4*s + 40*ms)},
			[]time.Duration{0, 0, 40 * ms, 80 * ms, 23 * ms, 86 * ms, 120 * ms}, 1},
		{"clocks that have nothing to do with each other", []in{v(0), v(40 * ms), a(3600 * s), a(3600*s + 23*ms), v(80 * ms)},
			[]time.Duration{0, 40 * ms, 40 * ms, 63 * ms, 80 * ms}, 0},
		{"a sparse track is no gap", []in{v(0), a(0), v(9 * s), v(18 * s), a(18 * s)}, []time.Duration{0, 0, 9 * s, 18 * s, 18 * s}, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var line timeline
			for i, in := range tt.in {
				track := h264
				if in.audio {
					track = &media.Track{Kind: media.Audio, Timescale: 48000}
				}
				f := &media.Frame{Track: track, DTS: in.at, PTS: in.at + 80*ms}
				line.place(f)
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
		line.place(f)
		return f
	}
	place(0)
	place(40 * ms)
	line.reconnect()
	for i, want := range []time.Duration{80 * ms, 120 * ms} {
		if f := place(50*time.Hour + time.Duration(i)*40*ms); f.DTS != want || f.Discontinuity != 1 {
			t.Errorf("frame %d after reconnect: DTS %v, discontinuity %d; want %v, 1", i, f.DTS, f.Discontinuity, want)
		}
	}
}

// TestTicksAreSampleExact checks that the rounding of RTMP's milliseconds does not reach players of finer clocks.
func TestTicksAreSampleExact(t *testing.T) {
	var line timeline
	for i := range 100000 { // 39 minutes
		exact := time.Duration(i) * 1024 * time.Second / 44100
		f := &media.Frame{Track: aac, DTS: exact.Round(ms)}
		line.place(f)
		if want := int64(i) * 1024; f.Ticks != want {
			t.Fatalf("frame %d: tick %d, want %d", i, f.Ticks, want)
		}
	}
	lost := &media.Frame{Track: aac, DTS: (100010 * 1024 * time.Second / 44100).Round(ms)}
	line.place(lost)
	if d := lost.Ticks - 100010*1024; d < -44 || d > 44 {
		t.Errorf("after ten lost frames: %d samples off, want under a millisecond", d)
	}
}

// FuzzTimeline holds the model: per track DTS never goes back, never is negative, no step is longer than a kept gap, and what
// needs no correction is copied faithfully.
func FuzzTimeline(f *testing.F) {
	f.Add([]byte{0, 0, 0, 0, 0, 0, 0, 40, 1, 0, 0, 23, 0x80, 255, 255, 255})
	f.Add([]byte{0, 0, 0, 0, 2, 127, 255, 255, 1, 0, 0, 0, 0, 0, 0, 1})
	f.Fuzz(func(t *testing.T, data []byte) {
		var line timeline
		last := map[*media.Track]time.Duration{}
		var end, enc time.Duration
		for ; len(data) >= 4; data = data[4:] {
			track := h264
			if data[0]&1 != 0 {
				track = aac
			}
			if data[0]&0x10 != 0 {
				line.reconnect()
			}
			step := time.Duration(int32(binary.BigEndian.Uint32(data)<<8)>>8) * ms // signed 24 bits: hours in both directions
			if data[0]&0x20 == 0 {
				step %= 100 * ms
			}
			enc += step
			fr := &media.Frame{Track: track, DTS: enc, PTS: enc}
			line.place(fr)
			prev, seen := last[track]
			switch {
			case fr.DTS < 0:
				t.Fatalf("negative DTS %v", fr.DTS)
			case seen && fr.DTS < prev:
				t.Fatalf("DTS %v after %v", fr.DTS, prev)
			case fr.PTS != fr.DTS:
				t.Fatalf("PTS %v, DTS %v", fr.PTS, fr.DTS)
			case seen && fr.DTS > max(prev, end)+maxGap+time.Second:
				t.Fatalf("hole from %v to %v", max(prev, end), fr.DTS)
			}
			last[track], end = fr.DTS, max(end, fr.DTS)
		}
	})
}

// TestTimelineOfData has script data stamped with 0, far ahead and right: audio and video must not notice, and the data be where they are.
func TestTimelineOfData(t *testing.T) {
	script := &media.Track{Kind: media.Data, Codec: media.Script, Timescale: 90000}
	var line timeline
	for i := range 100 {
		at := time.Duration(i) * time.Second
		stamp := []time.Duration{0, at + time.Hour, at}[i%3]
		data := &media.Frame{Track: script, DTS: stamp, PTS: stamp}
		line.place(data)
		v := &media.Frame{Track: h264, DTS: at + 1000*time.Second, PTS: at + 1000*time.Second}
		line.place(v)
		a := &media.Frame{Track: aac, DTS: at + 1000*time.Second + 20*ms, PTS: at + 1000*time.Second + 20*ms}
		line.place(a)
		if v.DTS != at || a.DTS != at+20*ms || v.Discontinuity != 0 || a.Discontinuity != 0 {
			t.Fatalf("%d: video at %v, audio at %v, %d and %d discontinuities; want %v", i, v.DTS, a.DTS, v.Discontinuity, a.Discontinuity, at)
		}
		if (data.DTS - at).Abs() > time.Second {
			t.Errorf("%d: data at %v, want it near %v", i, data.DTS, at)
		}
	}
}
