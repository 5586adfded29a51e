package sample

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"livego/e2e/harness"
	"livego/e2e/mediacompare"
)

// TestReadersMatchFFmpeg checks the samples and the readers of mediacompare against ffmpeg: a file
// that ffmpeg remuxes must read as the same stream in each container.
func TestReadersMatchFFmpeg(t *testing.T) {
	harness.Need(t, "ffmpeg")
	for _, s := range All() {
		t.Run(s.Name, func(t *testing.T) {
			t.Parallel()
			file := s.Read(t)
			packets, err := file.Packets()
			if err != nil {
				t.Fatal(err)
			}
			if file.HasVideo != s.Video || file.HasAudio != s.Audio || (len(packets.Of(mediacompare.Video)) > 0) != s.Video ||
				(len(packets.Of(mediacompare.Audio)) > 0) != s.Audio {
				t.Fatalf("video %v, audio %v, want %v, %v", file.HasVideo, file.HasAudio, s.Video, s.Audio)
			}

			md5 := harness.FFmpeg(t, "-i", s.File(t), "-c", "copy", "-f", "framemd5", "-")
			md5.WaitOK(time.Minute)
			got, err := mediacompare.ReadFrameMD5(md5.StdoutReader())
			if err != nil {
				t.Fatal(err)
			}
			checkWhole(t, packets, got, mediacompare.Millisecond)

			ts := filepath.Join(t.TempDir(), "out.ts")
			harness.FFmpeg(t, "-i", s.File(t), "-c", "copy", "-f", "mpegts", ts).WaitOK(time.Minute)
			data, err := os.ReadFile(ts)
			if err != nil {
				t.Fatal(err)
			}
			if got, err = mediacompare.ReadTS(data); err != nil {
				t.Fatal(err)
			}
			want, err := file.DecoderUnits()
			if err != nil {
				t.Fatal(err)
			}
			checkWhole(t, want, got, mediacompare.TSTick)
		})
	}
}

func checkWhole(t *testing.T, want, got mediacompare.Stream, tolerance time.Duration) {
	t.Helper()
	m, err := mediacompare.Compare(want, got, tolerance)
	if err != nil {
		t.Fatal(err)
	}
	if m.Video.First != 0 || m.Audio.First != 0 || m.Video.Missing() != 0 || m.Audio.Missing() != 0 {
		t.Fatalf("the stream is incomplete: %+v", m)
	}
}

// TestSamplesMatchTheirNames checks that samples have the property in their name.
func TestSamplesMatchTheirNames(t *testing.T) {
	harness.Need(t, "ffmpeg")
	for _, s := range All() {
		file := s.Read(t)
		packets, err := file.Packets()
		if err != nil {
			t.Fatal(err)
		}
		switch s.Name {
		case "keyframe-2mb":
			for _, u := range packets.Of(mediacompare.Video) {
				if u.Key && (u.Size < 2<<20 || u.Size > 8<<20) {
					t.Errorf("%s: a keyframe of %d bytes", s.Name, u.Size)
				}
			}
		case "b-frames":
			reordered := false
			for _, u := range packets.Of(mediacompare.Video) {
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
