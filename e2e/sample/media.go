package sample

import (
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"livego/e2e/harness"
)

// A Media is a recipe for a file in any container.
type Media struct {
	Name      string // file name; ffmpeg selects the container by its suffix
	ProbeExit int    // exit code of livego probe: 0 fine, 3 playable with remarks, 4 not playable

	args []string // of ffmpeg, without the output; "@name" stands for the file of another Media
}

const (
	smallVideoSource = "testsrc2=size=160x90:rate=25"
	x264             = "-c:v libx264 -preset ultrafast -pix_fmt yuv420p -g 25 -sc_threshold 0"
	x264B            = "-c:v libx264 -preset veryfast -pix_fmt yuv420p -g 25 -bf 3 -sc_threshold 0"
)

// avArgs returns the arguments for two seconds of video and audio with this encoding.
func avArgs(rate int, more ...string) []string {
	return args(append([]string{"-f lavfi -i", smallVideoSource, "-f lavfi -i",
		fmt.Sprintf("%s:sample_rate=%d", audioSource, rate), "-t 2"}, more...)...)
}

// audioArgs returns the arguments for two seconds of audio.
func audioArgs(rate int, more ...string) []string {
	return args(append([]string{"-f lavfi -i", fmt.Sprintf("%s:sample_rate=%d", audioSource, rate), "-t 2"}, more...)...)
}

// videoArgs returns the arguments for two seconds of video.
func videoArgs(more ...string) []string {
	return args(append([]string{"-f lavfi -i", smallVideoSource, "-t 2"}, more...)...)
}

// AllMedia returns all recipes. They cover the containers, codecs, sampling rates, channel layouts
// and peculiarities of files.
func AllMedia() []Media {
	list := []Media{
		{"av.mp4", 0, avArgs(44100, x264, aac)},
		{"faststart.mp4", 0, args("-i @av.mp4 -c copy -movflags +faststart")},
		{"fragments.mp4", 0, args("-i @av.mp4 -c copy -movflags frag_keyframe+empty_moov")},
		{"separate.mp4", 0, args("-i @av.mp4 -c copy -movflags frag_keyframe+empty_moov+separate_moof+default_base_moof")},
		{"av.mov", 0, args("-i @av.mp4 -c copy")},
		{"av.mkv", 0, args("-i @av.mp4 -c copy")},
		{"live.mkv", 0, args("-i @av.mp4 -c copy -live 1")},
		{"av.ts", 0, args("-i @av.mp4 -c copy")},
		{"av.flv", 0, args("-i @av.mp4 -c copy")},
		{"b.mp4", 0, avArgs(48000, x264B, aac)},
		{"b.ts", 0, args("-i @b.mp4 -c copy")},
		{"b.mkv", 0, args("-i @b.mp4 -c copy")},
		{"b.flv", 0, args("-i @b.mp4 -c copy")},
		{"vfr.mp4", 0, avArgs(44100, "-vf select='not(eq(mod(n,5),3))' -vsync vfr", x264, aac)},
		{"vfr.mkv", 0, args("-i @vfr.mp4 -c copy")},
		{"turned.mp4", 3, args("-i @av.mp4 -c copy -metadata:s:v rotate=90")},
		{"odd.mp4", 3, avArgs(44100, "-vf scale=161:91 -c:v libx264 -preset ultrafast -pix_fmt yuv444p -g 25", aac)},
		{"ten-bit.mp4", 3, avArgs(44100, "-c:v libx264 -preset ultrafast -pix_fmt yuv420p10le -g 25", aac)},
		{"silent.mp4", 3, videoArgs(x264)},
		{"silent.ts", 3, args("-i @silent.mp4 -c copy")},
		{"sound.m4a", 0, audioArgs(44100, aac)},
		{"sound.aac", 0, args("-i @sound.m4a -c copy")},
		{"sound.ts", 0, args("-i @sound.m4a -c copy")},
		{"8k-mono.mp4", 0, avArgs(8000, "-ac 1", x264, aac, "-b:a 24k")},
		{"11k.ts", 0, avArgs(11025, x264, aac)},
		{"16k.flv", 0, avArgs(16000, x264, aac)},
		{"22k.mkv", 0, avArgs(22050, x264, aac)},
		{"24k.mov", 0, avArgs(24000, x264, aac)},
		{"32k.mp4", 0, avArgs(32000, x264, aac)},
		{"5.1.mp4", 0, avArgs(48000, "-ac 6", x264, aac)},
		{"5.1.ts", 0, args("-i @5.1.mp4 -c copy")},
		{"64k.mp4", 3, avArgs(64000, x264, aac)},
		{"88k.mkv", 3, avArgs(88200, x264, aac)},
		{"96k.mp4", 3, avArgs(96000, x264, aac, "-b:a 192k")},
		{"vbr.mp3", 0, audioArgs(44100, "-c:a libmp3lame -q:a 5 -id3v2_version 3 -metadata title=title")},
		{"22k-mono.mp3", 0, audioArgs(22050, "-ac 1 -c:a libmp3lame -b:a 48k -write_xing 0")},
		{"mp3.flv", 0, avArgs(44100, x264, "-c:a libmp3lame -b:a 96k")},
		{"mp3.mp4", 0, args("-i @mp3.flv -c copy")},
		{"mp3.mkv", 0, args("-i @mp3.flv -c copy")},
		{"mp3.ts", 0, args("-i @mp3.flv -c copy")},
		{"hevc.mp4", 3, avArgs(44100, "-c:v libx265 -x265-params log-level=none:pools=1 -preset ultrafast -pix_fmt "+
			"yuv420p -g 25", aac)},
		{"hevc.mkv", 3, args("-i @hevc.mp4 -c copy")},
		{"hevc.ts", 3, args("-i @hevc.mp4 -c copy")},
		{"vp9-opus.webm", 3, avArgs(48000, "-c:v libvpx-vp9 -cpu-used 8 -deadline realtime -g 25 -c:a libopus")},
		{"vp8-vorbis.webm", 4, avArgs(48000, "-c:v libvpx -cpu-used 8 -deadline realtime -g 25 -c:a libvorbis")},
		{"opus.mp4", 3, audioArgs(48000, "-c:a libopus")},
		{"flac.mkv", 3, audioArgs(44100, "-c:a flac -sample_fmt s16")},
		{"flac.mp4", 3, args("-i @flac.mkv -c copy -strict -2")},
		{"ac3.mp4", 3, avArgs(48000, x264, "-c:a ac3")},
		{"ac3.ts", 3, args("-i @ac3.mp4 -c copy")},
		{"ac3.m2ts", 3, args("-i @ac3.mp4 -c copy")},
		{"aac.m2ts", 0, args("-i @av.mp4 -c copy")}, // AAC as a private stream
		{"eac3.ts", 3, avArgs(48000, x264, "-c:a eac3")},
		{"sound.ac3", 3, audioArgs(48000, "-c:a ac3")},
		{"pcm.mov", 4, avArgs(48000, x264, "-c:a pcm_s16le")},
		{"pcm.mkv", 4, avArgs(48000, x264, "-c:a pcm_s24le")},
		{"mpeg4.mp4", 4, avArgs(44100, "-c:v mpeg4 -g 25 -c:a libmp3lame")},
		{"mpeg2.ts", 4, avArgs(48000, "-c:v mpeg2video -g 25 -c:a mp2")},
		{"latm.ts", 4, args("-i @av.mp4 -c:v copy -c:a aac -mpegts_flags latm")},
		{"prores.mov", 4, avArgs(48000, "-c:v prores_ks", aac)},
		{"sorenson.flv", 3, avArgs(44100, "-c:v flv -g 25", "-c:a libmp3lame")},
		{"speex.flv", 3, avArgs(16000, "-ac 1", x264, "-c:a libspeex")},
		{"cut.mp4", 3, args("-ss 0.7 -i @b.mp4 -c copy")},
		{"delayed.mp4", 3, args("-i @av.mp4 -itsoffset 0.8 -i @av.mp4 -map 0:v -map 1:a -c copy")},
		{"wide.ts", 0, args("-f lavfi -i testsrc2=size=320x136:rate=30 -f lavfi -i", audioSource+":sample_rate=48000",
			"-t 2 -ac 6", x264, aac)},
		{"tall.mkv", 0, args("-f lavfi -i testsrc2=size=90x160:rate=15 -f lavfi -i", audioSource+":sample_rate=22050", "-t 2",
			x264B, aac)},
		{"long-gop.mp4", 3, args("-f lavfi -i testsrc2=size=160x90:rate=5 -f lavfi -i", audioSource+":sample_rate=44100",
			"-t 6 -c:v libx264 -preset ultrafast -pix_fmt yuv420p -g 250 -sc_threshold 0", aac)},
		{"two-sounds.mp4", 3, args("-i @av.mp4 -i @b.mp4 -map 0:v -map 0:a -map 1:a -c copy")},
	}
	return list
}

// MixedMedia returns five files of two seconds that differ in container, size, frame rate, sampling
// rate and channels. Only the second and the third have the same video.
func MixedMedia(t testing.TB) (list []Media) {
	t.Helper()
	for _, name := range []string{"b.mp4", "av.flv", "8k-mono.mp4", "wide.ts", "tall.mkv"} {
		list = append(list, MediaOf(t, name))
	}
	return list
}

// Pictures returns the number of pictures in m, counted by ffprobe.
func (m Media) Pictures(t testing.TB) int {
	t.Helper()
	out, err := exec.Command("ffprobe", "-v", "error", "-count_packets", "-select_streams", "v", "-show_entries",
		"stream=nb_read_packets",
		"-of", "csv=p=0", m.File(t)).Output()
	if err != nil {
		t.Fatal(err)
	}
	first, _, _ := strings.Cut(string(out), "\n") // ffprobe prints it twice for a file with programs
	n, err := strconv.Atoi(first)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// HighBitrateMedia is five seconds of video and audio at 8 Mbit/s.
func HighBitrateMedia() Media {
	return Media{Name: "dense.mp4", args: args("-f lavfi -i", "color=gray:size=1280x720:rate=30,noise=alls=60:allf=t",
		"-f lavfi -i", audioSource+":sample_rate=44100",
		"-t 5 -c:v libx264 -preset ultrafast -pix_fmt yuv420p -g 60 -b:v 8M -maxrate 8M -bufsize 4M", aac)}
}

// MediaOf returns the recipe with this name.
func MediaOf(t testing.TB, name string) Media {
	t.Helper()
	for _, m := range AllMedia() {
		if m.Name == name {
			return m
		}
	}
	t.Fatalf("no media is named %s", name)
	return Media{}
}

// File returns the path of m, and creates the file if this machine has none yet. Each file has a
// directory of its own, and is named as m.
func (m Media) File(t testing.TB) string {
	t.Helper()
	harness.Need(t, "ffmpeg")
	list := make([]string, len(m.args))
	for i, a := range m.args {
		if list[i] = a; strings.HasPrefix(a, "@") {
			list[i] = MediaOf(t, a[1:]).File(t)
		}
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		cache = os.TempDir()
	}
	dir := filepath.Join(cache, "livego-samples",
		fmt.Sprintf("%.12x", sha256.Sum256([]byte(m.Name+strings.Join(list, " ")))))
	path := filepath.Join(dir, m.Name)
	if _, err := os.Stat(path); err == nil {
		return path
	}
	// Another test may create the same file at the same time: each writes its own, and the last one
	// renamed stays.
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	tmp, err := os.MkdirTemp(dir, "new")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(tmp)
	raw := filepath.Join(tmp, m.Name)
	if out, err := exec.Command("ffmpeg",
		append(append([]string{"-nostdin", "-v", "error"}, list...), raw)...).CombinedOutput(); err != nil {
		t.Fatalf("creating %s by ffmpeg: %v\n%s", m.Name, err, out)
	}
	if err := os.Rename(raw, path); err != nil {
		t.Fatal(err)
	}
	return path
}
