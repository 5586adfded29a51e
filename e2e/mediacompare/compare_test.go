package mediacompare

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// testSource returns two seconds of video at 25 Hz with a keyframe each half second, and audio at
// 50 Hz in which each second frame is silence.
func testSource() Stream {
	var s Stream
	for i := range 100 {
		at := time.Duration(i) * 20 * time.Millisecond
		if i%2 == 0 {
			s = append(s, Unit{Kind: Video, Key: i%24 == 0, DTS: at, PTS: at + 40*time.Millisecond, Size: 100,
				Sum: fmt.Sprint("v", i)})
		}
		name := fmt.Sprint("a", i)
		if i%2 == 0 {
			name = "silence"
		}
		s = append(s, Unit{Kind: Audio, Key: true, DTS: at, PTS: at, Size: 10, Sum: name})
	}
	return s
}

func shift(s Stream, k Kind, d time.Duration) Stream {
	s = slices.Clone(s)
	for i := range s {
		if s[i].Kind == k {
			s[i].DTS += d
			s[i].PTS += d
		}
	}
	return s
}

func TestCompareFindsDifferences(t *testing.T) {
	src := testSource()
	key := slices.IndexFunc(src, func(u Unit) bool { return u.Kind == Video && u.Key && u.DTS > 0 })
	picture := func(s Stream, n int) int { // returns the index of the n-th picture
		return slices.IndexFunc(s, func(u Unit) bool { return u.Sum == fmt.Sprint("v", 2*n) })
	}
	for _, c := range []struct {
		name string
		got  Stream
		want string // part of the error, "" for none
	}{
		{"same stream", src, ""},
		{"later keyframe", src[key:], ""},
		{"constant offset", shift(shift(src, Video, time.Hour), Audio, time.Hour), ""},
		{"rounding", shift(shift(src, Video, time.Hour), Audio, time.Hour+2*time.Millisecond), ""},
		{"missing end", src[:len(src)-20], ""},
		{"late audio", shift(src, Audio, 3*time.Millisecond), "timestamps differ"},
		{"drift", func() Stream {
			s := slices.Clone(src)
			for i := range s {
				s[i].DTS += time.Duration(i) * 50 * time.Microsecond
			}
			return s
		}(), "timestamps differ"},
		{"start between keyframes", src[picture(src, 3):], "not a keyframe"},
		{"missing picture", slices.Delete(slices.Clone(src), picture(src, 7), picture(src, 7)+1),
			"1 units are missing before received unit 7"},
		{"repeated picture", slices.Insert(slices.Clone(src), picture(src, 7), src[picture(src, 7)]),
			"received before, as unit 7"},
		{"changed picture", func() Stream {
			s := slices.Clone(src)
			s[picture(s, 7)].Sum = "x"
			return s
		}(), "received unit 7 is not in the source"},
		{"swapped pictures", func() Stream {
			s := slices.Clone(src)
			i, j := picture(s, 7), picture(s, 8)
			s[i].Sum, s[j].Sum = s[j].Sum, s[i].Sum
			return s
		}(), "missing before received unit 7"},
		{"missing audio", src.Of(Video), "no audio was received"},
		{"empty stream", nil, "no video was received"},
		{"other stream", Stream{{Kind: Video, Sum: "x"}}, "the first unit received is not in the source"},
	} {
		m, err := Compare(src, c.got, Millisecond)
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
		if c.name == "later keyframe" &&
			(m.Video != Range{12, 38, 50} || m.Audio != Range{24, 76, 100} || m.Audio.Missing() != 0) {
			t.Errorf("%s: %+v", c.name, m)
		}
	}
	if _, err := Compare(src.Of(Audio), src, Millisecond); err == nil {
		t.Error("no error for video that the source lacks")
	}
}

func TestDecoderUnitsIgnoreContainerFraming(t *testing.T) {
	sps, pps, idr, aud, filler := []byte{0x67, 1}, []byte{0x68, 2}, []byte{0x65, 3, 4}, []byte{9, 0xf0},
		[]byte{12, 0xff, 0x80}
	avcc := func(nals ...[]byte) (b []byte) {
		for _, n := range nals {
			b = append(append(b, 0, 0, 0, byte(len(n))), n...)
		}
		return b
	}
	file := func(picture []byte) *FLVFile {
		return &FLVFile{HasVideo: true, Tags: []FLVTag{
			{Type: TagVideo, Body: []byte{0x17, 0, 0, 0, 0, 1, 0x64, 0, 31, 0xff}},
			{Type: TagVideo, Time: 40, Body: append([]byte{0x17, 1, 0xff, 0xff, 0xfe}, picture...)},
		}}
	}
	plain, err := file(avcc(idr)).DecoderUnits()
	if err != nil {
		t.Fatal(err)
	}
	if u := plain[0]; !u.Key || u.DTS != 40*time.Millisecond || u.PTS != 38*time.Millisecond || u.Size != 3 {
		t.Errorf("read %v", u)
	}
	dressed, err := file(avcc(aud, sps, pps, idr, filler)).DecoderUnits()
	if err != nil {
		t.Fatal(err)
	}
	if plain[0].Sum != dressed[0].Sum {
		t.Error("delimiter, parameter sets and filler change the sum")
	}
	other, err := file(avcc(aud, sps, pps, []byte{0x65, 3, 5})).DecoderUnits()
	if err != nil {
		t.Fatal(err)
	}
	if plain[0].Sum == other[0].Sum {
		t.Error("another picture has the same sum")
	}
	if _, err := file([]byte{0, 0, 0, 9, 1}).DecoderUnits(); err == nil {
		t.Error("no error for a truncated NAL unit")
	}
}

func TestFLVRoundTrip(t *testing.T) {
	want := &FLVFile{HasVideo: true, HasAudio: true, Tags: []FLVTag{
		{Type: TagScript, Body: []byte("x")},
		{Type: TagAudio, Time: 0xfedcba98, Body: []byte{0xaf, 1, 2, 3}},
	}}
	var b bytes.Buffer
	if err := want.Write(&b); err != nil {
		t.Fatal(err)
	}
	got, err := ReadFLV(bytes.NewReader(b.Bytes()))
	if err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("read %v, %v, want %v", got, err, want)
	}
	if _, err := ReadFLV(bytes.NewReader(b.Bytes()[:b.Len()-1])); err == nil {
		t.Error("no error for a truncated file")
	}
}
