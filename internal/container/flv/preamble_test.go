package flv

import (
	"reflect"
	"slices"
	"testing"

	"livego/internal/media"
)

func TestPreamble(t *testing.T) {
	v1 := &media.Track{Kind: media.Video, Codec: media.H264, Config: []byte{1, 1}}
	v2 := &media.Track{Kind: media.Video, Codec: media.H264, Config: []byte{1, 2}}
	a := &media.Track{Kind: media.Audio, Codec: media.AAC, Config: []byte{0x12, 0x10}}
	m := &media.Meta{Encoder: "x", HasVideo: true}
	data := &media.Track{Kind: media.Data, Codec: media.ScriptData}
	program := media.NewProgram(v1, a)

	var p, shared Preamble
	for i, step := range []struct {
		name string
		f    *media.Frame
		want []uint8 // message types before f
	}{
		{"start sends all headers", &media.Frame{Track: a, Meta: m}, []uint8{TypeScriptData, TypeVideo, TypeAudio}},
		{"known track needs nothing", &media.Frame{Track: v1, Meta: m}, nil},
		{"new track needs its header", &media.Frame{Track: v2, Meta: m}, []uint8{TypeScriptData, TypeVideo}},
		{"header only once", &media.Frame{Track: v2, Meta: m}, nil},
		{"previous track needs its header again", &media.Frame{Track: v1, Meta: m}, []uint8{TypeScriptData, TypeVideo}},
		{"data has no header", &media.Frame{Track: data, Meta: m}, []uint8{TypeScriptData}},
		{"new metadata only", &media.Frame{Track: a}, []uint8{TypeScriptData}},
	} {
		got := p.Append(nil, step.f, program)
		want := got // viewers that share the first frame have the messages before it already
		if i == 0 {
			want = got[:0]
		}
		if changes := shared.AppendChanges(nil, step.f, program); !reflect.DeepEqual(changes, want) {
			t.Errorf("%s: changes %v, want %v", step.name, changes, want)
		}
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

// TestPreambleTracks checks color information and several tracks of a kind.
func TestPreambleTracks(t *testing.T) {
	track := func(id uint8, config, colors string) *media.Track {
		return &media.Track{ID: id, Kind: media.Video, Codec: media.AV1, Config: []byte(config), ColorInfo: []byte(colors)}
	}
	v0, v1 := track(0, "c", ""), track(1, "d", "e")
	none := new(media.Program)
	for _, tt := range []struct {
		name    string
		dialect Dialect
		program *media.Program
		frames  []*media.Track
		want    []string // messages other than onMetaData
	}{
		{"one track at a time", Dialect{}, media.NewProgram(v1), []*media.Track{v1, v0, v1},
			[]string{"\x90av01d", "\xD4av01e", "\x90av01c", "\x90av01d", "\xD4av01e"}},
		{"all tracks", Dialect{Multitrack: true}, media.NewProgram(v0, v1), []*media.Track{v1, v0, v1},
			[]string{"\x90av01c", "\x96\x00av01\x01d", "\xD6\x04av01\x01e"}},
		{"new color info", Dialect{}, none, []*media.Track{v0, track(0, "c", "x")}, []string{"\x90av01c", "\xD4av01x"}},
		{"no color info", Dialect{NoColorInfo: true}, none, []*media.Track{v1, track(1, "d", "x"), track(1, "c", "x")},
			[]string{"\x90av01d", "\x90av01c"}},
		{"new configuration", Dialect{}, none, []*media.Track{v0, track(0, "d", "x")},
			[]string{"\x90av01c", "\x90av01d", "\xD4av01x"}},
		{"legacy form has no color info", Dialect{}, none,
			[]*media.Track{{Kind: media.Video, Codec: media.H264, Config: []byte("c"), ColorInfo: []byte("e")}},
			[]string{"\x17\x00\x00\x00\x00c"}},
	} {
		p := Preamble{Dialect: tt.dialect}
		var got []string
		for _, track := range tt.frames {
			for _, tag := range p.Append(nil, &media.Frame{Track: track}, tt.program) {
				if tag.Type != TypeScriptData {
					got = append(got, string(tag.Body))
				}
			}
		}
		if !slices.Equal(got, tt.want) {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
}
