package ts

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"testing"
	"time"

	"livego/internal/media"

	"github.com/google/go-cmp/cmp"
)

const (
	sps  = "\x67\x42\xC0\x0D\xDA\x05\x07\xEC\x04\x40"
	pps  = "\x68\xCE\x0F\xC8"
	avcC = "\x01\x42\xC0\x0D\xFF\xE1\x00\x0A" + sps + "\x01\x00\x04" + pps
	idr  = "\x65\x88\x84"
	// hvcC of a VPS, an SPS and a PPS of three bytes each.
	hvcC = "\x01" + "\x01\x60\x00\x00\x00\x90\x00\x00\x00\x00\x00\x5d" + "\xf0\x00\xfc\xfd\xf8\xf8\x00\x00\x0f" + "\x03" +
		"\xa0\x00\x01\x00\x03\x40\x01v" + "\xa1\x00\x01\x00\x03\x42\x01s" + "\xa2\x00\x01\x00\x03\x44\x01p"
	aud  = "\x09\xF0"
	code = "\x00\x00\x00\x01"

	idrWithSets = code + aud + code + sps + code + pps + code + idr
)

var (
	video = &media.Track{Kind: media.Video, Codec: media.H264, Config: []byte(avcC), Timescale: 90000}
	sound = &media.Track{Kind: media.Audio, Codec: media.AAC, Config: []byte("\x12\x10"), Timescale: 44100}
	hevc  = &media.Track{Kind: media.Video, Codec: media.HEVC, Config: []byte(hvcC), Timescale: 90000}
	ac3   = &media.Track{Kind: media.Audio, Codec: media.AC3, Timescale: 48000}
	mp3   = &media.Track{Kind: media.Audio, Codec: media.MP3, Timescale: 22050, SampleRate: 22050}
)

// avcc joins NAL units with length fields of 4 bytes.
func avcc(units ...string) string {
	var b []byte
	for _, u := range units {
		b = append(binary.BigEndian.AppendUint32(b, uint32(len(u))), u...)
	}
	return string(b)
}

func picture(rap media.RandomAccess, dts, cts time.Duration, payload string) *media.Frame {
	return &media.Frame{Track: video, RAP: rap, DTS: dts, PTS: dts + cts, Payload: []byte(payload)}
}

func samples(t *media.Track, ticks int64, payload string) *media.Frame {
	return &media.Frame{Track: t, RAP: media.Keyframe, Ticks: ticks, Payload: []byte(payload)}
}

// A pesUnit is one PES packet as a player sees it.
type pesUnit struct {
	pid      int
	pts, dts int64
	random   bool
	data     string
}

// parse reads a segment and checks it against ISO/IEC 13818-1: whole packets, sections with a valid
// CRC, continuity counters that start at 0 with a discontinuity, and a clock on pcrPID that never
// runs ahead. It returns the PMT's stream types by PID.
func parse(t *testing.T, b []byte) (types map[int]byte, units []pesUnit) {
	t.Helper()
	types = map[int]byte{}
	next := map[int]byte{}
	open := map[int]int{} // index into units by PID
	pcrPID := -1
	if len(b)%packetSize != 0 {
		t.Fatalf("%d bytes are not a whole number of packets", len(b))
	}
	for p := range len(b) / packetSize {
		pkt := b[p*packetSize:][:packetSize]
		pid := int(binary.BigEndian.Uint16(pkt[1:]) & 0x1FFF)
		start, control, counter := pkt[1]&0x40 != 0, pkt[3]>>4, pkt[3]&0xF
		if pkt[0] != 0x47 || pkt[1]&0xA0 != 0 || control&1 == 0 || control&0xC != 0 {
			t.Fatalf("packet %d starts with %x", p, pkt[:4])
		}
		rest := pkt[4:]
		var flags byte
		if control&2 != 0 {
			field := rest[1:][:rest[0]]
			rest = rest[1+rest[0]:]
			if len(field) > 0 {
				flags = field[0]
			}
			if flags&0x10 != 0 && pid != pcrPID {
				t.Fatalf("packet %d of PID %d has a clock", p, pid)
			}
		}
		want, seen := next[pid]
		if counter != want || seen == (flags&0x80 != 0) {
			t.Fatalf("packet %d of PID %d: counter %d, want %d, flags %x", p, pid, counter, want, flags)
		}
		next[pid] = (counter + 1) & 0xF
		switch {
		case pid == pidPAT || pid == pidPMT:
			body := section(t, rest)
			if pid == pidPAT {
				if want := []byte{0, 1, 0xF0, 0x00}; !bytes.Equal(body, want) {
					t.Fatalf("PAT %x", body)
				}
				continue
			}
			pcrPID = int(binary.BigEndian.Uint16(body) & 0x1FFF)
			for es := body[4:]; len(es) > 0; es = es[5+int(es[4]):] {
				types[int(binary.BigEndian.Uint16(es[1:])&0x1FFF)] = es[0]
			}
		case start:
			open[pid] = len(units)
			u := pesOf(t, rest)
			u.pid, u.random = pid, flags&0x40 != 0
			units = append(units, u)
			if pid == pcrPID {
				pcr := int64(binary.BigEndian.Uint32(pkt[6:]))<<1 | int64(pkt[10]>>7)
				if flags&0x10 == 0 || u.dts-pcr != pcrLead {
					t.Fatalf("packet %d: clock %d, DTS %d", p, pcr, u.dts)
				}
			}
		default:
			units[open[pid]].data += string(rest)
		}
	}
	return types, units
}

func section(t *testing.T, b []byte) []byte {
	t.Helper()
	b = b[1:] // pointer_field
	length := int(binary.BigEndian.Uint16(b[1:]) & 0xFFF)
	b = b[:3+length]
	if crc(b) != 0 {
		t.Fatalf("section %x: bad CRC", b)
	}
	return b[8 : len(b)-4]
}

func pesOf(t *testing.T, b []byte) (u pesUnit) {
	t.Helper()
	if !bytes.HasPrefix(b, []byte{0, 0, 1}) {
		t.Fatalf("no PES header: %x", b[:9])
	}
	stamp := func(b []byte) int64 {
		return int64(b[0]>>1&7)<<30 | int64(b[1])<<22 | int64(b[2]>>1)<<15 | int64(b[3])<<7 | int64(b[4]>>1)
	}
	u.pts = stamp(b[9:])
	u.dts = u.pts
	if b[7] == 0xC0 {
		u.dts = stamp(b[14:])
	}
	u.data = string(b[9+b[8]:])
	return u
}

func TestSegment(t *testing.T) {
	const base = timeBase

	tests := []struct {
		name         string
		video, audio *media.Track
		frames       []*media.Frame
		types        map[int]byte
		want         []pesUnit
		left         int
	}{
		{"parameter sets before a random access point", video, nil, []*media.Frame{
			picture(media.Keyframe, 0, 80e6, avcc(idr)), picture(0, 40e6, 0, avcc("\x41\x9A")),
		}, map[int]byte{pidVideo: 0x1B}, []pesUnit{
			{pidVideo, base + 7200, base, true, idrWithSets},
			{pidVideo, base + 3600, base + 3600, false, code + aud + code + "\x41\x9A"},
		}, 0},
		{"frame with its own parameter sets and delimiter", video, nil, []*media.Frame{
			picture(media.Keyframe, 0, 0, avcc("\x09\x10", "\x67new", "\x68new", idr)),
		}, map[int]byte{pidVideo: 0x1B},
			[]pesUnit{{pidVideo, base, base, true, code + aud + code + "\x67new" + code + "\x68new" + code + idr}}, 0},
		{"frame with its own SPS only", video, nil, []*media.Frame{
			picture(media.RecoveryPoint, 0, 0, avcc("\x67new", "\x41\x9A")),
		}, map[int]byte{pidVideo: 0x1B},
			[]pesUnit{{pidVideo, base, base, true, code + aud + code + sps + code + pps + code + "\x67new" + code + "\x41\x9A"}},
			0},
		{"negative composition time", video, nil, []*media.Frame{
			picture(media.Keyframe, 0, 0, avcc(idr)), picture(0, 40e6, -40e6, avcc("\x41\x9A")),
		}, map[int]byte{pidVideo: 0x1B}, []pesUnit{
			{pidVideo, base, base - 3600, true, idrWithSets},
			{pidVideo, base, base, false, code + aud + code + "\x41\x9A"},
		}, 0},
		{"time above 33 bits", video, nil, []*media.Frame{
			picture(media.Keyframe, time.Second*(1<<33)/clockRate, 0, avcc(idr)),
		}, map[int]byte{pidVideo: 0x1B}, []pesUnit{{pidVideo, base, base, true, idrWithSets}}, 0},
		{"audio and video", video, sound, []*media.Frame{
			picture(media.Keyframe, 0, 0, avcc(idr)), samples(sound, 1024, "raw"),
		}, map[int]byte{pidVideo: 0x1B, pidAudio: 0x0F}, []pesUnit{
			{pidVideo, base, base, true, idrWithSets},
			{pidAudio, base + 2090, base + 2090, true, "\xFF\xF1\x50\x80\x01\x5F\xFCraw"},
		}, 0},
		{"audio only, one frame too large for ADTS", nil, sound, []*media.Frame{
			samples(sound, 0, string(make([]byte, 8185))), samples(sound, 44100, "raw"),
			picture(media.Keyframe, 0, 0, avcc(idr)),
		}, map[int]byte{pidAudio: 0x0F},
			[]pesUnit{{pidAudio, base + 90000, base + 90000, true, "\xFF\xF1\x50\x80\x01\x5F\xFCraw"}}, 1},
		{"MP3, one frame too large", nil, mp3, []*media.Frame{
			samples(mp3, 576, "mp3"), samples(mp3, 0, string(make([]byte, maxAudioPES+1))),
		}, map[int]byte{pidAudio: 0x04}, []pesUnit{{pidAudio, base + 2351, base + 2351, true, "mp3"}}, 1},
		{"HEVC and AC-3", hevc, ac3, []*media.Frame{
			{Track: hevc, RAP: media.Keyframe, Payload: []byte(avcc("\x46\x01\x10", "\x26\x01\xaf"))},
			{Track: hevc, RAP: media.Keyframe,
				Payload: []byte(avcc("\x40\x01new", "\x42\x01new", "\x44\x01new", "\x26\x01\xaf"))},
			samples(ac3, 1536, "\x0b\x77"),
		}, map[int]byte{pidVideo: 0x24, pidAudio: 0x81}, []pesUnit{
			{pidVideo, base, base, true, code + "\x46\x01\x50" + code + "\x40\x01v" + code + "\x42\x01s" + code + "\x44\x01p" +
				code + "\x26\x01\xaf"},
			{pidVideo, base, base, true, code + "\x46\x01\x50" + code + "\x40\x01new" + code + "\x42\x01new" + code +
				"\x44\x01new" + code + "\x26\x01\xaf"},
			{pidAudio, base + 2880, base + 2880, true, "\x0b\x77"},
		}, 0},
		{"malformed NAL units", video, nil, []*media.Frame{picture(0, 0, 0, "\x00\x00\x00\x09\x41")},
			map[int]byte{pidVideo: 0x1B}, nil, 1},
		{"new configuration, malformed", video, nil, []*media.Frame{
			{Track: &media.Track{Kind: media.Video, Codec: media.H264}, Payload: []byte(avcc(idr))},
		}, map[int]byte{pidVideo: 0x1B}, nil, 1},
		{"no frames", video, sound, nil, map[int]byte{pidVideo: 0x1B, pidAudio: 0x0F}, nil, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b, left := AppendSegment(nil, tt.video, tt.audio, tt.frames)
			types, units := parse(t, b)
			if diff := cmp.Diff(tt.types, types); diff != "" {
				t.Errorf("PMT:\n%s", diff)
			}
			if diff := cmp.Diff(tt.want, units, cmp.AllowUnexported(pesUnit{})); diff != "" || left != tt.left {
				t.Errorf("%d left out, want %d\n%s", left, tt.left, diff)
			}
		})
	}
}

// TestFrameSizesAroundPacketBorders writes frames of every length around packet borders.
func TestFrameSizesAroundPacketBorders(t *testing.T) {
	for n := range 3 * packetSize {
		frames := []*media.Frame{
			picture(media.Keyframe, 0, 40e6, avcc(idr+string(bytes.Repeat([]byte{0xAA}, n)))),
			samples(sound, 0, string(bytes.Repeat([]byte{0xBB}, n))),
		}
		b, left := AppendSegment([]byte{}, video, sound, frames)
		_, units := parse(t, b)
		if left != 0 || len(units) != 2 || len(units[0].data) != len(idrWithSets)+n || len(units[1].data) != 7+n {
			t.Fatalf("%d bytes: %d left out, %d and %d came out", n, left, len(units[0].data), len(units[1].data))
		}
	}
}

// TestSegmentIsDeterministic checks that a segment depends on its frames only.
func TestSegmentIsDeterministic(t *testing.T) {
	frames := []*media.Frame{picture(media.Keyframe, 0, 0, avcc(idr)), samples(sound, 0, "raw")}
	one, _ := AppendSegment(nil, video, sound, frames)
	two, _ := AppendSegment(bytes.Clone(one), video, sound, frames)
	if !bytes.Equal(one, two[len(one):]) {
		t.Error("the same frames gave different bytes")
	}
}

func TestCarries(t *testing.T) {
	aac := func(asc string) *media.Track {
		return &media.Track{Kind: media.Audio, Codec: media.AAC, Config: []byte(asc)}
	}
	for _, tt := range []struct {
		name  string
		track *media.Track
		want  bool
	}{
		{"H.264", video, true},
		{"H.264 without configuration", &media.Track{Kind: media.Video, Codec: media.H264}, false},
		{"AAC", sound, true},
		{"AAC of 960 samples", aac("\x12\x14"), false},
		{"AAC malformed", aac("\xFF"), false},
		{"MP3", mp3, true},
		{"HEVC", hevc, true},
		{"HEVC without configuration", &media.Track{Kind: media.Video, Codec: media.HEVC}, false},
		{"AC-3", ac3, true},
		{"E-AC-3", &media.Track{Kind: media.Audio, Codec: media.EAC3}, true},
		{"Opus", &media.Track{Kind: media.Audio, Codec: media.Opus}, false},
		{"opaque", &media.Track{Kind: media.Audio}, false},
	} {
		if got := Carries(tt.track); got != tt.want {
			t.Errorf("%s: %v", tt.name, got)
		}
	}
}

func FuzzSegment(f *testing.F) {
	f.Add([]byte(avcc(idr)), []byte("raw"), int64(0), int64(40e6), true)
	f.Add([]byte(avcc(aud, sps, pps, idr)), []byte{}, int64(1<<62), int64(-10e9), true)
	f.Add([]byte("\x00\x00\x00\x09\x41"), make([]byte, 200), int64(-1), int64(0), false)
	f.Fuzz(func(t *testing.T, picturePayload, audioPayload []byte, dts, cts int64, key bool) {
		rap := media.NoRandomAccess
		if key {
			rap = media.Keyframe
		}
		b, left := AppendSegment(nil, video, sound, []*media.Frame{
			picture(rap, time.Duration(dts%(1<<53)), time.Duration(cts%10e9), string(picturePayload)),
			samples(sound, dts, string(audioPayload)),
		})
		if b[0] != 0x47 || len(b)%packetSize != 0 || left < 0 || left > 2 {
			t.Errorf("%d bytes, %d left out", len(b), left)
		}
	})
}

func BenchmarkSegment(b *testing.B) {
	big := avcc(idr + string(make([]byte, 12_000)))
	var frames []*media.Frame
	for i := range 50 {
		frames = append(frames, picture(0, time.Duration(i)*40e6, 0, big),
			samples(sound, int64(i)*1024, fmt.Sprintf("%0400d", i)))
	}
	for b.Loop() {
		seg, _ := AppendSegment(nil, video, sound, frames)
		b.SetBytes(int64(len(seg)))
	}
}
