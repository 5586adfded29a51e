package fmp4

import (
	"bytes"
	"cmp"
	"encoding/hex"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"livego/internal/media"

	gocmp "github.com/google/go-cmp/cmp"
)

// requirePrograms skips the test if a program is not installed, and fails it on a build machine.
func requirePrograms(t testing.TB, programs ...string) {
	t.Helper()
	for _, p := range programs {
		if _, err := exec.LookPath(p); err == nil {
			continue
		}
		if os.Getenv("CI") == "true" {
			t.Fatalf("MISSING PEER: %s is not installed, and CI=true", p)
		}
		t.Skipf("MISSING PEER: %s is not installed; this test checks NOTHING here: see scripts/setup", p)
	}
}

// output returns the standard output of a program. Output on standard error, where only errors are
// printed, fails the test.
func output(t *testing.T, name string, args ...string) []byte {
	t.Helper()
	var out, errs bytes.Buffer
	cmd := exec.CommandContext(t.Context(), name, append([]string{"-v", "error"}, args...)...)
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil || errs.Len() > 0 {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, errs.Bytes())
	}
	return out.Bytes()
}

// TestFFmpegReadsSameStreams encodes frames of ffmpeg's MP4 files as fragments. ffmpeg must read
// the same packets at the same times from both files, and decode them to the same video and audio.
func TestFFmpegReadsSameStreams(t *testing.T) {
	requirePrograms(t, "ffmpeg", "ffprobe")
	const (
		picture = "-f lavfi -i testsrc2=size=128x72:rate=25"
		ntsc    = "-f lavfi -i testsrc2=size=126x70:rate=30000/1001"
		h264    = "-c:v libx264 -preset veryfast -pix_fmt yuv420p -g 25 -bf 3 -b_strategy 0"
	)
	tone := func(rate, channels string) string {
		return "-f lavfi -i aevalsrc=sin(2*PI*t*(200+150*t))|sin(2*PI*t*(300+100*t)):sample_rate=" + rate + " -ac " + channels
	}

	for _, tt := range []struct{ name, args string }{
		{"h264 aac", picture + " " + tone("44100", "2") + " " + h264 + " -c:a aac"},
		{"h264 29.97 aac 5.1", ntsc + " " + tone("48000", "6") + " " + h264 + " -c:a aac"},
		{"hevc opus", picture + " " + tone("48000", "2") +
			" -c:v libx265 -preset ultrafast -x265-params log-level=error:bframes=3:keyint=25 -tag:v hvc1 -c:a libopus"},
		{"av1 flac", picture + " " + tone("48000", "2") + " -c:v libaom-av1 -cpu-used 8 -lag-in-frames 0 -g 25 -c:a flac"},
		{"vp9 mp3", picture + " " + tone("44100", "2") +
			" -c:v libvpx-vp9 -deadline realtime -cpu-used 8 -g 25 -c:a libmp3lame"},
		{"h264 ac3", picture + " " + tone("48000", "6") + " " + h264 + " -c:a ac3"},
		{"h264 eac3", picture + " " + tone("48000", "6") + " " + h264 + " -c:a eac3"},
		{"opus 5.1", tone("48000", "6") + " -c:a libopus -mapping_family 1"},
		{"flac 96k", tone("96000", "2") + " -c:a flac -sample_fmt s32"},
		{"mp3 22k", tone("22050", "1") + " -c:a libmp3lame"},
		{"av1", picture + " -c:v libaom-av1 -cpu-used 8 -g 25"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			source, target := filepath.Join(dir, "source.mp4"), filepath.Join(dir, "target.mp4")
			args := append(strings.Fields(tt.args), "-t", "2", "-strict", "-2", "-video_track_timescale", "90000", source)
			output(t, "ffmpeg", args...)

			tracks, frames := readSource(t, source)
			b, err := Init(tracks)
			if err != nil {
				t.Fatal(err)
			}
			header := len(b)
			for seq, p := range splitFragments(frames) {
				if b, err = AppendFragment(b, uint32(seq), p.frames, p.ends...); err != nil {
					t.Fatal(err)
				}
			}
			if err := os.WriteFile(target, b, 0o600); err != nil {
				t.Fatal(err)
			}
			if diff := gocmp.Diff(packets(t, source), packets(t, target)); diff != "" {
				t.Errorf("packets:\n%s", diff)
			}
			if diff := gocmp.Diff(frameMD5(t, source, "-c", "copy"), frameMD5(t, target, "-c", "copy")); diff != "" {
				t.Errorf("payloads:\n%s", diff)
			}
			if diff := gocmp.Diff(frameMD5(t, source), frameMD5(t, target)); diff != "" {
				t.Errorf("decoded:\n%s", diff)
			}
			compareConfigs(t, source, b[:header])
			checkSamples(t, b[header:], tracks, frames)
		})
	}
}

// An ffprobeOutput is the output of ffprobe for a file.
type ffprobeOutput struct {
	Streams []struct {
		CodecType     string `json:"codec_type"`
		CodecName     string `json:"codec_name"`
		TimeBase      string `json:"time_base"`
		SampleRate    int    `json:"sample_rate,string"`
		Channels      int
		Width, Height int
		Extradata     string
	}
	Packets []struct {
		Stream   int `json:"stream_index"`
		PTS, DTS int64
		Duration int64
		Size     int `json:",string"`
		Pos      int `json:",string"`
		Flags    string
	}
}

// readSource returns the tracks and frames of the MP4 file at path as ffprobe reads them, not as
// livego does.
func readSource(t *testing.T, path string) (tracks []*media.Track, frames []*media.Frame) {
	t.Helper()
	file, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var p ffprobeOutput
	out := output(t, "ffprobe", "-ignore_editlist", "1", "-show_streams", "-show_packets", "-show_data", "-of", "json",
		path)
	if err := json.Unmarshal(out, &p); err != nil {
		t.Fatal(err)
	}
	codecs := map[string]media.Codec{
		"h264": media.H264, "hevc": media.HEVC, "av1": media.AV1, "vp9": media.VP9,
		"aac": media.AAC, "mp3": media.MP3, "opus": media.Opus, "flac": media.FLAC, "ac3": media.AC3, "eac3": media.EAC3,
	}
	for _, s := range p.Streams {
		tr := &media.Track{Kind: media.Video, Codec: codecs[s.CodecName], Timescale: 90000, Width: s.Width, Height: s.Height}
		if s.CodecType == "audio" {
			tr.Kind, tr.Timescale, tr.SampleRate, tr.Channels = media.Audio, uint32(s.SampleRate), s.SampleRate, s.Channels
		}
		switch tr.Codec {
		case media.VP9:
			tr.Config = configBox(t, file, "vpcC")[4:]
		case media.AC3:
			tr.Config = configBox(t, file, "dac3")
		case media.EAC3:
			tr.Config = configBox(t, file, "dec3")
		case media.FLAC:
			tr.Config = append([]byte("fLaC\x80\x00\x00\x22"), parseHexDump(t, s.Extradata)...)
		case media.MP3:
		default:
			tr.Config = parseHexDump(t, s.Extradata)
		}
		tracks = append(tracks, tr)
	}
	for _, k := range p.Packets {
		tr := tracks[k.Stream]
		at := func(ticks int64) time.Duration { return time.Duration(ticks * 1e9 / int64(tr.Timescale)) }
		f := &media.Frame{
			Track: tr, Ticks: k.DTS, DTS: at(k.DTS), PTS: at(k.PTS), Duration: at(k.Duration), Payload: file[k.Pos:][:k.Size],
		}
		if strings.HasPrefix(k.Flags, "K") {
			f.RAP = media.Keyframe
		}
		frames = append(frames, f)
	}
	return tracks, frames
}

// parseHexDump parses ffprobe's hexadecimal dump: an offset, 16 bytes in pairs, two spaces, and the
// characters.
func parseHexDump(t *testing.T, dump string) (b []byte) {
	t.Helper()
	for _, line := range strings.Split(strings.TrimSpace(dump), "\n") {
		_, line, _ = strings.Cut(line, ": ")
		line, _, _ = strings.Cut(line, "  ")
		more, err := hex.DecodeString(strings.ReplaceAll(line, " ", ""))
		if err != nil {
			t.Fatal(err)
		}
		b = append(b, more...)
	}
	return b
}

// configBox returns the content of box name in the sample entries of an MP4 file, nil if there is
// none.
func configBox(t *testing.T, file []byte, name string) []byte {
	t.Helper()
	atoms, err := readAtoms(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, stsd := range find(atoms, "moov", "trak", "mdia", "minf", "stbl", "stsd") {
		if found := find(stsd.children[0].children, name); len(found) > 0 {
			return found[0].body
		}
	}
	return nil
}

// compareConfigs compares the configuration boxes of init with those of ffmpeg's file.
func compareConfigs(t *testing.T, source string, init []byte) {
	t.Helper()
	file, err := os.ReadFile(source)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"avcC", "hvcC", "av1C", "vpcC", "dOps", "dfLa", "dac3", "dec3"} {
		if want, got := configBox(t, file, name), configBox(t, init, name); !bytes.Equal(want, got) {
			t.Errorf("%s %x, ffmpeg's %x", name, got, want)
		}
	}
}

// A fragmentInput is the arguments of AppendFragment.
type fragmentInput struct {
	frames []*media.Frame
	ends   []TrackEnd
}

// splitFragments splits frames every 200 ms.
func splitFragments(frames []*media.Frame) (pieces []fragmentInput) {
	const length = 200 * time.Millisecond
	start := 0
	for i, f := range frames {
		if f.DTS/length > frames[start].DTS/length {
			pieces = append(pieces, fragmentInput{frames[start:i], trackEnds(frames[i:])})
			start = i
		}
	}
	return append(pieces, fragmentInput{frames[start:], nil})
}

// trackEnds returns the track ends that follow from the first frame of each track in following.
func trackEnds(following []*media.Frame) (ends []TrackEnd) {
	for _, f := range following {
		if !slices.ContainsFunc(ends, func(e TrackEnd) bool { return e.Track == f.Track }) {
			ends = append(ends, TrackEnd{f.Track, f.Ticks})
		}
	}
	return ends
}

// packets returns stream, times, size and flags of the packets of the file at path, stream by
// stream.
func packets(t *testing.T, path string) []string {
	t.Helper()
	out := output(t, "ffprobe", "-ignore_editlist", "1", "-show_entries", "packet=stream_index,pts,dts,size,flags", "-of",
		"csv=p=0", path)
	return byStream(t, out)
}

// frameMD5 returns ffmpeg's framemd5 lines for the packets or frames of the file at path, stream by
// stream.
func frameMD5(t *testing.T, path string, args ...string) (lines []string) {
	t.Helper()
	args = append(append([]string{"-ignore_editlist", "1", "-i", path, "-map", "0", "-copyts"}, args...), "-f", "framemd5",
		"-")
	return byStream(t, output(t, "ffmpeg", args...))
}

// byStream sorts lines that start with the stream number, without comments. The durations of
// framemd5 are removed: from fragments, ffmpeg reports only those that its parsers know.
func byStream(t *testing.T, out []byte) (lines []string) {
	t.Helper()
	for _, line := range strings.Split(string(out), "\n") {
		if line == "" || line[0] == '#' {
			continue
		}
		if f := strings.Split(line, ","); len(f) == 6 {
			line = strings.Join(slices.Delete(f, 3, 4), ",")
		}
		lines = append(lines, line)
	}
	if len(lines) < 20 {
		t.Fatalf("%d lines", len(lines))
	}
	slices.SortStableFunc(lines, func(a, b string) int { return cmp.Compare(a[0], b[0]) })
	return lines
}

// checkSamples checks that the samples of fragments match frames, and that each lasts as long as
// its frame.
func checkSamples(t *testing.T, b []byte, tracks []*media.Track, frames []*media.Frame) {
	t.Helper()
	seqs, units, err := readFragments(b)
	if err != nil || len(units) != len(frames) || len(seqs) < 10 {
		t.Fatalf("%d fragments, %d samples of %d frames, %v", len(seqs), len(units), len(frames), err)
	}
	end := map[uint32]int64{}
	for _, u := range units {
		if u.dts != end[u.track] {
			t.Errorf("track %d: %d follows %d", u.track, u.dts, end[u.track])
		}
		end[u.track] = u.dts + int64(u.duration)
	}
	for _, tr := range tracks {
		checkPlayedSamples(t, tr, frames, units)
		last := frames[0]
		for _, f := range frames {
			if f.Track == tr {
				last = f
			}
		}
		if want := last.Ticks + scale(last.Duration, tr.Timescale); end[trackID(tr)] != want {
			t.Errorf("%s ends at %d, want %d", tr.Kind, end[trackID(tr)], want)
		}
	}
}
