package flv

import (
	"slices"
	"testing"

	"livego/internal/media"
)

func TestPreamble(t *testing.T) {
	v1 := &media.Track{Kind: media.Video, Codec: media.H264, Config: []byte{1, 1}}
	v2 := &media.Track{Kind: media.Video, Codec: media.H264, Config: []byte{1, 2}}
	a := &media.Track{Kind: media.Audio, Codec: media.AAC, Config: []byte{0x12, 0x10}}
	m := &media.Meta{Encoder: "x", HasVideo: true}
	data := &media.Track{Kind: media.Data, Codec: media.Script}
	known := []*media.Track{v1, a}

	var p Preamble
	for _, step := range []struct {
		name string
		f    *media.Frame
		want []uint8 // types, of the messages before f
	}{
		{"the start brings all headers", &media.Frame{Track: a, Meta: m}, []uint8{TypeScript, TypeVideo, TypeAudio}},
		{"then nothing", &media.Frame{Track: v1, Meta: m}, nil},
		{"a new track its header", &media.Frame{Track: v2, Meta: m}, []uint8{TypeScript, TypeVideo}},
		{"once", &media.Frame{Track: v2, Meta: m}, nil},
		{"back again", &media.Frame{Track: v1, Meta: m}, []uint8{TypeScript, TypeVideo}},
		{"data has none", &media.Frame{Track: data, Meta: m}, []uint8{TypeScript}},
		{"new metadata alone", &media.Frame{Track: a}, []uint8{TypeScript}},
	} {
		got := p.Before(nil, step.f, known)
		var types []uint8
		for _, m := range got {
			types = append(types, m.Type)
		}
		if !slices.Equal(types, step.want) {
			t.Errorf("%s: %v, want %v", step.name, types, step.want)
		}
		if p.Ready(step.f) == false {
			t.Errorf("%s: not ready after", step.name)
		}
	}
}
