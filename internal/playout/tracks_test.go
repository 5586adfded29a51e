package playout

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

// trackSelections is the table of track selections: their results, nil for an error.
var trackSelections = []struct {
	text string
	want *TrackSelection
}{
	{"", &TrackSelection{}},
	{"all", &TrackSelection{all: true}},
	{"v:0,a:1", &TrackSelection{video: []uint8{0}, audio: []uint8{1}}},
	{"a:2,a:0", &TrackSelection{audio: []uint8{2, 0}}},
	{"v", nil},
	{"v:-1", nil},
	{"v:256", nil},
	{"a:1,a:1", nil},
	{"s:0", nil},
	{"v:0,", nil},
	{"a:0,a:1,a:2,a:3,a:4,a:5,a:6,a:7,a:8,a:9,a:10,a:11,a:12,a:13,a:14,a:15,a:16", nil},
}

func TestParseTrackSelection(t *testing.T) {
	for _, tt := range trackSelections {
		got, err := ParseTrackSelection(tt.text)
		if (err != nil) != (tt.want == nil) || err == nil &&
			!cmp.Equal(got, *tt.want, cmp.AllowUnexported(TrackSelection{})) {
			t.Errorf("%q: %+v, %v, want %+v", tt.text, got, err, tt.want)
		}
	}
}

func FuzzParseTrackSelection(f *testing.F) {
	for _, tt := range trackSelections {
		f.Add(tt.text)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if c, err := ParseTrackSelection(s); err == nil && (len(c.video) > maxSelected || len(c.audio) > maxSelected) {
			t.Errorf("%q: %+v", s, c)
		}
	})
}
