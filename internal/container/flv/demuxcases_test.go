package flv

import (
	"encoding/binary"
	"math"
	"strings"
	"testing"
	"time"

	"livego/internal/container/amf0"
	"livego/internal/media"
)

const (
	avcC = "\x01\x42\xC0\x0D\xFF\xE1\x00\x15\x67\x42\xC0\x0D\xDA\x05\x07\xEC\x04\x40\x00\x00" +
		"\xFA\x40\x00\x3A\x98\x03\xC5\x0A\xA8\x01\x00\x04\x68\xCE\x0F\xC8"
	idr   = "\x00\x00\x00\x02\x65\x88"
	inter = "\x00\x00\x00\x02\x41\x9A"
	asc   = "\x12\x10"
	adts  = "\xFF\xF1\x50\x80\x01\x5F\xFC" // of a frame of 3 bytes

	// sets are the parameter sets of avcC as in-band NAL units.
	sets = "\x00\x00\x00\x15\x67\x42\xC0\x0D\xDA\x05\x07\xEC\x04\x40\x00\x00\xFA\x40\x00\x3A" +
		"\x98\x03\xC5\x0A\xA8\x00\x00\x00\x04\x68\xCE\x0F\xC8"
	noSets = "\x17\x00\x00\x00\x00\x01\x42\xC0\x0D\xFF\xE0\x00" // a configuration without parameter sets

	silentStereo = "\x21\x00\x49\x90\x02\x19\x00\x23\x80"

	mp3Frame = "\xFF\xFB\x90\x64 and so on"
	hvcC     = "\x01\x01\x60\x00\x00\x00\x90\x00\x00\x00\x00\x00\x5D\xF0\x00\xFC\xFD\xF8\xF8\x00\x00\x0F\x00"
	hevcIDR  = "\x00\x00\x00\x03\x26\x01\xAA"
	opusHead = "OpusHead\x01\x02\x38\x01\x80\xBB\x00\x00\x00\x00\x00"
	av1C     = "\x81\x00\x0C\x00"
	av1Key   = "\x0A\x0A\x00\x00\x00\x03\xB4\xFD\x93\x6B\xE4\x01\x32\x02\x10\xFF"
	vpcC     = "\x00\x0A\x82\x02\x02\x02\x00\x00"
	vp9Frame = "\x82\x49\x83\x42\x00\x13\xF0\x0B\x30\x00"
	flacHead = "fLaC\x80\x00\x00\x22\x10\x00\x10\x00\x00\x00\x00\x00\x00\x00\x0A\xC4\x42\xF0\x00\x00\x00\x00" +
		"0123456789abcdef"
)

// ac3Frame is a sync frame of AC-3: 48 kHz, stereo, 32 kbit/s.
var ac3Frame = "\x0B\x77\x00\x00\x00\x40\x40" + strings.Repeat("\x00", 121)

// message is one message to a Demuxer.
type message struct {
	typ  uint8
	body string
}

// A demuxCase is a session of messages, and the frames of the last one. The table seeds the fuzzer.
type demuxCase struct {
	name     string
	messages []message
	frame    *media.Frame // nil: no frame
	more     []*media.Frame
	skipped  bool // ErrSkip
	unknown  bool // also ErrUnsupported
}

// frames returns all frames of the last message.
func (r demuxCase) frames() []*media.Frame {
	if r.frame == nil {
		return nil
	}
	return append([]*media.Frame{r.frame}, r.more...)
}

func v(bodies ...string) (m []message) {
	for _, b := range bodies {
		m = append(m, message{TypeVideo, b})
	}
	return m
}

func a(bodies ...string) (m []message) {
	for _, b := range bodies {
		m = append(m, message{TypeAudio, b})
	}
	return m
}

// sized returns b after its length, as in multitrack messages.
func sized(b string) string { return string(appendUint24(nil, uint32(len(b)))) + b }

func script(values ...any) []message {
	return []message{{TypeScriptData, string(amf0.Append(nil, values...))}}
}

func demuxCases() []demuxCase {
	h264 := &media.Track{
		Kind: media.Video, Codec: media.H264, Config: []byte(avcC), Timescale: 90000,
		Width: 320, Height: 240, FrameRate: 30000.0 / 1001, BitDepth: 8, Profile: "Constrained Baseline",
		RFC6381: "avc1.42c00d",
	}
	aac := &media.Track{
		Kind: media.Audio, Codec: media.AAC, Config: []byte(asc), Timescale: 44100,
		SampleRate: 44100, Channels: 2, FrameSamples: 1024, Profile: "LC", RFC6381: "mp4a.40.2",
	}
	mp3 := &media.Track{
		Kind: media.Audio, Codec: media.MP3, Timescale: 44100, SampleRate: 44100, Channels: 2, FrameSamples: 1152,
		RFC6381: "mp4a.40.34",
	}
	enhanced := func(k media.Kind, c media.Codec, config string) *media.Track {
		t := &media.Track{Kind: k, Codec: c, Timescale: 90000}
		if config != "" {
			t.Config = []byte(config)
		}
		return t
	}
	opus := enhanced(media.Audio, media.Opus, opusHead)
	opus.Timescale, opus.SampleRate, opus.Channels, opus.RFC6381 = 48000, 48000, 2, "opus"
	flac := enhanced(media.Audio, media.FLAC, flacHead)
	flac.Timescale, flac.SampleRate, flac.Channels, flac.FrameSamples, flac.RFC6381 = 44100, 44100, 2, 4096, "fLaC"
	flac.BitDepth = 16
	hevc := enhanced(media.Video, media.HEVC, hvcC)
	hevc.Profile, hevc.RFC6381 = "Main", "hvc1.1.6.L93.90"
	hevcLegacy := *hevc
	av1 := enhanced(media.Video, media.AV1, av1C)
	av1.BitDepth, av1.Profile, av1.RFC6381 = 8, "Main", "av01.0.00M.08"
	vp9 := enhanced(media.Video, media.VP9, vpcC)
	vp9.BitDepth, vp9.Profile, vp9.RFC6381 = 8, "Profile 0", "vp09.00.10.08"
	vp9Key := *vp9
	vp9Key.Width, vp9Key.Height = 320, 180
	vp9Bare := vp9Key // with a generated configuration, of the lowest level for its size
	vp9Bare.Config, vp9Bare.RFC6381 = []byte("\x00\x0B\x82\x02\x02\x02\x00\x00"), "vp09.00.11.08"
	ac3 := enhanced(media.Audio, media.AC3, "\x10\x10\x00")
	ac3.Timescale, ac3.SampleRate, ac3.Channels, ac3.FrameSamples, ac3.RFC6381 = 48000, 48000, 2, 1536, "ac-3"
	opaque := func(k media.Kind, label string) *media.Track {
		return &media.Track{Kind: k, Label: label, Timescale: 90000}
	}
	hevcWith := func(id uint8, colors []byte) *media.Track {
		t := *hevc
		t.ID, t.ColorInfo = id, colors
		return &t
	}
	hdr := amf0.Append(nil, "colorInfo",
		amf0.Object{{Key: "colorConfig", Value: amf0.Object{{Key: "transferCharacteristics", Value: 16.0}}}})
	hostileColors := amf0.Append(nil, "colorInfo", amf0.Object{
		{Key: "colorConfig", Value: amf0.Object{
			{Key: "bitDepth", Value: math.NaN()}, {Key: "colorPrimaries", Value: 1e300},
			{Key: "transferCharacteristics", Value: 16.0}, {Key: "x", Value: "y"},
		}},
		{Key: "hdrCll", Value: []any{1.0}}, {Key: "hdrMdcv", Value: amf0.Object{{Key: "redX", Value: -1.0}}},
		{Key: "z", Value: amf0.Object{}},
	})
	aacSecond := *aac
	aacSecond.ID = 1
	avcSecond := *h264
	avcSecond.ID = 7
	frame := func(t *media.Track, rap media.RandomAccess, key bool, payload string) *media.Frame {
		return &media.Frame{Track: t, RAP: rap, KeyFlag: key, Payload: []byte(payload)}
	}
	shifted := func(f *media.Frame, cts time.Duration) *media.Frame {
		f.PTS = cts
		return f
	}
	delayed := func(f *media.Frame, d time.Duration) *media.Frame {
		f.DTS, f.PTS = f.DTS+d, f.PTS+d
		return f
	}
	const header, key, delta = "\x17\x00\x00\x00\x00" + avcC, "\x17\x01\x00\x00\x00", "\x27\x01\x00\x00\x00"
	return []demuxCase{
		{name: "H.264 header", messages: v(header)},
		{name: "H.264 keyframe", messages: v(header, key+idr), frame: frame(h264, media.Keyframe, true, idr)},
		{name: "keyframe flag on a frame that is no IDR", messages: v(header, key+inter),
			frame: frame(h264, media.NoRandomAccess, true, inter)},
		{name: "IDR without keyframe flag", messages: v(header, delta+idr), frame: frame(h264, media.Keyframe, false, idr)},
		{name: "composition time", messages: v(header, "\x27\x01\x00\x00\x50"+inter),
			frame: shifted(frame(h264, 0, false, inter), 80*time.Millisecond)},
		{name: "negative composition time", messages: v(header, "\x27\x01\xFF\xFF\xD8"+inter),
			frame: shifted(frame(h264, 0, false, inter), -40*time.Millisecond)},
		{name: "lowest composition time", messages: v(header, "\x27\x01\x80\x00\x00"+inter),
			frame: frame(h264, 0, false, inter)},
		{name: "highest composition time", messages: v(header, "\x27\x01\x7F\xFF\xFF"+inter),
			frame: frame(h264, 0, false, inter)},
		{name: "end of sequence", messages: v(header, "\x17\x02\x00\x00\x00")},
		{name: "end of sequence first", messages: v("\x17\x02\x00\x00\x00"), skipped: true},
		{name: "frame before header", messages: v(key + idr), skipped: true},
		{name: "empty message", messages: v(""), skipped: true},
		{name: "message of 1 byte", messages: v("\x17"), skipped: true},
		{name: "message of 4 bytes", messages: v("\x17\x01\x00\x00"), skipped: true},
		{name: "frame without content", messages: v(header, key), skipped: true},
		{name: "header without content", messages: v("\x17\x00\x00\x00\x00"), skipped: true},
		{name: "unknown packet type 3", messages: v(header, "\x17\x03\x00\x00\x00"+idr), skipped: true},
		{name: "unknown packet type 255", messages: v(header, "\x17\xFF\x00\x00\x00"+idr), skipped: true},
		{name: "reserved frame type 0", messages: v(header, "\x07\x01\x00\x00\x00"+idr), skipped: true},
		{name: "command frame (type 5)", messages: v(header, "\x57\x00"), skipped: true},
		{name: "reserved frame type 7", messages: v(header, "\x77\x01\x00\x00\x00"+idr), skipped: true},
		{name: "NAL unit length 0", messages: v(header, key+"\x00\x00\x00\x00"), skipped: true},
		{name: "largest NAL unit length", messages: v(header, key+"\xFF\xFF\xFF\xFF\x65"), skipped: true},
		{name: "in-band parameter sets, no configuration", messages: v(key + sets + idr),
			frame: frame(h264, media.Keyframe, true, sets+idr)},
		{name: "in-band parameter sets with start codes, no configuration", messages: v(key + startCodes(sets+idr)),
			frame: frame(h264, media.Keyframe, true, sets+idr)},
		{name: "configuration without parameter sets", messages: v(noSets, key+sets+idr, delta+inter),
			frame: frame(h264, 0, false, inter)},
		{name: "repeated configuration without parameter sets", messages: v(noSets, key+sets+idr, noSets, delta+inter),
			frame: frame(h264, 0, false, inter)},
		{name: "changed in-band parameter sets",
			messages: v(noSets, key+strings.Replace(sets, "\x0D", "\x1E", 1)+idr, key+sets+idr, delta+inter),
			frame:    frame(h264, 0, false, inter)},
		{name: "configuration after in-band parameter sets",
			messages: v(key+strings.Replace(sets, "\x0D", "\x1E", 1)+idr, header, key+sets+idr),
			frame:    frame(h264, media.Keyframe, true, sets+idr)},
		{name: "in-band SPS without PPS, no configuration", messages: v(key + sets[:25] + idr), skipped: true},
		{name: "oversized in-band parameter sets, no configuration",
			messages: v(key + sets + strings.Repeat("\x00\x00\x40\x00\x68"+strings.Repeat("x", 1<<14-1), 4) + idr),
			skipped:  true},
		{name: "zero bytes after an access unit", messages: v(header, key+idr+"\x00\x00"),
			frame: frame(h264, media.Keyframe, true, idr)},
		{name: "NAL unit length 0 before and after an access unit",
			messages: v(header, key+"\x00\x00\x00\x00"+idr+"\x00\x00\x00\x00"),
			frame:    frame(h264, media.Keyframe, true, idr)},
		{name: "unspecified NAL unit type in an access unit", messages: v(header, key+"\x00\x00\x00\x02\x78\x88"+idr),
			frame: frame(h264, media.Keyframe, true, "\x00\x00\x00\x02\x78\x88"+idr)},
		{name: "forbidden bit in an access unit", messages: v(header, key+"\x00\x00\x00\x02\xE5\x88"+idr),
			frame: frame(h264, media.Keyframe, true, idr)},
		{name: "access unit delimiter of one byte", messages: v(header, key+"\x00\x00\x00\x01\x09"+idr),
			frame: frame(h264, media.Keyframe, true, idr)},
		{name: "only an unspecified NAL unit type", messages: v(header, key+"\x00\x00\x00\x02\x78\x88"), skipped: true},
		{name: "Annex B frames", messages: v(header, key+"\x00\x00\x00\x01\x67\x42\xC0\x0D\x00\x00\x01\x65\x88\x84"),
			frame: frame(h264, media.Keyframe, true, "\x00\x00\x00\x04\x67\x42\xC0\x0D\x00\x00\x00\x03\x65\x88\x84")},
		{name: "HEVC truncated delimiter, unspecified type and padding",
			messages: v("\x90hvc1"+hvcC, "\x93hvc1"+"\x00\x00\x00\x01\x46"+hevcIDR+"\x00\x00\x00\x03\x7E\x01\xAA\x00"),
			frame:    frame(hevc, media.Keyframe, true, hevcIDR+"\x00\x00\x00\x03\x7E\x01\xAA")},
		{name: "AV1 reserved OBU and padding",
			messages: v("\x90av01"+av1C, "\x91av01"+"\x52\x01\xAA"+av1Key+"\x7A\x02\x00\x80\x00"),
			frame:    frame(av1, media.Keyframe, true, "\x52\x01\xAA"+av1Key+"\x7A\x02\x00\x80\x00")},
		{name: "Annex B frames and configuration",
			messages: v("\x17\x00\x00\x00\x00\x00\x00\x00\x01"+avcC[8:29]+"\x00\x00\x00\x01"+avcC[32:],
				key+"\x00\x00\x00\x01\x67\x42\xC0\x0D\x00\x00\x01\x65\x88\x84"),
			frame: frame(h264, media.Keyframe, true, "\x00\x00\x00\x04\x67\x42\xC0\x0D\x00\x00\x00\x03\x65\x88\x84")},
		{name: "Annex B with one NAL unit", messages: v(header, key+"\x00\x00\x00\x01\x65\x88"), skipped: true},
		{name: "Sorenson", messages: v("\x12\x00\x00"),
			frame: frame(opaque(media.Video, "sorenson"), media.Keyframe, true, "\x12\x00\x00")},
		{name: "VP6 inter frame", messages: v("\x24\x00\x00"),
			frame: frame(opaque(media.Video, "vp6"), 0, false, "\x24\x00\x00")},
		{name: "unknown codec 15", messages: v("\x1F\x00"),
			frame: frame(opaque(media.Video, "video codec 15"), media.Keyframe, true, "\x1F\x00")},
		{name: "HEVC legacy", messages: v("\x1C\x00\x00\x00\x00"+hvcC, "\x1C\x01\x00\x00\x00"+hevcIDR),
			frame: frame(&hevcLegacy, media.Keyframe, true, hevcIDR)},

		{name: "HEVC", messages: v("\x90hvc1"+hvcC, "\x91hvc1\x00\x00\x28"+hevcIDR),
			frame: shifted(frame(hevc, media.Keyframe, true, hevcIDR), 40*time.Millisecond)},
		{name: "HEVC without composition time", messages: v("\x90hvc1"+hvcC, "\xA3hvc1"+hevcIDR),
			frame: frame(hevc, media.Keyframe, false, hevcIDR)},
		{name: "HEVC truncated composition time", messages: v("\x90hvc1"+hvcC, "\x91hvc1\x00\x00"), skipped: true},
		{name: "truncated hvcC", messages: v("\x90hvc1\x01\x02"), skipped: true},
		{name: "H.264 by FourCC", messages: v("\x90avc1"+avcC, "\x91avc1\x00\x00\x00"+idr),
			frame: frame(h264, media.Keyframe, true, idr)},
		{name: "AV1", messages: v("\x90av01"+av1C, "\x91av01"+av1Key), frame: frame(av1, media.Keyframe, true, av1Key)},
		{name: "keyframe flag on an AV1 inter frame", messages: v("\x90av01"+av1C, "\x91av01"+av1Key[12:]),
			frame: frame(av1, media.NoRandomAccess, true, av1Key[12:])},
		{name: "AV1 size in 9 bytes", messages: v("\x90av01"+av1C, "\x91av01\x32\x80\x80\x80\x80\x80\x80\x80\x80\x00"),
			skipped: true},
		{name: "AV1 frame before its header", messages: v("\x91av01obu"), skipped: true},
		{name: "av1C with marker 0", messages: v("\x90av01\x01\x00\x0C\x00"), skipped: true},
		{name: "VP9 inter", messages: v("\x90vp09"+vpcC, "\xA1vp09\x86"), frame: frame(vp9, 0, false, "\x86")},
		{name: "VP9 keyframe", messages: v("\x90vp09"+vpcC, "\x91vp09"+vp9Frame),
			frame: frame(&vp9Key, media.Keyframe, true, vp9Frame)},
		{name: "VP9 inter frame after keyframe",
			messages: v("\x90vp09"+vpcC, "\x91vp09"+vp9Frame, "\x90vp09"+vpcC, "\xA1vp09\x86"),
			frame:    frame(&vp9Key, 0, false, "\x86")},
		{name: "VP9 without header", messages: v("\x91vp09" + vp9Frame),
			frame: frame(&vp9Bare, media.Keyframe, true, vp9Frame)},
		{name: "VP9 without header, inter first", messages: v("\xA1vp09\x86", "\x91vp09"+vp9Frame),
			frame: frame(&vp9Bare, media.Keyframe, true, vp9Frame)},
		{name: "malformed VP9 header", messages: v("\x90vp09vpcC"), skipped: true},
		{name: "VP9 superframe size above frame size", messages: v("\x91vp09\x86\xC0\xFF\xC0"), skipped: true},
		{name: "VP8 without header", messages: v("\x91vp08x"),
			frame: frame(enhanced(media.Video, media.VP8, ""), media.Keyframe, true, "x")},
		{name: "unknown FourCC", messages: v("\x90xyzwconfig", "\x91xyzwframe"), skipped: true, unknown: true},
		{name: "audio FourCC in video", messages: v("\x91Opusframe"), skipped: true, unknown: true},
		{name: "truncated FourCC", messages: v("\x91hvc"), skipped: true},
		{name: "FourCC of zeros", messages: v("\x91\x00\x00\x00\x00frame"), skipped: true},
		{name: "FourCC outside ASCII", messages: v("\x91\xFF\xFE\xFD\xFCframe"), skipped: true},
		{name: "enhanced header without content", messages: v("\x90hvc1"), skipped: true},
		{name: "MPEG2TSSequenceStart", messages: v("\x95hvc1x"), skipped: true, unknown: true},
		{name: "enhanced packet type 8", messages: v("\x98hvc1x"), skipped: true, unknown: true},
		{name: "enhanced packet type 15", messages: v("\x9Fhvc1x"), skipped: true, unknown: true},
		{name: "enhanced end of sequence first", messages: v("\x92hvc1"), skipped: true},

		{name: "ModEx with nanoseconds", messages: v("\x90hvc1"+hvcC, "\x97\x02\x0F\x42\x3F\x03hvc1"+hevcIDR),
			frame: delayed(frame(hevcWith(0, nil), media.Keyframe, true, hevcIDR), 999_999)},
		{name: "chained ModEx of unknown type",
			messages: v("\x90hvc1"+hvcC, "\x97\x00x\x57\x02\x00\x00\x07\x03hvc1"+hevcIDR),
			frame:    delayed(frame(hevcWith(0, nil), media.Keyframe, true, hevcIDR), 7)},
		{name: "ModEx of 256 bytes",
			messages: v("\x90hvc1"+hvcC, "\x97\xFF\x00\xFF"+strings.Repeat("x", 256)+"\x13hvc1"+hevcIDR),
			frame:    frame(hevcWith(0, nil), media.Keyframe, true, hevcIDR)},
		{name: "ModEx before multitrack", messages: v("\x90hvc1"+hvcC, "\x97\x02\x00\x00\x07\x06\x03hvc1\x00"+hevcIDR),
			frame: delayed(frame(hevcWith(0, nil), media.Keyframe, true, hevcIDR), 7)},
		{name: "ModEx longer than the message", messages: v("\x97\xFF\xFF\xFF\x00"), skipped: true},
		{name: "ModEx without a size", messages: v("\x97"), skipped: true},
		{name: "ModEx with a truncated size", messages: v("\x97\xFF\x00"), skipped: true},
		{name: "ModEx at the end", messages: v("\x97\x00x\x13"), skipped: true},
		{name: "ModEx nanoseconds of two bytes", messages: v("\x90hvc1"+hvcC, "\x97\x01\x00\x00\x03hvc1"+hevcIDR),
			skipped: true},
		{name: "ModEx of a million nanoseconds", messages: v("\x90hvc1"+hvcC, "\x97\x02\x0F\x42\x40\x03hvc1"+hevcIDR),
			skipped: true},
		{name: "10,000 ModEx", messages: v("\x90hvc1"+hvcC,
			"\x97"+strings.Repeat("\x00x\x17", 10_000)+"\x00x\x13hvc1"+hevcIDR), skipped: true},

		{name: "multitrack, one", messages: v("\x96\x00hvc1\x05"+hvcC, "\x96\x01hvc1\x05\x00\x00\x28"+hevcIDR),
			frame: shifted(frame(hevcWith(5, nil), media.Keyframe, true, hevcIDR), 40*time.Millisecond)},
		{name: "multitrack, many", messages: v("\x96\x10hvc1\x00"+sized(hvcC)+"\x05"+sized(hvcC),
			"\xA6\x13hvc1\x00"+sized(hevcIDR)+"\x05"+sized(hevcIDR)),
			frame: frame(hevcWith(0, nil), media.Keyframe, false, hevcIDR),
			more:  []*media.Frame{frame(hevcWith(5, nil), media.Keyframe, false, hevcIDR)}},
		{name: "multitrack, many codecs",
			messages: v("\x96\x20hvc1\x00"+sized(hvcC)+"avc1\x07"+sized(avcC),
				"\x96\x23avc1\x07"+sized(idr)+"hvc1\x00"+sized(hevcIDR)),
			frame: frame(&avcSecond, media.Keyframe, true, idr),
			more:  []*media.Frame{frame(hevcWith(0, nil), media.Keyframe, true, hevcIDR)}},
		{name: "multitrack with an unknown codec",
			messages: v("\x90hvc1"+hvcC, "\x96\x23xyzw\x01\x00\x00\x02ab"+"hvc1\x00"+sized(hevcIDR)),
			frame:    frame(hevcWith(0, nil), media.Keyframe, true, hevcIDR), skipped: true, unknown: true},
		{name: "multitrack with a truncated track",
			messages: v("\x90hvc1"+hvcC, "\x96\x13hvc1\x00"+sized(hevcIDR)+"\x01\x00\x00\x09x"),
			frame:    frame(hevcWith(0, nil), media.Keyframe, true, hevcIDR), skipped: true},
		{name: "multitrack without tracks", messages: v("\x96\x13hvc1"), skipped: true},
		{name: "empty multitrack", messages: v("\x96"), skipped: true},
		{name: "multitrack of type 3", messages: v("\x96\x33hvc1\x00\x00\x00\x01x"), skipped: true, unknown: true},
		{name: "multitrack of 33 tracks", messages: v("\x96\x13hvc1" + strings.Repeat("\x00\x00\x00\x00", 33)),
			skipped: true},
		{name: "multitrack in multitrack", messages: v("\x96\x06hvc1\x00"), skipped: true},
		{name: "ModEx in multitrack", messages: v("\x96\x07hvc1\x00"), skipped: true},
		{name: "track 0 with and without multitrack", messages: v("\x96\x00hvc1\x00"+hvcC, "\x93hvc1"+hevcIDR),
			frame: frame(hevcWith(0, nil), media.Keyframe, true, hevcIDR)},

		{name: "color metadata", messages: v("\x90hvc1"+hvcC, "\xD4hvc1"+string(hdr), "\x93hvc1"+hevcIDR),
			frame: frame(hevcWith(0, hdr), media.Keyframe, true, hevcIDR)},
		{name: "color metadata before the configuration",
			messages: v("\x94hvc1"+string(hdr), "\x90hvc1"+hvcC, "\x93hvc1"+hevcIDR),
			frame:    frame(hevcWith(0, hdr), media.Keyframe, true, hevcIDR)},
		{name: "color metadata of a track",
			messages: v("\x96\x00hvc1\x05"+hvcC, "\x96\x04hvc1\x05"+string(hdr), "\x96\x03hvc1\x05"+hevcIDR),
			frame:    frame(hevcWith(5, hdr), media.Keyframe, true, hevcIDR)},
		{name: "color metadata reset",
			messages: v("\x90hvc1"+hvcC, "\x94hvc1"+string(hdr), "\x94hvc1"+string(amf0.Append(nil, "colorInfo", amf0.Object{})),
				"\x93hvc1"+hevcIDR), frame: frame(hevcWith(0, resetColorInfo), media.Keyframe, true, hevcIDR)},
		{name: "color metadata reset before any",
			messages: v("\x90hvc1"+hvcC, "\x94hvc1"+string(resetColorInfo), "\x93hvc1"+hevcIDR),
			frame:    frame(hevcWith(0, nil), media.Keyframe, true, hevcIDR)},
		{name: "color metadata out of bounds",
			messages: v("\x90hvc1"+hvcC, "\x94hvc1"+string(hostileColors), "\x93hvc1"+hevcIDR),
			frame:    frame(hevcWith(0, hdr), media.Keyframe, true, hevcIDR)},
		{name: "metadata with another name", messages: v("\x94hvc1" + string(amf0.Append(nil, "x", 1.0))), skipped: true,
			unknown: true},
		{name: "color metadata that is not AMF0", messages: v("\x94hvc1x"), skipped: true},
		{name: "deeply nested color metadata",
			messages: v("\x94hvc1\x02\x00\x09colorInfo" + strings.Repeat("\x03\x00\x01a", 40)), skipped: true},
		{name: "64 KiB of color metadata",
			messages: v("\x94hvc1" + string(amf0.Append(nil, "colorInfo", strings.Repeat("y", maxScript)))), skipped: true},
		{name: "enhanced command frame", messages: v("\xD1hvc1x"), skipped: true},

		{name: "AAC", messages: a("\xAF\x00"+asc, "\xAF\x01raw"), frame: frame(aac, media.Keyframe, true, "raw")},
		{name: "AAC with wrong flags", messages: a("\xA0\x00"+asc, "\xA2\x01raw"),
			frame: frame(aac, media.Keyframe, true, "raw")},
		{name: "AAC before its configuration", messages: a("\xAF\x01raw"), skipped: true},
		{name: "malformed AAC configuration", messages: a("\xAF\x00\xFF"), skipped: true},
		{name: "AAC of 1 byte", messages: a("\xAF"), skipped: true},
		{name: "AAC of 0 bytes is silence", messages: a("\xAF\x00"+asc, "\xAF\x01"),
			frame: frame(aac, media.Keyframe, true, silentStereo)},
		{name: "AAC of 0 bytes by FourCC is silence", messages: a("\x90mp4a"+asc, "\x91mp4a"),
			frame: frame(aac, media.Keyframe, true, silentStereo)},
		{name: "AAC of 0 bytes before its configuration", messages: a("\xAF\x01")},
		{name: "MP3 of 0 bytes", messages: a("\x2F"+mp3Frame, "\x2F")},
		{name: "AAC with ADTS, no configuration", messages: a("\xAF\x01" + adts + "raw"),
			frame: frame(aac, media.Keyframe, true, "raw")},
		{name: "AAC with ADTS and its configuration", messages: a("\xAF\x00"+asc, "\xAF\x01"+adts+"raw"),
			frame: frame(aac, media.Keyframe, true, "raw")},
		{name: "two frames of AAC with ADTS, no configuration", messages: a("\xAF\x01" + adts + "one" + adts + "two"),
			frame: frame(aac, media.Keyframe, true, "one"),
			more:  []*media.Frame{delayed(frame(aac, media.Keyframe, true, "two"), 1024*time.Second/44100)}},
		{name: "two frames of AAC with ADTS and its configuration",
			messages: a("\xAF\x00"+asc, "\xAF\x01"+adts+"one"+adts+"two"),
			frame:    frame(aac, media.Keyframe, true, "one"),
			more:     []*media.Frame{delayed(frame(aac, media.Keyframe, true, "two"), 1024*time.Second/44100)}},
		{name: "AAC with a changed ADTS sample rate, no configuration",
			messages: a("\xAF\x01"+strings.Replace(adts, "\x50", "\x4C", 1)+"one", "\xAF\x01"+adts+"two", "\xAF\x01raw"),
			frame:    frame(aac, media.Keyframe, true, "raw")},
		{name: "AAC with another sample rate in ADTS than in the configuration",
			messages: a("\xAF\x00"+asc, "\xAF\x01"+strings.Replace(adts, "\x50", "\x4C", 1)+"raw"),
			frame:    frame(aac, media.Keyframe, true, "raw")},
		{name: "AAC with ADTS and a truncated second frame", messages: a("\xAF\x01" + adts + "one" + adts + "tw"),
			skipped: true},
		{name: "65 frames of AAC with ADTS", messages: a("\xAF\x01" + strings.Repeat(adts+"one", 65)), skipped: true},
		{name: "AAC with a wrong ADTS length, no configuration", messages: a("\xAF\x01" + adts + "raws"), skipped: true},
		{name: "AAC packet type 2", messages: a("\xAF\x00"+asc, "\xAF\x02raw"), skipped: true},
		{name: "MP3", messages: a("\x2F" + mp3Frame), frame: frame(mp3, media.Keyframe, true, mp3Frame)},
		{name: "MP3 at 8 kHz", messages: a("\xEE\xFF\xE3\x18\xC4"), frame: frame(&media.Track{
			Kind: media.Audio, Codec: media.MP3, Timescale: 8000, SampleRate: 8000, Channels: 1, FrameSamples: 576,
			RFC6381: "mp4a.40.34",
		}, media.Keyframe, true, "\xFF\xE3\x18\xC4")},
		{name: "MP3 without a header first", messages: a("\x2Fgarbage"), skipped: true},
		{name: "MP3 without a header later", messages: a("\x2F"+mp3Frame, "\x2Fgarbage"),
			frame: frame(mp3, media.Keyframe, true, "garbage")},
		{name: "Speex", messages: a("\xB6x"), frame: frame(opaque(media.Audio, "speex"), media.Keyframe, true, "\xB6x")},
		{name: "unknown sound format 12", messages: a("\xC0x"),
			frame: frame(opaque(media.Audio, "sound format 12"), media.Keyframe, true, "\xC0x")},
		{name: "empty audio message is silence", messages: a("")},
		{name: "silence by FourCC", messages: a("\x91Opus")},
		{name: "Opus", messages: a("\x90Opus"+opusHead, "\x91Opusx"), frame: frame(opus, media.Keyframe, true, "x")},
		{name: "truncated OpusHead", messages: a("\x90Opus" + opusHead[:18]), skipped: true},
		{name: "OpusHead without channels", messages: a("\x90Opus" + opusHead[:9] + "\x00" + opusHead[10:]),
			skipped: true},
		{name: "OpusHead of 255 channels", messages: a("\x90Opus" + opusHead[:9] + "\xFF" + opusHead[10:]),
			skipped: true},
		{name: "OpusHead without its channel map", messages: a("\x90Opus" + opusHead[:18] + "\x01\x01\x01"), skipped: true},
		{name: "FLAC", messages: a("\x90fLaC"+flacHead, "\x91fLaCx"), frame: frame(flac, media.Keyframe, true, "x")},
		{name: "truncated FLAC configuration", messages: a("\x90fLaCfLaC\x80\x00\x00\x22"), skipped: true},
		{name: "AC-3", messages: a("\x91ac-3" + ac3Frame), frame: frame(ac3, media.Keyframe, true, ac3Frame)},
		{name: "AC-3 without a header first", messages: a("\x91ac-3x"), skipped: true},
		{name: "AC-3 without a header later", messages: a("\x91ac-3"+ac3Frame, "\x91ac-3x"),
			frame: frame(ac3, media.Keyframe, true, "x")},
		{name: "MP3 by FourCC", messages: a("\x91.mp3" + mp3Frame),
			frame: frame(mp3, media.Keyframe, true, mp3Frame)},
		{name: "Opus comment header", messages: a("\x90OpusOpusTags")},
		{name: "FLAC with STREAMINFO only", messages: a("\x90fLaC"+flacHead[8:], "\x91fLaCx"),
			frame: frame(flac, media.Keyframe, true, "x")},
		{name: "AC-3 sequence start", messages: a("\x90ac-3")},
		{name: "AAC by FourCC", messages: a("\x90mp4a"+asc, "\x91mp4araw"),
			frame: frame(aac, media.Keyframe, true, "raw")},
		{name: "AAC in both forms is one track", messages: a("\xAF\x00"+asc, "\x90mp4a"+asc, "\x91mp4araw"),
			frame: frame(aac, media.Keyframe, true, "raw")},
		{name: "two tracks of AAC", messages: a("\xAF\x00"+asc, "\x95\x00mp4a\x01"+asc, "\x95\x01mp4a\x01raw"),
			frame: frame(&aacSecond, media.Keyframe, true, "raw")},
		{name: "audio packet type 3", messages: a("\x93Opusx"), skipped: true, unknown: true},
		{name: "audio packet type 6", messages: a("\x96Opusx"), skipped: true, unknown: true},
		{name: "ModEx of audio", messages: a("\x90Opus"+opusHead, "\x97\x02\x00\x00\x07\x01Opusx"),
			frame: delayed(frame(opus, media.Keyframe, true, "x"), 7)},
		{name: "audio multitrack in multitrack", messages: a("\x95\x05Opus\x00"), skipped: true},
		{name: "silence of a track", messages: a("\x95\x01Opus\x03")},
		{name: "MultichannelConfig",
			messages: a("\x90Opus"+opusHead, "\x94Opus\x01\x06\x00\x00\x06\x0F and more", "\x91Opusx"),
			frame:    frame(opus, media.Keyframe, true, "x")},
		{name: "MultichannelConfig, unspecified order", messages: a("\x94Opus\x00\x02")},
		{name: "MultichannelConfig, custom order", messages: a("\x94Opus\x02\x02\x00\x01")},
		{name: "MultichannelConfig without channels", messages: a("\x94Opus\x00\x00"), skipped: true},
		{name: "MultichannelConfig of 255 channels", messages: a("\x94Opus\x02\xFF" + strings.Repeat("x", 255)),
			skipped: true},
		{name: "MultichannelConfig of unknown order 3", messages: a("\x94Opus\x03\x02"), skipped: true, unknown: true},
		{name: "MultichannelConfig with a truncated mask", messages: a("\x94Opus\x01\x02\x00\x00\x00"), skipped: true},
		{name: "MultichannelConfig with a truncated map", messages: a("\x94Opus\x02\x02\x00"), skipped: true},
		{name: "empty MultichannelConfig", messages: a("\x94Opus"), skipped: true},

		{name: "script data", messages: script("onCuePoint", 1.0), frame: &media.Frame{
			Track: &media.Track{Kind: media.Data, Codec: media.ScriptData, Timescale: 90000}, RAP: media.Keyframe, KeyFlag: true,
			Payload: amf0.Append(nil, "onCuePoint", 1.0),
		}},
		{name: "script data in @setDataFrame", messages: script("@setDataFrame", "onTextData", nil), frame: &media.Frame{
			Track: &media.Track{Kind: media.Data, Codec: media.ScriptData, Timescale: 90000}, RAP: media.Keyframe, KeyFlag: true,
			Payload: amf0.Append(nil, "onTextData", nil),
		}},
		{name: "onMetaData", messages: script("@setDataFrame", "onMetaData", amf0.ECMAArray{{Key: "width", Value: 1.0}})},
		{name: "onMetaData without arguments", messages: script("onMetaData")},
		{name: "@clearDataFrame", messages: script("@clearDataFrame", "onMetaData")},
		{name: "nested @setDataFrame", messages: script("@setDataFrame", "@setDataFrame", "@setDataFrame", "onMetaData"),
			skipped: true},
		{name: "@setDataFrame without a name", messages: script("@setDataFrame"), skipped: true},
		{name: "script message without a name string", messages: script(1.0), skipped: true},
		{name: "empty script message", messages: script(), skipped: true},
		{name: "truncated script message", messages: []message{{TypeScriptData, "\x02\xFF\xFFx"}}, skipped: true},
		{name: "64 KiB of script", messages: script("x", strings.Repeat("y", maxScript)), skipped: true},
		{name: "message type 22", messages: []message{{22, "x"}}, skipped: true},
	}
}

func (r demuxCase) run(d *Demuxer) (frames []*media.Frame, err error) {
	for _, m := range r.messages {
		frames, err = d.Message(m.typ, 0, []byte(m.body), time.Time{})
	}
	return frames, err
}

// runOne is run for a case that ends with one frame.
func (r demuxCase) runOne(t *testing.T, d *Demuxer) *media.Frame {
	t.Helper()
	frames, err := r.run(d)
	if err != nil || len(frames) != 1 {
		t.Fatalf("%d frames, %v", len(frames), err)
	}
	return frames[0]
}

// startCodes returns an access unit with start codes instead of length fields.
func startCodes(unit string) (out string) {
	for len(unit) > 4 {
		n := 4 + int(binary.BigEndian.Uint32([]byte(unit)))
		out, unit = out+"\x00\x00\x00\x01"+unit[4:n], unit[n:]
	}
	return out
}
