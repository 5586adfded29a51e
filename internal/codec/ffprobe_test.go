package codec_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"livego/internal/codec"
	"livego/internal/codec/h264"
	"livego/internal/codec/h265"
	"livego/internal/codec/nal"
	"livego/internal/media"
)

// encodings are streams for ffmpeg to encode, three frames or a fifth of a second long: by codec,
// the common options, and for each stream the rest. The streams should differ as much as
// possible; ffprobe says what came out.
var encodings = []struct {
	codec   media.Codec
	options string // of all of them
	streams []string
}{
	{media.H264, "-c:v libx264 -preset veryfast -tune zerolatency", []string{
		"-s 320x180 -pix_fmt yuv420p -r 25",
		"-s 638x358 -pix_fmt yuv420p -r 30000/1001",
		"-s 318x238 -pix_fmt yuv420p -r 60000/1001 -profile:v baseline",
		"-s 320x240 -pix_fmt yuv420p -r 24000/1001 -profile:v main",
		"-s 720x576 -pix_fmt yuv420p -r 25 -flags +ilme+ildct -x264-params tff=1",
		"-s 720x480 -pix_fmt yuv422p -r 30000/1001 -flags +ilme+ildct -x264-params bff=1",
		"-s 352x284 -pix_fmt yuv420p -r 25 -flags +ilme+ildct -x264-params tff=1",
		"-s 322x242 -pix_fmt yuv422p -r 50",
		"-s 320x180 -pix_fmt yuv422p10le -r 25",
		"-s 323x181 -pix_fmt yuv444p -r 25",
		"-s 321x179 -pix_fmt yuv444p10le -r 15",
		"-s 318x182 -pix_fmt yuv420p10le -r 48",
		"-s 320x180 -pix_fmt yuv420p10le -r 25 -g 1 -x264-params keyint=1:avcintra-class=0",
		"-s 320x180 -pix_fmt gray -r 25",
		"-s 320x180 -pix_fmt yuvj420p -r 12.5 -color_primaries bt709 -color_trc bt709 -colorspace bt709",
		"-s 320x180 -pix_fmt yuv420p -r 100 -aspect 4:3 -x264-params nal-hrd=vbr:vbv-maxrate=1000:vbv-bufsize=1000",
		"-s 320x180 -pix_fmt yuv444p -r 25 -qp 0",
		"-s 320x180 -pix_fmt yuv420p -r 25 -x264-params cqm=jvt:aud=1:sps-id=5",
		"-s 1920x1080 -pix_fmt yuv420p -r 60",
		"-s 64x64 -pix_fmt yuv420p -r 1",
	}},
	{media.HEVC, "-c:v libx265 -preset ultrafast -tag:v hvc1", []string{
		"-s 320x180 -pix_fmt yuv420p -r 25 -x265-params log-level=none",
		"-s 638x358 -pix_fmt yuv420p -r 30000/1001 -x265-params log-level=none",
		"-s 318x238 -pix_fmt yuv420p10le -r 60000/1001 -x265-params log-level=none:hrd=1:vbv-maxrate=500:vbv-bufsize=500",
		"-s 322x242 -pix_fmt yuv422p -r 24000/1001 -x265-params log-level=none",
		"-s 322x242 -pix_fmt yuv422p10le -r 50 -x265-params log-level=none:temporal-layers=2",
		"-s 323x181 -pix_fmt yuv444p -r 25 -x265-params log-level=none:scaling-list=default",
		"-s 321x179 -pix_fmt yuv444p12le -r 25 -x265-params log-level=none:high-tier=1:level-idc=5",
		"-s 320x180 -pix_fmt yuv420p12le -r 12.5 -x265-params log-level=none:repeat-headers=1:range=full:colorprim=bt2020",
		"-s 320x180 -pix_fmt gray -r 25 -x265-params log-level=none",
		"-s 352x288 -pix_fmt yuv420p -r 25 -x265-params log-level=none:bframes=4:b-adapt=0:ref=4:amp=1:rect=1",
		"-s 720x576 -pix_fmt yuv420p -r 25 -x265-params log-level=none:interlace=tff",
		"-s 1920x1080 -pix_fmt yuv420p -r 60 -x265-params log-level=none",
		"-s 320x180 -pix_fmt yuv420p -r 25 -x265-params " +
			"log-level=none:overscan=show:videoformat=pal:chromaloc=2:sar=4:3:display-window=2,2,2,2",
	}},
	{media.AV1, "-c:v libaom-av1 -usage realtime -cpu-used 8", []string{
		"-s 320x180 -pix_fmt yuv420p -r 25",
		"-s 319x179 -pix_fmt yuv420p -r 30000/1001",
		"-s 160x90 -pix_fmt yuv420p10le -r 25 -color_primaries bt2020 -color_trc smpte2084 -colorspace bt2020nc",
		"-s 160x90 -pix_fmt yuv444p -r 25",
		"-s 161x91 -pix_fmt yuv422p -r 25",
		"-s 160x90 -pix_fmt yuv420p12le -r 25",
		"-s 160x90 -pix_fmt gray -r 25",
		"-s 1280x720 -pix_fmt yuv420p -r 25 -tiles 2x1",
	}},
	{media.AV1, "-c:v libsvtav1 -preset 12", []string{
		"-s 320x180 -pix_fmt yuv420p -r 25",
		"-s 318x178 -pix_fmt yuv420p10le -r 30000/1001",
	}},
	{media.VP9, "-c:v libvpx-vp9 -deadline realtime -cpu-used 8", []string{
		"-s 320x180 -pix_fmt yuv420p -r 25",
		"-s 319x179 -pix_fmt yuv420p -r 30000/1001 -auto-alt-ref 1 -lag-in-frames 2",
		"-s 160x90 -pix_fmt yuv422p -r 25",
		"-s 161x91 -pix_fmt yuv444p -r 25",
		"-s 160x90 -pix_fmt yuv420p10le -r 25 -color_primaries bt2020 -color_trc bt2020-10 -colorspace bt2020nc",
		"-s 160x90 -pix_fmt yuv444p12le -r 25",
		"-s 1280x720 -pix_fmt yuv420p -r 50 -colorspace bt709",
		"-s 160x90 -pix_fmt gbrp -r 25",
	}},
	{media.AAC, "-c:a aac", []string{"-ar 44100 -ac 2", "-ar 48000 -ac 1", "-ar 96000 -ac 6", "-ar 8000 -ac 1",
		"-ar 48000 -ac 8", "-ar 22050 -af aformat=channel_layouts=quad"}},
	{media.Opus, "-c:a libopus", []string{"-ac 2", "-ac 1 -frame_duration 60", "-ac 6 -frame_duration 10",
		"-ac 8 -mapping_family 1", "-ac 2 -frame_duration 2.5 -application lowdelay"}},
	{media.FLAC, "-c:a flac -strict -2",
		[]string{"-ar 44100 -ac 2", "-ar 96000 -ac 6 -sample_fmt s32", "-ar 48000 -ac 1 -frame_size 1000", "-ar 8000 -ac 8"}},
	{media.AC3, "-c:a ac3", []string{"-ar 48000 -ac 6 -b:a 384k", "-ar 44100 -ac 2 -b:a 192k", "-ar 32000 -ac 1",
		"-ar 48000 -ac 4", "-ar 48000 -af aformat=channel_layouts=2.1"}},
	{media.EAC3, "-c:a eac3", []string{"-ar 48000 -ac 6 -b:a 256k", "-ar 44100 -ac 2 -b:a 96k", "-ar 32000 -ac 1",
		"-ar 48000 -af aformat=channel_layouts=3.0"}},
	{media.MP3, "-c:a libmp3lame",
		[]string{"-ar 44100 -ac 2", "-ar 48000 -ac 1", "-ar 22050 -ac 2", "-ar 32000 -ac 2 -b:a 320k", "-ar 16000 -ac 1"}},
}

// requirePrograms skips the test with a message if a program is not installed, and fails it in
// CI.
func requirePrograms(t *testing.T, programs ...string) {
	t.Helper()
	for _, p := range programs {
		if _, err := exec.LookPath(p); err == nil {
			continue
		}
		if os.Getenv("CI") == "true" {
			t.Fatalf("MISSING PEER: %s is not installed, and CI=true", p)
		}
		t.Skipf("MISSING PEER: %s is not installed, so this test checked NOTHING: see scripts/setup", p)
	}
}

// TestDescriptionsMatchFFprobe compares what livego reads from some eighty streams of real
// encoders with ffprobe's output.
func TestDescriptionsMatchFFprobe(t *testing.T) {
	requirePrograms(t, "ffmpeg", "ffprobe")
	n := 0
	for i, e := range encodings {
		n += len(e.streams)
		t.Run(fmt.Sprintf("%d %v", i, e.codec), func(t *testing.T) {
			t.Parallel()
			for i, path := range encode(t, e.options, e.streams, isVideo(e.codec)) {
				t.Run(e.streams[i], func(t *testing.T) { compare(t, e.codec, path) })
			}
		})
	}
	if n < 60 {
		t.Errorf("%d streams are too few for a meaningful test", n)
	}
}

func isVideo(c media.Codec) bool {
	switch c {
	case media.H264, media.HEVC, media.AV1, media.VP9:
		return true
	}
	return false
}

// encode encodes each stream into an MP4 file, with one ffmpeg process.
func encode(t *testing.T, options string, streams []string, video bool) []string {
	t.Helper()
	source, length := "testsrc2=size=320x180:rate=25:duration=1", "-frames:v 3"
	if !video {
		source, length = "aevalsrc=sin(2*PI*t*440):sample_rate=48000", "-t 0.2"
	}
	dir := t.TempDir()
	var paths []string
	args := strings.Fields("-nostdin -v error -f lavfi -i " + source)
	for i, s := range streams {
		paths = append(paths, filepath.Join(dir, strconv.Itoa(i)+".mp4"))
		args = append(args, strings.Fields(options+" "+s+" "+length)...)
		args = append(args, paths[i])
	}
	if out, err := exec.Command("ffmpeg", args...).CombinedOutput(); err != nil {
		t.Fatalf("ffmpeg: %v\n%s", err, out)
	}
	return paths
}

// ffprobeOutput is ffprobe's output for the only stream of a file and its first packets.
type ffprobeOutput struct {
	Streams []struct {
		Profile    string
		Width      int
		Height     int
		Rate       string `json:"avg_frame_rate"`
		PixFmt     string `json:"pix_fmt"`
		RawBits    string `json:"bits_per_raw_sample"`
		SampleRate string `json:"sample_rate"`
		Channels   int
		Extradata  string
	}
	Packets []struct {
		PTS      int
		Duration int
		Flags    string // starts with K if ffmpeg marks a keyframe
		Data     string
	}
}

// ffprobe runs ffprobe for at most this many packets.
func ffprobe(t *testing.T, path string, packets int) ffprobeOutput {
	t.Helper()
	args := fmt.Sprintf("-v error -of json -show_streams -show_packets -show_data -read_intervals %%+#%d %s", packets,
		path)
	out, err := exec.Command("ffprobe", strings.Fields(args)...).Output()
	if err != nil {
		t.Fatalf("ffprobe: %v", err)
	}
	var p ffprobeOutput
	if err := json.Unmarshal(out, &p); err != nil || len(p.Streams) != 1 || len(p.Packets) == 0 {
		t.Fatalf("ffprobe: %v\n%s", err, out)
	}
	return p
}

// parseHexDump parses the hexadecimal dump that ffprobe writes.
func parseHexDump(t *testing.T, dump string) []byte {
	t.Helper()
	var b []byte
	for line := range strings.Lines(dump) {
		_, line, _ = strings.Cut(line, ": ")
		digits, _, _ := strings.Cut(line, "  ")
		part, err := hex.DecodeString(strings.ReplaceAll(digits, " ", ""))
		if err != nil {
			t.Fatalf("%v in\n%s", err, dump)
		}
		b = append(b, part...)
	}
	return b
}

// boxPayload returns the payload of the first box of this type in the file at path, nil if there
// is none.
func boxPayload(t *testing.T, path, kind string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	i := bytes.Index(b, []byte(kind))
	if i < 4 {
		return nil
	}
	size := int(b[i-4])<<24 | int(b[i-3])<<16 | int(b[i-2])<<8 | int(b[i-1])
	return b[i+4 : i-4+size]
}

func compare(t *testing.T, c media.Codec, path string) {
	out := ffprobe(t, path, 1)
	payload := parseHexDump(t, out.Packets[0].Data)
	track := describe(t, c, parseHexDump(t, out.Streams[0].Extradata), payload)
	if track.RFC6381 == "" {
		t.Error("no codecs parameter")
	}
	if isVideo(c) {
		compareVideo(t, track, out)
	} else {
		compareAudio(t, track, out, payload)
	}
	compareConfig(t, track, path)
}

// describe builds a track as a demuxer does: from its configuration, and from its first frame if
// that is self-describing.
func describe(t *testing.T, c media.Codec, extradata, payload []byte) *media.Track {
	t.Helper()
	track := &media.Track{Kind: media.Audio, Codec: c}
	if isVideo(c) {
		track.Kind = media.Video
	}
	if codec.NeedsConfig(c) {
		track.Config = extradata
	}
	if c == media.FLAC { // a STREAMINFO block without its header
		header := []byte{'f', 'L', 'a', 'C', 0x80, 0, 0, byte(len(extradata))}
		track.Config = append(header, extradata...)
	}
	lengthSize, err := codec.Describe(track)
	if err != nil {
		t.Fatal(err)
	}
	if codec.SelfDescribing(c) {
		if track, err = codec.TrackFromFrame(*track, payload, nil); err != nil {
			t.Fatal(err)
		}
		if again, err := codec.TrackFromFrame(media.Track{Codec: c}, payload, track); again != track || err != nil {
			t.Errorf("the same frame made another track: %+v, %v", again, err)
		}
	}
	if rap, _, err := codec.RandomAccess(track, lengthSize, false, payload); rap != media.Keyframe || err != nil {
		t.Errorf("the first frame is %v, %v", rap, err)
	}
	return track
}

func compareVideo(t *testing.T, track *media.Track, out ffprobeOutput) {
	t.Helper()
	s := out.Streams[0]
	if track.Width != s.Width || track.Height != s.Height {
		t.Errorf("%d x %d, ffprobe says %d x %d", track.Width, track.Height, s.Width, s.Height)
	}
	var num, den float64
	if _, err := fmt.Sscanf(s.Rate, "%f/%f", &num, &den); err != nil {
		t.Fatal(err)
	}
	always := track.Codec == media.H264 || track.Codec == media.HEVC // the encoders of the other codecs do not declare it
	if (always || track.FrameRate != 0) && math.Abs(track.FrameRate-num/den) > 1e-6 {
		t.Errorf("%v frames a second, ffprobe says %s", track.FrameRate, s.Rate)
	}
	names := map[string]string{"Rext": "Range Extensions"}
	want, ok := names[s.Profile]
	if !ok {
		want = s.Profile
	}
	if track.Profile != want {
		t.Errorf("profile %q, ffprobe says %q", track.Profile, s.Profile)
	}
	depth := 8
	for _, d := range []int{10, 12} {
		if strings.Contains(s.PixFmt, strconv.Itoa(d)) {
			depth = d
		}
	}
	if track.BitDepth != depth {
		t.Errorf("%d bits, ffprobe says %s", track.BitDepth, s.PixFmt)
	}
}

func compareAudio(t *testing.T, track *media.Track, out ffprobeOutput, payload []byte) {
	t.Helper()
	s := out.Streams[0]
	if strconv.Itoa(track.SampleRate) != s.SampleRate || int(track.Timescale) != track.SampleRate ||
		track.Channels != s.Channels {
		t.Errorf("%d Hz, %d channels, ffprobe says %s Hz, %d channels", track.SampleRate, track.Channels, s.SampleRate,
			s.Channels)
	}
	if track.Profile != s.Profile {
		t.Errorf("profile %q, ffprobe says %q", track.Profile, s.Profile)
	}
	if track.Codec == media.FLAC && strconv.Itoa(track.BitDepth) != s.RawBits {
		t.Errorf("%d bits, ffprobe says %s", track.BitDepth, s.RawBits)
	}
	samples := codec.Samples(track, payload)
	if samples != out.Packets[0].Duration {
		t.Errorf("%d samples in the first frame, ffprobe says %d", samples, out.Packets[0].Duration)
	}
	if track.FrameSamples != 0 && track.FrameSamples != samples {
		t.Errorf("%d samples in the first frame, %d in each", samples, track.FrameSamples)
	}
}

// compareConfig compares the configurations that livego builds with those that ffmpeg wrote into
// the file.
func compareConfig(t *testing.T, track *media.Track, path string) {
	t.Helper()
	var got, want []byte
	var err error
	switch track.Codec {
	case media.H264:
		c, err2 := h264.ParseConfig(track.Config)
		if err2 != nil {
			t.Fatal(err2)
		}
		got, err = h264.BuildConfig(c.SPS, c.PPS)
		want = boxPayload(t, path, "avcC")
	case media.HEVC:
		c, err2 := h265.ParseConfig(track.Config)
		if err2 != nil {
			t.Fatal(err2)
		}
		got, err = h265.BuildConfig(c.VPS, c.SPS, c.PPS)
		want = boxPayload(t, path, "hvcC")
		want = want[:min(len(want), len(got))] // without the SEI after the parameter sets
		want[22] = 3
	case media.VP9:
		got, want = track.Config, boxPayload(t, path, "vpcC")[4:]
		// ffmpeg does not derive primaries and transfer characteristics from color_space.
		if want[3] == 2 && want[4] == 2 {
			copy(want[3:5], got[3:5])
		}
	case media.AC3:
		got, want = track.Config, boxPayload(t, path, "dac3")
	case media.EAC3:
		got, want = track.Config, boxPayload(t, path, "dec3")
	default:
		return
	}
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("%v\nconfiguration %x,\n ffmpeg wrote %x", err, got, want)
	}
}

// TestLeadingPicturesOfOpenGOPs checks open GOPs of x265: the pictures that are output before
// their IRAP picture are those with leading NAL unit types.
func TestLeadingPicturesOfOpenGOPs(t *testing.T) {
	requirePrograms(t, "ffmpeg", "ffprobe")
	path := filepath.Join(t.TempDir(), "open.mp4")
	args := "-nostdin -v error -f lavfi -i testsrc2=size=160x90:rate=25 -frames:v 40 -c:v libx265 -preset ultrafast " +
		"-tag:v hvc1 " +
		"-x265-params log-level=none:open-gop=1:keyint=10:min-keyint=10:scenecut=0:bframes=3:b-adapt=0 " + path
	if out, err := exec.Command("ffmpeg", strings.Fields(args)...).CombinedOutput(); err != nil {
		t.Fatalf("ffmpeg: %v\n%s", err, out)
	}
	shown, keys, skipped := 0, 0, 0 // PTS of the last IRAP picture; number of IRAP pictures; of RASL pictures
	for i, p := range ffprobe(t, path, 100).Packets {
		unit := parseHexDump(t, p.Data)
		rap, rasl, err := h265.RandomAccess(unit, 4)
		if err != nil {
			t.Fatal(err)
		}
		if rap == media.Keyframe {
			shown, keys = p.PTS, keys+1
		}
		if rasl {
			skipped++
		}
		radl := hasRADL(unit)
		if leading := p.PTS < shown; (rasl || radl) != leading ||
			strings.HasPrefix(p.Flags, "K") != (rap == media.Keyframe) {
			t.Errorf("packet %d is %v, RASL %v, RADL %v, leading: %v, flags %s", i, rap, rasl, radl, leading, p.Flags)
		}
	}
	if keys < 3 || skipped < 3 {
		t.Errorf("%d IRAP and %d RASL pictures are too few for a meaningful test", keys, skipped)
	}
}

// hasRADL reports whether an access unit of HEVC has a leading picture that needs only its IRAP
// picture.
func hasRADL(unit []byte) bool {
	const radlN, radlR = 6, 7
	for n, rest, _ := nal.Next(unit, 4); n != nil; n, rest, _ = nal.Next(rest, 4) {
		if t := h265.Type(n); t == radlN || t == radlR {
			return true
		}
	}
	return false
}
