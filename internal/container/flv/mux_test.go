package flv

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"livego/internal/container/amf0"
	"livego/internal/media"

	"github.com/google/go-cmp/cmp"
)

// TestEncodedMessages checks the encoding of sequence headers and of frames with composition times.
func TestEncodedMessages(t *testing.T) {
	track := func(k media.Kind, c media.Codec, config string) *media.Track {
		return &media.Track{Kind: k, Codec: c, Config: []byte(config)}
	}
	mp3 := func(rate, channels int) *media.Track {
		return &media.Track{Kind: media.Audio, Codec: media.MP3, SampleRate: rate, Channels: channels}
	}
	numbered := func(t *media.Track) *media.Track {
		t.ID = 5
		return t
	}
	all, old := Dialect{Multitrack: true}, Dialect{LegacyHEVC: true}
	plain := []encodeCase{
		{"H.264", track(media.Video, media.H264, "c"), media.Keyframe, false, 40e6, "\x17\x00\x00\x00\x00c",
			"\x17\x01\x00\x00\x28p"},
		{"H.264 recovery point", track(media.Video, media.H264, "c"), media.RecoveryPoint, false, -40e6,
			"\x17\x00\x00\x00\x00c",
			"\x17\x01\xFF\xFF\xD8p"},
		{"H.264 keyframe flag on an inter frame", track(media.Video, media.H264, "c"), 0, true, 0, "\x17\x00\x00\x00\x00c",
			"\x27\x01\x00\x00\x00p"},
		{"HEVC", track(media.Video, media.HEVC, "c"), media.Keyframe, true, 40e6, "\x90hvc1c", "\x91hvc1\x00\x00\x28p"},
		{"HEVC without composition time", track(media.Video, media.HEVC, "c"), 0, false, 0, "\x90hvc1c", "\xA3hvc1p"},
		{"AV1 keyframe flag on an inter frame", track(media.Video, media.AV1, "c"), 0, true, 0, "\x90av01c", "\xA1av01p"},
		{"VP8 with a keyframe flag", track(media.Video, media.VP8, ""), 0, true, 0, "", "\x91vp08p"},
		{"VP9", track(media.Video, media.VP9, ""), 0, false, 0, "", "\xA1vp09p"},
		{"AAC", track(media.Audio, media.AAC, "c"), media.Keyframe, true, 0, "\xAF\x00c", "\xAF\x01p"},
		{"Opus", track(media.Audio, media.Opus, "c"), media.Keyframe, true, 0, "\x90Opusc", "\x91Opusp"},
		{"MP3 48000 stereo", mp3(48000, 2), media.Keyframe, true, 0, "", "\x2Fp"},
		{"MP3 22050 mono", mp3(22050, 1), media.Keyframe, true, 0, "", "\x2Ap"},
		{"MP3 12000 stereo", mp3(12000, 2), media.Keyframe, true, 0, "", "\x27p"},
		{"MP3 8000 mono", mp3(8000, 1), media.Keyframe, true, 0, "", "\xE2p"},
		{"AC-3", track(media.Audio, media.AC3, ""), media.Keyframe, true, 0, "", "\x91ac-3p"},
		{"E-AC-3", track(media.Audio, media.EAC3, ""), media.Keyframe, true, 0, "", "\x91ec-3p"},
		{"FLAC", track(media.Audio, media.FLAC, "fLaC\x80\x00\x00\x22c"), media.Keyframe, true, 0, "\x90fLaCc", "\x91fLaCp"},
		{"opaque", track(media.Video, media.Passthrough, "whole"), media.Keyframe, true, 0, "whole", "p"},
		{"script", track(media.Data, media.ScriptData, ""), media.Keyframe, true, 0, "", "p"},
		{"single track with an ID", numbered(track(media.Video, media.H264, "c")), media.Keyframe, true, 40e6,
			"\x17\x00\x00\x00\x00c", "\x17\x01\x00\x00\x28p"},
	}
	for dialect, tests := range map[Dialect][]encodeCase{
		{}: plain,
		old: {
			{"HEVC with legacy ID", track(media.Video, media.HEVC, "c"), media.Keyframe, true, 40e6, "\x1C\x00\x00\x00\x00c",
				"\x1C\x01\x00\x00\x28p"},
			{"AV1", track(media.Video, media.AV1, "c"), media.Keyframe, true, 0, "\x90av01c", "\x91av01p"},
		},
		all: {
			{"H.264, first track", track(media.Video, media.H264, "c"), media.Keyframe, false, 40e6, "\x17\x00\x00\x00\x00c",
				"\x17\x01\x00\x00\x28p"},
			{"H.264, second track", numbered(track(media.Video, media.H264, "c")), media.Keyframe, false, 40e6,
				"\x96\x00avc1\x05c",
				"\x96\x01avc1\x05\x00\x00\x28p"},
			{"HEVC, second track without composition time", numbered(track(media.Video, media.HEVC, "c")), 0, false, 0,
				"\x96\x00hvc1\x05c",
				"\xA6\x03hvc1\x05p"},
			{"AAC, second track", numbered(track(media.Audio, media.AAC, "c")), media.Keyframe, true, 0, "\x95\x00mp4a\x05c",
				"\x95\x01mp4a\x05p"},
			{"MP3, second track", numbered(mp3(48000, 2)), media.Keyframe, true, 0, "", "\x95\x01.mp3\x05p"},
		},
	} {
		for _, tt := range tests {
			t.Run(tt.name, func(t *testing.T) { tt.run(t, dialect) })
		}
	}
}

// An encodeCase is a frame with a composition time, and the expected encoding of it and its track's
// header.
type encodeCase struct {
	name   string
	track  *media.Track
	rap    media.RandomAccess
	flag   bool
	cts    time.Duration
	header string
	body   string
}

func (tt encodeCase) run(t *testing.T, d Dialect) {
	f := &media.Frame{Track: tt.track, RAP: tt.rap, KeyFlag: tt.flag, DTS: time.Hour, PTS: time.Hour + tt.cts,
		Payload: []byte("p")}
	if got := d.SequenceHeader(tt.track); string(got) != tt.header {
		t.Errorf("header %q, want %q", got, tt.header)
	}
	header, payload := d.TagBody(f)
	if got := string(header) + string(payload); got != tt.body || len(header) > maxBodyHeader {
		t.Errorf("body %q, want %q", got, tt.body)
	}
	want := AppendTag(nil, MessageType(tt.track.Kind), 3600_000, []byte(tt.body))
	if got := bytes.Join(d.EncodeTag(f), nil); !bytes.Equal(got, want) {
		t.Errorf("tag %q, want %q", got, want)
	}
}

func TestEncodeTagAllocations(t *testing.T) {
	f := &media.Frame{Track: &media.Track{Kind: media.Video, Codec: media.H264}, Payload: []byte(idr)}
	if n := testing.AllocsPerRun(100, func() { Dialect{}.EncodeTag(f) }); n > 2 {
		t.Errorf("%v allocations per tag, want one for the bytes and one for the slice of slices", n)
	}
}

func TestCodecID(t *testing.T) {
	for _, tt := range []struct {
		dialect Dialect
		track   *media.Track
		want    float64
	}{
		{Dialect{}, &media.Track{Kind: media.Video, Codec: media.HEVC}, 0x68766331},
		{Dialect{LegacyHEVC: true}, &media.Track{Kind: media.Video, Codec: media.HEVC}, 12},
		{Dialect{}, &media.Track{Kind: media.Video, Codec: media.H264, ID: 2}, 7},
		{Dialect{Multitrack: true}, &media.Track{Kind: media.Video, Codec: media.H264, ID: 2}, 0x61766331},
		{Dialect{}, &media.Track{Kind: media.Audio, Codec: media.MP3}, 2},
		{Dialect{}, &media.Track{Kind: media.Audio, Codec: media.EAC3}, 0x65632D33},
		{Dialect{}, &media.Track{Kind: media.Audio, Label: "speex"}, 0},
		{Dialect{}, nil, 0},
	} {
		if got := tt.dialect.codecID(tt.track); got != tt.want {
			t.Errorf("%+v: %+v is %v, want %v", tt.dialect, tt.track, got, tt.want)
		}
	}
}

func TestMetaData(t *testing.T) {
	video := &media.Track{Kind: media.Video, Codec: media.H264, Width: 640, Height: 360}
	audio := &media.Track{Kind: media.Audio, Codec: media.AAC, SampleRate: 44100, Channels: 1}
	claims := &media.Meta{Encoder: "enc", Width: 1, Height: 1, FrameRate: 25, VideoRate: 800, SampleRate: 8000,
		Channels: 2, HasVideo: true, HasAudio: true}
	tests := []struct {
		name   string
		meta   *media.Meta
		tracks []*media.Track
		want   amf0.ECMAArray
	}{
		{"track properties override claims", claims, []*media.Track{video, audio}, amf0.ECMAArray{
			{Key: "width", Value: 640.0}, {Key: "height", Value: 360.0}, {Key: "framerate", Value: 25.0},
			{Key: "videodatarate", Value: 800.0}, {Key: "videocodecid", Value: 7.0},
			{Key: "audiosamplerate", Value: 44100.0}, {Key: "audiochannels", Value: 1.0}, {Key: "stereo", Value: false},
			{Key: "audiocodecid", Value: 10.0},
			{Key: "encoder", Value: "enc"},
		}},
		{"track properties only", nil, []*media.Track{{Kind: media.Video, Codec: media.HEVC}},
			amf0.ECMAArray{{Key: "videocodecid", Value: float64(0x68766331)}}},
		{"claims only", &media.Meta{Width: 2, Channels: 2, HasVideo: true}, nil, amf0.ECMAArray{{Key: "width", Value: 2.0}}},
		{"nothing", nil, nil, nil},
		{"several tracks", &media.Meta{VideoRate: 800},
			[]*media.Track{audio, {ID: 3, Kind: media.Video, Codec: media.H264, Width: 320}, video,
				{ID: 1, Kind: media.Audio, Codec: media.Opus, Channels: 2}}, amf0.ECMAArray{
				{Key: "width", Value: 640.0}, {Key: "height", Value: 360.0}, {Key: "videodatarate", Value: 800.0},
				{Key: "videocodecid", Value: 7.0},
				{Key: "audiosamplerate", Value: 44100.0}, {Key: "audiochannels", Value: 1.0}, {Key: "stereo", Value: false},
				{Key: "audiocodecid", Value: 10.0},
				{Key: "videoTrackIdInfoMap", Value: amf0.Object{{Key: "3",
					Value: amf0.Object{{Key: "width", Value: 320.0}, {Key: "videocodecid", Value: float64(0x61766331)}}}}},
				{Key: "audioTrackIdInfoMap", Value: amf0.Object{{Key: "1", Value: amf0.Object{
					{Key: "audiochannels", Value: 2.0}, {Key: "stereo", Value: true},
					{Key: "audiocodecid", Value: float64(0x4F707573)},
				}}}},
			}},
	}
	for _, tt := range tests {
		got, err := amf0.Decode(Dialect{Multitrack: true}.metaData(tt.meta, tt.tracks...))
		if diff := cmp.Diff([]any{"onMetaData", tt.want}, got); err != nil || diff != "" {
			t.Errorf("%s: %v\n%s", tt.name, err, diff)
		}
	}
}

// readerFiles is the table of FLV files; fuzzing starts from it. want is the number of tags before
// the end, err the error that ends them.
func readerFiles() []struct {
	name string
	b    string
	want int
	err  string // "" for io.EOF
} {
	head := string(FileHeader(true, true))
	tag := string(AppendTag(nil, TypeVideo, 0x12345678, []byte("body")))
	return []struct {
		name string
		b    string
		want int
		err  string
	}{
		{"two tags", head + tag + string(AppendTag(nil, TypeScriptData, 0, nil)), 2, ""},
		{"no tags", head, 0, ""},
		{"empty", "", 0, "unexpected EOF"},
		{"bad signature", "GIF" + head[3:], 0, "flv: no FLV signature"},
		{"gzip", "\x1F\x8B\x08" + head[3:], 0, "flv: no FLV signature"},
		{"header size 0", head[:8] + "\x00" + head[9:], 0, "flv: invalid file header size 0"},
		{"largest header size", head[:5] + "\xFF\xFF\xFF\xFF" + head[9:], 0, "flv: invalid file header size 4294967295"},
		{"header of 13 bytes", head[:8] + "\x0Dmore" + head[9:] + tag, 1, ""},
		{"header of 10 bytes", head[:8] + "\x0A\xFF" + head[9:] + tag, 1, ""},
		{"truncated header of 13 bytes", head[:8] + "\x0Dmore", 0, "unexpected EOF"},
		{"wrong PreviousTagSize and a StreamID", head + strings.Repeat(tag[:8]+"\x00\x00\x01"+tag[11:len(tag)-1]+"\x04", 3),
			3, ""},
		{"wrong PreviousTagSize before data of AMF3", head + tag[:len(tag)-1] + "\x00" + "\x0F" + tag[1:] + tag, 2, ""},
		{"wrong first PreviousTagSize", head[:12] + "\x01" + tag, 1, ""},
		{"wrong last PreviousTagSize", head + tag[:len(tag)-1] + "\x00", 1, ""},
		{"PreviousTagSize counts the body only", head + strings.Repeat(tag[:len(tag)-1]+"\x04", 3), 3, ""},
		{"wrong PreviousTagSize without a tag after it", head + tag + tag[:len(tag)-1] + "\x00" + "nothing like a tag", 1,
			"flv: PreviousTagSize is 0 after a tag of 15 bytes"},
		{"wrong PreviousTagSize before half a tag", head + tag[:len(tag)-1] + "\x00" + tag[:5], 0,
			"flv: PreviousTagSize is 0 after a tag of 15 bytes"},
		{"tag type 0", head + "\x00" + tag[1:] + tag, 1, ""},
		{"tag type 0 without content", head + strings.Repeat("\x00", 14) + "\x0B" + tag, 1, ""},
		{"unknown tag type", head + tag + "\xDF" + tag[1:] + tag, 2, ""},
		{"unknown tag with a wrong PreviousTagSize", head + tag + "\xDF" + tag[1:len(tag)-1] + "\x00" + tag, 2, ""},
		{"zero bytes after the last tag", head + tag + strings.Repeat("\x00", 4096), 1, ""},
		{"five zero bytes after the last tag", head + tag + strings.Repeat("\x00", 5), 1, ""},
		{"twelve zero bytes after the last tag", head + tag + strings.Repeat("\x00", 12), 1, ""},
		{"zero bytes before the end", head + tag + strings.Repeat("\x00", 600) + tag, 1,
			"flv: 527 zero bytes in place of a tag"},
		{"encrypted tag", head + "\x29" + tag[1:], 0, "flv: encrypted tag"},
		{"tag longer than the file", head + "\x09\x00\x03\xFF" + tag[4:], 0, "unexpected EOF"},
		{"tag above the size limit", head + "\x09\xFF\xFF\xFF" + tag[4:], 0,
			"flv: tag of 16777215 bytes exceeds the limit of 1024"},
		{"truncated tag header", head + tag[:5], 0, "unexpected EOF"},
		{"truncated PreviousTagSize", head + tag[:len(tag)-1], 0, "unexpected EOF"},
	}
}

func readAll(r *Reader) (tags []Tag, err error) {
	for {
		t, err := r.Next()
		if errors.Is(err, io.EOF) {
			return tags, nil
		} else if err != nil {
			return tags, err
		}
		tags = append(tags, t)
	}
}

func TestReader(t *testing.T) {
	for _, tt := range readerFiles() {
		for name, src := range map[string]io.Reader{
			"whole": bytes.NewReader([]byte(tt.b)), "byte by byte": iotest.OneByteReader(bytes.NewReader([]byte(tt.b))),
		} {
			tags, err := readAll(NewReader(src, 1024))
			text := ""
			if err != nil {
				text = err.Error()
			}
			if len(tags) != tt.want || text != tt.err {
				t.Errorf("%s, %s: %d tags, %v", tt.name, name, len(tags), err)
			}
			if len(tags) > 0 && (tags[0].Timestamp != 0x12345678 || string(tags[0].Body) != "body") {
				t.Errorf("%s, %s: %+v", tt.name, name, tags[0])
			}
		}
	}
}

func TestAnomalies(t *testing.T) {
	tag := string(AppendTag(nil, TypeVideo, 0, []byte("body")))
	odd := tag[:len(tag)-1] + "\x04"
	r := NewReader(strings.NewReader(string(FileHeader(true, true))+odd+tag+"\x0F"+tag[1:]+odd+
		strings.Repeat("\x00", 700)), 1024)
	tags, err := readAll(r)
	if want := (Anomalies{UnknownTags: 1, WrongSizes: 2, Padding: 700}); err != nil || len(tags) != 3 ||
		r.Anomalies != want {
		t.Errorf("%d tags, %v, %+v", len(tags), err, r.Anomalies)
	}
	const want = "1 tags of unknown types were skipped; PreviousTagSize is wrong 2 times; 700 zero bytes follow " +
		"the last tag"
	if got := r.Anomalies.String(); got != want {
		t.Error(got)
	}
}

func FuzzReader(f *testing.F) {
	for _, tt := range readerFiles() {
		f.Add([]byte(tt.b))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r := NewReader(bytes.NewReader(b), 1024)
		tags, err := readAll(r)
		if err != nil {
			return
		}
		again := b[:r.first:r.first]
		for _, tag := range tags {
			again = AppendTag(again, tag.Type, tag.Timestamp, tag.Body)
		}
		if odd := r.Anomalies != (Anomalies{}); len(again) > len(b) || len(again) != len(b) && !odd {
			t.Errorf("%d bytes read without error became %d", len(b), len(again))
		}
	})
}
