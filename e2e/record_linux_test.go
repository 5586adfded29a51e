package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"livego/e2e/harness"
	"livego/e2e/mediacompare"
	"livego/e2e/sample"
)

// mountSmallDisk mounts a file system of this size, which needs root.
func mountSmallDisk(t *testing.T, size string) string {
	t.Helper()
	dir := t.TempDir()
	harness.NeedRights(t, "mount", "-t", "tmpfs", "-o", "size="+size, "tmpfs", dir)
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// TestRecordingFullDisk fills the disk: the file is closed so that it is playable, viewers notice
// nothing, and when there is space again a new file starts.
func TestRecordingFullDisk(t *testing.T) {
	harness.Need(t, "ffmpeg")
	t.Parallel()
	disk := mountSmallDisk(t, "4m")
	ballast := filepath.Join(disk, "ballast")
	if err := os.WriteFile(ballast, make([]byte, 2<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	s := harness.Start(t, harness.Options{Flags: []string{"--flv_archive", "--flv_dir=" + filepath.Join(disk, "rec")}})
	src := load(t, sample.HighBitrate)
	viewer := watchRTMPEarly(t, s.RTMP("movie"))
	push := src.push(s, t, "movie")
	harness.Eventually(t, patience, "full disk", func() error {
		_, err := os.ReadFile(ballast)
		if r, rerr := recordingOf(t, s, "movie"); rerr != nil || r.State != "waiting" {
			return os.ErrNotExist
		}
		return err
	})
	waiting, _ := recordingOf(t, s, "movie")
	if waiting.File != "" || !strings.Contains(waiting.Error, "no space left") &&
		!strings.Contains(waiting.Error, "is free") {
		t.Errorf("%+v", waiting)
	}
	files, err := filepath.Glob(filepath.Join(disk, "rec", "live", "*.flv"))
	if err != nil || len(files) != 1 {
		t.Fatalf("%v, %v", files, err)
	}
	if duration := ffprobeDuration(t, files[0]); duration < 2 {
		t.Errorf("the file has a duration of %v s", duration)
	}
	packets, err := readFLV(t, files[0]).Packets()
	if err != nil {
		t.Fatal(err)
	}
	if m, err := mediacompare.Compare(src.packets, packets, mediacompare.Millisecond); err != nil || m.Video.First != 0 {
		t.Errorf("%+v, %v", m, err)
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	r := awaitRecording(t, s, "movie", "recording", 1, 12*time.Second)
	push.WaitOK(patience)
	m := check(t, "RTMP", src.packets, frames(t, viewer), mediacompare.Millisecond)
	if m.Video.First != 0 {
		t.Errorf("the viewer missed the start: %+v", m)
	}
	r = awaitRecording(t, s, "movie", "finished", r.Duration, 7*time.Second)
	if duration := ffprobeDuration(t, filepath.Join(disk, "rec", r.File)); duration < 1 {
		t.Errorf("the second file has a duration of %v s: %+v", duration, r)
	}
}
