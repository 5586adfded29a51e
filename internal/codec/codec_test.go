package codec

import (
	"errors"
	"strings"
	"testing"

	"livego/internal/media"

	"github.com/google/go-cmp/cmp"
)

const (
	avcC = "\x01\x42\xC0\x0D\xFF\xE1\x00\x15\x67\x42\xC0\x0D\xDA\x05\x07" +
		"\xEC\x04\x40\x00\x00\xFA\x40\x00\x3A\x98\x03\xC5\x0A\xA8\x01\x00\x04\x68\xCE\x0F\xC8"
	hvcC = "\x01\x01\x60\x00\x00\x00\x90\x00\x00\x00\x00\x00\x78\xF0\x00\xFC\xFD\xF8\xF8\x00\x00\x0F\x03" +
		"\x20\x00\x01\x00\x18\x40\x01\x0C\x01\xFF\xFF\x01\x60\x00\x00\x03\x00\x90\x00\x00" +
		"\x03\x00\x00\x03\x00\x78\x95\x94\x09" +
		"\x21\x00\x01\x00\x2E\x42\x01\x01\x01\x60\x00\x00\x03\x00\x90" +
		"\x00\x00\x03\x00\x00\x03\x00\x78\xA0\x03\xC0\x80\x11\x07\xCB\x96\x56\x54" +
		"\xA4\xC2\xFF\xF0\x59\x70\x77\x06\x80\x80\x00\x01\xF4\x80\x00\x3A\x98\x04" +
		"\x22\x00\x01\x00\x06\x44\x01\xC0\x73\xC1\x89"
	av1C     = "\x81\x00\x0C\x00" + av1Head
	av1Head  = "\x0A\x0A\x00\x00\x00\x03\xB4\xFD\x93\x6B\xE4\x01"
	vpcC     = "\x00\x1E\x82\x02\x02\x02\x00\x00"         // level 3
	vp9Key   = "\x82\x49\x83\x42\x00\x13\xF0\x0B\x30\x00" // 320 x 180
	vp9Large = "\x82\x49\x83\x42\x00\x77\xF0\x43\x70\x00" // 1920 x 1080
	vp9Small = "\x82\x49\x83\x42\x00\x03\xF0\x03\xF0\x00" // 64 x 64
	vp9Inter = "\x86\x00"
	opusHead = "OpusHead\x01\x02\x38\x01\x80\xBB\x00\x00\x00\x00\x00"
	flacHead = "fLaC\x80\x00\x00\x22\x10\x00\x10\x00\x00\x00\x00\x00\x00\x00\x0A\xC4\x42\xF0\x00\x00\x00\x00" +
		"0123456789abcdef"
	mp3Frame = "\xFF\xFB\x90\x64 and so on"
)

var (
	ac3Frame  = "\x0B\x77\x00\x00\x00\x40\x40" + strings.Repeat("\x00", 121) // 48 kHz, stereo, 32 kbit/s
	ac3Louder = "\x0B\x77\x00\x00\x02\x40\x40" + strings.Repeat("\x00", 153) // 40 kbit/s
	ac3Mono   = "\x0B\x77\x00\x00\x00\x40\x20" + strings.Repeat("\x00", 121)
	eac3Frame = "\x0B\x77\x00\x1F\x34\x87\xC0" + strings.Repeat("\x00", 57) // 48 kHz, stereo, 6 blocks
	eac3Block = "\x0B\x77\x00\x1F\x04\x87\xC0" + strings.Repeat("\x00", 57) // the same with 1 block
)

// configs is the table of configurations and the tracks they describe. It seeds the fuzz target.
var configs = []struct {
	name       string
	codec      media.Codec
	config     string
	lengthSize int
	want       media.Track // without codec and configuration; zero: an error
}{
	{"H.264", media.H264, avcC, 4,
		media.Track{Timescale: 90000, Width: 320, Height: 240, FrameRate: 30000.0 / 1001, BitDepth: 8,
			Profile: "Constrained Baseline", RFC6381: "avc1.42c00d"}},
	{"H.264 without SPS", media.H264, "\x01\x64\x00\x1E\xFF\xE0\x00", 4,
		media.Track{Timescale: 90000, RFC6381: "avc1.64001e"}},
	{"H.264 with a malformed SPS", media.H264, "\x01\x64\x00\x1E\xFD\xE1\x00\x04\x67\xFF\xFF\xFF\x00", 2,
		media.Track{Timescale: 90000, RFC6381: "avc1.64001e"}},
	{"H.264 truncated", media.H264, avcC[:10], 0, media.Track{}},
	{"HEVC", media.HEVC, hvcC, 4,
		media.Track{Timescale: 90000, Width: 1920, Height: 1080, FrameRate: 30000.0 / 1001, BitDepth: 8, Profile: "Main",
			RFC6381: "hvc1.1.6.L120.90"}},
	{"HEVC record empty but for the sets", media.HEVC, "\x01" + strings.Repeat("\x00", 20) + hvcC[21:], 4,
		media.Track{Timescale: 90000, Width: 1920, Height: 1080, FrameRate: 30000.0 / 1001, BitDepth: 8, Profile: "Main",
			RFC6381: "hvc1.1.6.L120.90"}},
	{"HEVC without parameter sets", media.HEVC, hvcC[:22] + "\x00", 4,
		media.Track{Timescale: 90000, Profile: "Main", RFC6381: "hvc1.1.6.L120.90"}},
	{"HEVC with 255 arrays", media.HEVC, hvcC[:22] + "\xFF", 0, media.Track{}},
	{"AV1", media.AV1, av1C, 0, media.Track{Timescale: 90000, Width: 160, Height: 90, BitDepth: 8, Profile: "Main",
		RFC6381: "av01.0.00M.08"}},
	{"AV1 without sequence header", media.AV1, "\x81\x24\xC0\x00", 0,
		media.Track{Timescale: 90000, BitDepth: 10, Profile: "High", RFC6381: "av01.1.04H.10"}},
	{"AV1 with marker 0", media.AV1, "\x01\x00\x0C\x00", 0, media.Track{}},
	{"VP9", media.VP9, vpcC, 0, media.Track{Timescale: 90000, BitDepth: 8, Profile: "Profile 0",
		RFC6381: "vp09.00.30.08"}},
	{"VP9 without", media.VP9, "", 0, media.Track{Timescale: 90000}},
	{"VP9 malformed", media.VP9, "vpcC", 0, media.Track{}},
	{"VP8 without", media.VP8, "", 0, media.Track{Timescale: 90000}},
	{"AAC", media.AAC, "\x12\x10", 0,
		media.Track{Timescale: 44100, SampleRate: 44100, Channels: 2, FrameSamples: 1024, Profile: "LC",
			RFC6381: "mp4a.40.2"}},
	{"HE-AAC", media.AAC, "\x2B\x92\x08\x00", 0,
		media.Track{Timescale: 22050, SampleRate: 22050, Channels: 2, FrameSamples: 1024, Profile: "HE-AAC",
			RFC6381: "mp4a.40.5"}},
	{"AAC without", media.AAC, "", 0, media.Track{}},
	{"Opus", media.Opus, opusHead, 0, media.Track{Timescale: 48000, SampleRate: 48000, Channels: 2, RFC6381: "opus"}},
	{"OpusHead truncated", media.Opus, opusHead[:18], 0, media.Track{}},
	{"FLAC", media.FLAC, flacHead, 0,
		media.Track{Timescale: 44100, SampleRate: 44100, Channels: 2, FrameSamples: 4096, BitDepth: 16, RFC6381: "fLaC"}},
	{"FLAC truncated", media.FLAC, flacHead[:40], 0, media.Track{}},
	{"AC-3", media.AC3, "\x10\x3D\xC0", 0,
		media.Track{Timescale: 48000, SampleRate: 48000, Channels: 6, FrameSamples: 1536, RFC6381: "ac-3"}},
	{"AC-3 truncated", media.AC3, "\x10", 0, media.Track{}},
	{"E-AC-3 7.1", media.EAC3, "\x01\x00\x20\x0F\x02\x02", 0,
		media.Track{Timescale: 48000, SampleRate: 48000, Channels: 8, RFC6381: "ec-3"}},
	{"E-AC-3 at a low rate", media.EAC3, "\x01\x00\xE0\x0F\x00", 0,
		media.Track{Timescale: 90000, Channels: 6, RFC6381: "ec-3"}},
	{"MP3", media.MP3, "", 0, media.Track{Timescale: 90000}},
}

func TestDescribe(t *testing.T) {
	for _, tt := range configs {
		track := media.Track{Codec: tt.codec, Config: []byte(tt.config)}
		lengthSize, err := Describe(&track)
		if tt.want.Timescale == 0 {
			if err == nil {
				t.Errorf("%s: no error, got %+v", tt.name, track)
			}
			continue
		}
		tt.want.Codec, tt.want.Config = tt.codec, []byte(tt.config)
		if diff := cmp.Diff(tt.want, track); err != nil || lengthSize != tt.lengthSize || diff != "" {
			t.Errorf("%s: length size %d, %v\n%s", tt.name, lengthSize, err, diff)
		}
	}
}

func FuzzDescribe(f *testing.F) {
	for _, tt := range configs {
		f.Add(uint8(tt.codec), []byte(tt.config), []byte(vp9Key))
	}
	for _, tt := range frameSequences {
		f.Add(uint8(tt.codec), []byte(tt.config), []byte(tt.frames[len(tt.frames)-1]))
	}
	f.Fuzz(func(t *testing.T, c uint8, config, payload []byte) {
		track := &media.Track{Codec: media.Codec(c), Config: config}
		lengthSize, err := Describe(track)
		if err == nil {
			RandomAccess(track, lengthSize, false, payload)
			checkTrack(t, track, payload)
		} else {
			track = nil
		}
		made, err := TrackFromFrame(media.Track{Codec: media.Codec(c)}, payload, track)
		if err != nil && made != track || err == nil && made == nil {
			t.Fatalf("%+v became %+v, %v", track, made, err)
		}
		if err != nil {
			return
		}
		checkTrack(t, made, payload)
		if again, err := TrackFromFrame(media.Track{Codec: media.Codec(c)}, payload, made); again != made || err != nil {
			t.Fatalf("the same frame made %+v of %+v, %v", again, made, err)
		}
		if _, err := Describe(&media.Track{Codec: made.Codec, Config: made.Config}); err != nil &&
			SelfDescribing(made.Codec) {
			t.Fatalf("made a configuration %x: %v", made.Config, err)
		}
	})
}

// checkTrack checks that no number of a track is out of range: buffers and clocks are sized by
// them.
func checkTrack(t *testing.T, track *media.Track, payload []byte) {
	t.Helper()
	if track.Timescale == 0 || track.Width < 0 || track.Width > 1<<16 || track.Height < 0 || track.Height > 1<<16 ||
		!(track.FrameRate >= 0 && track.FrameRate <= 1000) ||
		track.SampleRate < 0 || track.SampleRate >= 1<<20 || track.Channels < 0 || track.Channels > 255 ||
		track.FrameSamples < 0 {
		t.Fatalf("%+v", track)
	}
	if n := Samples(track, payload); n < 0 {
		t.Fatalf("%d samples", n)
	}
}

// frameSequences is the table of consecutive frames and the track that they lead to. It seeds the
// fuzz target.
var frameSequences = []struct {
	name   string
	codec  media.Codec
	config string // of the initial track; "" for none
	frames []string
	tracks int         // how many tracks there were in all
	want   media.Track // the last one, without the codec; zero: none
}{
	{"MP3", media.MP3, "", []string{mp3Frame, mp3Frame}, 1,
		media.Track{Timescale: 44100, SampleRate: 44100, Channels: 2, FrameSamples: 1152, RFC6381: "mp4a.40.34"}},
	{"MP3, another rate", media.MP3, "", []string{mp3Frame, "\xFF\xE3\x18\xC4"}, 2,
		media.Track{Timescale: 8000, SampleRate: 8000, Channels: 1, FrameSamples: 576, RFC6381: "mp4a.40.34"}},
	{"MP3 truncated later", media.MP3, "", []string{mp3Frame, "garbage"}, 1,
		media.Track{Timescale: 44100, SampleRate: 44100, Channels: 2, FrameSamples: 1152, RFC6381: "mp4a.40.34"}},
	{"MP3 truncated first", media.MP3, "", []string{"garbage"}, 0, media.Track{}},
	{"AC-3", media.AC3, "", []string{ac3Frame, ac3Louder}, 1,
		media.Track{Config: []byte("\x10\x10\x00"), Timescale: 48000, SampleRate: 48000, Channels: 2, FrameSamples: 1536,
			RFC6381: "ac-3"}},
	{"AC-3 changes to mono", media.AC3, "", []string{ac3Frame, ac3Mono}, 2,
		media.Track{Config: []byte("\x10\x08\x00"), Timescale: 48000, SampleRate: 48000, Channels: 1, FrameSamples: 1536,
			RFC6381: "ac-3"}},
	{"AC-3 with its configuration", media.AC3, "\x10\x10\x00", []string{ac3Frame}, 1,
		media.Track{Config: []byte("\x10\x10\x00"), Timescale: 48000, SampleRate: 48000, Channels: 2, FrameSamples: 1536,
			RFC6381: "ac-3"}},
	{"E-AC-3 frame in an AC-3 track", media.AC3, "", []string{eac3Frame}, 0, media.Track{}},
	{"E-AC-3, configuration without length", media.EAC3, "\x00\x80\x20\x04\x00", []string{eac3Frame, eac3Block}, 2,
		media.Track{Config: []byte("\x00\x80\x20\x04\x00"), Timescale: 48000, SampleRate: 48000, Channels: 2,
			FrameSamples: 1536, RFC6381: "ec-3"}},
	{"VP9", media.VP9, "", []string{vp9Key, vp9Inter, vp9Key}, 1,
		vp9Track("\x00\x0B\x82\x02\x02\x02\x00\x00", "vp09.00.11.08", 320, 180)},
	{"VP9 inter first", media.VP9, "", []string{vp9Inter, vp9Key}, 2,
		vp9Track("\x00\x0B\x82\x02\x02\x02\x00\x00", "vp09.00.11.08", 320, 180)},
	{"VP9 with its configuration", media.VP9, vpcC, []string{vp9Key, vp9Inter, vp9Key}, 2,
		vp9Track(vpcC, "vp09.00.30.08", 320, 180)},
	{"VP9 with a level too low", media.VP9, vpcC, []string{vp9Large, vp9Large}, 2,
		vp9Track(vpcC, "vp09.00.30.08", 1920, 1080)},
	{"VP9 outgrows its level", media.VP9, vpcC, []string{vp9Key, vp9Large, vp9Small}, 4,
		vp9Track("\x00\x28\x82\x02\x02\x02\x00\x00", "vp09.00.40.08", 64, 64)},
	{"VP9 malformed later", media.VP9, "", []string{vp9Key, "x"}, 1,
		vp9Track("\x00\x0B\x82\x02\x02\x02\x00\x00", "vp09.00.11.08", 320, 180)},
	{"VP9 superframe index beyond the frame", media.VP9, "", []string{"\x86\xC0\xFF\xC0"}, 0, media.Track{}},
	{"VP8", media.VP8, "", []string{"x", "y"}, 1, media.Track{Timescale: 90000}},
}

func vp9Track(config, rfc string, width, height int) media.Track {
	return media.Track{Config: []byte(config), Timescale: 90000, Width: width, Height: height, BitDepth: 8,
		Profile: "Profile 0", RFC6381: rfc}
}

func TestTrackFromFrame(t *testing.T) {
	for _, tt := range frameSequences {
		t.Run(tt.name, func(t *testing.T) {
			var track *media.Track
			tracks := 0
			if tt.config != "" {
				track, tracks = &media.Track{Codec: tt.codec, Config: []byte(tt.config)}, 1
				if _, err := Describe(track); err != nil {
					t.Fatal(err)
				}
			}
			for _, b := range tt.frames {
				next, err := TrackFromFrame(media.Track{Codec: tt.codec}, []byte(b), track)
				if err != nil && next != track {
					t.Fatalf("both %v and %+v", err, next)
				}
				if next != track {
					track, tracks = next, tracks+1
				}
			}
			if tracks != tt.tracks {
				t.Errorf("%d tracks, want %d", tracks, tt.tracks)
			}
			if tt.tracks == 0 {
				return
			}
			tt.want.Codec = tt.codec
			if diff := cmp.Diff(&tt.want, track); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestLeading(t *testing.T) {
	const rasl, trailing = "\x00\x00\x00\x03\x10\x01\xAA", "\x00\x00\x00\x03\x02\x01\xAA"
	for _, tt := range []struct {
		codec   media.Codec
		payload string
		want    bool
	}{
		{media.HEVC, rasl, true},
		{media.HEVC, trailing, false},
		{media.HEVC, rasl[:6], false},
		{media.H264, rasl, false},
	} {
		if _, got, _ := RandomAccess(&media.Track{Kind: media.Video, Codec: tt.codec}, 4, false,
			[]byte(tt.payload)); got != tt.want {
			t.Errorf("%v %x: %v", tt.codec, tt.payload, got)
		}
	}
}

func TestRandomAccess(t *testing.T) {
	bad := errors.New("bad")
	for _, tt := range []struct {
		name    string
		codec   media.Codec
		kind    media.Kind
		flag    bool
		payload string
		want    media.RandomAccess
		err     error
	}{
		{"H.264 IDR", media.H264, media.Video, false, "\x00\x00\x00\x02\x65\x88", media.Keyframe, nil},
		{"H.264 key flag on a non-IDR picture", media.H264, media.Video, true, "\x00\x00\x00\x02\x41\x9A",
			media.NoRandomAccess, nil},
		{"HEVC CRA", media.HEVC, media.Video, false, "\x00\x00\x00\x03\x2A\x01\xAA", media.Keyframe, nil},
		{"HEVC length field beyond the end", media.HEVC, media.Video, true, "\x00\x00\x00\x09\x2A\x01\xAA",
			media.NoRandomAccess, bad},
		{"AV1 key frame", media.AV1, media.Video, false, av1Head + "\x32\x02\x10\xFF", media.Keyframe, nil},
		{"AV1 frame without sequence header", media.AV1, media.Video, true, "\x32\x02\x10\xFF", media.NoRandomAccess, nil},
		{"VP9 key frame", media.VP9, media.Video, false, vp9Key, media.Keyframe, nil},
		{"VP9 key flag on an inter frame", media.VP9, media.Video, true, vp9Inter, media.NoRandomAccess, nil},
		{"VP8 by the flag", media.VP8, media.Video, true, "x", media.Keyframe, nil},
		{"VP8 without", media.VP8, media.Video, false, "x", media.NoRandomAccess, nil},
		{"AAC", media.AAC, media.Audio, false, "x", media.Keyframe, nil},
	} {
		got, _, err := RandomAccess(&media.Track{Kind: tt.kind, Codec: tt.codec}, 4, tt.flag, []byte(tt.payload))
		if got != tt.want || (err != nil) != (tt.err != nil) {
			t.Errorf("%s: %v, %v", tt.name, got, err)
		}
	}
}

func TestSamples(t *testing.T) {
	for _, tt := range []struct {
		name    string
		track   media.Track
		payload string
		want    int
	}{
		{"Opus", media.Track{Codec: media.Opus}, "\xF8", 960},
		{"Opus without frames", media.Track{Codec: media.Opus}, "\xFB\x00", 0},
		{"FLAC, the last frame", media.Track{Codec: media.FLAC, FrameSamples: 4096}, "\xFF\xF8\x69\x18\x00\x0F", 16},
		{"MP3", media.Track{Codec: media.MP3}, mp3Frame, 1152},
		{"MP3 truncated", media.Track{Codec: media.MP3, FrameSamples: 1152}, "garbage", 0},
		{"AC-3 twice", media.Track{Codec: media.AC3}, ac3Frame + ac3Frame, 3072},
		{"E-AC-3 of one block", media.Track{Codec: media.EAC3}, eac3Block, 256},
		{"AAC", media.Track{Codec: media.AAC, FrameSamples: 1024}, "x", 1024},
	} {
		if got := Samples(&tt.track, []byte(tt.payload)); got != tt.want {
			t.Errorf("%s: %d, want %d", tt.name, got, tt.want)
		}
	}
}

// TestPictureSize checks that filler data does not count.
func TestPictureSize(t *testing.T) {
	const slice, filler = "\x00\x00\x00\x03\x41\x9a\x01", "\x00\x00\x00\x05\x0c\xff\xff\xff\x80"
	const slice265, filler265 = "\x00\x00\x00\x04\x02\x01\xd0\x80", "\x00\x00\x00\x04\x4c\x01\xff\x80"
	for _, tt := range []struct {
		name    string
		codec   media.Codec
		payload string
		want    int
	}{
		{"H.264", media.H264, slice, 7},
		{"H.264 with filler", media.H264, slice + filler, 11},
		{"HEVC with filler", media.HEVC, slice265 + filler265, 12},
		{"malformed", media.H264, slice + "\x00\x00\x00\x09x", 12},
		{"a codec without NAL units", media.AV1, slice + filler, 16},
	} {
		if got := PictureSize(&media.Track{Codec: tt.codec}, 4, []byte(tt.payload)); got != tt.want {
			t.Errorf("%s: %d, want %d", tt.name, got, tt.want)
		}
	}
}
