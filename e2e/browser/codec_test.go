package browser

import (
	"bytes"
	"strings"
	"testing"

	"livego/e2e/harness"
	"livego/e2e/mediacompare"
	"livego/e2e/sample"
)

// TestBrowserPlaysCodecs plays every codec that Chromium supports by hls.js, and by mpegts.js those
// that it supports too.
func TestBrowserPlaysCodecs(t *testing.T) {
	harness.NeedNewerFFmpeg(t)
	t.Parallel()
	s := harness.Start(t, harness.Options{NoRace: true})
	// By sample, whether mpegts.js plays it: it does not support VP9, and expects the header of
	// FLAC where neither ffmpeg nor Enhanced RTMP has it.
	flv := map[string]bool{
		"h264-aac": true, "h264-mp3": true, "av1-opus": true, "av1-aac": true, "opus-only": true,
		"vp9-opus": false, "h264-flac": false, "flac-only": false,
	}
	var addresses []string
	var pictures []bool // by address: whether the stream has video
	for _, sam := range append(sample.Enhanced(), sample.All()...) {
		known, ok := flv[sam.Name]
		if !ok {
			continue
		}
		delete(flv, sam.Name)
		var file bytes.Buffer
		if err := repeat(sam.Read(t), 30).Write(&file); err != nil {
			t.Fatal(err)
		}
		harness.NewerFFmpeg(t, file.Bytes(), "-re", "-i", "pipe:0", "-map", "0", "-c", "copy", "-f", "flv",
			s.RTMP(s.Key(sam.Name)))
		s.AwaitLive(sam.Name)
		addresses, pictures = append(addresses, s.HLS(sam.Name)), append(pictures, sam.Video)
		if known {
			addresses, pictures = append(addresses, "ws"+strings.TrimPrefix(s.FLV(sam.Name), "http")),
				append(pictures, sam.Video)
		}
	}
	if len(flv) > 0 {
		t.Fatalf("no sample is named %v", flv)
	}
	began := map[int]float64{} // time at which each player started
	after := play(t, addresses...).await("every codec", func(n int, s playerState) bool {
		if began[n] == 0 {
			began[n] = s.Time
		}
		return s.Time > began[n]+1.5 && (!pictures[n] || s.Frames > 20 && s.Bright-s.Dark > 50)
	})
	t.Logf("%+v", after)
}

// repeat returns f repeated this many times, with one copy of the headers.
func repeat(f *mediacompare.FLVFile, times int) *mediacompare.FLVFile {
	const frame = 40
	long := f.Tags[len(f.Tags)-1].Time + frame
	all := *f
	for n := 1; n < times; n++ {
		for _, tag := range f.Tags {
			if tag.Type == mediacompare.TagScript || tag.IsHeader() {
				continue
			}
			tag.Time += uint32(n) * long
			all.Tags = append(all.Tags, tag)
		}
	}
	return &all
}
