package sample

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"livego/e2e/essence"
	"livego/e2e/rig"
)

// TestReaders holds this package's recipes and the readers of essence against ffmpeg's own: what ffmpeg remuxes must be the same
// stream, read from each container.
func TestReaders(t *testing.T) {
	rig.Need(t, "ffmpeg")
	for _, s := range All() {
		t.Run(s.Name, func(t *testing.T) {
			t.Parallel()
			file := s.Read(t)
			packets, err := file.Packets()
			if err != nil {
				t.Fatal(err)
			}
			if file.HasVideo != s.Video || file.HasAudio != s.Audio || (len(packets.Of(essence.Video)) > 0) != s.Video || (len(packets.Of(essence.Audio)) > 0) != s.Audio {
				t.Fatalf("video %v, audio %v, want %v, %v", file.HasVideo, file.HasAudio, s.Video, s.Audio)
			}

			md5 := rig.FFmpeg(t, "-i", s.File(t), "-c", "copy", "-f", "framemd5", "-")
			md5.OK(time.Minute)
			got, err := essence.ReadFrameMD5(md5.Reader())
			if err != nil {
				t.Fatal(err)
			}
			whole(t, packets, got, essence.Millisecond)

			ts := filepath.Join(t.TempDir(), "out.ts")
			rig.FFmpeg(t, "-i", s.File(t), "-c", "copy", "-f", "mpegts", ts).OK(time.Minute)
			data, err := os.ReadFile(ts)
			if err != nil {
				t.Fatal(err)
			}
			if got, err = essence.ReadTS(data); err != nil {
				t.Fatal(err)
			}
			want, err := file.Essence()
			if err != nil {
				t.Fatal(err)
			}
			whole(t, want, got, essence.TSTick)
		})
	}
}

func whole(t *testing.T, want, got essence.Stream, tolerance time.Duration) {
	t.Helper()
	m, err := essence.Compare(want, got, tolerance)
	if err != nil {
		t.Fatal(err)
	}
	if m.Video.First != 0 || m.Audio.First != 0 || m.Video.Missing() != 0 || m.Audio.Missing() != 0 {
		t.Fatalf("not the whole stream: %+v", m)
	}
}

// TestProperties checks that each recipe made what its name says.
func TestProperties(t *testing.T) {
	rig.Need(t, "ffmpeg")
	for _, s := range All() {
		file := s.Read(t)
		packets, err := file.Packets()
		if err != nil {
			t.Fatal(err)
		}
		switch s.Name {
		case "keyframe-2mb":
			for _, u := range packets.Of(essence.Video) {
				if u.Key && (u.Size < 2<<20 || u.Size > 8<<20) {
					t.Errorf("%s: a keyframe of %d bytes", s.Name, u.Size)
				}
			}
		case "b-frames":
			reordered := false
			for _, u := range packets.Of(essence.Video) {
				reordered = reordered || u.PTS != u.DTS
			}
			if !reordered {
				t.Errorf("%s: no picture is reordered", s.Name)
			}
		case "late-start":
			if first := packets[0].DTS; first < 0xffffff*time.Millisecond {
				t.Errorf("%s: starts at %v", s.Name, first)
			}
		}
	}
}
