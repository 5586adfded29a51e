package es

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"livego/internal/media"
)

// adtsFrame returns a frame of AAC-LC at 44.1 kHz, stereo, with n bytes of payload.
func adtsFrame(n int) string {
	size := 7 + n
	return string([]byte{0xFF, 0xF1, 0x50, 0x80 | byte(size>>11), byte(size >> 3), byte(size<<5) | 0x1F, 0xFC}) +
		strings.Repeat("a", n)
}

// mp3Frame returns a frame of layer III at 44.1 kHz and 128 kbit/s, stereo, whose payload starts
// with head.
func mp3Frame(head string) string {
	return "\xFF\xFB\x90\x64" + head + strings.Repeat("m", 417-4-len(head))
}

// mp2Frame returns a frame of layer II at 48 kHz.
func mp2Frame() string { return "\xFF\xFD\xA4\x04" + strings.Repeat("m", 572) }

// ac3Frame returns a frame of AC-3 at 48 kHz and 64 kbit/s, stereo: 128 words of 16 bits.
func ac3Frame() string { return "\x0B\x77\x00\x00\x08\x40\x40" + strings.Repeat("c", 256-7) }

func id3v2(n int) string {
	return "ID3\x04\x00\x00\x00\x00" + string([]byte{byte(n >> 7), byte(n & 0x7F)}) + strings.Repeat("\xFF", n)
}

func xingHeader(tag string, frames byte) string {
	return strings.Repeat("\x00", 32) + tag + "\x00\x00\x00\x01\x00\x00\x00" + string([]byte{frames})
}

// files is the table of files and their expected description: codec, estimated duration in ms, each
// frame as time in ms and bytes, bytes that were skipped; or a part of an error. It seeds the
// fuzzer.
var files = []struct {
	name, file, want string
}{
	{"ADTS", strings.Repeat(adtsFrame(100), 3), "aac 69ms | 0:100 23:100 46:100"},
	{"ADTS after ID3", id3v2(300) + id3v2(20) + strings.Repeat(adtsFrame(100), 3), "aac 69ms | 0:100 23:100 46:100"},
	{"ADTS with a truncated last frame", strings.Repeat(adtsFrame(100), 3)[:300], "aac 46ms | 0:100 23:100 skipped 86"},
	{"ADTS with garbage between frames",
		adtsFrame(100) + adtsFrame(90) + adtsFrame(80) + adtsFrame(100) + "no frame" + adtsFrame(80) + adtsFrame(70),
		"aac 139ms | 0:100 23:90 46:80 69:100 92:80 116:70 skipped 8"},
	{"ADTS with a sample rate change", adtsFrame(10) + adtsFrame(10) + adtsFrame(10) +
		strings.Replace(adtsFrame(10), "\x50", "\x4C", 1), "aac 90ms | 0:10 23:10 46:10 69:10"},
	{"MP3", strings.Repeat(mp3Frame(""), 3), "mp3 78ms | 0:417 26:417 52:417"},
	{"MP3 with ID3v1", strings.Repeat(mp3Frame(""), 3) + "TAG" + strings.Repeat("x", 125),
		"mp3 78ms | 0:417 26:417 52:417"},
	{"MP3 that starts inside a frame", mp3Frame("")[300:] + strings.Repeat(mp3Frame(""), 4),
		"mp3 104ms | 0:417 26:417 52:417 78:417"},
	{"Xing", mp3Frame(xingHeader("Xing", 50)) + strings.Repeat(mp3Frame(""), 4),
		"mp3 1306ms | 0:417 26:417 52:417 78:417"},
	{"Info", mp3Frame(xingHeader("Info", 4)) + strings.Repeat(mp3Frame(""), 4), "mp3 104ms | 0:417 26:417 52:417 78:417"},
	{"VBRI", mp3Frame(strings.Repeat("\x00", 32)+"VBRI"+strings.Repeat("\x00", 13)+"\x04") +
		strings.Repeat(mp3Frame(""), 4), "mp3 104ms | 0:417 26:417 52:417 78:417"},
	{"layer II", strings.Repeat(mp2Frame(), 4), "opaque(mp2) 0ms | skipped 576"},
	{"AC-3", strings.Repeat(ac3Frame(), 3), "ac3 96ms | 0:256 32:256 64:256"},
	{"ADTS with empty frames", strings.Repeat(adtsFrame(0), 5), "no complete frame"},
	{"one frame", adtsFrame(50), "aac 23ms | 0:50"},
	{"text", strings.Repeat("This is a text. ", 100), "no ADTS, MPEG audio or AC-3 frames"},
	{"only ID3", id3v2(1000), "no ADTS, MPEG audio or AC-3 frames"},
	{"endless ID3 tags", strings.Repeat(id3v2(0), 20), "too many ID3 tags"},
	{"ID3 longer than the file", id3v2(1000)[:100], "no ADTS, MPEG audio or AC-3 frames"},
	{"empty", "", "no ADTS, MPEG audio or AC-3 frames"},
}

// describeFile returns the description of a file in the format of the table.
func describeFile(b string) string {
	r, err := NewReader(strings.NewReader(b), int64(len(b)))
	if err != nil {
		return err.Error()
	}
	t := r.Streams()[0].Track
	s := t.Codec.String()
	if t.Label != "" {
		s += "(" + t.Label + ")"
	}
	s += fmt.Sprintf(" %dms |", r.Duration().Milliseconds())
	for {
		m, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return s + " " + err.Error()
		}
		s += fmt.Sprintf(" %d:%d", m.DTS.Milliseconds(), len(m.Payload))
	}
	if n := r.Skipped(); n > 0 {
		s += fmt.Sprintf(" skipped %d", n)
	}
	return s
}

func TestFiles(t *testing.T) {
	for _, tt := range files {
		if got := describeFile(tt.file); got != tt.want &&
			(strings.Contains(tt.want, "|") || !strings.Contains(got, tt.want)) {
			t.Errorf("%s: %s\nwant %s", tt.name, got, tt.want)
		}
	}
}

func TestDetect(t *testing.T) {
	for want, b := range map[media.Codec]string{
		media.AAC: adtsFrame(5) + adtsFrame(5), media.MP3: id3v2(5) + mp3Frame("") + mp3Frame(""),
		media.AC3: ac3Frame() + ac3Frame(), media.Passthrough: "\xFF\xF1\x50\x80\x01\x5F\xFC and then text",
	} {
		if got := Detect([]byte(b)); got != want {
			t.Errorf("%v, want %v", got, want)
		}
	}
}

// TestSplitterAcceptsAnyPieceSize writes a stream in pieces of every size.
func TestSplitterAcceptsAnyPieceSize(t *testing.T) {
	whole := adtsFrame(30) + adtsFrame(40) + adtsFrame(50)
	for n := 1; n < len(whole); n++ {
		s := Splitter{Codec: media.AAC}
		var sizes []int
		for rest := whole; rest != ""; rest = rest[min(n, len(rest)):] {
			s.Write([]byte(rest[:min(n, len(rest))]))
			s.Ended = len(rest) <= n
			for {
				track, payload, ok := s.Next()
				if !ok {
					break
				}
				if track.SampleRate != 44100 {
					t.Fatal(track)
				}
				sizes = append(sizes, len(payload))
			}
		}
		if fmt.Sprint(sizes) != "[30 40 50]" || s.Skipped != 0 {
			t.Fatalf("in pieces of %d: %v, %d bytes skipped", n, sizes, s.Skipped)
		}
	}
}

func TestSeek(t *testing.T) {
	b := strings.Repeat(adtsFrame(100), 100)
	r, err := NewReader(strings.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ to, want time.Duration }{{time.Second, 1021678004}, {0, 0}, {time.Hour, -1}} {
		if err := r.Seek(tt.to); err != nil {
			t.Fatal(err)
		}
		m, err := r.Next()
		if tt.want < 0 {
			if err != io.EOF {
				t.Errorf("after the end: %v", err)
			}
		} else if err != nil || m.DTS != tt.want {
			t.Errorf("to %v: %v, %v", tt.to, m, err)
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
		for size := 0; ; {
			m, err := r.Next()
			if err != nil {
				return
			}
			if size += len(m.Payload); len(m.Payload) == 0 || size > len(b) {
				t.Fatalf("%d bytes of frames in %d", size, len(b))
			}
		}
	})
}
