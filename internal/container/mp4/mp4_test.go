package mp4

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"runtime"
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

// mkBox returns a box.
func mkBox(typ string, content ...string) string {
	body := strings.Join(content, "")
	return string(binary.BigEndian.AppendUint32(nil, uint32(8+len(body)))) + typ + body
}

// u32 returns 32-bit numbers.
func u32(n ...int64) string {
	var b []byte
	for _, v := range n {
		b = binary.BigEndian.AppendUint32(b, uint32(v))
	}
	return string(b)
}

func u16(n ...int) string {
	var b []byte
	for _, v := range n {
		b = binary.BigEndian.AppendUint16(b, uint16(v))
	}
	return string(b)
}

func zeros(n int) string { return strings.Repeat("\x00", n) }

func ftyp() string { return mkBox("ftyp", "isom", u32(0)) }

func mvhd(scale, duration int64) string {
	return mkBox("mvhd", u32(0, 0, 0, scale, duration), zeros(80))
}

// trak returns a track with timescale 1000. stbl is the sample tables after the stsd.
func trak(id int64, handler, matrix, edits, entry, stbl string) string {
	if matrix == "" {
		matrix = u32(0x10000, 0, 0, 0, 0x10000, 0)
	}
	return mkBox("trak",
		mkBox("tkhd", u32(7, 0, 0, id, 0, 1000), zeros(16), matrix, u32(0, 0, 0x40000000), zeros(8)),
		edits,
		mkBox("mdia", mkBox("mdhd", u32(0, 0, 0, 1000, 1000), zeros(4)), mkBox("hdlr", u32(0, 0), handler, zeros(13)),
			mkBox("minf", mkBox("stbl", mkBox("stsd", u32(0, 1), entry), stbl))))
}

func visual(typ string, boxes ...string) string {
	return mkBox(typ, zeros(24), u16(640, 360), zeros(50), strings.Join(boxes, ""))
}

func sound(typ string, version int, boxes ...string) string {
	more := map[int]int{1: 16, 2: 36}[version]
	return mkBox(typ, zeros(6), u16(1, version, 0), zeros(4), u16(2, 16, 0, 0), u32(44100<<16), zeros(more),
		strings.Join(boxes, ""))
}

func esds(object byte, specific string) string {
	info := "\x05" + string(byte(len(specific))) + specific
	config := "\x04" + string(byte(13+len(info))) + string([]byte{object}) + zeros(12) + info
	return mkBox("esds", u32(0), "\x03\x80\x80"+string(byte(3+len(config))), "\x00\x00\x00", config)
}

func avc1() string { return visual("avc1", mkBox("avcC", avcC)) }
func mp4a() string { return sound("mp4a", 0, esds(0x40, asc)) }

// tables returns sample tables of one chunk at off: samples of these sizes, 40 ticks each, with
// keyframes numbered from 1.
func tables(off int64, keys []int64, sizes ...int64) string {
	n := int64(len(sizes))
	s := mkBox("stts", u32(0, 1, n, 40)) + mkBox("stsc", u32(0, 1, 1, n, 1)) + mkBox("stco", u32(0, 1, off)) +
		mkBox("stsz", u32(0, 0, n), u32(sizes...))
	if keys != nil {
		s += mkBox("stss", u32(0, int64(len(keys))), u32(keys...))
	}
	return s
}

func edit(entries ...int64) string {
	return mkBox("edts", mkBox("elst", u32(0, int64(len(entries)/3)), u32(entries...)))
}

// mdatFirst returns a file start with frames in an mdat before the moov. The first frame is at
// dataAt.
func mdatFirst(frames ...string) string { return ftyp() + mkBox("mdat", frames...) }

const dataAt = 16 + 8

// plainFile returns a file without fragments: three video and two audio frames.
func plainFile(edits string) string {
	v := tables(dataAt, []int64{1, 3}, 6, 7, 6) + mkBox("ctts", u32(0, 2, 1, 80, 2, 40))
	a := tables(dataAt+19, nil, 3, 4)
	return mdatFirst(idr, inter, idr, "abc", "defg") + mkBox("moov", mvhd(1000, 120),
		trak(1, "vide", "", edits, avc1(), v), trak(2, "soun", "", "", mp4a(), a))
}

func trex(id int64) string { return mkBox("trex", u32(0, id, 1, 40, 0, 0)) }

// fragment returns a moof with an mdat of two video frames.
func fragment(at int64) string {
	moof := func(off int64) string {
		return mkBox("moof", mkBox("mfhd", u32(0, 1)), mkBox("traf",
			mkBox("tfhd", u32(0x20000, 1)), mkBox("tfdt", u32(0, at)),
			mkBox("trun", u32(trunOffset|trunFirstFlags|trunSize|trunFlags|trunCTS, 2, off, 0), u32(6, 0, 40),
				u32(7, sampleIsNonSync, -40))))
	}
	return moof(int64(len(moof(0)))+8) + mkBox("mdat", idr, inter)
}

func empty() string {
	return mkBox("stts", u32(0, 0)) + mkBox("stsc", u32(0, 0)) + mkBox("stco", u32(0, 0)) + mkBox("stsz", u32(0, 0, 0))
}

func fragmentedFile(n int) string {
	s := ftyp() + mkBox("moov", mvhd(1000, 0), trak(1, "vide", "", "", avc1(), empty()), mkBox("mvex", trex(1)))
	for i := range n {
		s += fragment(int64(i) * 80)
	}
	return s
}

// singleTrack returns a file with one track of two samples.
func singleTrack(handler, entry string) string {
	return mdatFirst(idr, inter) +
		mkBox("moov", mvhd(1000, 80), trak(1, handler, "", "", entry, tables(dataAt, nil, 6, 7)))
}

// files is the table of files and their expected description. It seeds the fuzzer.
var files = []struct {
	name string
	file string
	// tracks, then frames: kind, DTS/PTS in ms, bytes, k for a keyframe flag, K for a random access
	// point; or the end of an error
	want string
}{
	{"whole", plainFile(""), "h264 aac | v0/80:6kK a0/0:3kK v40/80:7 a40/40:4kK v80/120:6kK"},
	{"edit list with reordered frames", plainFile(edit(120, 80, 0x10000)),
		"h264 aac | v-80/0:6kK v-40/0:7 v0/40:6kK a0/0:3kK a40/40:4kK"},
	{"delay", plainFile(edit(500, -1, 0x10000, 120, 80, 0x10000)),
		"h264 aac | a0/0:3kK a40/40:4kK v420/500:6kK v460/500:7 v500/540:6kK"},
	{"edit that starts before the second keyframe", plainFile(edit(1, 119, 0x10000)),
		"h264 aac | v-119/-39:6kK v-79/-39:7 v-39/1:6kK a0/0:3kK a40/40:4kK"},
	{"edit that starts at the second keyframe", plainFile(edit(1000, 120, 0x10000)),
		"h264 aac | v-40/0:6kK a0/0:3kK a40/40:4kK"},
	{"end", plainFile(edit(30, 0, 0x10000)), "h264 aac | v0/80:6kK a0/0:3kK a40/40:4kK"},
	{"contiguous edits", plainFile(edit(40, 0, 0x10000, 80, 40, 0x10000)),
		"h264 aac | v0/80:6kK a0/0:3kK v40/80:7 a40/40:4kK v80/120:6kK"},
	{"edits out of order", plainFile(edit(40, 80, 0x10000, 40, 0, 0x10000)),
		"h264! aac | v-80/0:6kK v-40/0:7 v0/40:6kK a0/0:3kK a40/40:4kK"},
	{"edit list with an out-of-range time",
		plainFile(mkBox("edts", mkBox("elst", u32(1<<24, 1, 0, 1, 0x7FFFFFFF, 0, 0x10000)))), "timestamp out of range"},
	{"truncated edit list", plainFile(mkBox("edts", mkBox("elst", u32(0, 9, 1)))), "malformed edit list"},
	{"fragments", fragmentedFile(2), "h264 | v0/40:6kK v40/0:7 v80/120:6kK v120/80:7"},
	{"truncated last fragment", fragmentedFile(2)[:len(fragmentedFile(2))-1],
		"h264 | v0/40:6kK v40/0:7 v80/120:6kK unexpected EOF"},
	{"no fragments", fragmentedFile(0), "h264 | "},
	{"fragment of an unknown track", fragmentedFile(1) + mkBox("moof", mkBox("traf", mkBox("tfhd", u32(0, 9)))),
		"h264 | v0/40:6kK v40/0:7"},
	{"run with too large a sample count",
		fragmentedFile(0) + mkBox("moof", mkBox("traf", mkBox("tfhd", u32(0, 1)), mkBox("trun", u32(trunSize, 1<<31)))),
		"malformed trun"},
	{"run without per-sample fields", fragmentedFile(0) +
		mkBox("moof", mkBox("traf", mkBox("tfhd", u32(tfhdSize, 1, 1)), mkBox("trun", u32(0, math.MaxUint32)))),
		"malformed trun"},
	{"run without sizes", fragmentedFile(0) +
		mkBox("moof", mkBox("traf", mkBox("tfhd", u32(0, 1)), mkBox("trun", u32(0, 10)))), "malformed trun"},
	{"fragment without tfhd", fragmentedFile(0) + mkBox("moof", mkBox("traf")), "fragment without tfhd"},
	{"64-bit mdat, to the end", ftyp() +
		mkBox("moov", mvhd(1000, 80), trak(1, "vide", "", "", avc1(), tables(0, nil, 1))) + u32(1) + "mdat" + u32(0, 16+6) +
		idr, "h264 | v0/0:1k"},
	{"rotated", mdatFirst(idr) + mkBox("moov", mvhd(1000, 40),
		trak(1, "vide", u32(0, 0x10000, 0, -0x10000, 0, 0), "", avc1(), tables(dataAt, nil, 6))), "h264@90 | v0/0:6kK"},
	{"truncated mdat before the index", singleTrack("vide", avc1())[:dataAt+12], "cut off before its index"},
	{"HEVC without hvcC", singleTrack("vide", visual("hvc1")), "no hvcC"},
	{"AV1", singleTrack("vide", visual("av01", mkBox("av1C", "\x81\x00\x0C\x00"))), "av1 | v0/0:6k v40/40:7k"},
	{"MPEG-4 part 2", singleTrack("vide", visual("mp4v")), "opaque(mpeg4) | "},
	{"unknown", singleTrack("vide", visual("xy\x01z")), "opaque(fourcc xy.z) | "},
	{"encrypted", singleTrack("vide", visual("encv")), "opaque(encrypted video) | "},
	{"AAC in QuickTime's wave", singleTrack("soun",
		sound("mp4a", 1, mkBox("wave", mkBox("frma", "mp4a"), esds(0x40, asc)))), "aac | a0/0:6kK a40/40:7kK"},
	{"PCM of QuickTime's version 2", singleTrack("soun", sound("lpcm", 2)), "opaque(pcm) | "},
	{"MP3 by object type", singleTrack("soun", sound("mp4a", 0, esds(0x6B, ""))), "mp3 | a0/0:6kK a40/40:7kK"},
	{"MP3 under AAC's object type", singleTrack("soun", sound("mp4a", 0, esds(0x40, "\xF8\x48"))),
		"mp3 | a0/0:6kK a40/40:7kK"},
	{"Vorbis by object type", singleTrack("soun", sound("mp4a", 0, esds(0xDD, ""))), "opaque(vorbis) | "},
	{"USAC", singleTrack("soun", sound("mp4a", 0, esds(0x40, "\xF9\x48"))), "opaque(usac) | "},
	{"AAC without esds", singleTrack("soun", sound("mp4a", 0)), "no esds"},
	{"AAC without configuration", singleTrack("soun", sound("mp4a", 0, mkBox("esds", u32(0), "\x03\x03\x00\x00\x00"))),
		"malformed esds"},
	{"Opus", singleTrack("soun", sound("Opus", 0, mkBox("dOps", "\x00\x02\x01\x38\x00\x00\xBB\x80\x00\x00\x00"))),
		"opus | a0/0:6kK a40/40:7kK"},
	{"truncated dOps", singleTrack("soun", sound("Opus", 0, mkBox("dOps", "\x00\x02"))), "dOps of 2 bytes"},
	{"text", singleTrack("text", sound("tx3g", 0)), "no video or audio in the file"},
	{"no track", ftyp() + mkBox("moov", mvhd(1000, 0)), "no video or audio in the file"},
	{"too many tracks", ftyp() + mkBox("moov", mvhd(1000, 0),
		strings.Repeat(trak(1, "vide", "", "", avc1(), empty()), maxTracks+1)), "more than 16 tracks"},
	{"no mvhd", ftyp() + mkBox("moov"), "no mvhd"},
	{"time scale 0", ftyp() + mkBox("moov", mvhd(0, 0)), "malformed \"mvhd\""},
	{"compressed index", ftyp() + mkBox("moov", mvhd(1000, 0), mkBox("cmov")),
		"the index is compressed (cmov) by an old QuickTime: not supported"},
	{"no index", ftyp() + mkBox("mdat", idr), "there is no index (moov)"},
	{"truncated index", plainFile("")[:len(plainFile(""))-30], "cut off before its index"},
	{"box shorter than its header", ftyp() + u32(7) + "moov", "cut off before its index"},
	{"box within the index too long", ftyp() + mkBox("moov", mvhd(1000, 0), u32(99)+"trak"), "unexpected EOF"},
	{"table longer than its box", mdatFirst(idr) +
		mkBox("moov", mvhd(1000, 40), trak(1, "vide", "", "", avc1(), mkBox("stsz", u32(0, 0, 1<<31)))), "unexpected EOF"},
	{"inconsistent tables",
		mdatFirst(idr) + mkBox("moov", mvhd(1000, 40), trak(1, "vide", "", "", avc1(), mkBox("stsz", u32(0, 1, 1<<31)))),
		"inconsistent sample tables"},
	{"frame beyond the end of the file", mdatFirst(idr) +
		mkBox("moov", mvhd(1000, 40), trak(1, "vide", "", "", avc1(), tables(1<<30, nil, 6))), "h264 | unexpected EOF"},
	{"frame too large", mdatFirst(idr) +
		mkBox("moov", mvhd(1000, 40), trak(1, "vide", "", "", avc1(), tables(0, nil, 1<<25))),
		"exceeds the limit of 16777216"},
	{"missing sample description", mdatFirst(idr) + mkBox("moov", mvhd(1000, 40), trak(1, "vide", "", "", avc1(),
		mkBox("stts", u32(0, 1, 1, 40))+mkBox("stsc", u32(0, 1, 1, 1, 7))+mkBox("stco", u32(0, 1, dataAt))+
			mkBox("stsz", u32(0, 0, 1, 6)))), "inconsistent sample tables"},
	{"empty", "", "there is no index (moov)"},
}

// describeFile returns the content of a file in the format of the table, up to most frames.
func describeFile(r *Reader, most int) string {
	var words []string
	for _, s := range r.Streams() {
		w := s.Track.Codec.String()
		if s.Track.Label != "" {
			w += "(" + s.Track.Label + ")"
		}
		if s.Rotation != 0 {
			w += fmt.Sprintf("@%d", s.Rotation)
		}
		if s.Edited {
			w += "!"
		}
		words = append(words, w)
	}
	words = append(words, "|")
	for range most {
		f, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			words = append(words, strings.TrimPrefix(err.Error(), "mp4: "))
			break
		}
		w := fmt.Sprintf("%.1s%d/%d:%d", f.Track.Kind, f.DTS.Milliseconds(), f.PTS.Milliseconds(), len(f.Payload))
		if f.KeyFlag {
			w += "k"
		}
		if f.RAP == media.Keyframe {
			w += "K"
		}
		words = append(words, w)
	}
	if len(words) > 0 && words[len(words)-1] == "|" {
		return strings.Join(words, " ") + " "
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
				got = describeFile(r, 100)
			}
			if exact := strings.Contains(tt.want, "|"); exact && got != tt.want || !exact && !strings.Contains(got, tt.want) {
				t.Errorf("%s\nwant %s", got, tt.want)
			}
		})
	}
}

func TestStreamProperties(t *testing.T) {
	for name, tt := range map[string]struct {
		file  string
		video media.Stream
	}{
		"whole":     {plainFile(edit(120, 80, 0x10000)), media.Stream{Duration: 121 * time.Millisecond, Bytes: 19}},
		"fragments": {fragmentedFile(30), media.Stream{Duration: 1200 * time.Millisecond * 2}},
	} {
		r, err := open(tt.file)
		if err != nil {
			t.Fatal(name, err)
		}
		got := r.Streams()[0]
		if got.Track.Width != 320 || got.Track.Height != 240 || got.Track.RFC6381 != "avc1.42c00d" {
			t.Errorf("%s: %+v", name, got.Track)
		}
		if got.Track = nil; (got.Duration-tt.video.Duration).Abs() > time.Millisecond*2 || got.Bytes != tt.video.Bytes {
			t.Errorf("%s: %+v, want %+v", name, got, tt.video)
		}
	}
}

func TestSeek(t *testing.T) {
	pieces, film := fragmentedFile(50), plainFile("")
	for _, tt := range []struct {
		name string
		file string
		to   time.Duration
		want string
	}{
		{"start", film, 0, "h264 aac | v0/80:6kK a0/0:3kK v40/80:7 a40/40:4kK v80/120:6kK"},
		{"before the second keyframe", film, 119 * time.Millisecond, "h264 aac | v0/80:6kK"},
		{"second keyframe", film, 120 * time.Millisecond, "h264 aac | v80/120:6kK"},
		{"after the end", film, time.Hour, "h264 aac | v80/120:6kK"},
		{"fragment", pieces, 2 * time.Second, "h264 | v1920/1960:6kK v1960/1920:7 v2000/2040:6kK"},
		{"after the last fragment", pieces, time.Hour, "h264 | v3920/3960:6kK v3960/3920:7"},
	} {
		r, err := open(tt.file)
		if err != nil {
			t.Fatal(err)
		}
		for range 2 { // from anywhere
			if err := r.Seek(tt.to); err != nil {
				t.Fatal(err)
			}
			if got := describeFile(r, 5); !strings.HasPrefix(got, tt.want) {
				t.Errorf("%s: %s\nwant %s", tt.name, got, tt.want)
			}
		}
	}
}

// A sparseFile has a head and a tail, and zeros between. It counts the bytes read.
type sparseFile struct {
	head, tail string
	size, read int64
}

func (s *sparseFile) ReadAt(b []byte, off int64) (int, error) {
	s.read += int64(len(b))
	clear(b)
	if off < int64(len(s.head)) {
		copy(b, s.head[off:])
	}
	if from := off - (s.size - int64(len(s.tail))); from+int64(len(b)) > 0 && from < int64(len(s.tail)) {
		copy(b[max(0, -from):], s.tail[max(0, from):])
	}
	return len(b), nil
}

// TestOpenLargeFile opens a file of 20 GB with an index of a million samples after its data.
func TestOpenLargeFile(t *testing.T) {
	const n, size = 1_000_000, 20 << 30
	offs, sizes := make([]byte, 8*n), bytes.Repeat([]byte(u32(20000)), n)
	for i := range n {
		binary.BigEndian.PutUint64(offs[8*i:], uint64(1000+20000*i))
	}
	tail := mkBox("moov", mvhd(1000, 40*n), trak(1, "vide", "", "", avc1(), mkBox("stts", u32(0, 1, n, 40))+
		mkBox("stsc", u32(0, 1, 1, 1, 1))+mkBox("co64", u32(0, n), string(offs))+mkBox("stsz", u32(0, 0, n), string(sizes))))
	head := ftyp() + u32(1) + "mdat" + string(binary.BigEndian.AppendUint64(nil, uint64(size-len(ftyp())-len(tail))))
	s := &sparseFile{head: head, tail: tail, size: size}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	r, err := NewReader(s, size)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Next(); err != nil {
		t.Fatal(err)
	}
	runtime.ReadMemStats(&after)
	if allocated := after.TotalAlloc - before.TotalAlloc; allocated > 1<<20 || s.read > 4*n+1<<20 {
		t.Errorf("opening took %d bytes of memory and read %d", allocated, s.read)
	}
	if err := r.Seek(30_000 * time.Second); err != nil {
		t.Fatal(err)
	}
	if f, err := r.Next(); err != nil || f.DTS != 30_000*time.Second {
		t.Errorf("%v, %v", f, err)
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
		for n := 0; n < 1000; n++ {
			m, err := r.Next()
			if err != nil {
				if again, second := r.Next(); errors.Is(err, io.EOF) && (again != nil || second != io.EOF) {
					t.Errorf("a frame after the end: %v", second)
				}
				break
			}
			if m.Track == nil || len(m.Payload) == 0 || len(m.Payload) > len(b) {
				t.Fatalf("%+v", m)
			}
		}
		_ = r.Seek(time.Second)
		_ = r.Duration()
	})
}
