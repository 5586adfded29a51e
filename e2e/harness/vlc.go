package harness

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// PlayWithVLC has VLC play a file of the test's temporary directory from beginning to end. The
// function that it returns waits for that, and returns how many bytes were decoded: of video, in
// planes of 4:2:0, and of audio, 16 bits a sample.
func PlayWithVLC(t testing.TB, file string) func() (video, audio int64) {
	t.Helper()
	Need(t, "cvlc", "setpriv")
	dir := t.TempDir()
	for path, mode := range map[string]os.FileMode{dir: 0o777, filepath.Dir(dir): 0o755} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
	}
	pictures, sound := filepath.Join(dir, "out.yuv"), filepath.Join(dir, "out.wav")
	args := []string{"HOME=" + dir}
	if os.Getuid() == 0 { // VLC does not run as root
		args = append(args, "setpriv", "--reuid=nobody", "--clear-groups")
	}
	args = append(args, strings.Fields("cvlc --no-dbus -I dummy --play-and-exit --no-drop-late-frames --no-skip-frames "+
		"--vout yuv --yuv-chroma I420 --yuv-file "+pictures+" --aout afile --audiofile-file "+sound)...)
	vlc := StartProgram(t, "env", append(args, file)...)
	size := func(path string) int64 {
		info, err := os.Stat(path)
		if err != nil {
			return 0
		}
		return info.Size()
	}
	return func() (int64, int64) {
		t.Helper()
		vlc.WaitOK(time.Minute)
		return size(pictures), size(sound)
	}
}
