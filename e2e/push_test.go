package e2e

import (
	"path/filepath"
	"regexp"
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
