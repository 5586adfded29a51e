package sample

import (
	"cmp"
	"encoding/binary"
	"slices"
	"testing"
	"time"

	"livego/e2e/mediacompare"
)

// A TimedTag is an FLV tag and when an encoder sends it, since its first tag.
type TimedTag struct {
	mediacompare.FLVTag
	At time.Duration
}

// A LiveStream is a stream to examine: clips, one after the other, perhaps with a fault that ffmpeg
// cannot make.
type LiveStream struct {
	Name    string
	Finding string // code of the one finding that it must get; "" for a healthy stream
	Text    string // a part of its sentence
	Once    bool   // it does not continue with its start

	clips []Sample
	edit  func([]TimedTag) []TimedTag
}

// healthClip returns a recipe for a clip from a video and an audio source, either of which may be "".
func healthClip(name, video, audio string, more ...string) Sample {
	s := Sample{Name: "health-" + name, Video: video != "", Audio: audio != ""}
	for _, source := range []string{video, audio} {
		if source != "" {
			s.args = append(s.args, "-f", "lavfi", "-i", source)
		}
	}
	s.args = append(s.args, args("-c:v libx264 -preset ultrafast -pix_fmt yuv420p -c:a aac -b:a 96k -t 30")...)
	s.args = append(s.args, args(more...)...)
	return s
}

const (
	healthVideo = "testsrc2=size=320x180:rate=25"
	healthAudio = audioSource + ":sample_rate=48000"
	twoSeconds  = "-g 50 -keyint_min 50 -sc_threshold 0"
	// motion for twelve seconds, then the last picture
	freezing = "testsrc2=size=320x180:rate=25,trim=end=15,tpad=stop_mode=clone:stop_duration=75"
	// every eight seconds the picture is hard to encode for two
	restless = "testsrc2=size=640x360:rate=25,noise=alls=8:allf=t,noise=alls=60:allf=t:enable='lt(mod(t,8),2)'"
	// a camera, then a slide, then the camera again
	cameraAndSlide = "testsrc2=size=640x360:rate=25,noise=alls=10:allf=t,trim=end=20[a];" +
		"smptehdbars=size=640x360:rate=25,trim=end=40[b];" +
		"testsrc2=size=640x360:rate=25,noise=alls=10:allf=t,trim=end=20[c];[a][b][c]concat=n=3"
)

// FaultyStreams returns streams with one fault each.
func FaultyStreams() []LiveStream {
	plain := healthClip("plain", healthVideo, healthAudio, twoSeconds)
	one := func(name, finding, text string, clip Sample) LiveStream {
		return LiveStream{Name: name, Finding: finding, Text: text, clips: []Sample{clip}}
	}
	edited := func(name, finding, text string, edit func([]TimedTag) []TimedTag) LiveStream {
		return LiveStream{Name: name, Finding: finding, Text: text, clips: []Sample{plain}, edit: edit}
	}
	once := func(s LiveStream) LiveStream {
		s.Once = true
		return s
	}
	two := func(name, finding, text string, a, b Sample) LiveStream {
		return LiveStream{Name: name, Finding: finding, Text: text, clips: []Sample{a, b}}
	}
	return []LiveStream{
		one("gop", "keyframe_interval", "is 10.0 s", healthClip("gop", healthVideo, healthAudio, "-g 250 -sc_threshold 0")),
		one("vfr", "variable_frame_rate", "Frame rate varies: frames are 40 to",
			healthClip("vfr", "testsrc2=size=320x180:rate=25,select=gt(random(0)\\,0.3)", healthAudio,
				"-vsync vfr -force_key_frames expr:gte(t,n_forced*2)")),
		one("b-frames", "b_frames", "up to 7 B-frames",
			healthClip("b-frames", healthVideo, healthAudio, "-preset veryfast -bf 7 -b_strategy 0", twoSeconds)),
		one("silent", "silent_audio", "digital silence", healthClip("silent", healthVideo, "anullsrc=r=48000:cl=stereo",
			twoSeconds)),
		once(one("frozen", "frozen_picture", "froze", healthClip("frozen", freezing, healthAudio, twoSeconds, "-t 90"))),
		one("peaks", "bitrate_peaks", "peaks at", healthClip("peaks", restless, healthAudio, twoSeconds, "-crf 30")),
		one("yuv444", "pixel_format", "4:4:4",
			healthClip("yuv444", healthVideo, healthAudio, twoSeconds, "-pix_fmt yuv444p")),
		one("96k", "sample_rate", "96000 Hz", healthClip("96k", healthVideo, healthAudio, twoSeconds, "-ar 96000")),
		two("rate-change", "audio_change", "from 48000 to 44100 Hz", plain,
			healthClip("44k", healthVideo, healthAudio, twoSeconds, "-ar 44100")),
		two("size-change", "video_change", "from 320x180 to 256x144", plain,
			healthClip("small", "testsrc2=size=256x144:rate=25", healthAudio, twoSeconds)),
		one("audio-drift", "audio_drift", "1.0 % faster",
			healthClip("audio-drift", healthVideo, healthAudio, twoSeconds, "-bsf:a setts=ts=TS*1.01", "-t 60")),
		once(one("audio-ends", "no_audio", "no audio for",
			healthClip("audio-ends", healthVideo, "aevalsrc=sin(2*PI*t*(200+150*t)):sample_rate=48000:duration=10", twoSeconds,
				"-t 60"))),
		once(one("video-ends", "no_video", "no video for",
			healthClip("video-ends", "testsrc2=size=320x180:rate=25:duration=10", healthAudio, twoSeconds, "-t 60"))),
		edited("no-sps", "no_configuration", "SPS and PPS", dropVideoHeader),
		edited("no-audio", "no_audio", "no audio for", dropAudio),
		edited("jump", "timestamp_jumps", "+30.0 s", jump(30*time.Second)),
		edited("jump-back", "timestamp_jumps", "-5.0 s", jump(-5*time.Second)),
		edited("stalled-clock", "timestamps_unreliable", "stand still", stallClock),
		edited("skew", "audio_skew", "later than its video", delayAudio),
		edited("gaps", "audio_gaps", "gaps", dropSomeAudio),
		edited("damaged", "damaged_frames", "were damaged", damage),
		edited("unknown-codec", "unusable_track", "No viewer gets the audio", unknownAudio),
		edited("slow", "too_slow", "Only 0.80 s", pace(0.8)),
		edited("fast", "too_fast", "2.0 times as fast", pace(2)),
		edited("clock-drift", "clock_drift", "1.0 % slow", pace(0.99)),
		edited("pauses", "unstable_uplink", "pauses", pauses),
	}
}

// HealthyStreams returns streams without a fault, as OBS, ffmpeg, phones and cameras send them.
func HealthyStreams() []LiveStream {
	one := func(name string, clip Sample) LiveStream { return LiveStream{Name: name, clips: []Sample{clip}} }
	edited := func(name string, edit func([]TimedTag) []TimedTag) LiveStream {
		s := one(name, healthClip("plain", healthVideo, healthAudio, twoSeconds))
		s.edit = edit
		return s
	}
	x265 := healthClip("x265", "testsrc2=size=320x192:rate=30", healthAudio, "-c:v libx265",
		"-x265-params log-level=none:keyint=60:pools=1:bframes=4:b-adapt=0")
	x265.newerFFmpeg = true
	jittery := one("phone", healthClip("phone", "testsrc2=size=180x320:rate=30", healthAudio, "-g 60 -sc_threshold 0"))
	jittery.edit = jitter
	return []LiveStream{
		one("obs-x264", healthClip("obs-x264", "testsrc2=size=640x360:rate=30", healthAudio,
			"-preset veryfast -b:v 1200k -maxrate 1200k -bufsize 1200k -x264-params keyint=60:filler=1 -b:a 160k")),
		one("obs-hardware", healthClip("obs-hardware", "testsrc2=size=320x180:rate=60", healthAudio,
			"-preset veryfast -bf 2 -b_strategy 0 -g 120 -sc_threshold 0 -b:v 800k -maxrate 800k -bufsize 1600k")),
		one("zero-latency", healthClip("zero-latency", healthVideo, audioSource+":sample_rate=44100",
			"-tune zerolatency -g 25")),
		one("ntsc", healthClip("ntsc", "testsrc2=size=320x180:rate=30000/1001", healthAudio, "-preset veryfast -g 60")),
		one("film", healthClip("film", "testsrc2=size=320x180:rate=24000/1001", healthAudio, "-preset veryfast -g 96")),
		one("slides", healthClip("slides", "testsrc=size=640x360:rate=1/12,fps=30", healthAudio, "-preset veryfast -g 60",
			"-t 60")),
		one("still", healthClip("still", "smptehdbars=size=640x360:rate=30", healthAudio, "-preset veryfast -g 60")),
		one("camera-and-slide", healthClip("camera-and-slide", cameraAndSlide, healthAudio,
			"-preset veryfast -g 50 -b:v 1000k -maxrate 1000k -bufsize 1000k -t 80")),
		one("surveillance", healthClip("surveillance", "testsrc2=size=320x180:rate=5", "", "-g 10 -sc_threshold 0")),
		one("radio", healthClip("radio", "", audioSource+":sample_rate=44100")),
		one("mp3", healthClip("mp3", healthVideo, audioSource+":sample_rate=44100", twoSeconds,
			"-c:a libmp3lame -b:a 96k")),
		one("pauses-in-speech", healthClip("pauses-in-speech", healthVideo,
			"aevalsrc=if(lt(mod(t\\,20)\\,12)\\,sin(2*PI*t*(200+50*t))):sample_rate=48000", twoSeconds, "-t 60")),
		one("x265", x265),
		edited("relay", burst),
		edited("mobile", stall),
		one("intra-only", healthClip("intra-only", healthVideo, healthAudio, "-g 1")),
		jittery,
	}
}

// Tags returns the tags of s, which repeats its clips so many times.
func (s LiveStream) Tags(t testing.TB, times int) (tags []TimedTag) {
	t.Helper()
	if s.Once {
		times = 1
	}
	for range times {
		for _, c := range s.clips {
			tags = appendTags(tags, c.Read(t).Tags)
		}
	}
	if s.edit != nil {
		tags = s.edit(tags)
	}
	return tags
}

// appendTags appends the tags of a clip, which follows those in to.
func appendTags(to []TimedTag, tags []mediacompare.FLVTag) []TimedTag {
	const frame = 40
	var offset uint32
	if len(to) > 0 {
		offset = to[len(to)-1].Time + frame
	}
	start := len(to)
	for _, tag := range tags {
		tag.Time += offset
		to = append(to, TimedTag{tag, time.Duration(tag.Time) * time.Millisecond})
	}
	// ffmpeg writes what an encoder holds back at the end of the file.
	slices.SortStableFunc(to[start:], func(a, b TimedTag) int { return cmp.Compare(a.Time, b.Time) })
	return to
}

func dropVideoHeader(tags []TimedTag) []TimedTag {
	return slices.DeleteFunc(tags, func(t TimedTag) bool { return t.Type == mediacompare.TagVideo && t.IsHeader() })
}

func dropAudio(tags []TimedTag) []TimedTag {
	return slices.DeleteFunc(tags, func(t TimedTag) bool { return t.Type == mediacompare.TagAudio })
}

// jump returns an edit by which timestamps jump by d after 20 seconds.
func jump(d time.Duration) func([]TimedTag) []TimedTag {
	return func(tags []TimedTag) []TimedTag {
		for i := range tags {
			if tags[i].At >= 20*time.Second {
				tags[i].Time = uint32(int64(tags[i].Time) + d.Milliseconds())
			}
		}
		return tags
	}
}

func stallClock(tags []TimedTag) []TimedTag {
	for i := range tags {
		tags[i].Time = 0
	}
	return tags
}

// delayAudio sends audio 1.5 s after the video of its time.
func delayAudio(tags []TimedTag) []TimedTag {
	for i := range tags {
		if tags[i].Type == mediacompare.TagAudio && !tags[i].IsHeader() {
			tags[i].At += 1500 * time.Millisecond
		}
	}
	slices.SortStableFunc(tags, func(a, b TimedTag) int { return int(a.At - b.At) })
	return tags
}

func dropSomeAudio(tags []TimedTag) []TimedTag {
	return slices.DeleteFunc(tags, func(t TimedTag) bool {
		return t.Type == mediacompare.TagAudio && !t.IsHeader() && t.Time%10_000 > 9_800
	})
}

// damage gives the first NAL unit of some pictures a length beyond their end.
func damage(tags []TimedTag) []TimedTag {
	n := 0
	for i, t := range tags {
		if t.Type != mediacompare.TagVideo || !t.IsFrame() || t.Body[0]>>4 == 1 {
			continue
		}
		if n++; n%40 == 0 {
			body := slices.Clone(t.Body)
			binary.BigEndian.PutUint32(body[5:], 1<<30)
			tags[i].Body = body
		}
	}
	return tags
}

// unknownAudio gives audio a FourCC of no codec.
func unknownAudio(tags []TimedTag) []TimedTag {
	for i, t := range tags {
		if t.Type == mediacompare.TagAudio && !t.IsHeader() {
			tags[i].Body = append([]byte("\x91none"), t.Body[2:]...)
		}
	}
	return slices.DeleteFunc(tags, func(t TimedTag) bool { return t.Type == mediacompare.TagAudio && t.IsHeader() })
}

// pace returns an edit that sends speed seconds of the stream in a second.
func pace(speed float64) func([]TimedTag) []TimedTag {
	return func(tags []TimedTag) []TimedTag {
		for i := range tags {
			tags[i].At = time.Duration(float64(tags[i].At) / speed)
		}
		return tags
	}
}

// pauses sends nothing for two of ten seconds, and then what is due.
func pauses(tags []TimedTag) []TimedTag {
	for i, t := range tags {
		if rest := t.At % (10 * time.Second); rest > 5*time.Second && rest < 7*time.Second {
			tags[i].At += 7*time.Second - rest
		}
	}
	return tags
}

// burst sends the first eight seconds in three, as a server sends its cache to a relay.
func burst(tags []TimedTag) []TimedTag {
	const cached, in = 8 * time.Second, 3 * time.Second // 8 : 3
	for i, t := range tags {
		if t.At < cached {
			tags[i].At = t.At * 3 / 8
		} else {
			tags[i].At = t.At - cached + in
		}
	}
	return tags
}

// stall sends nothing for six seconds every three minutes, and then what is due at twice the speed.
func stall(tags []TimedTag) []TimedTag {
	const every, pause = 3 * time.Minute, 6 * time.Second
	for i, t := range tags {
		if at := t.At - every/2; at >= 0 && at%every < 2*pause {
			tags[i].At += pause - at%every/2
		}
	}
	return tags
}

// jitter moves the timestamps of video by a few milliseconds.
func jitter(tags []TimedTag) []TimedTag {
	for i, t := range tags {
		if t.Type == mediacompare.TagVideo && t.IsFrame() {
			tags[i].Time += uint32(i*7%5) * 2
		}
	}
	return tags
}
