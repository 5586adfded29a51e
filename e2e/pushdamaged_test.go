package e2e

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"livego/e2e/harness"
	"livego/e2e/sample"
)

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
