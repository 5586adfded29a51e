package e2e

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"livego/e2e/harness"
	"livego/e2e/mediacompare"
	"livego/e2e/sample"
)

// A probeReport is the part of the output of livego probe --json that the tests check.
type probeReport struct {
	Container string        `json:"container"`
	Duration  float64       `json:"duration"`
	Size      int64         `json:"size"`
	Tracks    []probedTrack `json:"tracks"`
	Remarks   []struct {
		Code          string `json:"code"`
		Text          string `json:"text"`
		RepairCommand string `json:"mend"`
	} `json:"remarks"`
	Verdict       string `json:"verdict"`
	RepairCommand string `json:"mend"`
}

type probedTrack struct {
	Kind       string  `json:"kind"`
	Codec      string  `json:"codec"`
	Profile    string  `json:"profile"`
	Width      int     `json:"width"`
	Height     int     `json:"height"`
	Rotation   int     `json:"rotation"`
	FrameRate  float64 `json:"frame_rate"`
	Variable   bool    `json:"variable_frame_rate"`
	Reordered  bool    `json:"b_frames"`
	GOP        float64 `json:"gop"`
	Keys       int     `json:"key_frames"`
	SampleRate int     `json:"sample_rate"`
	Channels   int     `json:"channels"`
	Frames     int     `json:"frames"`
	Start      float64 `json:"start"`
	Duration   float64 `json:"duration"`
	BitRate    float64 `json:"bit_rate"`
	RTMP       string  `json:"rtmp"`
	FMP4       string  `json:"hls_fmp4"`
	TS         string  `json:"hls_ts"`
}

// probe runs livego probe --json on one source, and returns its report and its exit code.
func probe(t testing.TB, source string, more ...string) (probeReport, int) {
	t.Helper()
	return parseProbe(t, source, harness.Livego(t, t.TempDir(), nil,
		append([]string{"probe", "--json", source}, more...)...))
}

// parseProbe waits for a run of livego probe --json, and returns its report and its exit code.
func parseProbe(t testing.TB, source string, p *harness.Process) (probeReport, int) {
	t.Helper()
	code := p.Wait(patience)
	var list []probeReport
	if err := json.Unmarshal([]byte(p.Stdout()), &list); err != nil || len(list) != 1 {
		t.Fatalf("probe %s: %v\n%s%s", source, err, p.Stdout(), p.Stderr())
	}
	return list[0], code
}

// codes returns the codes of the remarks.
func (p probeReport) codes() (codes []string) {
	for _, r := range p.Remarks {
		codes = append(codes, r.Code)
	}
	return codes
}

// An ffprobeResult is what ffprobe reports about a file.
type ffprobeResult struct {
	Format struct {
		Name     string `json:"format_name"`
		Duration string `json:"duration"`
	} `json:"format"`
	Streams []ffprobeStream `json:"streams"`
	Packets []struct {
		Stream int    `json:"stream_index"`
		PTS    string `json:"pts_time"`
		DTS    string `json:"dts_time"`
		Size   string `json:"size"`
		Flags  string `json:"flags"`
	} `json:"packets"`
}

type ffprobeStream struct {
	Index      int    `json:"index"`
	Kind       string `json:"codec_type"`
	Codec      string `json:"codec_name"`
	Profile    string `json:"profile"`
	Width      int    `json:"width"`
	Height     int    `json:"height"`
	Rate       string `json:"avg_frame_rate"`
	Reordered  int    `json:"has_b_frames"`
	SampleRate string `json:"sample_rate"`
	Channels   int    `json:"channels"`
	BitRate    string `json:"bit_rate"`
	Frames     string `json:"nb_read_packets"`
	Side       []struct {
		Rotation int `json:"rotation"`
	} `json:"side_data_list"`
}

// start returns the lowest PTS of a stream, in seconds.
func (j ffprobeResult) start(stream int) (at float64, ok bool) {
	for _, p := range j.Packets {
		if pts, err := strconv.ParseFloat(p.PTS, 64); err == nil && p.Stream == stream && (!ok || pts < at) {
			at, ok = pts, true
		}
	}
	return at, ok
}

func ffprobe(t testing.TB, path string) ffprobeResult {
	t.Helper()
	out, err := exec.Command("ffprobe", "-v", "error", "-count_packets", "-show_format", "-show_streams", "-show_packets",
		"-of", "json", path).Output()
	var j ffprobeResult
	if err == nil {
		err = json.Unmarshal(out, &j)
	}
	if err != nil {
		t.Fatalf("ffprobe %s: %v", path, err)
	}
	return j
}

// ffprobeCodecNames maps ffprobe's names of codecs to livego's, where they differ.
var ffprobeCodecNames = map[string]string{
	"mpeg2video": "mpeg2", "pcm_s16le": "pcm", "pcm_s24le": "pcm", "flv1": "sorenson", "aac_latm": "aac in latm",
}

// TestProbe compares the fields that probe reports for each file with those of ffprobe, and runs
// the ffmpeg commands that probe suggests: each must resolve its remark, and the last one all
// remarks.
func TestProbe(t *testing.T) {
	harness.Need(t, "ffmpeg", "ffprobe")
	for _, m := range sample.AllMedia() {
		t.Run(m.Name, func(t *testing.T) {
			t.Parallel()
			path := m.File(t)
			got, code := probe(t, path)
			if code != m.ProbeExit {
				t.Errorf("exit code %d, want %d: %+v", code, m.ProbeExit, got.Remarks)
			}
			compareProbe(t, got, ffprobe(t, path), path)
			runRepairCommands(t, path, got)
		})
	}
}

func compareProbe(t *testing.T, got probeReport, want ffprobeResult, path string) {
	t.Helper()
	if container := map[string]string{"mp4": "mp4", "mov": "mp4", "m4a": "mp4", "mkv": "matroska", "webm": "matroska",
		"ts": "mpegts", "m2ts": "mpegts", "flv": "flv", "aac": "aac", "mp3": "mp3",
		"ac3": "ac3"}[strings.TrimPrefix(filepath.Ext(path), ".")]; !strings.Contains(want.Format.Name, container) {
		t.Errorf("ffprobe reports the container %s", want.Format.Name)
	}
	if d, err := strconv.ParseFloat(want.Format.Duration, 64); err == nil && math.Abs(d-got.Duration) > 0.2 {
		t.Errorf("duration %v, want %v", got.Duration, d)
	}
	if info, err := os.Stat(path); err != nil || info.Size() != got.Size {
		t.Errorf("size %d, want %v", got.Size, info.Size())
	}
	if len(got.Tracks) != len(want.Streams) {
		t.Fatalf("%d tracks, want %d", len(got.Tracks), len(want.Streams))
	}
	for _, s := range want.Streams {
		// ffprobe numbers streams in the order of the file's index, or in the order in which they
		// appear.
		i := slices.IndexFunc(got.Tracks, func(g probedTrack) bool { return g.Kind == s.Kind })
		if s.Index > 1 {
			i = s.Index
		}
		if i < 0 {
			t.Errorf("probe reports no %s", s.Kind)
			continue
		}
		compareTrack(t, got.Tracks[i], s, want, strings.HasSuffix(path, "cut.mp4")) // ffmpeg moves pictures to the cut
	}
}

func compareTrack(t *testing.T, got probedTrack, want ffprobeStream, all ffprobeResult, cut bool) {
	t.Helper()
	field := func(name string, got, want any) {
		t.Helper()
		if got != want {
			t.Errorf("%s: %v, want %v", name, got, want)
		}
	}
	if name := ffprobeCodecNames[want.Codec]; name != "" {
		want.Codec = name
	}
	field("codec", got.Codec, want.Codec)
	if got.Frames == 0 { // probe does not read codecs that cannot be carried
		if got.RTMP != "no" {
			t.Errorf("probe reports no frames of %s", got.Codec)
		}
		return
	}
	field("frames", fmt.Sprint(got.Frames), want.Frames)
	if at, ok := all.start(want.Index); ok && !cut && math.Abs(at-got.Start) > 0.0011 {
		t.Errorf("%s starts at %v, want %v", got.Codec, got.Start, at)
	}
	// For FLV and FLAC, ffprobe reports the value in the file's metadata.
	if rate, err := strconv.ParseFloat(want.BitRate, 64); err == nil && got.Codec != "flac" && all.Format.Name != "flv" &&
		math.Abs(rate-got.BitRate) > rate*0.1 {
		t.Errorf("%s: %v bit/s, want %v", got.Codec, got.BitRate, rate)
	}
	if want.Kind == "video" {
		compareVideo(t, got, want, all, field)
		return
	}
	if got.RTMP != "old" {
		field("sample rate", fmt.Sprint(got.SampleRate), want.SampleRate)
		field("channels", got.Channels, want.Channels)
	}
}

func compareVideo(t *testing.T, got probedTrack, want ffprobeStream, all ffprobeResult, field func(string, any, any)) {
	t.Helper()
	if got.RTMP != "old" {
		field("width", got.Width, want.Width)
		field("height", got.Height, want.Height)
	}
	if got.Codec == "h264" || got.Codec == "hevc" {
		field("profile", got.Profile, want.Profile)
		field("b-frames", got.Reordered, want.Reordered > 0)
	}
	rotation := 0
	for _, s := range want.Side {
		rotation = (360 - s.Rotation) % 360 // ffprobe counts in the other direction
	}
	field("rotation", got.Rotation, rotation)
	if n, d, ok := strings.Cut(want.Rate, "/"); ok && d != "0" {
		num, _ := strconv.ParseFloat(n, 64)
		den, _ := strconv.ParseFloat(d, 64)
		// For short files with a variable frame rate, ffprobe averages over another number of
		// intervals.
		if rate := num / den; math.Abs(rate-got.FrameRate) > rate*0.05 && strings.Contains(all.Format.Name, "mp4") {
			t.Errorf("frame rate %v, want %v", got.FrameRate, rate)
		}
	}
	var keys []float64
	end := 0.0
	for _, p := range all.Packets {
		if p.Stream != want.Index {
			continue
		}
		at, err := strconv.ParseFloat(p.PTS, 64)
		if err != nil {
			continue
		}
		end = max(end, at)
		if strings.HasPrefix(p.Flags, "K") {
			keys = append(keys, at)
		}
	}
	field("keyframes", got.Keys, len(keys))
	if len(keys) > 1 {
		longest := 0.0
		for i := range keys[1:] {
			longest = max(longest, keys[i+1]-keys[i])
		}
		if longest = max(longest, end-keys[len(keys)-1]-0.1); got.GOP < longest-0.1 || got.GOP > longest+0.2 {
			t.Errorf("GOP %v, want %v", got.GOP, longest)
		}
	}
}

// runRepairCommands runs the commands of the remarks, and the one that resolves all, unchanged but
// for the directory of the file, beside which they write.
func runRepairCommands(t *testing.T, path string, p probeReport) {
	t.Helper()
	run := func(command string) probeReport {
		t.Helper()
		dir := t.TempDir()
		if err := os.Symlink(path, filepath.Join(dir, filepath.Base(path))); err != nil {
			t.Fatal(err)
		}
		command = strings.ReplaceAll(command, filepath.Dir(path)+"/", dir+"/")
		shell := exec.Command("sh", "-c", strings.Replace(command, "ffmpeg ", "ffmpeg -nostdin -v error ", 1))
		shell.Dir = t.TempDir()
		if out, err := shell.CombinedOutput(); err != nil {
			t.Fatalf("%s\n%v\n%s", command, err, out)
		}
		files, err := filepath.Glob(filepath.Join(dir, "*-live.mp4"))
		if err != nil || len(files) != 1 {
			t.Fatalf("%s\nwrote %v, %v", command, files, err)
		}
		repaired, _ := probe(t, files[0])
		return repaired
	}
	for _, r := range p.Remarks {
		if r.RepairCommand == "" {
			if r.Code != "encrypted" {
				t.Errorf("no command for the remark: %s", r.Text)
			}
			continue
		}
		kind := func(p probeReport) (n int) {
			for _, c := range p.codes() {
				if c == r.Code {
					n++
				}
			}
			return n
		}
		if after := run(r.RepairCommand); kind(after) >= kind(p) {
			t.Errorf("%s\ndoes not resolve: %s\nremaining: %+v", r.RepairCommand, r.Text, after.Remarks)
		}
	}
	if p.RepairCommand != "" {
		if after := run(p.RepairCommand); len(after.Remarks) > 0 || after.Verdict != "fine" {
			t.Errorf("%s\nremaining: %+v", p.RepairCommand, after.Remarks)
		}
	}
}

// TestProbeUnsupportedContainers probes files in containers that livego does not read, and runs the
// commands that it suggests. It probes lists of files too.
func TestProbeUnsupportedContainers(t *testing.T) {
	harness.Need(t, "ffmpeg")
	t.Parallel()
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	harness.FFmpeg(t, "-f", "lavfi", "-i", "testsrc2=size=160x90:rate=25:duration=3", "-f", "lavfi", "-i",
		"sine=duration=3", "-c:v", "mpeg4", "-c:a", "mp2", path("my film.avi")).WaitOK(patience)
	harness.FFmpeg(t, "-f", "lavfi", "-i", "sine=duration=3", path("tone.wav")).WaitOK(patience)
	for name, codecs := range map[string]int{"my film.avi": 2, "tone.wav": 1} {
		p, code := probe(t, path(name))
		if code != 4 || len(p.Remarks) != 1 || p.RepairCommand == "" {
			t.Fatalf("%s: exit code %d, %+v", name, code, p)
		}
		shell := exec.Command("sh", "-c", strings.Replace(p.RepairCommand, "ffmpeg ", "ffmpeg -nostdin -v error ", 1))
		shell.Dir = t.TempDir()
		if out, err := shell.CombinedOutput(); err != nil {
			t.Fatalf("%s\n%v\n%s", p.RepairCommand, err, out)
		}
		repaired, code := probe(t, strings.TrimSuffix(path(name), filepath.Ext(name))+"-live.mp4")
		if code != 0 || len(repaired.Tracks) != codecs {
			t.Errorf("%s\nresult: %+v", p.RepairCommand, repaired)
		}
	}
	for text, want := range map[string]string{
		"demo.mp4\ntwo.mp4\n":        "line 1, write file 'demo.mp4'",
		"# films\n\nit's here.mp4\n": `line 3, write file 'it'\''s here.mp4'`,
		"file 'demo.mp4'\n":          "livego push plays it",
	} {
		if err := os.WriteFile(path("files.txt"), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if p, code := probe(t, path("files.txt")); code != 4 || len(p.Remarks) != 1 ||
			!strings.Contains(p.Remarks[0].Text, want) {
			t.Errorf("%q: exit code %d, %+v", text, code, p.Remarks)
		}
		if strings.Contains(want, "push") {
			continue
		}
		push := harness.Livego(t, dir, nil, "push", path("files.txt"), "rtmp://127.0.0.1:9/live/x")
		if code := push.Wait(patience); code != 4 || !strings.Contains(push.Stderr(), want) {
			t.Errorf("push of %q: exit code %d, %s", text, code, push.Stderr())
		}
	}
}

// TestNonconformingFLV probes and pushes FLV files that players play although they violate the
// format.
func TestNonconformingFLV(t *testing.T) {
	harness.Need(t, "ffmpeg")
	t.Parallel()
	s, src := harness.Start(t, harness.Options{}), load(t, sample.AV)
	var whole bytes.Buffer
	if err := src.file.Write(&whole); err != nil {
		t.Fatal(err)
	}
	file := whole.Bytes()
	// each replaces each tag, with its PreviousTagSize, by what f returns.
	each := func(f func(tag []byte) []byte) []byte {
		out := bytes.Clone(file[:13])
		for rest := file[13:]; len(rest) > 0; {
			n := 11 + int(rest[1])<<16 + int(rest[2])<<8 + int(rest[3]) + 4
			out = append(out, f(rest[:n:n])...)
			rest = rest[n:]
		}
		return out
	}
	for name, odd := range map[string]struct {
		file []byte
		says string
	}{
		"body size as PreviousTagSize": {each(func(tag []byte) []byte {
			return binary.BigEndian.AppendUint32(tag[:len(tag)-4:len(tag)-4], uint32(len(tag)-15))
		}), "PreviousTagSize is wrong"},
		"unknown tags": {each(func(tag []byte) []byte { return append(append([]byte{15}, tag[1:]...), tag...) }),
			"tags of unknown types were skipped"},
		"trailing zeros": {append(bytes.Clone(file), make([]byte, 4096)...), "4096 zero bytes follow the last tag"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "odd.flv")
			if err := os.WriteFile(path, odd.file, 0o644); err != nil {
				t.Fatal(err)
			}
			p, code := probe(t, path)
			if code != 3 || len(p.Remarks) != 1 || p.Remarks[0].Code != "damaged" ||
				!strings.Contains(p.Remarks[0].Text, odd.says) || len(p.Tracks) != 2 {
				t.Errorf("exit code %d, %+v, %+v", code, p.Remarks, p.Tracks)
			}
			s, room := s.WithT(t), strings.ReplaceAll(name, " ", "-")
			viewer := watchRTMPEarly(t, s.RTMP(room))
			push := harness.Livego(t, t.TempDir(), nil, "push", path, s.RTMP(s.Key(room)))
			push.WaitOK(patience)
			check(t, "RTMP", src.packets, frames(t, viewer), mediacompare.Millisecond)
		})
	}
}

// TestProbeLive probes a stream of this server by each protocol, and by the name of its room.
func TestProbeLive(t *testing.T) {
	harness.Need(t, "ffmpeg")
	t.Parallel()
	s, src := harness.Start(t, harness.Options{}), load(t, sample.AV)
	push := s.PushTo(src.File(t), s.RTMP(s.Key("movie")), "-stream_loop", "-1")
	s.AwaitLive("movie")
	harness.Eventually(t, patience, "playlist", func() error {
		_, err := mediaURL(t.Context(), harness.Client(), s.HLS("movie"))
		return err
	})
	nobody := harness.Livego(t, t.TempDir(), nil, "probe", s.RTMP("nobody"))
	var waits []func()
	for source, container := range map[string]string{
		s.RTMP("movie"): "rtmp", s.FLV("movie"): "http-flv", s.HLS("movie"): "hls", "movie": "rtmp",
	} {
		p := harness.Livego(t, t.TempDir(), nil, "probe", "--json", source, "--rtmp=rtmp://"+s.Addr("rtmp_addr")+"/live")
		waits = append(waits, func() { checkLive(t, source, container, p) })
	}
	for _, wait := range waits {
		wait()
	}
	for source, want := range map[string]string{
		s.FLV("nobody"): "HTTP 404", "rtmp://127.0.0.1:1/live/x": "connection refused",
	} {
		p := harness.Livego(t, t.TempDir(), nil, "probe", source)
		if code := p.Wait(patience); code != 4 || !strings.Contains(p.Stderr(), want) ||
			strings.Count(p.Stderr(), "\n") != 1 {
			t.Errorf("%s: exit code %d\n%s", source, code, p.Stderr())
		}
	}
	if code := nobody.Wait(patience); code != 4 || !strings.Contains(nobody.Stderr(), "is the stream published?") ||
		strings.Count(nobody.Stderr(), "\n") != 1 {
		t.Errorf("room without a publisher: exit code %d\n%s", code, nobody.Stderr())
	}
	push.Kill()
}

// checkLive checks the report of probe for a stream of the sample AV.
func checkLive(t *testing.T, source, container string, run *harness.Process) {
	t.Helper()
	p, code := parseProbe(t, source, run)
	if code != 0 || !strings.HasPrefix(p.Container, container) || len(p.Tracks) != 2 {
		t.Errorf("%s: exit code %d, %+v", source, code, p)
	}
	for _, tr := range p.Tracks {
		if tr.Kind == "video" && (tr.Codec != "h264" || tr.Width != 320 || math.Abs(tr.FrameRate-25) > 1 || tr.GOP < 0.9 ||
			tr.GOP > 1.2) ||
			tr.Kind == "audio" && (tr.Codec != "aac" || tr.SampleRate != 44100 || tr.Channels != 2) {
			t.Errorf("%s: %+v", source, tr)
		}
	}
}

// TestProbeBadFiles probes invalid files: each gives one clear line, or a remark.
func TestProbeBadFiles(t *testing.T) {
	harness.Need(t, "ffmpeg")
	t.Parallel()
	dir := t.TempDir()
	write := func(name string, b []byte) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	read := func(name string) []byte {
		t.Helper()
		b, err := os.ReadFile(sample.MediaOf(t, name).File(t))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	whole := read("av.mp4")
	type row struct {
		path, want string
	}
	rows := []row{
		{dir, "is a directory"},
		{"/dev/null", "is not a file but a device"},
		{filepath.Join(dir, "nothing"), "no such file or directory"},
		{write("empty.mp4", nil), "the file is empty"},
		{write("text.mp4", []byte("This is no film, but a text that is called one.\n")),
			"unsupported container: livego reads"},
		{write("half.mp4", whole[:len(whole)/2]), "cut off before its index (moov)"},
		{write("list.m3u8", []byte("#EXTM3U\n")), "unsupported container: a playlist"},
		{write("wave.wav", append([]byte("RIFF\x00\x00\x00\x00WAVEfmt "), make([]byte, 100)...)),
			"unsupported container: WAV; convert it:\n  ffmpeg -i "},
		{write("head.mkv", read("av.mkv")[:100]), "the file is truncated: its header is incomplete"},
	}
	if os.Getuid() != 0 {
		secret := write("secret.mp4", whole)
		if err := os.Chmod(secret, 0); err != nil {
			t.Fatal(err)
		}
		rows = append(rows, row{secret, "permission denied"})
	}
	for _, r := range rows {
		p := harness.Livego(t, dir, nil, "probe", r.path)
		if code := p.Wait(patience); code != 4 || !strings.Contains(p.Stderr(), r.want) ||
			!strings.Contains(p.Stderr(), r.path) || strings.Count(p.Stderr(), "\n") != 1+strings.Count(r.want, "\n") {
			t.Errorf("%s: exit code %d\n%s", r.path, code, p.Stderr())
		}
	}
	corrupt := read("av.ts")
	for i := len(corrupt) / 2; i < len(corrupt)/2+3000; i++ {
		corrupt[i] ^= byte(i * 7)
	}
	for path, want := range map[string]string{
		write("cut.flv", read("av.flv")[:len(read("av.flv"))-500]):                         "cut",
		write("cut.mp4", read("faststart.mp4")[:len(read("faststart.mp4"))*2/3]):           "cut",
		write("cut.mkv", read("av.mkv")[:len(read("av.mkv"))*2/3]):                         "cut",
		write("corrupt.ts", corrupt):                                                       "damaged",
		write("joined.ts", slices.Concat(read("av.ts"), read("b.ts")[:len(read("b.ts"))])): "jump",
	} {
		p, code := probe(t, path)
		if code != 3 || !slices.Contains(p.codes(), want) {
			t.Errorf("%s: exit code %d, %+v, want %s", path, code, p.Remarks, want)
		}
		runRepairCommands(t, path, p)
	}
}

// TestHugeFilesOpenFast opens sparse files of 20 GB: as fast as small ones, and with as little
// memory.
func TestHugeFilesOpenFast(t *testing.T) {
	harness.Need(t, "ffmpeg")
	t.Parallel()
	const size = 20 << 30
	read := func(name string) []byte {
		t.Helper()
		b, err := os.ReadFile(sample.MediaOf(t, name).File(t))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	large := func(head string, n int64) []byte {
		return binary.BigEndian.AppendUint64([]byte("\x00\x00\x00\x01"+head), uint64(n))
	}
	mpegts, mp4 := read("av.ts"), read("av.mp4")
	mdat, moov := bytes.Index(mp4, []byte("mdat"))-4, bytes.Index(mp4, []byte("moov"))-4
	fragments, mkv := read("fragments.mp4"), read("live.mkv")
	for _, f := range []struct {
		name       string
		head, tail []byte // data at the start and at the end of the file
		whole      bool   // probe can read the first minute in spite of the hole
	}{
		{"huge.ts", mpegts, mpegts, false}, // a hole reads as zeros, which are not packets
		// ffmpeg reserves the space for a 64-bit size before mdat.
		{"huge.mp4", slices.Concat(mp4[:mdat-8], large("mdat", size-int64(len(mp4)-moov)-int64(mdat-8)), mp4[mdat+8:moov]),
			mp4[moov:], true},
		{"huge-fragments.mp4", slices.Concat(fragments, large("free", size-int64(len(fragments)))), nil, true},
		{"huge.mkv", slices.Concat(mkv, []byte("\xEC\x01"),
			binary.BigEndian.AppendUint64(nil, uint64(size-int64(len(mkv))-9))[1:]), nil, true},
	} {
		path := filepath.Join(t.TempDir(), f.name)
		file, err := os.Create(path)
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		if _, err = file.Write(f.head); err == nil && f.tail != nil {
			_, err = file.WriteAt(f.tail, size-int64(len(f.tail)))
		}
		if err == nil {
			err = file.Truncate(size)
		}
		if err != nil {
			t.Skipf("cannot create a sparse file: %v", err)
		}
		run := func(what string, args ...string) (*harness.Process, int) {
			began := harness.StartStopwatch()
			p := harness.Livego(t, t.TempDir(), []string{"GODEBUG=gctrace=1"}, append([]string{what}, args...)...)
			code := p.Wait(patience)
			if slow, heap := began.Exceeded(3*time.Second), peakHeapMB(t, p.Stderr()); slow || heap > 32 {
				t.Errorf("%s of %s took %d MB, and more than 3 s: %v", what, f.name, heap, slow)
			}
			return p, code
		}
		if p, code := run("push", path, "rtmp://127.0.0.1:1/live/x"); code != 1 ||
			!strings.Contains(p.Stderr(), "connection refused") {
			t.Errorf("%s: exit code %d\n%s", f.name, code, p.Stderr())
		}
		if !f.whole {
			continue
		}
		p, _ := run("probe", "--json", path)
		if got, code := parseProbe(t, path, p); code != 0 || len(got.Tracks) != 2 || got.Tracks[0].Frames != 50 {
			t.Errorf("%s: exit code %d, %+v", f.name, code, got)
		}
	}
}

// peakHeapMB returns the largest heap of a process in MB, by its trace of the garbage collector.
// The first collection is at 4 MB.
func peakHeapMB(t testing.TB, trace string) (most int) {
	t.Helper()
	for _, m := range regexp.MustCompile(`(\d+)->\d+->\d+ MB`).FindAllStringSubmatch(trace, -1) {
		n, err := strconv.Atoi(m[1])
		if err != nil {
			t.Fatal(err)
		}
		most = max(most, n)
	}
	return most
}
