package e2e

import (
	"bytes"
	"context"
	"crypto/md5"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"livego/e2e/harness"
	"livego/e2e/mediacompare"
	"livego/e2e/sample"
)

// A damage is a way in which encoders violate the specifications.
type damage struct {
	name      string
	sample    sample.Sample
	picture   func(n int, payload []byte) []byte // changes the payload of picture n; nil: no change
	audioBody func(payload []byte) []byte        // changes the body of an AAC frame; nil: no change
	// H.264: returns the reduced configuration, whose parameter sets keyframes contain instead;
	// nil: no change
	inBand      func(config []byte) []byte
	noAACConfig bool // the AAC configuration is not sent
	annexB      bool // the H.264 configuration has start codes too
	// viewers get what ffmpeg decodes from the undamaged file, not from this one
	decodeUndamaged bool
	// the audio that viewers get: "" for what was sent, otherwise "silence" or "nothing"
	audio string

	skipped  map[string]int // expected statistics at the end
	unusable string
}

// damages returns all cases.
func damages() []damage {
	// around adds units before and after those of a picture.
	around := func(before []byte, after ...byte) func(int, []byte) []byte {
		return func(_ int, p []byte) []byte { return slices.Concat(before, p, after) }
	}
	unit := func(b ...byte) []byte { return append(binary.BigEndian.AppendUint32(nil, uint32(len(b))), b...) }
	same := func(b []byte) func(int, []byte) []byte { return around(b, b...) }
	hevc, av1 := sample.Enhanced()[0], sample.Enhanced()[3]
	return []damage{
		{name: "NAL units of unspecified types", sample: sample.AV, picture: around(unit(24, 1, 2), unit(31, 1, 2)...)},
		{name: "NAL units of reserved types", sample: sample.AV, picture: same(unit(22, 1, 2))},
		{name: "two zero bytes after a picture", sample: sample.AV, picture: around(nil, 0, 0)},
		{name: "nine zero bytes after a picture", sample: sample.AV, picture: around(nil, make([]byte, 9)...),
			decodeUndamaged: true},
		{name: "empty NAL unit before a picture", sample: sample.AV, picture: around(make([]byte, 4)), decodeUndamaged: true},
		{name: "delimiter of one byte", sample: sample.AV, picture: around(unit(9))},
		{name: "filler of one byte", sample: sample.AV, picture: around(nil, unit(12)...)},
		{name: "damaged SEI", sample: sample.AV, picture: around(unit(6, 6, 0xff, 0xff, 0xff, 0x80))},
		{name: "forbidden bit", sample: sample.AV, picture: around(unit(0x81, 1, 2)),
			skipped: map[string]int{"damaged_unit": 75}},
		{name: "start codes instead of lengths", sample: sample.AV, picture: startCodes},
		{name: "start codes in the configuration too", sample: sample.AV, picture: startCodes, annexB: true},
		{name: "no parameter sets in the configuration", sample: sample.AV,
			inBand: func(config []byte) []byte { return append(config[:5:5], 0xe0, 0) }},
		{name: "start codes and no configuration", sample: sample.AV, picture: startCodes,
			inBand: func([]byte) []byte { return nil }},
		{name: "one truncated picture", sample: sample.AV, picture: func(n int, p []byte) []byte {
			if n == 24 { // the last picture before a keyframe
				return p[:len(p)-1]
			}
			return p
		}, skipped: map[string]int{"malformed": 1}},
		{name: "AAC without content", sample: sample.AV, audioBody: func([]byte) []byte { return nil }, audio: "silence"},
		{name: "AAC without its configuration", sample: sample.AV, noAACConfig: true, audio: "nothing",
			unusable: "its configuration (AudioSpecificConfig) has not arrived"},
		{name: "AAC with ADTS", sample: sample.AV, noAACConfig: true,
			audioBody: func(b []byte) []byte { return append(adtsHeader(len(b)), b...) }},
		{name: "HEVC", sample: hevc, picture: around(slices.Concat(unit(0x46), unit(0x60, 1, 2)),
			append(unit(0x7e, 1, 2), 0, 0)...)},
		{name: "AV1", sample: av1, picture: around([]byte{0x52, 1, 0xaa}, 0x7a, 2, 0, 0x80),
			skipped: map[string]int{"bad_configuration": 1}}, // ffmpeg sends an empty configuration first
	}
}

// startCodes replaces the length fields of NAL units by start codes.
func startCodes(_ int, p []byte) []byte {
	var out []byte
	for len(p) > 4 {
		n := binary.BigEndian.Uint32(p)
		out = append(append(out, 0, 0, 0, 1), p[4:4+n]...)
		p = p[4+n:]
	}
	return out
}

// parameterSets returns the SPS and the PPS of an AVCDecoderConfigurationRecord, which has one of
// each, with start codes.
func parameterSets(record []byte) []byte {
	sps := record[8 : 8+int(record[6])<<8+int(record[7])]
	rest := record[8+len(sps)+1:]
	pps := rest[2 : 2+int(rest[0])<<8+int(rest[1])]
	return slices.Concat([]byte{0, 0, 0, 1}, sps, []byte{0, 0, 0, 1}, pps)
}

// withLengthPrefixes replaces the start codes of NAL units by length fields.
func withLengthPrefixes(b []byte) (out []byte) {
	for _, unit := range bytes.Split(b, []byte{0, 0, 0, 1})[1:] {
		out = append(binary.BigEndian.AppendUint32(out, uint32(len(unit))), unit...)
	}
	return out
}

// adtsHeader returns the ADTS header of a raw frame of n bytes: AAC-LC, 44.1 kHz, stereo.
func adtsHeader(n int) []byte {
	n += 7
	return []byte{0xff, 0xf1, 0x50, 0x80 | byte(n>>11), byte(n >> 3), byte(n<<5) | 0x1f, 0xfc}
}

// damagedTime is the duration of a sample that is sent, in ms. It is longer than a server waits for
// audio that is announced and never arrives.
const damagedTime = 3000 // ms

// apply returns the first damagedTime of a file, damaged.
func (d damage) apply(f *mediacompare.FLVFile) *mediacompare.FLVFile {
	out := &mediacompare.FLVFile{HasVideo: f.HasVideo, HasAudio: f.HasAudio}
	pictures := 0
	var sets []byte
	for _, tag := range f.Tags {
		b := bytes.Clone(tag.Body)
		switch {
		case tag.Time >= damagedTime:
			continue
		case tag.Type == mediacompare.TagAudio && tag.IsHeader() && d.noAACConfig:
			continue
		case tag.Type == mediacompare.TagVideo && tag.IsHeader() && d.annexB:
			b = append(b[:5:5], parameterSets(b[5:])...)
		case tag.Type == mediacompare.TagVideo && tag.IsHeader() && d.inBand != nil:
			sets = withLengthPrefixes(parameterSets(b[5:]))
			left := d.inBand(b[5:])
			if left == nil {
				continue
			}
			b = append(b[:5:5], left...)
		case tag.Type == mediacompare.TagAudio && tag.IsFrame() && d.audioBody != nil:
			b = append(b[:2:2], d.audioBody(b[2:])...)
		case tag.Type == mediacompare.TagVideo && tag.IsFrame() && (d.picture != nil || sets != nil):
			head := 5
			if b[0]&0x80 != 0 && b[0]&0xf == 1 && string(b[1:5]) == "hvc1" {
				head = 8 // has a composition time
			}
			p := b[head:]
			if sets != nil && b[0]>>4 == 1 {
				p = slices.Concat(sets, p)
			}
			if d.picture != nil {
				p = d.picture(pictures, p)
			}
			b = append(b[:head:head], p...)
			pictures++
		}
		tag.Body = b
		out.Tags = append(out.Tags, tag)
	}
	return out
}

// want returns what viewers must get of the damaged file.
func (d damage) want(t *testing.T, src source) mediacompare.Stream {
	t.Helper()
	reference := d
	if d.decodeUndamaged {
		reference = damage{}
	}
	var file bytes.Buffer
	if err := reference.apply(src.file).Write(&file); err != nil {
		t.Fatal(err)
	}
	want := decodedFrames(t, file.Bytes(), "-an")
	if d.audio == "nothing" {
		return want
	}
	silence := md5.Sum([]byte{0x21, 0x00, 0x49, 0x90, 0x02, 0x19, 0x00, 0x23, 0x80})
	for _, u := range src.packets.Of(mediacompare.Audio) {
		if u.DTS >= damagedTime*time.Millisecond {
			continue
		}
		if d.audio == "silence" {
			u.Size, u.Sum = 9, hex.EncodeToString(silence[:])
		}
		want = append(want, u)
	}
	return want
}

// TestDamaged sends damaged streams and watches them by every protocol: the pictures are those that
// ffmpeg decodes from the same file, and the encoder is not disconnected.
func TestDamaged(t *testing.T) {
	harness.NeedNewerFFmpeg(t)
	server, dir := startRecording(t, harness.Options{})
	for _, d := range damages() {
		t.Run(d.name, func(t *testing.T) {
			t.Parallel()
			s, src, room := server.WithT(t), load(t, d.sample), strings.ReplaceAll(d.name, " ", "-")
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			want := d.want(t, src)

			decode := []string{"-fps_mode", "passthrough", "-enc_time_base:v", "demux", "-c:a", "copy", "-f", "framemd5",
				"pipe:1"}
			viewer := harness.NewerFFmpeg(t, nil, append([]string{"-v", "debug", "-copyts", "-i", s.RTMP(room)}, decode...)...)
			viewer.AwaitStderr(patience, func(s string) bool { return strings.Contains(s, "Sending play command") })
			flv := async(func() ([]byte, error) {
				_, body, err := pollFetch(ctx, harness.Client(), s.FLV(room))
				return body, err
			})
			key := s.Key(room)
			tags := d.apply(src.file).Tags
			pushed := async(func() (any, error) {
				return nil, pushTagsUntil(s, key, tags, func() error { return d.checkStat(ctx, s, room) })
			})
			if _, err := pushed(); err != nil {
				t.Fatalf("the encoder: %v", err)
			}

			if m := check(t, "RTMP", want, markKeyframes(frames(t, viewer)), mediacompare.Millisecond); m.Video.First != 0 {
				t.Errorf("RTMP starts at picture %d", m.Video.First)
			}
			if body, err := flv(); err != nil {
				t.Errorf("HTTP-FLV: %v", err)
			} else {
				check(t, "HTTP-FLV", want, decodedFrames(t, body), mediacompare.Millisecond)
			}
			check(t, "HLS, MP4", want, decodedFrames(t, downloadEndedHLS(t, s.HLS(room)+"?format=fmp4", "index.m3u8")),
				mediacompare.Millisecond)
			if d.name != "AV1" {
				var more []string
				if d.audio != "nothing" {
					more = []string{"-bsf:a", "aac_adtstoasc"}
				}
				check(t, "HLS, TS", want, decodedFrames(t, downloadEndedHLS(t, s.HLS(room)+"?format=ts", "ts.m3u8"), more...),
					mediacompare.TSTick)
			}
			r := awaitRecording(t, s, room, "finished", 0, time.Second)
			file, err := os.ReadFile(filepath.Join(dir, r.File))
			if err != nil {
				t.Fatal(err)
			}
			check(t, "recording", want, decodedFrames(t, file), mediacompare.Millisecond)
		})
	}
}

// markKeyframes marks each picture as a keyframe: decoded pictures depend on no other.
func markKeyframes(s mediacompare.Stream) mediacompare.Stream {
	for i := range s {
		s[i].Key = true
	}
	return s
}

// pushTagsUntil is pushTags that waits until ok returns nil before it ends the stream.
func pushTagsUntil(s *harness.Server, key string, tags []mediacompare.FLVTag, ok func() error) error {
	return pushTagsThen(s.Addr("rtmp_addr"), key, tags, func() error {
		const limit = 5 * time.Second // less than the time-out of an idle publisher
		for began := time.Now(); ; <-time.After(20 * time.Millisecond) {
			if err := ok(); err == nil || time.Since(began) > limit {
				return err
			}
		}
	})
}

// checkStat checks the statistics of a room.
func (d damage) checkStat(ctx context.Context, s *harness.Server, room string) error {
	var stat struct {
		Data struct {
			Publishers []struct {
				Skipped  map[string]int `json:"skipped"`
				Silent   int            `json:"silent_frames"`
				Unusable []struct {
					Kind, Codec, Reason string
				} `json:"unusable_tracks"`
			} `json:"publishers"`
		} `json:"data"`
	}
	_, body, err := fetch(ctx, harness.Client(), s.API("/stat/livestat?room=live/"+room))
	if err == nil {
		err = json.Unmarshal(body, &stat)
	}
	if err != nil || len(stat.Data.Publishers) != 1 {
		return fmt.Errorf("statistics: %v, %s", err, body)
	}
	p := stat.Data.Publishers[0]
	for reason, n := range d.skipped {
		if p.Skipped[reason] != n {
			return fmt.Errorf("skipped %v, want %v", p.Skipped, d.skipped)
		}
	}
	switch {
	case d.unusable == "" && len(p.Unusable) > 0, d.unusable != "" &&
		(len(p.Unusable) != 1 || p.Unusable[0].Reason != d.unusable):
		return fmt.Errorf("unusable tracks %v, want %q", p.Unusable, d.unusable)
	case d.unusable != "" && p.Skipped["no_configuration"] == 0, d.unusable == "" && len(d.skipped) == 0 &&
		len(p.Skipped) > 0:
		return fmt.Errorf("skipped %v", p.Skipped)
	case (d.audio == "silence") != (p.Silent > 0):
		return fmt.Errorf("%d frames of silence", p.Silent)
	}
	return nil
}
