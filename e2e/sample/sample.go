// Package sample creates the media files for the end-to-end tests: short files, each with a
// property that has broken a server before. ffmpeg creates them once; they are kept for later runs.
package sample

import (
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"livego/e2e/harness"
	"livego/e2e/mediacompare"
)

// A Sample is a recipe for an FLV file.
type Sample struct {
	Name         string
	Video, Audio bool
	NonzeroStart bool // its timestamps start far from zero: push it with -copyts

	newerFFmpeg bool                        // created by the newer ffmpeg
	args        []string                    // of ffmpeg, without the output
	edit        func(*mediacompare.FLVFile) // a change that ffmpeg cannot make; nil for none
}

const (
	videoSource = "testsrc2=size=320x180:rate=25"
	// A rising tone: no two audio frames are alike, so that a missing one is noticed.
	audioSource = "aevalsrc=sin(2*PI*t*(200+150*t))|sin(2*PI*t*(300+100*t))"
	// One keyframe a second, so that a viewer that joins late starts soon.
	h264 = "-c:v libx264 -preset ultrafast -pix_fmt yuv420p -g 25 -keyint_min 25 -sc_threshold 0"
	aac  = "-c:a aac -b:a 96k"
)

// AV is H.264 and AAC, as the README tells people to push it.
var AV = av("h264-aac", "")

// Clips are compared frame by frame: they are small, no two pictures are alike, and their 20
// seconds are longer than a test, so that no frame comes twice.
var (
	Small = clip("small", "160x90", 44100, "-g 25 -keyint_min 25")
	// other parameters of video and audio
	Large       = clip("large", "256x144", 48000, "-g 25 -keyint_min 25 -profile:v main")
	OneKeyframe = clip("one-key", "160x90", 44100, "-g 9999 -keyint_min 9999")
	IntraOnly   = clip("intra", "160x90", 44100, "-g 1")
	// About 2 Mbit/s, more than a slow consumer receives.
	HighBitrate = clip("heavy", "320x180", 44100,
		"-g 25 -keyint_min 25 -vf noise=alls=40:allf=t -b:v 2M -maxrate 2M -bufsize 1M")
)

// HEVC is a clip like Small, with H.265 video and without audio.
func HEVC() Sample {
	return Sample{Name: "hevc", Video: true, newerFFmpeg: true,
		args: args("-f lavfi -i testsrc2=rate=25:size=160x96 -t 20 -pix_fmt yuv420p",
			"-c:v libx265 -preset ultrafast -x265-params log-level=none:keyint=25:min-keyint=25:scenecut=0:bframes=0:pools=1")}
}

// Slices returns samples whose pictures have four slices each and start with an access unit
// delimiter. x265 crashes with slices and several threads.
func Slices() []Sample {
	return []Sample{
		av("slices", "-preset veryfast -bf 2 -x264-params slices=4:aud=1:sliced-threads=0"),
		{Name: "hevc-slices", Video: true, Audio: true, newerFFmpeg: true,
			args: args("-f lavfi -i testsrc2=rate=25:size=160x128", "-f lavfi -i", audioSource+":sample_rate=44100",
				"-t 4 -pix_fmt yuv420p",
				"-c:v libx265 -preset ultrafast -x265-params "+
					"log-level=none:keyint=25:min-keyint=25:scenecut=0:bframes=2:aud=1:slices=4:ctu=16:frame-threads=1:pools=1", aac)},
	}
}

func clip(name, size string, rate int, more string) Sample {
	return Sample{Name: name, Video: true, Audio: true,
		args: args("-f lavfi -i testsrc2=rate=25:size="+size, "-f lavfi -i", audioSource, "-ar", strconv.Itoa(rate), "-t 20",
			"-c:v libx264 -preset ultrafast -pix_fmt yuv420p -sc_threshold 0", more, aac)}
}

// All returns all samples that are pushed as a whole. The first is AV.
func All() []Sample {
	return []Sample{
		AV,
		audio("aac-only", "sample_rate=44100", aac),
		{Name: "h264-only", Video: true, args: args("-f lavfi -i", videoSource, "-t 4", h264)},
		{Name: "h264-mp3", Video: true, Audio: true,
			args: args("-f lavfi -i", videoSource, "-f lavfi -i", audioSource+":sample_rate=44100", "-t 4", h264,
				"-c:a libmp3lame -b:a 128k")},
		audio("mp3-22k", "sample_rate=22050", "-c:a libmp3lame -b:a 64k"),
		av("aac-8k-mono", "-ar 8000 -ac 1"),
		av("aac-48k-5.1", "-ar 48000 -ac 6"),
		av("aac-48k-7.1", "-ar 48000 -ac 8"),
		// channel configuration 0: the layout is in a program config element
		av("aac-quad", "-af aformat=channel_layouts=quad"),
		av("aac-96k", "-ar 96000 -b:a 192k"),
		{Name: "he-aac", Video: true, Audio: true, edit: signalSBR,
			args: args("-f lavfi -i", videoSource, "-f lavfi -i", audioSource+":sample_rate=24000", "-t 4", h264, aac)},
		av("b-frames", "-preset veryfast -bf 3 -b_strategy 0 -g 50"),
		{Name: "keyframe-2mb", Video: true, Audio: true, // noise that does not change between keyframes
			args: args("-f lavfi -i", "color=gray:size=1920x1080:rate=1,noise=alls=100:allf=t,fps=10",
				"-f lavfi -i", audioSource+":sample_rate=44100", "-t 3", h264, "-g 10 -keyint_min 10 -qp 6", aac)},
		{Name: "4k", Video: true, Audio: true,
			args: args("-f lavfi -i", "testsrc2=size=3840x2160:rate=10", "-f lavfi -i", audioSource+":sample_rate=44100", "-t 3",
				h264, "-g 10 -keyint_min 10", aac)},
		withNonzeroStart(av("late-start", "-output_ts_offset 100000")),
	}
}

// Enhanced returns samples of the codecs that FLV has by FourCC only, each beside another one, and
// of H.264 with AAC.
func Enhanced() []Sample {
	const (
		small  = "testsrc2=size=160x120:rate=25"
		stereo = audioSource + ":sample_rate=48000"
		gop    = "-g 25"
	)
	with := func(name, video, audio string) Sample {
		return Sample{Name: name, Video: true, Audio: true, newerFFmpeg: true,
			args: args("-f lavfi -i", small, "-f lavfi -i", stereo, "-t 3 -pix_fmt yuv420p", video, audio)}
	}
	flac := func(s Sample) Sample {
		s.edit = dropTrailingHeader
		return s
	}
	alone := func(name, audio string) Sample {
		return Sample{Name: name, Audio: true, newerFFmpeg: true, args: args("-f lavfi -i", stereo, "-t 3", audio)}
	}
	const (
		hevc = "-c:v libx265 -preset ultrafast -x265-params log-level=none:keyint=25:min-keyint=25:scenecut=0:bframes=2"
		av1  = "-c:v libaom-av1 -cpu-used 8 -usage realtime -b:v 200k " + gop
		vp9  = "-c:v libvpx-vp9 -deadline realtime -cpu-used 8 -b:v 200k " + gop
		opus = "-c:a libopus -b:a 64k"
	)
	return []Sample{
		with("hevc-aac", hevc, aac),
		with("hevc-opus", hevc, opus),
		with("av1-opus", av1, opus),
		with("av1-aac", av1, aac),
		with("vp9-opus", vp9, opus),
		with("vp9-mp3", vp9, "-c:a libmp3lame -b:a 64k"),
		flac(with("h264-flac", h264, "-c:a flac")),
		with("h264-ac3", h264, "-c:a ac3 -b:a 128k"),
		with("hevc-eac3-5.1", hevc, "-ac 6 -c:a eac3 -b:a 256k"),
		alone("opus-only", opus),
		flac(alone("flac-only", "-c:a flac")),
		alone("ac3-only", "-c:a ac3 -b:a 128k"),
		with("h264-aac", h264, aac),
	}
}

// Tracks is a sample of two video tracks and three audio tracks, in several codecs.
func Tracks() Sample {
	return Sample{Name: "tracks", Video: true, Audio: true, newerFFmpeg: true, args: args(
		"-f lavfi -i testsrc2=size=160x120:rate=25 -f lavfi -i testsrc=size=128x96:rate=25",
		"-f lavfi -i", audioSource+":sample_rate=48000",
		"-f lavfi -i sine=frequency=330:sample_rate=44100 -f lavfi -i sine=frequency=550:sample_rate=48000",
		"-map 0 -map 1 -map 2 -map 3 -map 4 -t 3", h264,
		"-c:v:1 libx265 -preset ultrafast -x265-params log-level=none:keyint=25:min-keyint=25:scenecut=0 -c:a:0 aac "+
			"-c:a:1 aac -c:a:2 libopus")}
}

func av(name, more string) Sample {
	return Sample{Name: name, Video: true, Audio: true,
		args: args("-f lavfi -i", videoSource, "-f lavfi -i", audioSource+":sample_rate=44100", "-t 4", h264, aac, more)}
}

func audio(name, source, codec string) Sample {
	return Sample{Name: name, Audio: true, args: args("-f lavfi -i", audioSource+":"+source, "-t 4", codec)}
}

func withNonzeroStart(s Sample) Sample {
	s.NonzeroStart = true
	return s
}

// args splits parts at spaces into arguments of ffmpeg. Descriptions of filters contain no space.
func args(parts ...string) []string { return strings.Fields(strings.Join(parts, " ")) }

// signalSBR rewrites the AudioSpecificConfig of AAC-LC at 24 kHz into that of HE-AAC at 48 kHz with
// explicit hierarchical signalling (ISO/IEC 14496-3 1.6.5.2), because Debian's ffmpeg has no HE-AAC
// encoder. The frames contain no SBR data: a decoder only doubles the rate, and a server that
// forwards them must not notice.
func signalSBR(f *mediacompare.FLVFile) {
	for i, t := range f.Tags {
		if t.Type == mediacompare.TagAudio && len(t.Body) >= 4 && t.Body[0]>>4 == 10 && t.Body[1] == 0 {
			channels := uint32(t.Body[3] >> 3 & 0xf)
			// object type 5, core rate index 6, channels, rate index 3, object type 2, three flags
			// 0, seven bits of padding
			asc := 5<<27 | 6<<23 | channels<<19 | 3<<15 | 2<<10
			f.Tags[i].Body = append(t.Body[:2:2], byte(asc>>24), byte(asc>>16), byte(asc>>8), byte(asc))
			return
		}
	}
}

// dropTrailingHeader removes the codec header that ffmpeg writes after the last FLAC frame if it
// knows the duration of the file, and the empty frames after it.
func dropTrailingHeader(f *mediacompare.FLVFile) {
	seen := map[byte]bool{}
	f.Tags = slices.DeleteFunc(f.Tags, func(t mediacompare.FLVTag) bool {
		if t.Type != mediacompare.TagAudio {
			return false
		}
		frame := t.Body[0]&0xf == 1
		again := !frame && seen[t.Body[0]]
		seen[t.Body[0]] = true
		return again || frame && len(t.Body) == 5
	})
}

// File returns the path of s as an FLV file, and creates the file if this machine has none yet.
func (s Sample) File(t testing.TB) string {
	t.Helper()
	if s.newerFFmpeg {
		harness.NeedNewerFFmpeg(t)
	} else {
		harness.Need(t, "ffmpeg")
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		cache = os.TempDir()
	}
	dir := filepath.Join(cache, "livego-samples")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, fmt.Sprintf("%s-%.12x.flv", s.Name, sha256.Sum256([]byte(strings.Join(s.args, " ")))))
	if _, err := os.Stat(path); err == nil {
		return path
	}
	// Another test may create the same file at the same time: each writes its own, and the last one
	// renamed stays.
	tmp, err := os.MkdirTemp(dir, "new")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(tmp)
	raw := filepath.Join(tmp, "raw.flv")
	if s.newerFFmpeg {
		p := harness.NewerFFmpeg(t, nil, append(slices.Clone(s.args), "-f", "flv", "pipe:1")...)
		p.WaitOK(time.Minute)
		if err := os.WriteFile(raw, []byte(p.Stdout()), 0o644); err != nil {
			t.Fatal(err)
		}
	} else if out, err := exec.Command("ffmpeg",
		append(append([]string{"-nostdin", "-v", "error"}, s.args...), "-f", "flv", raw)...).CombinedOutput(); err != nil {
		t.Fatalf("creating sample %s by ffmpeg: %v\n%s", s.Name, err, out)
	}
	if s.edit != nil {
		f := read(t, raw)
		s.edit(f)
		out, err := os.Create(raw)
		if err != nil {
			t.Fatal(err)
		}
		defer out.Close()
		if err := f.Write(out); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Rename(raw, path); err != nil {
		t.Fatal(err)
	}
	return path
}

// Read returns the contents of the file of s.
func (s Sample) Read(t testing.TB) *mediacompare.FLVFile {
	t.Helper()
	return read(t, s.File(t))
}

func read(t testing.TB, path string) *mediacompare.FLVFile {
	t.Helper()
	r, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	f, err := mediacompare.ReadFLV(r)
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return f
}
