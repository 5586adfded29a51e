package mkv

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"livego/internal/media"
)

const (
	avcC = "\x01\x42\xC0\x0D\xFF\xE1\x00\x15\x67\x42\xC0\x0D\xDA\x05\x07\xEC\x04\x40\x00\x00" +
		"\xFA\x40\x00\x3A\x98\x03\xC5\x0A\xA8\x01\x00\x04\x68\xCE\x0F\xC8"
	idr   = "\x00\x00\x00\x02\x65\x88"
	inter = "\x00\x00\x00\x03\x41\x9A\x01"
	asc   = "\x12\x10"
)

// elem returns an element, with its size in eight bytes.
func elem(id uint32, content ...string) string {
	body := strings.Join(content, "")
	return idOf(id) + string(binary.BigEndian.AppendUint64(nil, 1<<56|uint64(len(body)))) + body
}

// unknownSize returns an element of unknown size.
func unknownSize(id uint32, content ...string) string {
	return idOf(id) + "\x01\xFF\xFF\xFF\xFF\xFF\xFF\xFF" + strings.Join(content, "")
}

func idOf(id uint32) string {
	return strings.TrimLeft(string(binary.BigEndian.AppendUint32(nil, id)), "\x00")
}

func num(id uint32, v uint64) string {
	return elem(id, string(binary.BigEndian.AppendUint64(nil, v)))
}

func float(id uint32, v float64) string { return num(id, math.Float64bits(v)) }

func header() string { return elem(idEBML, elem(idDocType, "matroska")) }

func info(length float64) string {
	return elem(idInfo, num(idTimestampScale, 1e6), float(idDuration, length))
}

func video(codec, private string, more ...string) string {
	return elem(idTrackEntry, num(idTrackNumber, 1), num(idTrackType, 1), elem(idCodecID, codec),
		elem(idCodecPrivate, private),
		elem(idVideo, num(idWidth, 640), num(idHeight, 360), strings.Join(more, "")))
}

func audio(codec, private string, more ...string) string {
	return elem(idTrackEntry, num(idTrackNumber, 2), num(idTrackType, 2), elem(idCodecID, codec),
		elem(idCodecPrivate, private),
		elem(idAudio, float(idSamplingFrequency, 44100), num(idChannels, 2)), strings.Join(more, ""))
}

// block returns a SimpleBlock of track, at ms since the cluster.
func block(track byte, at int16, flags byte, data string) string {
	return elem(idSimpleBlock, string([]byte{0x80 | track, byte(at >> 8), byte(at), flags}), data)
}

func cluster(at uint64, blocks ...string) string {
	return elem(idCluster, append([]string{num(idTimestamp, at)}, blocks...)...)
}

func av(clusters ...string) string {
	return header() + elem(idSegment,
		append([]string{info(1000), elem(idTracks, video("V_MPEG4/ISO/AVC", avcC), audio("A_AAC", asc))}, clusters...)...)
}

func soundIn(codec, private, blocks string) string {
	return header() + elem(idSegment, info(0), elem(idTracks, audio(codec, private)), cluster(0, blocks))
}

const keyFlag = 0x80

// sampleClusters returns two groups of three frames, the second in each presented last, with audio.
func sampleClusters() []string {
	group := func(at uint64) string {
		return cluster(at, block(1, 0, keyFlag, idr), block(2, 10, keyFlag, "aac"), block(1, 80, 0, inter),
			block(1, 40, 0, inter))
	}
	return []string{group(0), group(120)}
}

const allFrames = "h264 aac | v-40/0k a10/10k v0/80 v40/40 v80/120k a130/130k v120/200 v160/160"

// files is the table of files and their expected description. It seeds the fuzzer.
var files = []struct {
	name string
	file string
	want string // tracks, then frames: kind, DTS/PTS in ms, k for a keyframe flag; or a part of an error
}{
	{"whole", av(sampleClusters()...), allFrames},
	{"unknown sizes", header() + unknownSize(idSegment, elem(idTracks, video("V_MPEG4/ISO/AVC", avcC)),
		unknownSize(idCluster, num(idTimestamp, 5), block(1, 0, keyFlag, idr)),
		unknownSize(idCluster, num(idTimestamp, 45), block(1, 0, 0, inter))), "h264 | v5/5k v45/45"},
	{"block groups", av(cluster(0, elem(idBlockGroup, elem(idBlock, "\x81\x00\x00\x00", idr)),
		elem(idBlockGroup, elem(idBlock, "\x81\x00\x28\x00", inter), num(idReferenceBlock, 1)))), "h264 aac | v0/0k v40/40"},
	{"truncated inside a block", av(sampleClusters()...)[:len(av(sampleClusters()...))-2],
		"h264 aac | v-40/0k a10/10k v0/80 v40/40 unexpected EOF"},
	{"stripped headers", header() +
		elem(idSegment, elem(idTracks,
			audio("A_MPEG/L3", "", elem(idEncodings,
				elem(idEncoding, elem(idCompression, num(idCompAlgo, 3), elem(idCompSettings, "\xFF\xFB")))))),
			cluster(0, block(2, 0, keyFlag, "\x90\x64"))), "mp3 | a0/0k"},
	{"deflated", header() + elem(idSegment,
		elem(idTracks, audio("A_AAC", asc, elem(idEncodings, elem(idEncoding, elem(idCompression))))),
		cluster(0, block(2, 0, keyFlag, "x"))), "opaque(compressed a_aac) | "},
	{"encrypted", header() + elem(idSegment,
		elem(idTracks, audio("A_AAC", asc, elem(idEncodings, elem(idEncoding, elem(idEncryption)))))),
		"opaque(encrypted a_aac) | "},
	{"Xiph lacing", soundIn("A_AAC", asc, block(2, 0, keyFlag|lacingXiph<<1, "\x02\x01\x02abbccc")),
		"aac | a0/0k a23/23k a46/46k"},
	{"fixed lacing", soundIn("A_AAC", asc, block(2, 0, keyFlag|lacingFixed<<1, "\x01aabb")), "aac | a0/0k a23/23k"},
	{"EBML lacing", soundIn("A_AAC", asc, block(2, 0, keyFlag|lacingEBML<<1, "\x02\x82\xC0aabbbc")),
		"aac | a0/0k a23/23k a46/46k"},
	{"fixed lacing that does not divide evenly", soundIn("A_AAC", asc, block(2, 0, keyFlag|lacingFixed<<1, "\x01aab")),
		"malformed lacing"},
	{"Xiph lacing beyond the block", soundIn("A_AAC", asc, block(2, 0, keyFlag|lacingXiph<<1, "\x01\xFF\xFFab")),
		"malformed lacing"},
	{"EBML lacing with a negative size", soundIn("A_AAC", asc, block(2, 0, keyFlag|lacingEBML<<1, "\x02\x81\x80ab")),
		"malformed lacing"},
	{"empty lacing", soundIn("A_AAC", asc, block(2, 0, keyFlag|lacingEBML<<1, "")), "malformed lacing"},
	{"Opus starts before zero", header() +
		elem(idSegment, elem(idTracks,
			audio("A_OPUS", "OpusHead\x01\x02\x38\x01\x80\xBB\x00\x00\x00\x00\x00", num(idCodecDelay, 6_500_000))),
			cluster(0, block(2, 0, keyFlag, "\xFC"))), "opus | a-6/-6k"},
	{"Vorbis", soundIn("A_VORBIS", "", ""), "opaque(vorbis) | "},
	{"unknown", soundIn("A_X\x01", "", ""), "opaque(a_x.) | "},
	{"rotated", header() + elem(idSegment, elem(idTracks, video("V_VP8", "", elem(idProjection, float(idPoseRoll, -90))))),
		"vp8@90 | "},
	{"H.264 without its record", header() + elem(idSegment, elem(idTracks, video("V_MPEG4/ISO/AVC", ""))),
		"h264: no CodecPrivate"},
	{"only subtitles", header() + elem(idSegment, elem(idTracks, elem(idTrackEntry, num(idTrackType, 17)))),
		"no video or audio in the file"},
	{"too many tracks", header() + elem(idSegment, elem(idTracks, strings.Repeat(audio("A_AAC", asc), maxTracks+1))),
		"more than 16 tracks"},
	{"block of an unknown track", av(cluster(0, block(9, 0, keyFlag, "x"), block(1, 0, keyFlag, idr))),
		"h264 aac | v0/0k"},
	{"truncated block between others", av(cluster(0, block(1, 0, keyFlag, idr), elem(idSimpleBlock, "\x81\x00"),
		block(1, 40, 0, inter), block(2, 0, keyFlag|lacingFixed<<1, "\x01aab"), block(2, 50, keyFlag, "aac"))),
		"h264 aac | v0/0k v40/40 a50/50k 2 invalid blocks, the first: mkv: malformed block"},
	{"truncated block", av(cluster(0, elem(idSimpleBlock, "\x81\x00"))), "malformed block"},
	{"cluster timestamp out of range", av(cluster(1<<62, block(1, 0, keyFlag, idr))), "timestamp out of range"},
	{"timestamp scale 0", header() + elem(idSegment, elem(idInfo, num(idTimestampScale, 0))), "invalid TimestampScale"},
	{"integer of nine bytes", header() + elem(idSegment, elem(idInfo, elem(idTimestampScale, "123456789"))),
		"element is too large"},
	{"truncated head", header() + elem(idSegment, info(0))[:20], "unexpected EOF"},
	{"no segment", header(), "unexpected EOF"},
	{"no EBML", "RIFFxxxxxxxxx", "no EBML header"},
	{"ID of five bytes", header() + "\x08\x00\x00\x00\x00\x00\x00", "invalid element ID"},
	{"empty", "", "no EBML header"},
}

// describeFile returns the content of a file in the format of the table.
func describeFile(r *Reader) string {
	var words []string
	for _, s := range r.Streams() {
		w := s.Track.Codec.String()
		if s.Track.Label != "" {
			w += "(" + s.Track.Label + ")"
		}
		if s.Rotation != 0 {
			w += fmt.Sprintf("@%d", s.Rotation)
		}
		words = append(words, w)
	}
	words = append(words, "|")
	for {
		f, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			words = append(words, strings.TrimPrefix(err.Error(), "mkv: "))
			break
		}
		w := fmt.Sprintf("%.1s%d/%d", f.Track.Kind, f.DTS.Milliseconds(), f.PTS.Milliseconds())
		if f.KeyFlag {
			w += "k"
		}
		words = append(words, w)
	}
	if t := r.Problems(); t != "" {
		words = append(words, t)
	}
	if words[len(words)-1] == "|" {
		words = append(words, "")
	}
	return strings.Join(words, " ")
}

func open(b string) (*Reader, error) { return NewReader(strings.NewReader(b), int64(len(b))) }

func TestFiles(t *testing.T) {
	for _, tt := range files {
		t.Run(tt.name, func(t *testing.T) {
			r, err := open(tt.file)
			got := fmt.Sprint(err)
			if err == nil {
				got = describeFile(r)
			}
			if exact := strings.Contains(tt.want, "|"); exact && got != tt.want || !exact && !strings.Contains(got, tt.want) {
				t.Errorf("%s\nwant %s", got, tt.want)
			}
		})
	}
}

// A forwardOnly reader rejects reads at an offset below the previous one.
type forwardOnly struct {
	io.ReaderAt
	least int64
}

func (r *forwardOnly) ReadAt(b []byte, off int64) (int, error) {
	if off < r.least {
		return 0, fmt.Errorf("read at %d went back to %d", r.least, off)
	}
	r.least = off
	return r.ReaderAt.ReadAt(b, off)
}

// TestReadsForwardOnly reads files as they arrive through a pipe.
func TestReadsForwardOnly(t *testing.T) {
	for _, tt := range files {
		want, got := "", ""
		if r, err := open(tt.file); err == nil {
			want = describeFile(r)
		}
		if r, err := NewReader(&forwardOnly{ReaderAt: strings.NewReader(tt.file)}, int64(len(tt.file))); err == nil {
			got = describeFile(r)
		}
		if got != want {
			t.Errorf("%s: %s\nwant %s", tt.name, got, want)
		}
	}
}

func TestSeek(t *testing.T) {
	r, err := open(av(sampleClusters()...))
	if err != nil {
		t.Fatal(err)
	}
	second := "h264 aac | v80/120k a130/130k v120/200 v160/160"
	for to, want := range map[time.Duration]string{
		0: allFrames, 119 * time.Millisecond: allFrames, 120 * time.Millisecond: second, time.Hour: second,
	} {
		if err := r.Seek(to); err != nil {
			t.Fatal(err)
		}
		if got := describeFile(r); got != want {
			t.Errorf("to %v: %s\nwant %s", to, got, want)
		}
	}
	if r.Duration() != time.Second || r.DocType() != "matroska" {
		t.Errorf("%v of %s", r.Duration(), r.DocType())
	}
}

// TestDecodingTimes adds presentation times in decoding order: decoding times must rise, and none
// may be later than its presentation time.
func TestDecodingTimes(t *testing.T) {
	for name, pts := range map[string][]time.Duration{
		"no reordering":   {0, 1, 2, 3, 4, 5},
		"one frame ahead": {0, 2, 1, 4, 3, 5},
		"pyramid":         {0, 4, 2, 1, 3, 8, 6, 5, 7},
		"reordered only at the end": append(slices.Repeat([]time.Duration{0}, 0), 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12,
			13, 14,
			15, 16, 17, 19, 18),
	} {
		var o dtsGenerator
		var got []time.Duration
		for _, p := range pts {
			o.add(p * 40 * time.Millisecond)
			if at, ok := o.next(false); ok {
				got = append(got, at)
			}
		}
		for len(got) < len(pts) {
			at, ok := o.next(true)
			if !ok {
				t.Fatalf("%s: %d of %d", name, len(got), len(pts))
			}
			got = append(got, at)
		}
		for i, at := range got {
			if at > pts[i]*40*time.Millisecond && name != "reordered only at the end" || i > 0 && at <= got[i-1] {
				t.Errorf("%s: frame %d of %v is decoded at %v, after %v", name, i, pts[i], at, got[max(i-1, 0)])
			}
		}
	}
}

func FuzzReader(f *testing.F) {
	for _, tt := range files {
		f.Add([]byte(tt.file))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := NewReader(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			return
		}
		for range 1000 {
			m, err := r.Next()
			if err != nil {
				if _, again := r.Next(); errors.Is(err, io.EOF) && again != io.EOF {
					t.Errorf("frame after the end: %v", again)
				}
				break
			}
			if m.Track.Codec == media.Passthrough || len(m.Payload) == 0 || len(m.Payload) > len(b)+4096 {
				t.Fatalf("%+v", m)
			}
		}
		_ = r.Seek(time.Second)
	})
}
