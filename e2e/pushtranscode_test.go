package e2e

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"livego/e2e/harness"
	"livego/e2e/mediacompare"
	"livego/e2e/sample"
)

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
