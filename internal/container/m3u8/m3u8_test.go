package m3u8

import (
	"flag"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the golden files")

func TestGolden(t *testing.T) {
	at := time.Date(2026, 3, 29, 1, 59, 59, 123_456_789, time.FixedZone("CET", 3600))
	tests := []struct {
		name     string
		playlist any // *Multivariant or *Media
	}{
		{"multivariant", &Multivariant{Independent: true, Variants: []Variant{{
			URI: "movie/ts.m3u8?s=a.b-c_d", Bandwidth: 2_800_000, AverageBandwidth: 2_500_000,
			Codecs: []string{"avc1.64001f", "mp4a.40.2"}, Width: 1280, Height: 720, FrameRate: 30000.0 / 1001,
		}}}},
		{"multivariant-unknown", &Multivariant{Variants: []Variant{{URI: "a.m3u8", Bandwidth: 1}}}},
		{"live", &Media{
			TargetDuration: 3 * time.Second, MediaSequence: 1 << 40, DiscontinuitySequence: 7, Independent: true,
			Segments: []Segment{
				{URI: "5-0.ts", Duration: 2 * time.Second, ProgramDateTime: at},
				{URI: "5-2000.ts", Duration: 3_499_994_999},
				{URI: "5-5500.ts", Duration: 1_001_001_001, Discontinuity: true, ProgramDateTime: at.Add(time.Hour)},
			},
		}},
		{"ended", &Media{TargetDuration: time.Second, Ended: true,
			Segments: []Segment{{URI: "1-0.ts", Duration: 20 * time.Millisecond}}}},
		{"low-latency", lowLatency(0)},
		{"delta", lowLatency(2)},
		{"fmp4-gap", &Media{TargetDuration: 2 * time.Second, Segments: []Segment{
			{URI: "5-0.m4s", Duration: 2 * time.Second, Map: "a.mp4"},
			{URI: "5-2000.m4s", Duration: time.Second, Gap: true, Map: "a.mp4"},
		}}},
		{"empty", &Media{TargetDuration: 6 * time.Second}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := encode(tt.playlist)
			if err != nil {
				t.Fatal(err)
			}
			golden := filepath.Join("testdata", tt.name+".m3u8")
			if *update {
				if err := os.WriteFile(golden, got, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), string(got)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// encode encodes a playlist, and checks that the offsets of a Media are those at which its URIs end.
func encode(playlist any) ([]byte, error) {
	m, ok := playlist.(*Media)
	if !ok {
		return playlist.(*Multivariant).Encode()
	}
	b, ends, err := m.Encode()
	var want []int
	for _, u := range regexp.MustCompile(`(?m)URI="[^"]+|^[^#\n]+$`).FindAllIndex(b, -1) {
		want = append(want, u[1])
	}
	if err == nil && !slices.Equal(ends, want) {
		err = fmt.Errorf("URIs end at %v, want %v", ends, want)
	}
	return b, err
}

// lowLatency returns a playlist with parts that omits the first skip segments.
func lowLatency(skip int) *Media {
	at := time.Date(2026, 3, 29, 1, 0, 0, 0, time.UTC)
	return &Media{
		TargetDuration: 2 * time.Second, MediaSequence: 100, Independent: true,
		PartTarget: 200 * time.Millisecond, PartHoldBack: 600 * time.Millisecond, SkipUntil: 12 * time.Second,
		SkippedSegments: skip,
		Segments: []Segment{
			{URI: "5-0.m4s", Duration: 2 * time.Second, Map: "a.mp4", ProgramDateTime: at},
			{URI: "5-2000.m4s", Duration: 400 * time.Millisecond, Map: "a.mp4", Discontinuity: true},
			{URI: "5-2400.m4s", Duration: 300 * time.Millisecond, Map: "b.mp4", Parts: []Part{
				{"5-2400.0.m4s", 200 * time.Millisecond, true}, {"5-2400.1.m4s", 100 * time.Millisecond, false},
			}},
		},
		OpenSegment: Segment{Map: "b.mp4", ProgramDateTime: at.Add(time.Minute)},
		OpenParts:   []Part{{"5-2700.0.m4s", 200 * time.Millisecond, true}},
		PreloadHint: "5-2700.1.m4s",
	}
}

func TestEncodeRejectsInvalidPlaylists(t *testing.T) {
	variant := func(v Variant) *Multivariant {
		if v.Bandwidth == 0 {
			v.Bandwidth = 1
		}
		return &Multivariant{Variants: []Variant{v}}
	}
	segment := func(s Segment) *Media { return &Media{TargetDuration: 2 * time.Second, Segments: []Segment{s}} }
	tests := []struct {
		name     string
		playlist any // *Multivariant or *Media
	}{
		{"line break in URI", variant(Variant{URI: "a?token=x\n#EXTINF"})},
		{"line break in segment URI", segment(Segment{URI: "a?token=x\r#EXTINF"})},
		{"quotation mark in codec", variant(Variant{URI: "a", Codecs: []string{`x",URI="y`}})},
		{"comma in codec", variant(Variant{URI: "a", Codecs: []string{"x,y"}})},
		{"empty codec", variant(Variant{URI: "a", Codecs: []string{""}})},
		{"empty URI", variant(Variant{})},
		{"URI like a tag", segment(Segment{URI: "#EXT-X-ENDLIST"})},
		{"space in URI", segment(Segment{URI: "a b"})},
		{"URI outside ASCII", segment(Segment{URI: "\u202e"})},
		{"no bandwidth", variant(Variant{URI: "a", Bandwidth: -1})},
		{"frame rate NaN", variant(Variant{URI: "a", FrameRate: math.NaN()})},
		{"segment above target", segment(Segment{URI: "a", Duration: 2500 * time.Millisecond})},
		{"negative duration", segment(Segment{URI: "a", Duration: -1})},
		{"part above target", &Media{TargetDuration: time.Second, PartTarget: 1, PartHoldBack: 3,
			OpenParts: []Part{{"a", 2, false}}}},
		{"part without a target", segment(Segment{URI: "a", Parts: []Part{{"a", 2, false}}})},
		{"line break in part URI", &Media{TargetDuration: time.Second, PartTarget: 1, PartHoldBack: 3,
			OpenParts: []Part{{"a\n", 1, false}}}},
		{"quotation mark in preload hint", &Media{TargetDuration: time.Second, PreloadHint: `a",URI="b`}},
		{"line break in map URI", segment(Segment{URI: "a", Map: "a\n#"})},
		{"part hold back too short", &Media{TargetDuration: time.Second, PartTarget: 2, PartHoldBack: 3}},
		{"skip until too short", &Media{TargetDuration: time.Second, PartTarget: 2, PartHoldBack: 6,
			SkipUntil: 5 * time.Second}},
		{"skips more segments than there are", &Media{TargetDuration: time.Second, SkippedSegments: 1}},
		{"target 0", &Media{}},
		{"target 1.5 s", &Media{TargetDuration: 1500 * time.Millisecond}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if b, err := encode(tt.playlist); err == nil {
				t.Errorf("no error, got:\n%s", b)
			}
		})
	}
}

// queryCases are playlists, and what AddQuery makes of them; they seed the fuzzer too.
var queryCases = []struct{ playlist, want string }{
	{"", ""},
	{"\n", "\n"},
	{"#EXTM3U\n", "#EXTM3U\n"},
	{"a.ts\n", "a.ts?q\n"},
	{"a.ts", "a.ts?q"},
	{"#EXT-X-MAP:URI=\"a.mp4\"\n", "#EXT-X-MAP:URI=\"a.mp4?q\"\n"},
	{"#EXT-X-PART:DURATION=0.2,URI=\"a.0.m4s\",INDEPENDENT=YES\n",
		"#EXT-X-PART:DURATION=0.2,URI=\"a.0.m4s?q\",INDEPENDENT=YES\n"},
	{"#EXT-X-MAP:URI=\"\n", "#EXT-X-MAP:URI=\"\n"},
	{"#EXTINF:2.0,\na.m4s\n#EXT-X-ENDLIST\n", "#EXTINF:2.0,\na.m4s?q\n#EXT-X-ENDLIST\n"},
}

// TestAddQuery adds a query to the URIs of a playlist: where Encode says that they end.
func TestAddQuery(t *testing.T) {
	for _, tt := range queryCases {
		if got := string(AddQuery([]byte(tt.playlist), "q")); got != tt.want {
			t.Errorf("%q became %q, want %q", tt.playlist, got, tt.want)
		}
	}
	for _, m := range []*Media{lowLatency(0), lowLatency(2)} {
		body, ends, err := m.Encode()
		if err != nil || len(ends) < 5 {
			t.Fatal(len(ends), err)
		}
		var want []byte
		from := 0
		for _, end := range ends {
			want = append(append(want, body[from:end]...), "?s=1"...)
			from = end
		}
		want = append(want, body[from:]...)
		if got := AddQuery(body, "s=1"); string(got) != string(want) {
			t.Errorf("got\n%s\nwant\n%s", got, want)
		}
	}
}

func FuzzAddQuery(f *testing.F) {
	for _, tt := range queryCases {
		f.Add(tt.playlist)
	}
	f.Fuzz(func(t *testing.T, playlist string) {
		got := string(AddQuery([]byte(playlist), "query"))
		if back := strings.ReplaceAll(got, "?query", ""); back != strings.ReplaceAll(playlist, "?query", "") {
			t.Errorf("%q became %q", playlist, got)
		}
	})
}
