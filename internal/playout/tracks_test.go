package playout

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

// choices is the table of choices of tracks: what they come to, nil for an error.
var choices = []struct {
	text string
	want *Choice
}{
	{"", &Choice{}},
	{"all", &Choice{all: true}},
	{"v:0,a:1", &Choice{video: []uint8{0}, audio: []uint8{1}}},
	{"a:2,a:0", &Choice{audio: []uint8{2, 0}}},
	{"v", nil},
	{"v:-1", nil},
	{"v:256", nil},
	{"a:1,a:1", nil},
	{"s:0", nil},
	{"v:0,", nil},
	{"a:0,a:1,a:2,a:3,a:4,a:5,a:6,a:7,a:8,a:9,a:10,a:11,a:12,a:13,a:14,a:15,a:16", nil},
}

func TestParseChoice(t *testing.T) {
	for _, tt := range choices {
		got, err := ParseChoice(tt.text)
		if (err != nil) != (tt.want == nil) || err == nil && !cmp.Equal(got, *tt.want, cmp.AllowUnexported(Choice{})) {
			t.Errorf("%q: %+v, %v, want %+v", tt.text, got, err, tt.want)
		}
	}
}

func FuzzParseChoice(f *testing.F) {
	for _, tt := range choices {
		f.Add(tt.text)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if c, err := ParseChoice(s); err == nil && (len(c.video) > maxChosen || len(c.audio) > maxChosen) {
			t.Errorf("%q: %+v", s, c)
		}
	})
}
