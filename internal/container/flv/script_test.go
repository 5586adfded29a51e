package flv

import (
	"math"
	"strings"
	"testing"
	"time"

	"livego/internal/container/amf0"
	"livego/internal/media"

	"github.com/google/go-cmp/cmp"
)

// TestMetaDataIsChecked checks that invalid values are dropped, and that changes are limited.
func TestMetaDataIsChecked(t *testing.T) {
	tests := []struct {
		name string
		args []any
		want media.Meta
	}{
		{"valid values", []any{amf0.ECMAArray{
			{Key: "width", Value: 1280.0}, {Key: "height", Value: 720.0}, {Key: "framerate", Value: 29.97},
			{Key: "videodatarate", Value: 2500.0},
			{Key: "audiodatarate", Value: 128.0}, {Key: "audiosamplerate", Value: 48000.0}, {Key: "audiochannels", Value: 6.0},
			{Key: "stereo", Value: true},
			{Key: "videocodecid", Value: 7.0}, {Key: "audiocodecid", Value: "mp4a"}, {Key: "encoder", Value: "obs 31"},
		}}, media.Meta{Encoder: "obs 31", Width: 1280, Height: 720, FrameRate: 29.97, VideoRate: 2500, AudioRate: 128,
			SampleRate: 48000, Channels: 6, HasVideo: true, HasAudio: true}},
		{"object with stereo", []any{amf0.Object{{Key: "stereo", Value: true}, {Key: "audiocodecid", Value: 0.0},
			{Key: "videocodecid", Value: 0.0}}}, media.Meta{Channels: 2, HasAudio: true}},
		{"negative, infinite and non-numeric values", []any{amf0.ECMAArray{
			{Key: "width", Value: -1.0}, {Key: "height", Value: 1e9}, {Key: "framerate", Value: math.NaN()},
			{Key: "videodatarate", Value: math.Inf(1)},
			{Key: "audiodatarate", Value: "128"}, {Key: "audiosamplerate", Value: math.Copysign(0, -1)},
			{Key: "audiochannels", Value: 1e308}, {Key: "videocodecid", Value: math.NaN()},
			{Key: "audiocodecid", Value: ""}, {Key: "encoder", Value: "a\nb"},
		}}, media.Meta{}},
		{"framerate 0, long encoder", []any{amf0.ECMAArray{{Key: "framerate", Value: 0.0},
			{Key: "encoder", Value: strings.Repeat("x", 129)}}}, media.Meta{}},
		{"not an object", []any{1.0}, media.Meta{}},
		{"no arguments", nil, media.Meta{}},
	}
	for _, tt := range tests {
		if diff := cmp.Diff(tt.want, parseMeta(tt.args)); diff != "" {
			t.Errorf("%s:\n%s", tt.name, diff)
		}
	}

	var d Demuxer
	now := time.Unix(1, 0)
	width := func(w int) {
		body := amf0.Append(nil, "onMetaData", amf0.ECMAArray{{Key: "width", Value: w}})
		if _, err := d.Message(TypeScriptData, 0, body, now); err != nil {
			t.Fatal(err)
		}
	}
	width(1)
	first := d.meta
	for range 100 {
		width(1)
	}
	if d.meta != first {
		t.Error("repeated metadata made a new Meta")
	}
	for w := range 1000 {
		width(w + 2)
	}
	if d.meta.Width != maxMetaChanges {
		t.Errorf("current width %d, want that of change %d", d.meta.Width, maxMetaChanges)
	}
}
