package segment

import (
	"cmp"
	"math/rand/v2"
	"slices"
	"time"

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
			p.before = p.program.Kinds()
		}
		p.program, p.from = new(media.Program).WithDiscontinuity(disc), f.DTS
	}
	q := p.program.With(f.Track)
	if id, ok := q.DefaultID(f.Track.Kind); !ok || f.Track.ID < id {
		q = q.WithDefault(f.Track)
	}
	var awaited media.Kinds
	if f.DTS-p.from < p.trackWait {
		awaited = cmp.Or(f.Meta.Kinds(), p.before) &^ q.Kinds()
	}
	p.program = q.WithAwaited(awaited)
	f.Program = p.program
}

func markDiscontinuous(f *media.Frame) { setDiscontinuity(f, 1) }

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

// setTypicalSize gives a frame the payload size it would have in a stream of 2.5 Mbit/s.
func setTypicalSize(f *media.Frame) {
	n := 12_000
	if f.Track == aac {
		n = 370
	}
	f.Payload = append([]byte{0, 0, byte((n - 4) >> 8), byte(n - 4), 0x41}, make([]byte, n-5)...)
}

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
