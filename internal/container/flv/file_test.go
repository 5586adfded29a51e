package flv

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"livego/internal/media"
)

// fileOf returns an FLV file of tags.
func fileOf(tags ...Tag) string {
	b := FileHeader(true, true)
	for _, t := range tags {
		b = AppendTag(b, t.Type, t.Timestamp, t.Body)
	}
	return string(b)
}

// sampleTags returns two groups of two video frames, from 1000 ms on, with an audio frame after
// each.
func sampleTags() []Tag {
	tags := []Tag{{TypeVideo, 1000, []byte("\x17\x00\x00\x00\x00" + avcC)}, {TypeAudio, 1000, []byte("\xAF\x00" + asc)}}
	for i := range uint32(4) {
		body := "\x17\x01\x00\x00\x00" + idr
		if i%2 == 1 {
			body = "\x27\x01\x00\x00\x00" + inter
		}
		tags = append(tags, Tag{TypeVideo, 1000 + 40*i, []byte(body)}, Tag{TypeAudio, 1010 + 40*i, []byte("\xAF\x01aac")})
	}
	return tags
}

// corruptByte overwrites the byte of file at distance far from the text before.
func corruptByte(file, before string, far int) string {
	i := strings.Index(file, before) + far
	return file[:i] + "\x5A" + file[i+1:]
}

// withBodySizes is fileOf for a writer whose PreviousTagSize counts the body only.
func withBodySizes(tags []Tag) string {
	b := FileHeader(true, true)
	for _, t := range tags {
		b = AppendTag(b, t.Type, t.Timestamp, t.Body)
		b = binary.BigEndian.AppendUint32(b[:len(b)-4], uint32(len(t.Body)))
	}
	return string(b)
}

// withUnknownTags is fileOf with a tag of an unknown type before each tag.
func withUnknownTags(tags []Tag) string {
	var all []Tag
	for _, t := range tags {
		all = append(all, Tag{15, t.Timestamp, []byte("not known")}, t)
	}
	return fileOf(all...)
}

const allFrames = "v1000k a1010k v1040 a1050k v1080k a1090k v1120 a1130k"

// flvFiles is the table of files: the frames that are read in words, or the end of an error. It
// seeds the fuzzer.
var flvFiles = []struct {
	name, file string
	to         time.Duration // if not 0, Seek there first
	want       string
}{
	{"whole", fileOf(sampleTags()...), 0, allFrames},
	{"seek to the second group", fileOf(sampleTags()...), 80 * time.Millisecond, "v1080k a1090k v1120 a1130k"},
	{"seek before the second group", fileOf(sampleTags()...), 79 * time.Millisecond, allFrames},
	{"seek after the end", fileOf(sampleTags()...), time.Hour, "v1080k a1090k v1120 a1130k"},
	{"only audio", fileOf(sampleTags()[1], sampleTags()[3], sampleTags()[5]), 0, "a1010k a1050k"},
	{"seek in audio", fileOf(sampleTags()[1], sampleTags()[3], sampleTags()[5]), 41 * time.Millisecond, "a1050k"},
	{"invalid tag", fileOf(append(sampleTags(), Tag{TypeVideo, 0, []byte{0x17}})...), 0, allFrames},
	{"truncated last tag", fileOf(sampleTags()...)[:len(fileOf(sampleTags()...))-5], 0,
		"v1000k a1010k v1040 a1050k v1080k a1090k v1120 unexpected EOF"},
	{"garbage between tags", fileOf(sampleTags()[:6]...) + "rubbish" + fileOf(sampleTags()[6:]...)[13:], 0, allFrames},
	{"corrupt tag length", corruptByte(fileOf(sampleTags()...), "\x00\x04\x38\x00\x00\x00\x00\x17", -3), 0,
		"v1000k a1010k v1040 a1050k a1090k v1120 a1130k"},
	{"bad signature", "FLX" + fileOf(sampleTags()...)[3:], 0, "no FLV signature"},
	{"header size 0", "FLV\x01\x05\x00\x00\x00\x00\x00\x00\x00\x00", 0, "invalid file header size 0"},
	{"header of 13 bytes", withLongHeader(sampleTags()), 0, allFrames},
	{"header of 13 bytes, from the middle", withLongHeader(sampleTags()), 90 * time.Millisecond,
		"v1080k a1090k v1120 a1130k"},
	{"wrong last PreviousTagSize",
		fileOf(sampleTags()...) + "\x09\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x17\x00\x00\x00\x00",
		0, allFrames},
	{"PreviousTagSize counts the body only", withBodySizes(sampleTags()), 0, allFrames},
	{"PreviousTagSize counts the body only, from the middle", withBodySizes(sampleTags()), 90 * time.Millisecond,
		"v1080k a1090k v1120 a1130k"},
	{"tag type 0", fileOf(sampleTags()...) + strings.Repeat("\x00", 15), 0, allFrames},
	{"unknown tag types", withUnknownTags(sampleTags()), 0, allFrames},
	{"zero bytes at the end", fileOf(sampleTags()...) + strings.Repeat("\x00", 4096), 0, allFrames},
	{"encrypted tag", fileOf(Tag{TypeVideo | 0x20, 0, []byte("abc")}), 0, "encrypted tag"},
	{"tag longer than the file", fileOf() + "\x09\xFF\xFF\xFF\x00\x00\x00\x00\x00\x00\x00abc", 0, "unexpected EOF"},
	{"no tags", fileOf(), 0, "no video or audio in the file"},
	{"empty", "", 0, "unexpected EOF"},
}

// withLongHeader is fileOf with a file header that is four bytes longer than needed.
func withLongHeader(tags []Tag) string {
	b := fileOf(tags...)
	return b[:8] + "\x0Dmore" + b[9:]
}

// readFile returns the frames of a file in the words of the table.
func readFile(b string, to time.Duration) string {
	f, err := OpenFile(strings.NewReader(b), int64(len(b)))
	if err == nil && to != 0 {
		err = f.Seek(to)
	}
	var words []string
	for err == nil {
		var m *media.Frame
		if m, err = f.Next(); err != nil {
			break
		}
		w := fmt.Sprintf("%.1s%d", m.Track.Kind, m.DTS.Milliseconds())
		if m.RAP == media.Keyframe {
			w += "k"
		}
		words = append(words, w)
	}
	if !errors.Is(err, io.EOF) {
		words = append(words, strings.TrimPrefix(err.Error(), "flv: "))
	}
	return strings.Join(words, " ")
}

func TestFile(t *testing.T) {
	for _, tt := range flvFiles {
		if got := readFile(tt.file, tt.to); got != tt.want {
			t.Errorf("%s: %s\nwant %s", tt.name, got, tt.want)
		}
	}
	for name, b := range map[string]string{
		"body sizes":            withBodySizes(sampleTags()),
		"zero bytes at the end": fileOf(sampleTags()...) + strings.Repeat("\x00", 100_000),
		"unknown tags":          withUnknownTags(sampleTags()),
	} {
		f, err := OpenFile(strings.NewReader(b), int64(len(b)))
		if err != nil {
			t.Fatal(err)
		}
		if d := f.Duration(); d != 130*time.Millisecond {
			t.Errorf("%s: duration %v", name, d)
		}
	}
	f, err := OpenFile(strings.NewReader(flvFiles[0].file), int64(len(flvFiles[0].file)))
	if err != nil {
		t.Fatal(err)
	}
	if s := f.Streams(); f.Duration() != 130*time.Millisecond || len(s) != 2 || s[0].Track.Width != 320 {
		t.Errorf("%v, %+v", f.Duration(), s)
	}
}

func FuzzFile(f *testing.F) {
	for _, tt := range flvFiles {
		f.Add([]byte(tt.file))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		file, err := OpenFile(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			return
		}
		for range 1000 {
			if m, err := file.Next(); err != nil {
				break
			} else if len(m.Payload) == 0 || len(m.Payload) > len(b) {
				t.Fatalf("%+v", m)
			}
		}
		_ = file.Seek(time.Second)
		_, _ = file.Next()
	})
}
