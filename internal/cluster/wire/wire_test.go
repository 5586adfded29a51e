package wire

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"livego/internal/media"
	"livego/internal/ops/varint"
)

var (
	h264 = &media.Track{Kind: media.Video, Codec: media.H264, Config: []byte{1, 2}, ColorInfo: []byte{3}, Timescale: 90000,
		Width: 1280, Height: 720, FrameRate: 29.97, BitDepth: 8, Profile: "High", RFC6381: "avc1.64001f"}
	aac = &media.Track{Kind: media.Audio, Codec: media.AAC, Config: []byte{0x12, 0x10}, Timescale: 44100,
		SampleRate: 44100, Channels: 2, FrameSamples: 1024}
	second = &media.Track{Kind: media.Audio, ID: 1, Codec: media.Passthrough, Label: "speex", Timescale: 16000}
	at     = time.Now().Add(-time.Minute - 3*time.Nanosecond).Round(0)
	meta   = &media.Meta{Encoder: "obs", Width: 1280, FrameRate: 30, VideoRate: 2500, HasVideo: true}
)

func testFrames() []*media.Frame {
	both := media.NewProgram(h264, aac).WithAwaited(media.KindsOf(media.Data))
	all := both.With(second).WithDiscontinuity(3)
	return []*media.Frame{
		{Track: h264, Meta: meta, Program: both, Seq: 7, DTS: time.Second, PTS: 1080 * time.Millisecond, Ticks: 90000,
			Duration: 40 * time.Millisecond, EncoderDTS: time.Hour, RAP: media.Keyframe, KeyFlag: true, Arrived: at,
			Payload: []byte("key")},
		{Track: aac, Meta: meta, Program: both, Seq: 8, DTS: time.Second, PTS: time.Second, Ticks: 44100, Arrived: at,
			Payload: []byte("sound")},
		{Track: h264, Meta: meta, Program: both, Seq: 9, DTS: 2 * time.Second, PTS: 1900 * time.Millisecond, Leading: true,
			Arrived: at, Payload: bytes.Repeat([]byte{9}, 3*firstRead)},
		{Track: second, Program: all, Seq: 10, DTS: 2 * time.Second, PTS: 2 * time.Second, Arrived: at, Payload: []byte{}},
	}
}

func testRecords() []Record {
	return []Record{
		&Hello{Version: Version, Epoch: 7, Term: 2, Claim: 3, Path: []string{"a", "b"}, Since: time.Unix(5, 6), From: 7,
			StateFrames: 1, ReadyAt: 9, BytesVersion: 1, CutterNext: 8, Cutter: []byte("state"),
			Tracks: []NumberedTrack{{1, h264}, {2, aac}}},
		&Seal{Name: "7-0", Sequence: 7, First: 1, Last: 50, Duration: 2 * time.Second,
			Parts: []time.Duration{200 * time.Millisecond, time.Second}, Digest: 1<<63 + 5},
		Pause{11}, Resume{11}, Ping{}, End{11}, Close{"overrun"},
	}
}

// encode returns the records of a connection: the first of testRecords, testFrames, and the others.
func encode(e *Encoder) []byte {
	b := e.Append(nil, testRecords()[0])
	for _, f := range testFrames() {
		var head []byte
		parts, _ := e.AppendFrame(nil, head, f)
		b = append(b, bytes.Join(parts, nil)...)
	}
	for _, r := range testRecords()[1:] {
		b = e.Append(b, r)
	}
	return b
}

func TestRecords(t *testing.T) {
	var e Encoder
	e.TrackID(h264)
	e.TrackID(aac)
	var tracks Tracks
	r := NewReader(bytes.NewReader(encode(&e)), &tracks)
	now := time.Now()
	r.now = func() time.Time { return now }
	var frames []*media.Frame
	var others []Record
	for {
		record, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if f, ok := record.(*media.Frame); ok {
			frames = append(frames, f)
		} else {
			others = append(others, record)
		}
	}
	if d := cmp.Diff(testRecords(), others); d != "" {
		t.Errorf("records differ (-want +got):\n%s", d)
	}
	want := testFrames()
	if len(frames) != len(want) {
		t.Fatalf("%d frames, want %d", len(frames), len(want))
	}
	for i, f := range frames {
		w := want[i]
		if !f.FirstArrival().Equal(w.Arrived) || f.Arrived.Before(now) {
			t.Errorf("frame %d arrived first at %v, want %v", i, f.FirstArrival(), w.Arrived)
		}
		f.Arrived, f.ReplicaLag = w.Arrived, w.ReplicaLag
		if d := cmp.Diff(w, f, cmp.AllowUnexported(media.Program{})); d != "" {
			t.Errorf("frame %d differs (-want +got):\n%s", i, d)
		}
	}
	if frames[0].Track != frames[2].Track || frames[0].Program != frames[1].Program || frames[0].Meta != frames[2].Meta {
		t.Error("what has not changed is another object")
	}
	if hello := others[0].(*Hello); hello.Tracks[0].Track != frames[0].Track {
		t.Error("the track of the hello is not that of the frames")
	}
}

// TestReconnectKeepsTracks reads two connections of one session: equal tracks stay the same objects, and
// two equal tracks of one connection are two objects.
func TestReconnectKeepsTracks(t *testing.T) {
	again := *h264
	var tracks Tracks
	connect := func(list ...*media.Track) (got []*media.Track) {
		h := &Hello{Version: Version}
		var e Encoder
		for _, track := range list {
			h.Tracks = append(h.Tracks, NumberedTrack{e.TrackID(track), track})
		}
		record, err := NewReader(bytes.NewReader(e.Append(nil, h)), &tracks).Next()
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range record.(*Hello).Tracks {
			got = append(got, n.Track)
		}
		return got
	}
	first := connect(h264, aac)
	next := connect(aac, h264, &again)
	if next[0] != first[1] || next[1] != first[0] || next[2] == first[0] {
		t.Errorf("tracks %p after %p", next, first)
	}
}

func TestUnknownRecordsAndFieldsAreSkipped(t *testing.T) {
	var e Encoder
	b := e.Append(nil, &Hello{Version: Version})
	b = appendRecord(b, 200, func(b []byte) []byte { return append(b, "of a newer server"...) })
	b = appendRecord(b, typePause, func(b []byte) []byte {
		return append(varint.AppendUint(b, uint64(5)), "new field"...)
	})
	var tracks Tracks
	r := NewReader(bytes.NewReader(b), &tracks)
	for _, want := range []Record{&Hello{Version: Version, Cutter: []byte{}}, Pause{5}} {
		got, err := r.Next()
		if d := cmp.Diff(want, got); d != "" || err != nil {
			t.Errorf("error %v, record differs (-want +got):\n%s", err, d)
		}
	}
}

// invalid are the bytes of connections that end with an error, which contains want.
var invalid = []struct {
	name string
	b    func() []byte
	want string
}{
	{"record of no bytes", func() []byte { return []byte{0, 0, 0, 0} }, "record of 0 bytes"},
	{"record of 2 GiB", func() []byte { return []byte{0x7f, 0xff, 0xff, 0xff, 3} }, "record of 2147483647 bytes"},
	{"hello of 17 MiB", func() []byte { return []byte{1, 0x10, 0, 0, byte(typeHello)} }, "record of type 1 with"},
	{"pause of 2 MiB", func() []byte { return []byte{0, 0x20, 0, 0, byte(typePause)} }, "record of type 4 with"},
	{"record that is cut", func() []byte { return []byte{0, 0, 0, 9, byte(typeHello), 1} }, "unexpected EOF"},
	{"no hello", func() []byte { return new(Encoder).Append(nil, Pause{1}) }, "a hello is not the first record"},
	{"two hellos", func() []byte {
		e := new(Encoder)
		return e.Append(e.Append(nil, &Hello{Version: Version}), &Hello{Version: Version})
	}, "a hello is not the first record"},
	{"another version", func() []byte { return new(Encoder).Append(nil, &Hello{Version: Version + 1}) },
		"another version of the protocol"},
	{"path of 17 servers", func() []byte {
		return new(Encoder).Append(nil, &Hello{Version: Version, Path: make([]string, maxPath+1)})
	}, "length of the path 17 exceeds the limit 16"},
	{"track of no kind", func() []byte {
		return new(Encoder).Append(nil, &Hello{Version: Version, Tracks: []NumberedTrack{{1, &media.Track{Timescale: 1}}}})
	}, "invalid track"},
	{"frame of an unknown track", func() []byte {
		e := new(Encoder)
		b := e.Append(nil, &Hello{Version: Version})
		f := testFrames()[0]
		f.Meta = nil
		e.AppendFrame(nil, nil, f)
		parts, _ := e.AppendFrame(nil, nil, f) // without a program record
		return append(b, bytes.Join(parts, nil)...)
	}, "of the unknown track"},
	{"negative time", func() []byte {
		e, f := new(Encoder), testFrames()[0]
		f.DTS = -1
		parts, _ := e.AppendFrame(nil, nil, f)
		return append(e.Append(nil, &Hello{Version: Version}), bytes.Join(parts, nil)...)
	}, "out of range"},
	{"seal of too many parts", func() []byte {
		e := new(Encoder)
		return e.Append(e.Append(nil, &Hello{Version: Version}), &Seal{Parts: make([]time.Duration, maxSealParts+1)})
	}, "number of parts 16385 exceeds the limit"},
}

func TestInvalidRecords(t *testing.T) {
	for _, tt := range invalid {
		t.Run(tt.name, func(t *testing.T) {
			var tracks Tracks
			r := NewReader(bytes.NewReader(tt.b()), &tracks)
			var err error
			for err == nil {
				_, err = r.Next()
			}
			if !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want %s", err, tt.want)
			}
		})
	}
	b := encode(new(Encoder))
	for n := 1; n < len(b); n += 1 + n/50 {
		var tracks Tracks
		r := NewReader(bytes.NewReader(b[:n]), &tracks)
		var err error
		for err == nil {
			_, err = r.Next()
		}
	}
}

// TestFrameIsNotCopied encodes frames without allocating memory for each.
func TestFrameIsNotCopied(t *testing.T) {
	var e Encoder
	f := testFrames()[0]
	parts, head := make([][]byte, 0, 8), make([]byte, 0, 1024)
	parts, head = e.AppendFrame(parts, head, f)
	if &parts[len(parts)-1][0] != &f.Payload[0] {
		t.Error("the payload was copied")
	}
	if n := testing.AllocsPerRun(100, func() { parts, head = e.AppendFrame(parts[:0], head[:0], f) }); n > 0 {
		t.Errorf("%v allocations for a frame", n)
	}
}

func BenchmarkAppendFrame(b *testing.B) {
	var e Encoder
	f := testFrames()[0]
	var parts [][]byte
	var head []byte
	b.ReportAllocs()
	for b.Loop() {
		parts, head = e.AppendFrame(parts[:0], head[:0], f)
	}
}

func FuzzReader(f *testing.F) {
	for _, tt := range invalid {
		f.Add(tt.b())
	}
	f.Add(encode(new(Encoder)))
	f.Fuzz(func(t *testing.T, b []byte) {
		var tracks Tracks
		r := NewReader(bytes.NewReader(b), &tracks)
		var e Encoder
		for {
			record, err := r.Next()
			if err != nil {
				return
			}
			if frame, ok := record.(*media.Frame); ok {
				e.AppendFrame(nil, nil, frame)
			} else {
				e.Append(nil, record)
			}
		}
	})
}
