package e2e

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"livego/e2e/harness"
	"livego/e2e/mediacompare"
	"livego/e2e/sample"
)

// push runs livego push with these arguments and the addresses of s.
func push(t testing.TB, s *harness.Server, args ...string) *harness.Process {
	t.Helper()
	return harness.Livego(t, t.TempDir(), nil,
		append([]string{"push", "--api=" + s.API(""), "--rtmp=" + strings.TrimSuffix(s.RTMP(""), "/")}, args...)...)
}

// recordRTMP has ffmpeg write the stream at url to a file, and returns when ffmpeg has sent play.
func recordRTMP(t testing.TB, url, out string, more ...string) *harness.Process {
	t.Helper()
	p := harness.FFmpeg(t, append(append([]string{"-v", "debug"}, more...), append(copyArgs(url), "-f", "flv", out)...)...)
	p.AwaitStderr(patience, func(s string) bool { return strings.Contains(s, "Sending play command") })
	return p
}

// reference returns the units of a file as ffmpeg remuxes it: with the edit list applied, and
// timestamps from 0 on.
func reference(t *testing.T, path string) mediacompare.Stream {
	t.Helper()
	out := filepath.Join(t.TempDir(), "reference.flv")
	harness.FFmpeg(t, "-i", path, "-c", "copy", "-f", "flv", out).WaitOK(patience)
	want, err := readFLV(t, out).DecoderUnits()
	if err != nil {
		t.Fatal(err)
	}
	return want
}

// TestPush pushes files of all containers and compares what a viewer receives: each frame must
// arrive with its bytes and its timestamp in the file after the edit list. Files that any RTMP
// server accepts are pushed to nginx too.
func TestPush(t *testing.T) {
	harness.Need(t, "ffmpeg", "nginx")
	server, nginx := harness.Start(t, harness.Options{}),
		startNginx(t, "application live { live on; wait_key on; publish_notify on; }")
	var ran, plain, all atomic.Int32
	t.Run("files", func(t *testing.T) {
		for _, m := range sample.AllMedia() {
			t.Run(m.Name, func(t *testing.T) {
				t.Parallel()
				ran.Add(1)
				path, room := m.File(t), "push-"+strings.ReplaceAll(m.Name, ".", "-")
				has := map[string]bool{}
				facts, _ := probe(t, path)
				for _, tr := range facts.Tracks {
					has[tr.RTMP] = true
				}
				switch {
				case has["no"] || has["old"]:
					return
				case has["enhanced"]:
					pushEnhanced(t, server.WithT(t), path, room)
				default:
					plain.Add(1)
					waits := func() { awaitWaiting(server.WithT(t), room) }
					pushPlain(t, path, server.RTMP(room), waits,
						func() *harness.Process { return push(t, server.WithT(t), path, room) })
					url := "rtmp://" + nginx + "/live/" + room
					pushPlain(t, path, url, func() {},
						func() *harness.Process { return harness.Livego(t, t.TempDir(), nil, "push", path, url) })
				}
				all.Add(1)
			})
		}
	})
	if int(ran.Load()) == len(sample.AllMedia()) && (plain.Load() < 40 || all.Load() < 50) {
		t.Errorf("%d files were pushed, %d of them to nginx", all.Load(), plain.Load())
	}
}

// pushPlain pushes a file of H.264, AAC or MP3, and compares it with what a viewer of url receives.
func pushPlain(t *testing.T, path, url string, waits func(), push func() *harness.Process) {
	t.Helper()
	out := filepath.Join(t.TempDir(), "out.flv")
	viewer := recordRTMP(t, url, out)
	waits()
	p := push()
	stalls := measureOversleep(p.Done())
	p.WaitOK(patience)
	viewer.WaitOK(patience)
	got, err := readFLV(t, out).DecoderUnits()
	if err != nil {
		t.Fatal(err)
	}
	want := reference(t, path)
	// A stream with video starts at its first keyframe: viewers do not get audio before it, such as
	// the encoder's priming.
	before := 0
	if pictures := want.Of(mediacompare.Video); len(pictures) > 0 {
		for _, u := range want.Of(mediacompare.Audio) {
			if u.DTS <= pictures[0].DTS {
				before++
			}
		}
	}
	tolerance := mediacompare.Millisecond
	if strings.HasSuffix(path, "cut.mp4") {
		// ffmpeg moves pictures so that one starts at the cut, which is in the middle of a picture
		tolerance = 10 * time.Millisecond
	}
	if m := check(t, url, want, got, tolerance); m.Video.First != 0 || m.Audio.First > before {
		t.Errorf("%s: the start is missing: %+v", url, m)
	}
	checkTiming(t, p, <-stalls)
}

// pushEnhanced pushes a file with a codec of Enhanced RTMP, and compares it with what comes by
// HTTP-FLV.
func pushEnhanced(t *testing.T, s *harness.Server, path, room string) {
	t.Helper()
	p := push(t, s, path, room)
	stalls := measureOversleep(p.Done())
	s.AwaitLive(room)
	got, err := watchFLV(t.Context(), harness.Client(), s.FLV(room))
	p.WaitOK(patience)
	if err != nil {
		t.Fatal(err)
	}
	packets, err := got.Packets()
	if err != nil {
		t.Fatal(err)
	}
	if strings.HasSuffix(path, "ts") { // MPEG-TS frames pictures in another way
		mkv := filepath.Join(t.TempDir(), "reference.mkv")
		sets := "7-9"
		if strings.Contains(path, "hevc") {
			sets = "32-35"
		}
		harness.FFmpeg(t, "-i", path, "-c", "copy", "-bsf:v", "filter_units=remove_types="+sets, mkv).WaitOK(patience)
		path = mkv
	}
	want := frames(t, harness.FFmpeg(t, "-i", path, "-c", "copy", "-f", "framemd5", "-"))
	for i := range want {
		want[i].Key = true // framemd5 has no keyframe flags
	}
	check(t, "HTTP-FLV", want, packets, mediacompare.Millisecond)
	checkTiming(t, p, <-stalls)
}

// checkTiming checks the statistics that push prints: frames are sent when they are due.
func checkTiming(t testing.TB, p *harness.Process, stalled time.Duration) {
	t.Helper()
	m := regexp.MustCompile(`at most (\d+) ms late and (\d+) ms early, (\d+) reconnects`).FindStringSubmatch(p.Stderr())
	if m == nil {
		t.Fatalf("push printed no statistics:\n%s", p.Stderr())
	}
	late, _ := strconv.Atoi(m[1])
	early, _ := strconv.Atoi(m[2])
	// The machine runs other tests at the same time. TestPushSendsOnTime is strict.
	if time.Duration(late)*time.Millisecond > time.Second+2*stalled || early > 50 {
		t.Errorf("%d ms late and %d ms early; the scheduling delay was %v", late, early, stalled)
	}
}

// TestPushList plays a list of five different files twice, and watches it by every protocol: no
// viewer is disconnected, and everything that arrives can be decoded.
func TestPushList(t *testing.T) {
	harness.Need(t, "ffmpeg")
	t.Parallel()
	s := harness.Start(t, harness.Options{Flags: []string{
		// so that a viewer that joins late gets all of it
		"--hls_window=1000", "--hls_keep_after_end", "--gop_num=100", "--ring_time=1m",
	}})
	dir := t.TempDir()
	list, pictures := "ffconcat version 1.0\n# five unlike files\n", 0
	for i, m := range sample.MixedMedia(t) {
		link := filepath.Join(dir, fmt.Sprintf("it's %d%s", i, filepath.Ext(m.Name)))
		if err := os.Symlink(m.File(t), link); err != nil {
			t.Fatal(err)
		}
		list += fmt.Sprintf("file 'it'\\''s %d%s'\n", i, filepath.Ext(m.Name))
		pictures += 2 * m.Pictures(t)
	}
	files := filepath.Join(dir, "files.txt")
	if err := os.WriteFile(files, []byte(list), 0o600); err != nil {
		t.Fatal(err)
	}
	rtmpOut, flvOut := filepath.Join(dir, "rtmp.flv"), filepath.Join(dir, "http.flv")
	viewer := recordRTMP(t, s.RTMP("channel"), rtmpOut)
	awaitWaiting(s, "channel")
	p := push(t, s, "--times=2", files, "channel")
	s.AwaitLive("channel")
	flv := harness.FFmpeg(t, append(copyArgs(s.FLV("channel")), "-f", "flv", flvOut)...)
	hls := async(func() (map[int][]byte, error) { return recordHLS(t.Context(), s.HLS("channel")) })
	p.WaitOK(patience)
	viewer.WaitOK(patience)
	flv.WaitOK(patience)
	if !strings.Contains(p.Stderr(), "players get new parameters there") ||
		strings.Count(p.Stderr(), "players get new") != 4 {
		t.Errorf("push did not print what differs:\n%s", p.Stderr())
	}
	for _, path := range []string{rtmpOut, flvOut} {
		checkChannel(t, path, 2*5*2, pictures)
	}
	// ffmpeg handles new parameters within MPEG-TS, but not within fragmented MP4.
	if n := countDecoded(t, strings.TrimSuffix(s.HLS("channel"), ".m3u8")+"/ts.m3u8", "-live_start_index",
		"0"); n != pictures {
		t.Errorf("HLS: ffmpeg decodes %d pictures, want %d", n, pictures)
	}
	parts, err := hls()
	if err != nil {
		t.Fatal(err)
	}
	if len(parts) < 10 { // one for each file of both rounds
		t.Errorf("HLS: %d discontinuity periods, want at least 10", len(parts))
	}
	decoded := 0
	for n, b := range parts {
		out := filepath.Join(dir, fmt.Sprintf("hls%d", n))
		if err := os.WriteFile(out, b, 0o600); err != nil {
			t.Fatal(err)
		}
		decoded += countDecoded(t, out)
	}
	if decoded != pictures {
		t.Errorf("HLS: %d pictures, want %d", decoded, pictures)
	}
}

// recordHLS downloads all segments of a stream until its playlist ends. It returns the segments
// between two discontinuities as one file, by the number of discontinuities before them.
func recordHLS(ctx context.Context, master string) (map[int][]byte, error) {
	c, parts, seen := harness.Client(), map[int][]byte{}, map[string]bool{}
	list, err := mediaURL(ctx, c, master)
	for err == nil {
		var body []byte
		if _, body, err = pollFetch(ctx, c, list); err != nil {
			break
		}
		part, init := 0, ""
		for line := range strings.Lines(string(body)) {
			line = strings.TrimSpace(line)
			tag, value, _ := strings.Cut(line, ":")
			switch {
			case tag == "#EXT-X-DISCONTINUITY-SEQUENCE":
				part, err = strconv.Atoi(value)
			case tag == "#EXT-X-DISCONTINUITY":
				part++
			case tag == "#EXT-X-MAP":
				_, init, _ = strings.Cut(value, `URI="`)
				init, _, _ = strings.Cut(init, `"`)
			case tag == "#EXT-X-ENDLIST":
				return parts, nil
			case line != "" && line[0] != '#' && !seen[line]:
				seen[line] = true
				if parts[part] == nil && init != "" {
					parts[part], err = fetchHLS(ctx, c, list, init)
				}
				var b []byte
				if err == nil {
					b, err = fetchHLS(ctx, c, list, line)
				}
				parts[part] = append(parts[part], b...)
			}
			if err != nil {
				return nil, err
			}
		}
		select {
		case <-time.After(300 * time.Millisecond):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return nil, err
}

func fetchHLS(ctx context.Context, c *http.Client, list, ref string) ([]byte, error) {
	at, err := resolve(list, ref)
	if err != nil {
		return nil, err
	}
	_, b, err := pollFetch(ctx, c, at)
	return b, err
}

// checkChannel checks that the timestamps of a recording rise without gaps for this many seconds,
// and that all of it decodes to this many pictures. Each part between two changes of parameters is
// decoded separately.
func checkChannel(t *testing.T, path string, seconds float64, pictures int) {
	t.Helper()
	file := readFLV(t, path)
	last := map[byte]uint32{}
	var first, end uint32
	part := &mediacompare.FLVFile{HasVideo: true, HasAudio: true}
	parts, decoded := 0, 0
	flush := func() {
		if len(part.Tags) > 10 {
			out := filepath.Join(t.TempDir(), fmt.Sprintf("part%d.flv", parts))
			f, err := os.Create(out)
			if err == nil {
				err = part.Write(f)
				f.Close()
			}
			if err != nil {
				t.Fatal(err)
			}
			decoded += countDecoded(t, out)
			parts++
		}
	}
	headers := map[byte]mediacompare.FLVTag{}
	for i, tag := range file.Tags {
		if tag.Type == mediacompare.TagScript {
			continue
		}
		if before, ok := last[tag.Type]; ok && !tag.IsHeader() && (tag.Time < before || tag.Time > before+400) {
			t.Errorf("%s: tag %d of type %d at %d ms, after one at %d", path, i, tag.Type, tag.Time, before)
		}
		if tag.IsHeader() {
			headers[tag.Type] = tag
			if tag.Type == mediacompare.TagVideo {
				flush()
				part = &mediacompare.FLVFile{HasVideo: true, HasAudio: true,
					Tags: []mediacompare.FLVTag{headers[mediacompare.TagVideo], headers[mediacompare.TagAudio]}}
				if headers[mediacompare.TagAudio].Body == nil {
					part.Tags = part.Tags[:1]
				}
				continue
			}
		} else {
			if len(last) == 0 {
				first = tag.Time
			}
			last[tag.Type], end = tag.Time, tag.Time
		}
		part.Tags = append(part.Tags, tag)
	}
	flush()
	if got := float64(end-first) / 1000; got < seconds-3 || got > seconds+1 {
		t.Errorf("%s: %v s, want %v", path, got, seconds)
	}
	if decoded != pictures {
		t.Errorf("%s: %d pictures, want %d", path, decoded, pictures)
	}
	if want := 8; parts != want { // two of the five have the same video
		t.Errorf("%s: %d parts, want %d", path, parts, want)
	}
}

// countDecoded decodes a file or a stream to its end, and returns the number of pictures. ffmpeg
// must print no error.
func countDecoded(t *testing.T, from string, more ...string) (pictures int) {
	t.Helper()
	p := harness.FFmpeg(t, slices.Concat([]string{"-v", "error"}, more,
		[]string{"-i", from, "-fps_mode", "passthrough", "-f", "framecrc", "-"})...)
	if p.Wait(patience); strings.Contains(p.Stderr(), "Cannot determine format of input stream") {
		return 0 // a few milliseconds of audio between the new audio header and the new video header
	}
	p.WaitOK(patience)
	for line := range strings.Lines(p.Stderr()) {
		// the audio of two files overlaps within a millisecond
		if !strings.Contains(line, "non monotonically increasing dts") {
			t.Errorf("%s: %s", from, line)
		}
	}
	video := "none"
	for line := range strings.Lines(p.Stdout()) {
		if n, ok := strings.CutSuffix(strings.TrimSpace(line), ": video"); ok {
			video = strings.TrimPrefix(n, "#media_type ") + ","
		}
		if strings.HasPrefix(line, video) {
			pictures++
		}
	}
	return pictures
}

// TestPushConcat plays a list of files with the same codecs and time base, as ffmpeg's concat
// demuxer needs them, and compares the stream with ffmpeg's output for the list.
func TestPushConcat(t *testing.T) {
	harness.Need(t, "ffmpeg")
	t.Parallel()
	s, dir := harness.Start(t, harness.Options{}), t.TempDir()
	list := "ffconcat version 1.0\n"
	const files = 3
	for _, name := range [files]string{"av.mp4", "vfr.mp4", "av.mp4"} {
		list += "file '" + sample.MediaOf(t, name).File(t) + "'\n"
	}
	text, joined, out := filepath.Join(dir, "files.txt"), filepath.Join(dir, "joined.flv"), filepath.Join(dir, "out.flv")
	if err := os.WriteFile(text, []byte(list), 0o600); err != nil {
		t.Fatal(err)
	}
	harness.FFmpeg(t, "-f", "concat", "-safe", "0", "-i", text, "-c", "copy", joined).WaitOK(patience)
	viewer := recordRTMP(t, s.RTMP("channel"), out)
	awaitWaiting(s, "channel")
	push(t, s, text, "channel").WaitOK(patience)
	viewer.WaitOK(patience)
	want, err := readFLV(t, joined).DecoderUnits()
	if err != nil {
		t.Fatal(err)
	}
	got, err := readFLV(t, out).DecoderUnits()
	if err != nil {
		t.Fatal(err)
	}
	// ffmpeg starts a file when the longest track of the file before it ends, livego when its video
	// ends: they differ by some milliseconds per file.
	const join = 60 * time.Millisecond
	check(t, "pictures", want.Of(mediacompare.Video), got.Of(mediacompare.Video), files*join/2)
	sound, n := want.Of(mediacompare.Audio), 0
	for _, u := range got.Of(mediacompare.Audio) {
		i := slices.IndexFunc(sound[n:], func(w mediacompare.Unit) bool { return w.Sum == u.Sum })
		if i < 0 {
			t.Fatalf("audio frame that is not in the list, or out of order: %v", u)
		}
		n += i + 1
	}
	// At each join, the audio that is longer than the video replaces the priming of the next file.
	if missing := len(sound) - len(got.Of(mediacompare.Audio)); missing < 0 || missing > 4*files {
		t.Errorf("%d audio frames are missing", missing)
	}
	last := map[mediacompare.Kind]time.Duration{}
	for _, u := range got {
		if u.DTS < last[u.Kind] {
			t.Errorf("%v comes after a unit at %v", u, last[u.Kind])
		}
		last[u.Kind] = u.DTS
	}
}

// TestPushReconnects kills the server and starts it again: push continues the stream.
func TestPushReconnects(t *testing.T) {
	harness.Need(t, "ffmpeg")
	t.Parallel()
	dir := t.TempDir()
	s := harness.Start(t, harness.Options{DataDir: dir})
	src := load(t, sample.AV)
	p := push(t, s, "--times=3", src.File(t), "movie")
	s.AwaitLive("movie")
	s.Kill()
	p.AwaitStderr(patience, func(out string) bool { return strings.Contains(out, "connection lost: reconnect attempt") })
	again := harness.Start(t, harness.Options{DataDir: dir, Flags: []string{"--rtmp_addr=" + s.Addr("rtmp_addr")}})
	again.AwaitLive("movie")
	viewer := watchRTMP(t, "rtmp://"+s.Addr("rtmp_addr")+"/live/movie")
	p.WaitOK(patience)
	if got := frames(t, viewer); len(got) < 100 {
		t.Errorf("%d frames came after the reconnect", len(got))
	}
	if !strings.Contains(p.Stderr(), "1 reconnects") {
		t.Errorf("push did not report the reconnect:\n%s", p.Stderr())
	}
}

// TestPushErrors checks the exit codes and error messages.
func TestPushErrors(t *testing.T) {
	harness.Need(t, "ffmpeg")
	t.Parallel()
	s := harness.Start(t, harness.Options{})
	av, dir := sample.MediaOf(t, "av.mp4").File(t), t.TempDir()
	list := filepath.Join(dir, "files.txt")
	if err := os.WriteFile(list, []byte("file '"+av+"'\nfile gone.mp4\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	bad := filepath.Join(dir, "bad.txt")
	if err := os.WriteFile(bad, []byte("file '"+av+"'\nspeed 3\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{av}, 2, "push needs one or more files"},
		{[]string{av, "no/room"}, 2, "the last argument must be a room or an address"},
		{[]string{"--speed=0", av, "movie"}, 2, "--speed must be"},
		{[]string{"--start=x", av, "movie"}, 2, "invalid time"},
		{[]string{"--tracks=x", av, "movie"}, 2, "invalid track selection"},
		{[]string{"--tracks=a:1", "--transcode", av, "movie"}, 2, "--transcode and --tracks cannot be combined"},
		{[]string{filepath.Join(dir, "none.mp4"), "movie"}, 4, "none.mp4: no such file"},
		{[]string{dir, "movie"}, 4, "is a directory"},
		{[]string{"/dev/null", "movie"}, 4, "is not a file but a device"},
		{[]string{list, "movie"}, 4, "files.txt:2: " + filepath.Join(dir, "gone.mp4") + ": no such file"},
		{[]string{bad, "movie"}, 4, `bad.txt:2: unknown word "speed"`},
		{[]string{sample.MediaOf(t, "pcm.mov").File(t), "movie"}, 4, "RTMP does not support the audio codec pcm"},
		{[]string{av, s.RTMP("movie")}, 1, "NetStream.Publish.BadName"},
		{[]string{av, "rtmp://127.0.0.1:1/live/x"}, 1, "connection refused"},
		{[]string{av, "rtmp://127.0.0.1:1"}, 1, "invalid RTMP address"},
	} {
		p := push(t, s, c.args...)
		if code := p.Wait(patience); code != c.code || !strings.Contains(p.Stderr(), c.want) || c.code != 4 &&
			strings.Count(p.Stderr(), "\n") != 1 {
			t.Errorf("push %q: exit code %d, want %d\n%s", c.args, code, c.code, p.Stderr())
		}
	}
}

// TestPushRTMPS pushes by RTMPS at double speed to a server whose certificate is trusted. A server
// with an unknown certificate is refused.
func TestPushRTMPS(t *testing.T) {
	harness.Need(t, "ffmpeg")
	t.Parallel()
	cert, key, _ := harness.Certificate(t)
	s := harness.Start(t, harness.Options{Flags: []string{"--enable_rtmps=true", "--rtmps_cert=" + cert,
		"--rtmps_key=" + key}})
	path, out := sample.MediaOf(t, "av.mp4").File(t), filepath.Join(t.TempDir(), "out.flv")
	url := "rtmps://" + s.Addr("rtmps_addr") + "/live/" + s.Key("movie")
	unknown := harness.Livego(t, t.TempDir(), nil, "push", path, url)
	if code := unknown.Wait(patience); code != 1 || !strings.Contains(unknown.Stderr(), "certificate") ||
		strings.Count(unknown.Stderr(), "\n") != 1 {
		t.Errorf("exit code %d\n%s", code, unknown.Stderr())
	}
	viewer := recordRTMP(t, s.RTMP("movie"), out)
	awaitWaiting(s, "movie")
	began := harness.StartStopwatch()
	harness.Livego(t, t.TempDir(), []string{"SSL_CERT_FILE=" + cert}, "push", "--times=3", "--speed=2", path,
		url).WaitOK(patience)
	if took, _ := began.Elapsed(); took < 2900*time.Millisecond || began.Exceeded(5*time.Second) {
		t.Errorf("6 s at double speed took %v", took)
	}
	viewer.WaitOK(patience)
	got, err := readFLV(t, out).DecoderUnits()
	if err != nil || len(got.Of(mediacompare.Video)) != 150 {
		t.Errorf("%d pictures came, %v", len(got.Of(mediacompare.Video)), err)
	}
}

// TestPushTracks pushes a file with two audio tracks: the second alone, and all tracks, to a server
// with multitrack support and to one without it.
func TestPushTracks(t *testing.T) {
	harness.Need(t, "ffmpeg", "nginx")
	t.Parallel()
	s, nginx := harness.Start(t, harness.Options{}),
		startNginx(t, "application live { live on; wait_key on; publish_notify on; }")
	path := sample.MediaOf(t, "two-sounds.mp4").File(t)
	mapped := func(sound string) mediacompare.Stream {
		out := filepath.Join(t.TempDir(), "reference.flv")
		harness.FFmpeg(t, "-i", path, "-map", "0:v:0", "-map", "0:a:"+sound, "-c", "copy", "-f", "flv", out).WaitOK(patience)
		want, err := readFLV(t, out).Packets()
		if err != nil {
			t.Fatal(err)
		}
		return want
	}
	first, second := mapped("0"), mapped("1")
	play := func(room, query, tracks string) mediacompare.Stream {
		t.Helper()
		p := push(t, s, "--tracks="+tracks, path, room)
		s.AwaitLive(room)
		got, err := watchFLV(t.Context(), harness.Client(), s.FLV(room)+query)
		p.WaitOK(patience)
		if err != nil {
			t.Fatal(err)
		}
		packets, err := got.Packets()
		if err != nil {
			t.Fatal(err)
		}
		return packets
	}
	check(t, "second audio track", second, play("second", "", "v:0,a:1"), mediacompare.Millisecond)
	check(t, "audio alone", second.Of(mediacompare.Audio), play("sound", "", "a:1"), mediacompare.Millisecond)
	all := play("all", "?tracks=all", "all")
	check(t, "all tracks, first", first, all.Track(0), mediacompare.Millisecond)
	check(t, "all tracks, second", second.Of(mediacompare.Audio), all.Track(1), mediacompare.Millisecond)

	out, url := filepath.Join(t.TempDir(), "out.flv"), "rtmp://"+nginx+"/live/all"
	viewer := recordRTMP(t, url, out)
	p := harness.Livego(t, t.TempDir(), nil, "push", "--tracks=all", path, url)
	p.WaitOK(patience)
	if strings.Count(p.Stderr(), "the server does not support multitrack") != 1 {
		t.Errorf("it does not say that the server takes no more:\n%s", p.Stderr())
	}
	viewer.WaitOK(patience)
	got, err := readFLV(t, out).Packets()
	if err != nil {
		t.Fatal(err)
	}
	check(t, "nginx", first, got, mediacompare.Millisecond)
}

// TestPushNeedsCredential pushes to a room of a server that needs a credential to return a key:
// push finds the server's address and token by its settings, and sends the token to no other
// server.
func TestPushNeedsCredential(t *testing.T) {
	harness.Need(t, "ffmpeg")
	t.Parallel()
	s := harness.Start(t, harness.Options{Flags: []string{"--jwt.secret=a secret that nobody guesses, for operators"}})
	path := sample.MediaOf(t, "av.mp4").File(t)
	args := []string{"push", "--rtmp=" + strings.TrimSuffix(s.RTMP(""), "/"), "--speed=4"}
	harness.Livego(t, t.TempDir(), nil,
		append(args, "--data_dir="+s.DataDir, "--api_addr="+s.Addr("api_addr"), path, "movie")...).WaitOK(patience)
	p := harness.Livego(t, t.TempDir(), nil, append(args, "--data_dir="+s.DataDir, "--api="+s.API(""), path, "movie")...)
	if code := p.Wait(patience); code == 0 ||
		!strings.Contains(p.Stderr(), "get the stream key of room movie: server error: ") {
		t.Errorf("without settings: exit code %d\n%s", code, p.Stderr())
	}
}

// TestPushProgressBar checks that push prints a progress bar to a terminal instead of lines.
func TestPushProgressBar(t *testing.T) {
	harness.Need(t, "ffmpeg", "script")
	t.Parallel()
	s := harness.Start(t, harness.Options{})
	path := sample.MediaOf(t, "av.mp4").File(t)
	command := fmt.Sprintf("%s push --times=2 --api=%s --rtmp=%s '%s' movie", harness.Binary(t, true), s.API(""),
		strings.TrimSuffix(s.RTMP(""), "/"), path)
	terminal := harness.StartProgram(t, "script", "-qec", command, "/dev/null")
	terminal.WaitOK(patience)
	screen := terminal.Stdout()
	for _, want := range []string{`av\.mp4, 0:0\d\.\d of 0:02\.0, \d+ kbit/s, \d+ ms late`,
		`av\.mp4, round 2`, `\r`, `█`,
		`sent 0:0\d\.\d`} {
		if !regexp.MustCompile(want).MatchString(screen) {
			t.Errorf("the terminal shows no %s:\n%q", want, screen)
		}
	}
}

// TestPushTranscodesAudio plays a file whose audio RTMP cannot carry, by ffmpeg: the video is not
// transcoded.
func TestPushTranscodesAudio(t *testing.T) {
	harness.Need(t, "ffmpeg")
	t.Parallel()
	s := harness.Start(t, harness.Options{})
	path, out := sample.MediaOf(t, "pcm.mov").File(t), filepath.Join(t.TempDir(), "out.flv")
	viewer := recordRTMP(t, s.RTMP("movie"), out)
	awaitWaiting(s, "movie")
	push(t, s, "--transcode", path, "movie").WaitOK(patience)
	viewer.WaitOK(patience)
	got, err := readFLV(t, out).DecoderUnits()
	if err != nil {
		t.Fatal(err)
	}
	pictures := filepath.Join(t.TempDir(), "pictures.flv")
	harness.FFmpeg(t, "-i", path, "-an", "-c", "copy", "-f", "flv", pictures).WaitOK(patience)
	want, err := readFLV(t, pictures).DecoderUnits()
	if err != nil {
		t.Fatal(err)
	}
	check(t, "RTMP", want, got.Of(mediacompare.Video), 2*mediacompare.Millisecond)
	if sound := len(got.Of(mediacompare.Audio)); sound < 90 {
		t.Errorf("%d audio frames", sound)
	}
	// Without ffmpeg, push prints the command for a machine that has it.
	for _, c := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{path, "rtmp://127.0.0.1:1/live/x"}, 4,
			"audio codec pcm\nlivego: repair the file:\n  ffmpeg -i " + path},
		{[]string{"--transcode", path, "rtmp://127.0.0.1:1/live/x"}, 1, "--transcode needs ffmpeg, which is not installed"},
	} {
		p := harness.Livego(t, t.TempDir(), []string{"PATH=" + t.TempDir()}, append([]string{"push"}, c.args...)...)
		if code := p.Wait(patience); code != c.code || !strings.Contains(p.Stderr(), c.want) {
			t.Errorf("exit code %d\n%s", code, p.Stderr())
		}
	}
}

// TestPushTranscodesVideo has ffmpeg transcode the video alone: the audio stays as it is.
func TestPushTranscodesVideo(t *testing.T) {
	harness.Need(t, "ffmpeg")
	t.Parallel()
	s := harness.Start(t, harness.Options{})
	path, out := sample.MediaOf(t, "prores.mov").File(t), filepath.Join(t.TempDir(), "out.flv")
	viewer := recordRTMP(t, s.RTMP("movie"), out)
	awaitWaiting(s, "movie")
	p := push(t, s, "--transcode", path, "movie")
	if p.WaitOK(patience); strings.Contains(p.Stderr(), "warning") {
		t.Errorf("push prints a warning:\n%s", p.Stderr())
	}
	viewer.WaitOK(patience)
	got, err := readFLV(t, out).DecoderUnits()
	if err != nil {
		t.Fatal(err)
	}
	sound := filepath.Join(t.TempDir(), "sound.flv")
	harness.FFmpeg(t, "-i", path, "-vn", "-c", "copy", "-f", "flv", sound).WaitOK(patience)
	want, err := readFLV(t, sound).DecoderUnits()
	if err != nil {
		t.Fatal(err)
	}
	check(t, "RTMP", want, got.Of(mediacompare.Audio), 2*mediacompare.Millisecond)
	if pictures := len(got.Of(mediacompare.Video)); pictures < 45 {
		t.Errorf("%d pictures", pictures)
	}
}

// TestPushTranscoderFails runs an ffmpeg that fails in the middle of a file, which then ends, and
// one that fails before its first frame.
func TestPushTranscoderFails(t *testing.T) {
	harness.Need(t, "ffmpeg")
	t.Parallel()
	s := harness.Start(t, harness.Options{})
	path, whole := sample.MediaOf(t, "pcm.mov").File(t), sample.MediaOf(t, "av.mp4").File(t)
	half := filepath.Join(t.TempDir(), "half.mkv")
	harness.FFmpeg(t, "-i", whole, "-c", "copy", half).WaitOK(patience)
	b, err := os.ReadFile(half)
	if err == nil {
		err = os.WriteFile(half, b[:len(b)/2], 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	for room, c := range map[string]struct {
		script string
		code   int
		want   []string
	}{
		"midst": {"cat '" + half + "'; echo it broke >&2; exit 1", 0,
			[]string{"warning: " + path + ": ffmpeg: it broke (exit status 1)\n", "2/2 av.mp4", "sent 0:0"}},
		"kill": {"cat '" + half + "'; kill -9 $$", 0,
			[]string{"warning: " + path + ": ffmpeg: stopped unexpectedly (signal: killed)\n", "2/2 av.mp4", "sent 0:0"}},
		"head": {"echo no such codec >&2; exit 1", 4,
			[]string{"livego: " + path + ": ffmpeg: no such codec (exit status 1)\n"}},
	} {
		bin := t.TempDir()
		if err := os.WriteFile(filepath.Join(bin, "ffmpeg"), []byte("#!/bin/sh\n"+c.script), 0o700); err != nil {
			t.Fatal(err)
		}
		p := harness.Livego(t, t.TempDir(), []string{"PATH=" + bin + ":/usr/bin:/bin"}, "push", "--transcode", path, whole,
			s.RTMP(s.Key(room)))
		code := p.Wait(patience)
		printed := !slices.ContainsFunc(c.want, func(w string) bool { return !strings.Contains(p.Stderr(), w) })
		if code != c.code || !printed || strings.Count(p.Stderr(), "ffmpeg:") != 1 {
			t.Errorf("%s: exit code %d\n%swant %d, %q", room, code, p.Stderr(), c.code, c.want)
		}
	}
}

// TestPushChangingFiles pushes files that change while they play: a file that grows is played up to
// its first size, and a file in a list that is removed ends the list.
func TestPushChangingFiles(t *testing.T) {
	harness.Need(t, "ffmpeg")
	t.Parallel()
	s, dir := harness.Start(t, harness.Options{}), t.TempDir()
	copied := func(as string, more ...string) (path string) {
		t.Helper()
		path = filepath.Join(dir, as)
		harness.FFmpeg(t, slices.Concat([]string{"-i", sample.HighBitrateMedia().File(t), "-c", "copy"}, more,
			[]string{path})...).WaitOK(patience)
		return path
	}
	// They are long enough that the last one is not open yet while the first plays.
	first, last := copied("first.flv"), copied("last.flv")
	vanishing := push(t, s, first, first, first, last, "vanishing")
	s.AwaitLive("vanishing")
	if err := os.Remove(last); err != nil {
		t.Fatal(err)
	}
	growing := map[string]*harness.Process{}
	for name, more := range map[string][]string{"a.flv": nil, "a.ts": nil, "a.mkv": {"-live", "1"},
		"a.mp4": {"-movflags", "frag_keyframe+empty_moov"}} {
		path := copied("growing-"+name, more...)
		room := strings.ReplaceAll(name, ".", "-")
		growing[name] = push(t, s, path, room)
		s.AwaitLive(room)
		f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
		if err == nil {
			_, err = f.Write(make([]byte, 1000))
			f.Close()
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	for name, p := range growing {
		if p.WaitOK(patience); strings.Count(p.Stderr(), "still being written") != 1 {
			t.Errorf("%s: push did not report that the file grows:\n%s", name, p.Stderr())
		}
	}
	if code := vanishing.Wait(patience); code != 4 || !strings.Contains(vanishing.Stderr(), "last.flv: no such file") {
		t.Errorf("vanishing: exit code %d\n%s", code, vanishing.Stderr())
	}
}

// TestPushDamaged pushes files of every container that are truncated, or have random data in the
// middle: push plays what it can, and prints a line about the rest.
func TestPushDamaged(t *testing.T) {
	harness.Need(t, "ffmpeg")
	server := harness.Start(t, harness.Options{})
	for _, name := range []string{"faststart.mp4", "fragments.mp4", "av.mkv", "live.mkv", "av.ts", "av.flv", "sound.aac",
		"vbr.mp3"} {
		for _, how := range []string{"cut", "corrupt"} {
			t.Run(how+" "+name, func(t *testing.T) {
				t.Parallel()
				s := server.WithT(t)
				b, err := os.ReadFile(sample.MediaOf(t, name).File(t))
				if err != nil {
					t.Fatal(err)
				}
				if how == "cut" {
					b = b[:len(b)*2/3]
				} else {
					for i := len(b) / 2; i < len(b)/2+3000; i++ {
						b[i] ^= byte(i * 7)
					}
				}
				path, room := filepath.Join(t.TempDir(), name), how+"-"+strings.ReplaceAll(name, ".", "-")
				if err := os.WriteFile(path, b, 0o600); err != nil {
					t.Fatal(err)
				}
				p := push(t, s, path, room)
				code := p.Wait(patience)
				warned := strings.Count(p.Stderr(), "warning:")
				if code != 0 || !strings.Contains(p.Stderr(), "sent 0:0") || warned > 1 {
					t.Errorf("exit code %d\n%s", code, p.Stderr())
				}
				// In a container without lengths and an index, a truncated file is a shorter file.
				if ends := slices.Contains([]string{".ts", ".aac", ".mp3"}, filepath.Ext(name)); how == "cut" && warned == 0 &&
					!ends {
					t.Errorf("push did not report that the file is truncated:\n%s", p.Stderr())
				}
			})
		}
	}
}

// TestPushInterrupted sends SIGINT, as Ctrl-C does: the stream ends cleanly for all viewers at
// once.
func TestPushInterrupted(t *testing.T) {
	harness.Need(t, "ffmpeg")
	t.Parallel()
	s := harness.Start(t, harness.Options{})
	p := push(t, s, "--loop", "--start=0.5", sample.MediaOf(t, "av.mp4").File(t), "movie")
	s.AwaitLive("movie")
	viewer := watchRTMP(t, s.RTMP("movie"))
	p.AwaitStderr(patience, func(out string) bool { return strings.Contains(out, "round 2") })
	p.Signal(syscall.SIGINT)
	if code := p.Wait(patience); code != 0 {
		t.Errorf("exit code %d\n%s", code, p.Stderr())
	}
	viewer.WaitOK(10 * time.Second)
}

// TestPushSendsOnTime pushes 8 Mbit/s for half a minute, or for ten minutes, and measures when
// frames are sent, when they arrive, and the processor time.
func TestPushSendsOnTime(t *testing.T) {
	harness.Need(t, "ffmpeg")
	t.Parallel()
	times := 4
	if harness.Long() {
		times = 120
	}
	dense := sample.HighBitrateMedia().File(t)
	s := harness.Start(t, harness.Options{NoRace: true})
	began := time.Now()
	p := push(t, s, fmt.Sprintf("--times=%d", times), dense, "movie")
	s.AwaitLive("movie")
	viewer := async(func() (arrivals, error) { return watchArrivals(t.Context(), s.FLV("movie")) })
	stalls := measureOversleep(p.Done())
	p.WaitOK(patience + time.Duration(times)*5*time.Second)
	took, cpu, stalled := time.Since(began), p.CPUTime(), <-stalls
	m := regexp.MustCompile(`at most (\d+) ms late and (\d+) ms early`).FindStringSubmatch(p.Stderr())
	if m == nil {
		t.Fatalf("push printed no statistics:\n%s", p.Stderr())
	}
	got, err := viewer()
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%s; %v of CPU in %v, %.2f %%; arrived %v late and %v early; the scheduling delay was %v",
		m[0], cpu, took, 100*cpu.Seconds()/took.Seconds(), got.late, got.early, stalled)
	// 3 % of a core, and the cost of the start.
	if limit := took*3/100 + 250*time.Millisecond; cpu > limit {
		t.Errorf("push used %v of CPU in %v, want at most %v", cpu, took, limit)
	}
	const mostEarly, mostLate = 50 * time.Millisecond, 100 * time.Millisecond
	if early, _ := strconv.Atoi(m[2]); time.Duration(early)*time.Millisecond > mostEarly {
		t.Errorf("%s ms early", m[2])
	}
	// Push reads a frame in one goroutine and sends it in another, so that the scheduling delay of
	// this machine counts twice. A longer delay is the fault of push.
	if late, _ := strconv.Atoi(m[1]); time.Duration(late)*time.Millisecond > mostLate+2*stalled {
		t.Errorf("%s ms late", m[1])
	}
	// The server has a batching window, and its clock is not that of push.
	const window = 50 * time.Millisecond
	if got.n < times*5*30 || got.early > mostEarly+window || got.late > mostLate+window+2*stalled {
		t.Errorf("%d frames arrived, %v early and %v late at most", got.n, got.early, got.late)
	}
}

// arrivals describes when frames arrived at a viewer: how many there were, and by how much the
// earliest and the latest differ from the median.
type arrivals struct {
	n           int
	early, late time.Duration
}

func watchArrivals(ctx context.Context, url string) (a arrivals, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return a, err
	}
	resp, err := harness.Client().Do(req)
	if err != nil {
		return a, err
	}
	defer resp.Body.Close()
	flv, err := mediacompare.NewFLVReader(resp.Body)
	if err != nil {
		return a, err
	}
	began := time.Now()
	var off []time.Duration
	for {
		tag, err := flv.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return a, err
		}
		// The start-up cache arrives at once.
		if at := time.Since(began); at > time.Second && tag.Type != mediacompare.TagScript && !tag.IsHeader() {
			off = append(off, at-time.Duration(tag.Time)*time.Millisecond)
		}
	}
	if a.n = len(off); a.n > 0 {
		slices.Sort(off)
		middle := off[a.n/2]
		a.early, a.late = middle-off[0], off[a.n-1]-middle
	}
	return a, nil
}

// measureOversleep measures by how much a sleep of 5 ms is too long at most, with one thread for
// each core, until done is closed.
func measureOversleep(done <-chan struct{}) <-chan time.Duration {
	most, threads := make(chan time.Duration, 1), runtime.NumCPU()
	each := make(chan time.Duration, threads)
	for range threads {
		go func() {
			runtime.LockOSThread()
			const nap = 5 * time.Millisecond
			worst, last := time.Duration(0), time.Now()
			tick := time.NewTimer(0)
			for {
				tick.Reset(nap)
				select {
				case <-tick.C:
					worst = max(worst, time.Since(last)-nap)
					last = time.Now()
				case <-done:
					each <- worst
					return
				}
			}
		}()
	}
	go func() {
		worst := time.Duration(0)
		for range threads {
			worst = max(worst, <-each)
		}
		most <- worst
	}()
	return most
}

// TestPushWarnings pushes a file that plays badly: push prints why, and where to watch.
func TestPushWarnings(t *testing.T) {
	harness.Need(t, "ffmpeg")
	t.Parallel()
	s, file := harness.Start(t, harness.Options{}), filepath.Join(t.TempDir(), "my film.mp4")
	harness.FFmpeg(t, "-f", "lavfi", "-i", "testsrc2=size=160x90:rate=25:duration=9", "-c:v", "libx264", "-preset",
		"ultrafast", "-g", "200", "-keyint_min", "200",
		"-sc_threshold", "0", file).WaitOK(patience)
	rotate(t, file)
	var settings []string
	for _, listener := range []string{"api_addr", "httpflv_addr", "hls_addr"} {
		settings = append(settings, "--"+listener+"="+s.Addr(listener))
	}
	p := harness.Livego(t, t.TempDir(), nil,
		append(settings, "push", "--speed=9", "--rtmp="+strings.TrimSuffix(s.RTMP(""), "/"), file, "movie")...)
	p.WaitOK(patience)
	for _, want := range []string{
		"warning: " + file + ": Keyframes are up to 8.0 s apart",
		"warning: " + file + ": There is no audio",
		"warning: " + file + ": The video is rotated by",
		"warning: livego probe '" + file + "' shows the command that repairs it\n",
		"watch: " + s.RTMP("movie") + "\n", "watch: " + s.FLV("movie") + "\n", "watch: " + s.HLS("movie") + "\n",
	} {
		if !strings.Contains(p.Stderr(), want) {
			t.Errorf("%s\ndoes not contain %s", p.Stderr(), want)
		}
	}
	const public = "https://live.example.com/tv"
	p = harness.Livego(t, t.TempDir(), nil, append(settings, "push", "--speed=9", "--public_url="+public,
		"--rtmp="+strings.TrimSuffix(s.RTMP(""), "/"), file, "movie")...)
	p.WaitOK(patience)
	_, port, _ := strings.Cut(s.Addr("rtmp_addr"), ":")
	watch := "watch: rtmp://live.example.com:" + port + "/live/movie\nwatch: " + public +
		"/live/movie.flv\nwatch: " + public + "/live/movie.m3u8\n"
	if !strings.Contains(p.Stderr(), watch) {
		t.Errorf("with public_url: %s\ndoes not contain %s", p.Stderr(), watch)
	}
	if p = push(t, s, "--speed=9", file, s.RTMP(s.Key("movie"))); p.Wait(patience) != 0 ||
		strings.Contains(p.Stderr(), "watch:") {
		t.Errorf("a push to an address: %s", p.Stderr())
	}
}

// rotate rotates the picture of the first track of an MP4 file by 90 degrees, in its track header
// (ISO/IEC 14496-12 section 8.3.2).
func rotate(t *testing.T, file string) {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	_, matrix, ok := bytes.Cut(b, []byte("tkhd"))
	if !ok {
		t.Fatal("no track header")
	}
	for i, v := range []uint32{0, 1 << 16, 0, 0xffff0000, 0, 0, 0, 0, 1 << 30} {
		binary.BigEndian.PutUint32(matrix[40+4*i:], v)
	}
	if err := os.WriteFile(file, b, 0o600); err != nil {
		t.Fatal(err)
	}
}
