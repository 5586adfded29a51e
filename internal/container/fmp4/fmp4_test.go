package fmp4

import (
	"bytes"
	"encoding/hex"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"livego/internal/media"

	"github.com/google/go-cmp/cmp"
)

const (
	avcC = "\x01\x42\xC0\x0D\xFF\xE1\x00\x0A\x67\x42\xC0\x0D\xDA\x05\x07\xEC\x04\x40\x01\x00\x04\x68\xCE\x0F\xC8"
	hvcC = "\x01\x01\x60\x00\x00\x00\x90\x00\x00\x00\x00\x00\x5D\xF0\x00\xFC\xFD\xF8\xF8\x00\x00\x0F\x00"
	av1C = "\x81\x05\x0C\x00"
	vpcC = "\x00\x0A\x82\x02\x02\x02\x00\x00"

	opusHead = "OpusHead\x01\x02\x38\x01\x44\xAC\x00\x00\xFF\x7F\x00"
	opus51   = "OpusHead\x01\x06\x38\x01\x80\xBB\x00\x00\x00\x00\x01\x04\x02\x00\x04\x01\x02\x03\x05"
	// 96 kHz, 2 x 24 bits
	streaminfo = "\x10\x00\x10\x00\x00\x00\x0E\x00\x31\xFF\x17\x70\x03\x70\x00\x00\x00\x00md5 of all samp."
	flac       = "fLaC\x00\x00\x00\x22" + streaminfo
)

var (
	video = &media.Track{Kind: media.Video, Codec: media.H264, Config: []byte(avcC), Timescale: 90000, Width: 320,
		Height: 180}
	sound = soundTrack(media.AAC, 44100, 2, "\x12\x10")

	script = &media.Track{Kind: media.Data, Codec: media.ScriptData, Timescale: 90000}
)

func pictureTrack(c media.Codec, config string) *media.Track {
	return &media.Track{Kind: media.Video, Codec: c, Config: []byte(config), Timescale: 90000, Width: 1920, Height: 1080}
}

func soundTrack(c media.Codec, rate, channels int, config string) *media.Track {
	t := &media.Track{Kind: media.Audio, Codec: c, Timescale: uint32(rate), SampleRate: rate, Channels: channels,
		FrameSamples: 1024}
	if config != "" {
		t.Config = []byte(config)
	}
	return t
}

func picture(rap media.RandomAccess, dts, cts time.Duration, payload string) *media.Frame {
	return &media.Frame{
		Track: video, RAP: rap, DTS: dts, PTS: dts + cts, Ticks: int64(dts) * 9 / 1e5, Duration: 40e6,
		Payload: []byte(payload),
	}
}

func samples(t *media.Track, ticks int64, payload string) *media.Frame {
	return &media.Frame{
		Track: t, RAP: media.Keyframe, Ticks: ticks, Payload: []byte(payload),
		Duration: time.Duration(t.FrameSamples) * time.Second / time.Duration(t.SampleRate),
	}
}

// entries is the table of sample entries: a track, and its entry in hexadecimal without the size.
// Spaces separate fields.
var entries = []struct {
	name  string
	track *media.Track
	want  string
}{
	{"H.264", video, visualHex("avc1", 320, 180) + boxHex("avcC", avcC)},
	{"HEVC", pictureTrack(media.HEVC, hvcC), visualHex("hvc1", 1920, 1080) + boxHex("hvcC", hvcC)},
	{"AV1", pictureTrack(media.AV1, av1C), visualHex("av01", 1920, 1080) + boxHex("av1C", av1C)},
	{"VP9", pictureTrack(media.VP9, vpcC), visualHex("vp09", 1920, 1080) + boxHex("vpcC", "\x01\x00\x00\x00"+vpcC)},
	{"VP9 with version and flags", pictureTrack(media.VP9, "\x01\x00\x00\x00"+vpcC),
		visualHex("vp09", 1920, 1080) + boxHex("vpcC", "\x01\x00\x00\x00"+vpcC)},
	{"AAC", sound, audioHex("mp4a", 2, 16, 44100) +
		boxHex("esds", "\x00\x00\x00\x00\x03\x19\x00\x00\x00\x04\x11\x40\x15\x00\x00\x00\x00\x00"+
			"\x00\x00\x00\x00\x00\x00\x05\x02\x12\x10\x06\x01\x02")},
	{"AAC, 200 bytes of configuration", soundTrack(media.AAC, 44100, 2, "\x12\x10"+strings.Repeat("\x00", 198)),
		audioHex("mp4a", 2, 16, 44100) +
			boxHex("esds", "\x00\x00\x00\x00\x03\x81\x61\x00\x00\x00\x04\x81\x58\x40\x15\x00\x00"+
				"\x00\x00\x00\x00\x00\x00\x00\x00\x00\x05\x81\x48\x12\x10"+
				strings.Repeat("\x00", 198)+"\x06\x01\x02")},
	{"MP3", soundTrack(media.MP3, 44100, 1, ""), audioHex("mp4a", 1, 16, 44100) +
		boxHex("esds", "\x00\x00\x00\x00\x03\x15\x00\x00\x00\x04\x0D\x6B\x15\x00\x00\x00\x00\x00"+
			"\x00\x00\x00\x00\x00\x00\x06\x01\x02")},
	{"MP3 of MPEG-2", soundTrack(media.MP3, 22050, 2, ""), audioHex("mp4a", 2, 16, 22050) +
		boxHex("esds", "\x00\x00\x00\x00\x03\x15\x00\x00\x00\x04\x0D\x69\x15\x00\x00\x00\x00\x00"+
			"\x00\x00\x00\x00\x00\x00\x06\x01\x02")},
	{"Opus", soundTrack(media.Opus, 48000, 2, opusHead), audioHex("Opus", 2, 16, 48000) +
		boxHex("dOps", "\x00\x02\x01\x38\x00\x00\xAC\x44\x7F\xFF\x00")},
	{"Opus 5.1", soundTrack(media.Opus, 48000, 6, opus51), audioHex("Opus", 6, 16, 48000) +
		boxHex("dOps", "\x00\x06\x01\x38\x00\x00\xBB\x80\x00\x00\x01\x04\x02\x00\x04\x01\x02\x03\x05")},
	{"FLAC, 96 kHz", soundTrack(media.FLAC, 96000, 2, flac), audioHex("fLaC", 2, 24, 48000) +
		boxHex("dfLa", "\x00\x00\x00\x00\x80\x00\x00\x22"+streaminfo)},
	{"FLAC followed by a comment", soundTrack(media.FLAC, 96000, 2, flac+"\x84\x00\x00\x01x"),
		audioHex("fLaC", 2, 24, 48000) +
			boxHex("dfLa", "\x00\x00\x00\x00\x80\x00\x00\x22"+streaminfo)},
	{"AC-3", soundTrack(media.AC3, 48000, 6, "\x10\x3D\xE0"),
		audioHex("ac-3", 6, 16, 48000) + boxHex("dac3", "\x10\x3D\xE0")},
	{"E-AC-3", soundTrack(media.EAC3, 48000, 6, "\x0C\x00\x20\x0F\x00"),
		audioHex("ec-3", 6, 16, 48000) + boxHex("dec3", "\x0C\x00\x20\x0F\x00")},
}

func boxHex(name, body string) string {
	return hex.EncodeToString(u32(uint32(8+len(body)))) + hex.EncodeToString([]byte(name+body))
}

func visualHex(name string, w, h uint16) string {
	return hex.EncodeToString([]byte(name)) + "000000000000 0001" + strings.Repeat("00", 16) +
		hex.EncodeToString(u16(w, h)) +
		"00480000 00480000 00000000 0001" + strings.Repeat("00", 32) + "0018 FFFF"
}

func audioHex(name string, channels, bits, rate uint16) string {
	return hex.EncodeToString([]byte(name)) + "000000000000 0001 0000000000000000" +
		hex.EncodeToString(u16(channels, bits)) +
		"00000000" + hex.EncodeToString(u16(rate, 0))
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestSampleEntry(t *testing.T) {
	for _, tt := range entries {
		t.Run(tt.name, func(t *testing.T) {
			b, err := Init([]*media.Track{tt.track})
			if err != nil || !Carries(tt.track) {
				t.Fatal(err, Carries(tt.track))
			}
			atoms, err := readAtoms(b)
			if err != nil {
				t.Fatal(err)
			}
			stsd := find(atoms, "moov", "trak", "mdia", "minf", "stbl", "stsd")
			if len(stsd) != 1 {
				t.Fatalf("%d stsd", len(stsd))
			}
			entry := stsd[0].body[12:] // version and flags, count, size
			if want := unhex(t, tt.want); !bytes.Equal(entry, want) {
				t.Errorf("got  %x\nwant %x", entry, want)
			}
		})
	}
}

func TestInit(t *testing.T) {
	second := *video
	second.ID = 1
	av1 := pictureTrack(media.AV1, av1C)
	av1second := *av1
	av1second.ID = 1

	tests := []struct {
		name   string
		tracks []*media.Track
		brands string
		ids    []uint32 // nil for an error
	}{
		{"audio and video", []*media.Track{video, sound}, "iso6\x00\x00\x00\x00iso6mp42", []uint32{1, 2}},
		{"audio first", []*media.Track{sound, video}, "iso6\x00\x00\x00\x00iso6mp42", []uint32{1, 2}},
		{"audio only", []*media.Track{sound}, "iso6\x00\x00\x00\x00iso6mp42cmfc", []uint32{2}},
		{"AV1", []*media.Track{av1, sound}, "iso6\x00\x00\x00\x00iso6mp42av01", []uint32{1, 2}},
		{"two video tracks", []*media.Track{&second, sound, video}, "iso6\x00\x00\x00\x00iso6mp42", []uint32{1, 2, 3}},
		{"AV1 second", []*media.Track{video, &av1second}, "iso6\x00\x00\x00\x00iso6mp42av01", []uint32{1, 3}},
		{"no tracks", nil, "", nil},
		{"two tracks with the same ID", []*media.Track{video, av1}, "", nil},
		{"a track that cannot be carried", []*media.Track{video, {Kind: media.Audio}}, "", nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b, err := Init(tt.tracks)
			if (err != nil) != (tt.ids == nil) {
				t.Fatal(err)
			}
			if err != nil {
				return
			}
			atoms, err := readAtoms(b)
			if err != nil {
				t.Fatal(err)
			}
			if len(atoms) != 2 || atoms[0].name != "ftyp" || string(atoms[0].body) != tt.brands {
				t.Errorf("starts with %q", atoms[0])
			}
			var ids, extends []uint32
			for _, a := range find(atoms, "moov", "trak", "tkhd") {
				ids = append(ids, (&fields{b: a.body[12:]}).u32())
			}
			for _, a := range find(atoms, "moov", "mvex", "trex") {
				extends = append(extends, (&fields{b: a.body[4:]}).u32())
			}
			mvhd := find(atoms, "moov", "mvhd")[0].body
			next := (&fields{b: mvhd[len(mvhd)-4:]}).u32()
			if !slices.Equal(ids, tt.ids) || !slices.Equal(extends, tt.ids) || next != tt.ids[len(tt.ids)-1]+1 {
				t.Errorf("tracks %d, extended %d, next %d, want %d", ids, extends, next, tt.ids)
			}
		})
	}
}

// TestInitFields compares the other boxes of an init segment with ISO/IEC 14496-12, byte for byte.
func TestInitFields(t *testing.T) {
	const matrix = "00010000 00000000 00000000 00000000 00010000 00000000 00000000 00000000 40000000"
	b, err := Init([]*media.Track{video, sound})
	if err != nil {
		t.Fatal(err)
	}
	atoms, err := readAtoms(b)
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string][]string{
		"mvhd": {"00000000 00000000 00000000 000003E8 00000000 00010000 0100 0000 0000000000000000" + matrix +
			strings.Repeat("00", 24) + "00000003"},
		"trak tkhd": {
			"00000007 00000000 00000000 00000001 00000000 00000000 0000000000000000 0000 0000 0000 0000" + matrix +
				"01400000 00B40000",
			"00000007 00000000 00000000 00000002 00000000 00000000 0000000000000000 0000 0000 0100 0000" + matrix +
				"00000000 00000000",
		},
		"trak mdia mdhd": {
			"00000000 00000000 00000000 00015F90 00000000 55C4 0000",
			"00000000 00000000 00000000 0000AC44 00000000 55C4 0000",
		},
		"trak mdia hdlr": {
			"00000000 00000000 76696465 000000000000000000000000 00",
			"00000000 00000000 736F756E 000000000000000000000000 00",
		},
		"trak mdia minf vmhd":           {"00000001 0000 000000000000"},
		"trak mdia minf smhd":           {"00000000 0000 0000"},
		"trak mdia minf dinf dref url ": {"00000001", "00000001"},
		"trak mdia minf stbl stts":      {"00000000 00000000", "00000000 00000000"},
		"trak mdia minf stbl stsc":      {"00000000 00000000", "00000000 00000000"},
		"trak mdia minf stbl stsz":      {"00000000 00000000 00000000", "00000000 00000000 00000000"},
		"trak mdia minf stbl stco":      {"00000000 00000000", "00000000 00000000"},
		"mvex trex": {
			"00000000 00000001 00000001 00000000 00000000 00000000",
			"00000000 00000002 00000001 00000000 00000000 00000000",
		},
	} {
		// A space separates the names of boxes.
		names := strings.Split(strings.ReplaceAll(path, "url ", "url_"), " ")
		for i := range names {
			names[i] = strings.ReplaceAll(names[i], "_", " ")
		}
		var got, wanted []string
		for _, a := range find(atoms, append([]string{"moov"}, names...)...) {
			got = append(got, hex.EncodeToString(a.body))
		}
		for _, w := range want {
			wanted = append(wanted, hex.EncodeToString(unhex(t, w)))
		}
		if diff := cmp.Diff(wanted, got); diff != "" {
			t.Errorf("%s:\n%s", path, diff)
		}
	}
}

func TestCarries(t *testing.T) {
	noClock, large := *sound, *video
	noClock.Timescale = 0
	large.Config = append([]byte(avcC), make([]byte, maxConfig)...)

	for _, tt := range []struct {
		name  string
		track *media.Track
	}{
		{"H.264 without configuration", pictureTrack(media.H264, "")},
		{"H.264 without parameter sets", pictureTrack(media.H264, "\x01\x42\xC0\x0D\xFF\xE0\x00")},
		{"H.264 without PPS", pictureTrack(media.H264, avcC[:18]+"\x00")},
		{"H.264 with too large a configuration", &large},
		{"truncated HEVC configuration", pictureTrack(media.HEVC, hvcC[:22])},
		{"AV1 of another version", pictureTrack(media.AV1, "\x82\x05\x0C\x00")},
		{"VP9 without configuration", pictureTrack(media.VP9, "")},
		{"VP8", pictureTrack(media.VP8, vpcC)},
		{"AAC malformed", soundTrack(media.AAC, 44100, 2, "\xFF")},
		{"AAC without time scale", &noClock},
		{"MP3 of unknown rate", soundTrack(media.MP3, 0, 2, "")},
		{"MP3 of unknown channels", soundTrack(media.MP3, 44100, 0, "")},
		{"truncated OpusHead", soundTrack(media.Opus, 48000, 2, opusHead[:18])},
		{"Opus with an incompatible version", soundTrack(media.Opus, 48000, 2, strings.Replace(opusHead, "\x01", "\x10", 1))},
		{"Opus 5.1 without mapping", soundTrack(media.Opus, 48000, 6, opus51[:20])},
		{"Opus of three channels in family 0",
			soundTrack(media.Opus, 48000, 3, strings.Replace(opusHead, "\x02", "\x03", 1))},
		{"truncated FLAC configuration", soundTrack(media.FLAC, 96000, 2, flac[:41])},
		{"FLAC without STREAMINFO first", soundTrack(media.FLAC, 96000, 2, strings.Replace(flac, "\x00", "\x04", 1))},
		{"AC-3 without configuration", soundTrack(media.AC3, 48000, 2, "")},
		{"truncated E-AC-3 configuration", soundTrack(media.EAC3, 48000, 2, "\x0C\x00\x20\x0F")},
		{"video codec in an audio track", soundTrack(media.H264, 48000, 2, avcC)},
		{"audio codec in a video track", pictureTrack(media.AAC, "\x12\x10")},
		{"opaque", &media.Track{Kind: media.Video, Timescale: 90000}},
		{"data", script},
	} {
		if Carries(tt.track) {
			t.Errorf("%s: carried", tt.name)
		}
	}
}

// FuzzInit checks that Init and Carries agree, and that Init writes boxes whose sizes add up.
func FuzzInit(f *testing.F) {
	for _, tt := range entries {
		f.Add(uint8(tt.track.Codec), tt.track.Config, tt.track.Width, tt.track.SampleRate, tt.track.Channels)
	}
	f.Fuzz(func(t *testing.T, codec uint8, config []byte, width, rate, channels int) {
		tr := &media.Track{Codec: media.Codec(codec), Config: config, Timescale: 90000, Width: width, SampleRate: rate,
			Channels: channels}
		tr.Kind = kindOf(tr.Codec)
		b, err := Init([]*media.Track{tr})
		if (err == nil) != Carries(tr) {
			t.Fatalf("carries %v, %v", Carries(tr), err)
		}
		if err != nil {
			return
		}
		atoms, err := readAtoms(b)
		if err != nil || len(atoms) != 2 || len(find(atoms, "moov", "trak", "mdia", "minf", "stbl", "stsd")) != 1 {
			t.Errorf("%x: %v", b, err)
		}
	})
}

// fragments is the table of fragments.
var fragments = []struct {
	name   string
	frames []*media.Frame
	ends   []TrackEnd
	want   []playedSample
	failed string // part of the error
}{
	{name: "no frames"},
	{name: "audio and video", frames: []*media.Frame{
		picture(media.Keyframe, 0, 80e6, "I"), samples(sound, 0, "a0"), picture(0, 40e6, 0, "p"), samples(sound, 1024, "a1"),
	}, want: []playedSample{
		{1, 0, 3600, 7200, true, "I"}, {1, 3600, 3600, 0, false, "p"},
		{2, 0, 1024, 0, true, "a0"}, {2, 1024, 1024, 0, true, "a1"},
	}},
	{name: "audio first", frames: []*media.Frame{samples(sound, 5, "a"), picture(0, 40e6, 0, "p")}, want: []playedSample{
		{1, 3600, 3600, 0, false, "p"}, {2, 5, 1024, 0, true, "a"},
	}},
	{name: "the last sample ends at its track end", frames: []*media.Frame{
		picture(media.RecoveryPoint, 0, 0, "r"), samples(sound, 0, "a"), picture(0, 40e6, 0, "p"),
	}, ends: []TrackEnd{{video, 7290}, {sound, 1030}}, want: []playedSample{
		{1, 0, 3600, 0, true, "r"}, {1, 3600, 3690, 0, false, "p"}, {2, 0, 1030, 0, true, "a"},
	}},
	{name: "track end of a missing track", frames: []*media.Frame{samples(sound, 0, "a")},
		ends: []TrackEnd{{video, 7290}}, want: []playedSample{
			{2, 0, 1024, 0, true, "a"},
		}},
	{name: "track ends of script data and with another timescale",
		frames: []*media.Frame{picture(media.Keyframe, 0, 0, "I"), samples(sound, 0, "a")},
		ends:   []TrackEnd{{script, 1}, {soundTrack(media.AAC, 48000, 2, "\x11\x90"), 1}}, want: []playedSample{
			{1, 0, 3600, 0, true, "I"}, {2, 0, 1024, 0, true, "a"},
		}},
	{name: "gap", frames: []*media.Frame{samples(sound, 0, "a"), samples(sound, 44100, "b")}, want: []playedSample{
		{2, 0, 44100, 0, true, "a"}, {2, 44100, 1024, 0, true, "b"},
	}},
	{name: "negative composition time", frames: []*media.Frame{picture(media.Keyframe, 80e6, -40e6, "I")},
		want: []playedSample{
			{1, 7200, 3600, -3600, true, "I"},
		}},
	{name: "time above 32 bits", frames: []*media.Frame{samples(sound, 1<<40, "a")},
		want: []playedSample{{2, 1 << 40, 1024, 0, true, "a"}}},
	{name: "decoding times that repeat and step back keep presentation times", frames: []*media.Frame{
		picture(media.Keyframe, 40e6, 0, "I"), picture(0, 40e6, 40e6, "p"), picture(0, 20e6, 80e6, "q"),
		picture(0, 80e6, 0, "r"),
	}, want: []playedSample{
		{1, 3600, 0, 0, true, "I"}, {1, 3600, 0, 3600, false, "p"}, {1, 3600, 3600, 5400, false, "q"},
		{1, 7200, 3600, 0, false, "r"},
	}},
	{name: "track end before the last sample", frames: []*media.Frame{samples(sound, 2048, "a")},
		ends: []TrackEnd{{sound, 1024}}, want: []playedSample{
			{2, 2048, 0, 0, true, "a"},
		}},
	{name: "empty payload and negative durations", frames: []*media.Frame{
		{Track: sound, Duration: -1}, {Track: sound, Ticks: 7, Payload: []byte("b"), Duration: -time.Second},
	}, want: []playedSample{{2, 0, 7, 0, true, ""}, {2, 7, 0, 0, true, "b"}}},
	{name: "another track of the same configuration",
		frames: []*media.Frame{samples(sound, 0, "a"), samples(ptr(*sound), 1024, "b")}, want: []playedSample{
			{2, 0, 1024, 0, true, "a"}, {2, 1024, 1024, 0, true, "b"},
		}},
	{name: "another configuration", frames: []*media.Frame{
		samples(sound, 0, "a"), samples(soundTrack(media.AAC, 44100, 2, "\x12\x08"), 1024, "b"),
	}, failed: "configuration"},
	{name: "another timescale", frames: []*media.Frame{
		samples(sound, 0, "a"), samples(soundTrack(media.AAC, 48000, 2, "\x12\x10"), 1024, "b"),
	}, failed: "configuration"},
	{name: "time before zero", frames: []*media.Frame{samples(sound, -1, "a")}, failed: "before"},
	{name: "gap above 32 bits", frames: []*media.Frame{samples(sound, 0, "a"), samples(sound, 1<<32, "b")},
		failed: "duration"},
	{name: "composition time of a day", frames: []*media.Frame{picture(0, 0, 24*time.Hour, "p")},
		failed: "composition time"},
	{name: "decoding time far back", frames: []*media.Frame{samples(sound, 1<<33, "a"), samples(sound, 0, "b")},
		failed: "composition time"},
	{name: "data", frames: []*media.Frame{picture(media.Keyframe, 0, 0, "I"), {Track: script}}, failed: "no sample entry"},
}

func ptr[T any](v T) *T { return &v }

func TestFragment(t *testing.T) {
	for _, tt := range fragments {
		t.Run(tt.name, func(t *testing.T) {
			before := []byte("before")
			b, err := AppendFragment(before, 77, tt.frames, tt.ends...)
			if tt.failed != "" {
				if err == nil || !strings.Contains(err.Error(), tt.failed) || !bytes.Equal(b, before) {
					t.Errorf("%q, %v, want an error with %q", b, err, tt.failed)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			seqs, units, err := readFragments(b[len(before):])
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, units, cmp.AllowUnexported(playedSample{})); diff != "" {
				t.Error(diff)
			}
			if tt.want != nil && !slices.Equal(seqs, []uint32{77}) {
				t.Errorf("number %d", seqs)
			}
		})
	}
}

// TestFragmentAboveSizeLimit uses one payload for all frames, to save 2 GiB of memory.
func TestFragmentAboveSizeLimit(t *testing.T) {
	payload := make([]byte, 1<<20)
	frames := make([]*media.Frame, 1<<11)
	for i := range frames {
		frames[i] = &media.Frame{Track: sound, Ticks: int64(i), Payload: payload}
	}
	if b, err := AppendFragment(nil, 1, frames); err == nil || b != nil {
		t.Errorf("%d bytes, %v", len(b), err)
	}
}

// TestOutputIsDeterministic checks that init segments and fragments depend on tracks and frames
// only, not on the content of dst.
func TestOutputIsDeterministic(t *testing.T) {
	frames := []*media.Frame{picture(media.Keyframe, 0, 0, "I"), samples(sound, 0, "a")}
	one, err1 := AppendFragment(nil, 1, frames)
	room := make([]byte, 6, 4096)
	two, err2 := AppendFragment(room, 1, frames)
	if err1 != nil || err2 != nil || !bytes.Equal(one, two[6:]) || &two[0] != &room[0] {
		t.Errorf("%v, %v\n%q\n%q", err1, err2, one, two)
	}
	if len(one) != cap(one) {
		t.Errorf("%d bytes in %d", len(one), cap(one))
	}
	three, err1 := Init([]*media.Track{video, sound})
	four, err2 := Init([]*media.Track{sound, video})
	if err1 != nil || err2 != nil || !bytes.Equal(three, four) {
		t.Errorf("%v, %v\n%q\n%q", err1, err2, three, four)
	}
}

// FuzzFragment makes frames from bytes: four bytes for each, of which the last is the length of the
// payload that follows.
func FuzzFragment(f *testing.F) {
	f.Add(uint32(1), int64(0), []byte("\x00\x24\x00\x02II\x01\x10\x00\x02aa\x02\x24\xF0\x01p\x01\x10\x00\x00"), 3)
	f.Add(uint32(0), int64(math.MaxInt64), []byte("\x00\x24\x00\x02II\x02\x24\xF0\x01p"), 0)
	f.Add(uint32(math.MaxUint32), int64(-1), []byte("\x00\x24\x00\x02II"), 9)
	f.Add(uint32(7), int64(1<<40), []byte("\x80\xFF\x7F\x01a\x81\xFF\x80\x01b\xC1\x7F\x00\x01c"), 1)
	f.Fuzz(func(t *testing.T, seq uint32, start int64, data []byte, cut int) {
		frames := framesOf(start, data)
		cut = min(max(cut, 0), len(frames))
		b, err := AppendFragment(nil, seq, frames[:cut], trackEnds(frames[cut:])...)
		if err == nil {
			b, err = AppendFragment(b, seq+1, frames[cut:])
		}
		if err != nil {
			return
		}
		seqs, units, err := readFragments(b)
		if err != nil {
			t.Fatal(err)
		}
		if cut > 0 && seqs[0] != seq {
			t.Errorf("number %d, want %d", seqs[0], seq)
		}
		for _, tr := range []*media.Track{video, sound} {
			checkPlayedSamples(t, tr, frames, units)
		}
		if again, err := AppendFragment(nil, seq, frames[:cut], trackEnds(frames[cut:])...); err != nil ||
			!bytes.HasPrefix(b, again) {
			t.Errorf("the same frames gave different bytes, %v", err)
		}
	})
}

// framesOf reads frames of video (even first byte) and audio (odd first byte). Time goes forward
// unless the first byte is 0x80.
func framesOf(start int64, data []byte) (frames []*media.Frame) {
	at := map[*media.Track]int64{video: start, sound: start}
	for len(data) >= 4 {
		tr, step := video, int64(data[1])*100
		if data[0]&1 != 0 {
			tr = sound
		}
		if data[0] == 0x80 {
			step = -step
		}
		size := min(int(data[3]), len(data)-4)
		frames = append(frames, &media.Frame{
			Track: tr, RAP: media.RandomAccess(data[0] >> 1 & 1), Ticks: at[tr], PTS: time.Duration(int8(data[2])) * 10e6,
			Duration: time.Duration(data[1]) * time.Millisecond, Payload: data[4:][:size],
		})
		at[tr] += step
		data = data[4+size:]
	}
	return frames
}

// checkPlayedSamples compares the samples of tr with their frames: complete, in order, presented at
// the right time, and each lasting until the next, also across fragments, unless the decoding time
// steps back there.
func checkPlayedSamples(t *testing.T, tr *media.Track, frames []*media.Frame, units []playedSample) {
	t.Helper()
	var mine []playedSample
	for _, u := range units {
		if u.track == trackID(tr) {
			mine = append(mine, u)
		}
	}
	var newest int64
	for _, f := range frames {
		if f.Track != tr {
			continue
		}
		if len(mine) == 0 {
			t.Fatalf("a frame of %s is missing", tr.Kind)
		}
		u := mine[0]
		presented := f.Ticks + scale(f.PTS-f.DTS, tr.Timescale)
		if u.data != string(f.Payload) || u.dts+int64(u.offset) != presented || f.Ticks >= newest && u.dts != f.Ticks ||
			u.sync != (tr.Kind == media.Audio || f.RAP != media.NoRandomAccess) {
			t.Errorf("%s at %d, presented at %d, became %+v", tr.Kind, f.Ticks, presented, u)
		}
		if len(mine) > 1 && mine[1].dts >= u.dts && u.dts+int64(u.duration) != mine[1].dts {
			t.Errorf("%+v does not last until %+v", u, mine[1])
		}
		newest = max(newest, f.Ticks)
		mine = mine[1:]
	}
	if len(mine) != 0 {
		t.Errorf("%d extra samples of %s", len(mine), tr.Kind)
	}
}

// sampleFrames returns 200 ms of a stream of 3 Mbit/s.
func sampleFrames() (frames []*media.Frame) {
	for i := range 5 {
		frames = append(frames, picture(0, time.Duration(i)*40e6, 0, string(make([]byte, 15000))),
			samples(sound, int64(2*i)*1024, string(make([]byte, 300))))
		frames = append(frames, samples(sound, int64(2*i+1)*1024, string(make([]byte, 300))))
	}
	return frames
}

// TestFragmentAllocations checks that AppendFragment allocates little besides the bytes of the
// fragment.
func TestFragmentAllocations(t *testing.T) {
	frames, dst := sampleFrames(), make([]byte, 0, 1<<20)
	end := TrackEnd{video, 18000}
	n := testing.AllocsPerRun(100, func() {
		if _, err := AppendFragment(dst, 1, frames, end); err != nil {
			t.Fatal(err)
		}
	})
	if n > 3 { // the plan, its samples, its runs
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkFragment(b *testing.B) {
	frames := sampleFrames()
	b.ReportAllocs()
	for b.Loop() {
		p, err := AppendFragment(nil, 1, frames)
		if err != nil {
			b.Fatal(err)
		}
		b.SetBytes(int64(len(p)))
	}
}
