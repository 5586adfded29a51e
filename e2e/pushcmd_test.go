package e2e

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"livego/e2e/harness"
	"livego/e2e/sample"
)

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
