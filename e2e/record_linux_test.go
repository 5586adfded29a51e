package e2e

import (
	"encoding/json"
	"maps"
	"math"
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

// TestRecordingsLeaveFreeSpace records two streams on a disk of 64 MB until its free space reaches
// record_min_free: it never becomes less, both files are closed and can be decoded, viewers notice
// nothing, and when there is space again both recordings continue in new files.
func TestRecordingsLeaveFreeSpace(t *testing.T) {
	harness.Need(t, "ffmpeg")
	t.Parallel()
	const floor = 16 << 20
	disk := mountSmallDisk(t, "64m")
	ballast := filepath.Join(disk, "ballast")
	if err := os.WriteFile(ballast, make([]byte, 44<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	lowest, stop, measured := int64(1<<62), make(chan struct{}), make(chan struct{})
	go func() { // measures the free space
		defer close(measured)
		again := time.NewTicker(5 * time.Millisecond)
		defer again.Stop()
		for {
			var s syscall.Statfs_t
			if err := syscall.Statfs(disk, &s); err != nil {
				t.Error(err)
				return
			}
			lowest = min(lowest, int64(s.Bavail)*s.Bsize)
			select {
			case <-again.C:
			case <-stop:
				return
			}
		}
	}()
	s := harness.Start(t, harness.Options{Flags: []string{"--flv_archive", "--flv_dir=" + filepath.Join(disk, "rec"),
		"--record_min_free=16MiB"}})
	src := load(t, sample.HighBitrate)
	rooms := []string{"movie", "film"}
	var viewers, encoders []*harness.Process
	for _, room := range rooms {
		viewers = append(viewers, watchRTMPEarly(t, s.RTMP(room)))
	}
	for _, room := range rooms {
		encoders = append(encoders, src.push(s, t, room))
	}
	for _, room := range rooms {
		if r := awaitRecording(t, s, room, "waiting", 0, patience); !strings.Contains(r.Error, "16 MiB must stay free") &&
			!strings.Contains(r.Error, "40 MiB is needed") {
			t.Errorf("%+v", r)
		}
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	for _, room := range rooms {
		awaitRecording(t, s, room, "recording", 1, 12*time.Second)
	}
	for i, room := range rooms {
		encoders[i].WaitOK(patience)
		if m := check(t, room, src.packets, frames(t, viewers[i]), mediacompare.Millisecond); m.Video.First != 0 {
			t.Errorf("the viewer of %s missed the start: %+v", room, m)
		}
		awaitRecording(t, s, room, "finished", 1, 7*time.Second)
	}
	close(stop)
	<-measured
	if lowest < floor || lowest > floor+1<<20 {
		t.Errorf("%d bytes were free, want %d or little more", lowest, floor)
	}
	var list struct{ Recordings []recording }
	if err := json.Unmarshal(harness.Get(t, s.API("/api/v1/recordings")), &list); err != nil {
		t.Fatal(err)
	}
	reasons := map[string]int{}
	for _, r := range list.Recordings {
		path := filepath.Join(disk, "rec", r.File)
		reasons[r.Room+" "+r.Reason]++
		if duration := ffprobeDuration(t, path); math.Abs(duration-r.Duration) > 0.01 || duration < 1 {
			t.Errorf("%+v has a duration of %v s by ffprobe", r, duration)
		}
		decode := harness.FFmpeg(t, "-xerror", "-i", path, "-f", "null", "-")
		if decode.WaitOK(patience); decode.Stderr() != "" {
			t.Errorf("%s: ffmpeg prints %s", r.File, decode.Stderr())
		}
	}
	want := map[string]int{"movie full": 1, "movie ended": 1, "film full": 1, "film ended": 1}
	if !maps.Equal(reasons, want) {
		t.Errorf("files: %v, want %v", reasons, want)
	}
}
