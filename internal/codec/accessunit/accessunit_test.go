package accessunit

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"livego/internal/codec/bits"
	"livego/internal/codec/h264"
	"livego/internal/media"
)

// ue appends an unsigned Exp-Golomb code.
func ue(w *bits.Writer, v uint32) {
	n := 0
	for x := v + 1; x > 1; x >>= 1 {
		n++
	}
	w.U(n, 0)
	w.U(n+1, v+1)
}

// sps and pps return parameter sets whose frame_num and pic_order_cnt_lsb have 4 bits each, and
// with fields unless frames is true.
func sps(frames bool) []byte {
	var w bits.Writer
	w.U(24, 66<<16|30)
	for _, v := range []uint32{0, 0, 0, 0, 1} { // id, frame_num, order type, order bits, reference frames
		ue(&w, v)
	}
	w.U(1, 0)
	ue(&w, 19)
	ue(&w, 14)
	if frames {
		w.U(1, 1)
	} else {
		w.U(2, 0)
	}
	w.U(4, 0b1001) // direct_8x8, no cropping, no VUI, stop bit
	return append([]byte{0x67}, w.Bytes()...)
}

func pps() []byte {
	var w bits.Writer
	ue(&w, 0)
	ue(&w, 0)
	w.U(2, 0)
	for range 8 {
		ue(&w, 0)
	}
	return append([]byte{0x68}, append(w.Bytes(), 0x80)...)
}

func h264Track(frames bool) *media.Track {
	config, err := h264.BuildConfig([][]byte{sps(frames)}, [][]byte{pps()})
	if err != nil {
		panic(err)
	}
	return &media.Track{Kind: media.Video, Codec: media.H264, Config: config}
}

// A header is a slice header of H.264.
type header struct {
	typ, ref      byte // nal_ref_idc
	first, pps    uint32
	frame, idr    uint32
	order         uint32
	field, bottom bool
	hasField      bool
}

func (h header) unit() []byte {
	var w bits.Writer
	ue(&w, h.first)
	ue(&w, 7)
	ue(&w, h.pps)
	w.U(4, h.frame)
	if h.hasField {
		w.U(1, map[bool]uint32{true: 1}[h.field])
		if h.field {
			w.U(1, map[bool]uint32{true: 1}[h.bottom])
		}
	}
	if h.typ == 5 {
		ue(&w, h.idr)
	}
	w.U(4, h.order)
	w.U(16, 0x8888)
	return append([]byte{h.ref<<5 | h.typ}, w.Bytes()...)
}

// unitOf returns a NAL unit for a word. I and P are slices of such pictures, with the number of
// their first macroblock.
func unitOf(word string) []byte {
	h := header{typ: 1, ref: 3}
	rest := word
	switch word {
	case "AUD":
		return []byte{9, 0x10}
	case "SPS":
		return sps(true)
	case "PPS":
		return pps()
	case "SEI":
		return []byte{6, 5, 1, 0xAA, 0x80}
	case "recovery":
		return []byte{6, 6, 1, 0xC4, 0x80}
	case "prefix":
		return []byte{0x6E, 0x40, 0x80, 0x0F}
	case "filler":
		return []byte{12, 0xFF, 0x80}
	case "B": // of a data partition
		return []byte{0x63, 0x88}
	case "unspecified":
		return []byte{0x78, 0x88}
	case "vIDR0", "vIDR1": // HEVC, by first_slice_segment_in_pic_flag
		return []byte{0x26, 1, 0x20 | (word[4]^1)<<7, 0x88}
	case "vP0", "vP1":
		return []byte{0x02, 1, 0x20 | (word[2]^1)<<7, 0x88}
	case "vSEI":
		return []byte{0x4E, 1, 1, 1, 0x80}
	case "vSuffix":
		return []byte{0x50, 1, 1, 1, 0x80}
	case "vLayer": // a slice of layer 1
		return []byte{0x02, 9, 0xA0, 0x88}
	}
	for rest != "" {
		key, value := rest[0], uint32(0)
		end := 1
		for ; end < len(rest) && '0' <= rest[end] && rest[end] <= '9'; end++ {
			value = 10*value + uint32(rest[end]-'0')
		}
		switch key {
		case 'I':
			h.typ, h.first = 5, value
		case 'P':
			h.first = value
		case 'f':
			h.frame = value
		case 'o':
			h.order = value
		case 'i':
			h.idr = value
		case 'p':
			h.pps = value
		case 'r':
			h.ref = byte(value)
		case 't':
			h.hasField, h.field = true, true
		case 'b':
			h.hasField, h.field, h.bottom = true, true, true
		default:
			panic(word)
		}
		rest = rest[end:]
	}
	return h.unit()
}

func payload(words string) []byte {
	var b []byte
	for word := range strings.FieldsSeq(words) {
		u := unitOf(word)
		b = append(binary.BigEndian.AppendUint32(b, uint32(len(u))), u...)
	}
	return b
}

// joinTests are messages and the pictures that they become. A message is "time words", with the NAL
// units of one video message; "audio" and "config" are messages without a video frame. The letters
// after a slice are frame_num, pic_order_cnt_lsb, idr_pic_id, PPS, nal_ref_idc, top and bottom
// field.
var joinTests = []struct {
	name  string
	track *media.Track
	in    []string
	want  []string // "time words", the resulting pictures
}{
	{name: "one message a picture", in: []string{"0 SPS PPS I0", "40 P0f1", "80 P0f2"},
		want: []string{"0 SPS PPS I0", "40 P0f1", "80 P0f2"}},
	{name: "one message a picture, of several slices", in: []string{"0 I0 I150", "40 P0f1 P150f1"},
		want: []string{"0 I0 I150", "40 P0f1 P150f1"}},
	{name: "one message a slice", in: []string{"0 I0", "0 I75", "0 I150", "0 I225", "40 P0f1", "40 P75f1", "80 P0f2",
		"80 P150f2"},
		want: []string{"0 I0 I75 I150 I225", "40 P0f1 P75f1", "80 P0f2 P150f2"}},
	{name: "one message a NAL unit",
		in: []string{"0 AUD", "0 SPS", "0 PPS", "0 SEI", "0 I0", "0 I150", "40 AUD", "40 SEI", "40 P0f1", "40 P150f1",
			"80 AUD", "80 P0f2"},
		want: []string{"0 AUD SPS PPS SEI I0 I150", "40 AUD SEI P0f1 P150f1", "80 AUD P0f2"}},
	{name: "two pictures of equal time", in: []string{"0 I0", "0 P0f1", "40 P0f2", "40 P0f3"},
		want: []string{"0 I0", "0 P0f1", "40 P0f2", "40 P0f3"}},
	{name: "the same picture twice", in: []string{"0 I0", "0 I0", "40 P0f1", "40 P0f1"},
		want: []string{"0 I0", "0 I0", "40 P0f1", "40 P0f1"}},
	{name: "two split pictures of equal time", in: []string{"0 I0", "0 I150", "0 P0f1", "0 P150f1", "0 P0f2", "0 P150f2"},
		want: []string{"0 I0 I150", "0 P0f1 P150f1", "0 P0f2 P150f2"}},
	{name: "a first slice is lost", in: []string{"0 I0", "0 I150", "40 P0f1", "40 P150f2", "80 P0f3"},
		want: []string{"0 I0 I150", "40 P0f1", "40 P150f2", "80 P0f3"}},
	{name: "the order tells pictures apart", in: []string{"0 I0", "0 I150", "40 P0f1o2", "40 P150f1o4"},
		want: []string{"0 I0 I150", "40 P0f1o2", "40 P150f1o4"}},
	{name: "reference and no reference", in: []string{"0 I0", "0 I150", "40 P0f1r1", "40 P150f1r2", "40 P225f1r0"},
		want: []string{"0 I0 I150", "40 P0f1r1 P150f1r2", "40 P225f1r0"}},
	{name: "two IDR pictures", in: []string{"0 I0i0", "0 I150i0", "0 I225i1"},
		want: []string{"0 I0i0 I150i0", "0 I225i1"}},
	{name: "IDR and none", in: []string{"0 I0", "0 P150"}, want: []string{"0 I0", "0 P150"}},
	{name: "another PPS that is not known", in: []string{"0 I0", "0 I150p1"}, want: []string{"0 I0", "0 I150p1"}},
	{name: "slices in any order", in: []string{"0 I150", "0 I0", "0 I225", "40 P150f1", "40 P0f1", "40 P0f1"},
		want: []string{"0 I150 I0 I225", "40 P150f1 P0f1", "40 P0f1"}},
	{name: "slices of another time", in: []string{"0 I0", "0 I150", "40 P0f1", "41 P150f1"},
		want: []string{"0 I0 I150", "40 P0f1", "41 P150f1"}},
	{name: "a delimiter between", in: []string{"0 I0", "0 I150", "40 P0f1", "40 AUD P150f1"},
		want: []string{"0 I0 I150", "40 P0f1", "40 AUD P150f1"}},
	{name: "fields", track: h264Track(false),
		in:   []string{"0 I0t", "0 I75t", "0 P0b", "0 P75b", "40 P0f1t", "40 P75f1t", "40 P0f1b", "40 P75f1b"},
		want: []string{"0 I0t I75t", "0 P0b P75b", "40 P0f1t P75f1t", "40 P0f1b P75f1b"}},
	{name: "data partitions", in: []string{"0 I0", "40 P0f1", "40 B", "40 P150f1", "40 B", "80 P0f2", "80 B"},
		want: []string{"0 I0", "40 P0f1", "40 B P150f1 B", "80 P0f2 B"}},
	{name: "filler behind a picture", in: []string{"0 I0", "0 I150", "0 filler", "40 P0f1", "40 filler", "40 unspecified"},
		want: []string{"0 I0 I150 filler", "40 P0f1 filler unspecified"}},
	{name: "filler of an encoder that sends whole pictures", in: []string{"0 I0", "40 P0f1", "40 filler", "80 P0f2"},
		want: []string{"0 I0", "40 P0f1", "80 filler P0f2"}},
	{name: "prefixes of slices", in: []string{"0 prefix I0", "0 prefix I150", "40 prefix P0f1", "40 prefix P150f1",
		"40 prefix P0f2"},
		want: []string{"0 prefix I0 prefix I150", "40 prefix P0f1 prefix P150f1", "40 prefix P0f2"}},
	{name: "prefixes of slices, one message a NAL unit",
		in:   []string{"0 prefix", "0 I0", "0 prefix", "0 I150", "40 prefix", "40 P0f1", "40 prefix", "40 P150f1"},
		want: []string{"0 prefix I0 prefix I150", "40 prefix P0f1 prefix P150f1"}},
	{name: "audio within a picture",
		in:   []string{"0 I0", "0 I150", "40 P0f1", "audio", "40 P150f1", "40 P225f1", "80 P0f2"},
		want: []string{"0 I0 I150", "40 P0f1", "audio", "40 P150f1 P225f1", "80 P0f2"}},
	{name: "audio before a picture", in: []string{"0 SPS", "0 PPS", "audio", "0 I0"},
		want: []string{"audio", "0 SPS PPS I0"}},
	{name: "splitting begins late",
		in:   []string{"0 I0", "40 P0f1", "80 P0f2", "80 P75f2", "80 P150f2", "120 P0f3", "120 P150f3"},
		want: []string{"0 I0", "40 P0f1", "80 P0f2", "80 P75f2 P150f2", "120 P0f3 P150f3"}},
	{name: "a configuration between", in: []string{"0 SEI", "config", "0 I0", "0 I150", "config", "0 P225"},
		want: []string{"0 I0 I150", "0 P225"}},
	{name: "HEVC", track: &media.Track{Kind: media.Video, Codec: media.HEVC},
		in: []string{"0 vSEI", "0 vIDR0", "0 vIDR1", "0 vIDR1", "0 vSuffix", "40 vP0", "40 vP1", "40 vP0", "80 vP0",
			"80 vLayer", "80 vSEI vP1"},
		want: []string{"0 vSEI vIDR0 vIDR1 vIDR1 vSuffix", "40 vP0 vP1", "40 vP0", "80 vP0 vLayer", "80 vSEI vP1"}},
}

// messages returns the frames of each message of a test case.
func messages(track *media.Track, in []string) [][]*media.Frame {
	if track == nil {
		track = h264Track(true)
	}
	var all [][]*media.Frame
	for _, m := range in {
		switch m {
		case "audio":
			all = append(all, []*media.Frame{{Track: &media.Track{Kind: media.Audio, Codec: media.AAC}, Payload: []byte(m)}})
			continue
		case "config":
			changed := *track
			track = &changed
			all = append(all, nil)
			continue
		}
		at, words, _ := strings.Cut(m, " ")
		ms, err := time.ParseDuration(at + "ms")
		if err != nil {
			panic(err)
		}
		f := &media.Frame{Track: track, DTS: ms, PTS: ms, Payload: payload(words)}
		if strings.Contains(words, "I") && !strings.Contains(words, "SEI") {
			f.RAP = media.Keyframe
		}
		if strings.Contains(words, "recovery") {
			f.RAP = media.RecoveryPoint
		}
		all = append(all, []*media.Frame{f})
	}
	return all
}

func format(f *media.Frame) string {
	if f.Track.Kind == media.Audio {
		return string(f.Payload)
	}
	return fmt.Sprintf("%d %x", f.DTS.Milliseconds(), f.Payload)
}

func formatAll(rows []string) (all []string) {
	for _, m := range rows {
		if at, words, ok := strings.Cut(m, " "); ok {
			m = fmt.Sprintf("%s %x", at, payload(words))
		}
		all = append(all, m)
	}
	return all
}

func TestJoin(t *testing.T) {
	for _, tt := range joinTests {
		t.Run(tt.name, func(t *testing.T) {
			var j Joiner
			var got []string
			for _, frames := range messages(tt.track, tt.in) {
				for _, f := range j.Add(frames) {
					got = append(got, format(f))
				}
			}
			if f := j.Flush(); f != nil {
				got = append(got, format(f))
			}
			if want := formatAll(tt.want); !slices.Equal(got, want) {
				t.Errorf("pictures:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
			}
		})
	}
}

// TestJoinRandomAccess checks the random access of a joined picture.
func TestJoinRandomAccess(t *testing.T) {
	for _, tt := range []struct {
		in   []string
		want media.RandomAccess
	}{
		{[]string{"0 P0", "0 P150"}, media.NoRandomAccess},
		{[]string{"0 I0", "0 I150"}, media.Keyframe},
		{[]string{"0 recovery", "0 P0", "0 P150"}, media.RecoveryPoint},
		{[]string{"0 recovery P0", "0 P150"}, media.RecoveryPoint},
		{[]string{"0 recovery", "0 SEI", "0 I0"}, media.Keyframe},
	} {
		var j Joiner
		for _, frames := range messages(nil, tt.in) {
			j.Add(frames)
		}
		if f := j.Flush(); f == nil || f.RAP != tt.want {
			t.Errorf("%q: %+v, want %v", tt.in, f, tt.want)
		}
	}
}

// TestJoinMemoryIsBounded has an encoder send parts without end: the joined picture is bounded, and
// the memory after a part is not overwritten.
func TestJoinMemoryIsBounded(t *testing.T) {
	var j Joiner
	part := func(first string, size int) []*media.Frame {
		fs := messages(nil, []string{"0 " + first})
		fs[0][0].Track = parts
		fs[0][0].Payload = append(fs[0][0].Payload, payload("filler")...)
		filler := make([]byte, size)
		filler[0], filler[1] = 12, 1
		fs[0][0].Payload = append(binary.BigEndian.AppendUint32(fs[0][0].Payload, uint32(size)), filler...)
		return fs[0]
	}
	most := 0
	for i := range 100 {
		first := "P150"
		if i == 0 {
			first = "P0"
		}
		for _, f := range j.Add(part(first, 1<<20)) {
			most = max(most, len(f.Payload))
		}
	}
	if most < maxAccessUnit/2 || most > maxAccessUnit {
		t.Errorf("a picture of %d bytes", most)
	}
	j = Joiner{}
	for range 100 {
		fs := messages(nil, []string{"0 SEI"})
		fs[0][0].Track = parts
		fs[0][0].Payload = append(fs[0][0].Payload, make([]byte, 4<<10)...)
		j.Add(fs[0])
	}
	if f := j.tracks[0].prefix; len(f.Payload) > maxPrefix {
		t.Errorf("%d bytes wait for a picture", len(f.Payload))
	}

	body := append(payload("I0"), "the next track"...)
	first := &media.Frame{Track: parts, Payload: body[:len(body)-len("the next track")]}
	j = Joiner{}
	j.Add([]*media.Frame{first})
	j.Add([]*media.Frame{{Track: parts, Payload: payload("I150")}})
	if !strings.HasSuffix(string(body), "the next track") {
		t.Errorf("%x", body)
	}
}

var parts = h264Track(true)

// TestJoinAllocates checks that whole pictures cost no allocation.
func TestJoinAllocates(t *testing.T) {
	var j Joiner
	fs := messages(nil, []string{"0 P0"})[0]
	if n := testing.AllocsPerRun(100, func() { fs[0].DTS += 40 * time.Millisecond; j.Add(fs) }); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

// TestWriter checks when pictures are passed on: at once if the encoder sends whole ones, otherwise
// with the next message or after half the time between two pictures.
func TestWriter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		var got []string
		w := NewWriter(func(f *media.Frame) error {
			got = append(got, fmt.Sprintf("%d: %s", time.Since(start).Milliseconds(), format(f)))
			return nil
		}, notReceiving)
		send := func(after time.Duration, in ...string) {
			time.Sleep(after)
			fs := messages(parts, in)
			for i := range fs {
				if err := w.Write(fs[i]); err != nil {
					t.Fatal(err)
				}
			}
		}
		send(0, "0 I0")                                   // the first waits
		send(50*time.Millisecond, "50 P0f1")              // at 50
		send(50*time.Millisecond, "100 P0f2")             // at 100
		send(60*time.Millisecond, "160 P0f3")             // at 160
		send(0, "160 P150f3")                             // a part: the encoder is known to split
		send(60*time.Millisecond, "220 P0f4")             // at 220
		send(10*time.Millisecond, "220 P150f4")           // 10 ms later
		send(10*time.Millisecond, "audio")                // ends it, at 240
		send(40*time.Millisecond, "280 P0f5", "280 P7f5") // at 280, and nothing after
		time.Sleep(time.Second)
		send(0, "320 P0f6")
		if err := w.Close(); err != nil {
			t.Error(err)
		}
		want := []string{"20: 0 I0", "50: 50 P0f1", "100: 100 P0f2", "160: 160 P0f3", "190: 160 P150f3",
			"240: 220 P0f4 P150f4", "240: audio", "310: 280 P0f5 P7f5", "1280: 320 P0f6"}
		for i, line := range want {
			at, rest, _ := strings.Cut(line, ": ")
			want[i] = at + ": " + formatAll([]string{rest})[0]
		}
		if !slices.Equal(got, want) {
			t.Errorf("got:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	})
}

// notReceiving is receiving for a connection without a partial message.
func notReceiving() bool { return false }

// TestWriterWaitsForSlowNetwork has the parts of a picture arrive over a network that needs longer
// for each than half the time between two pictures: they are still one picture. It is passed on
// when nothing more is being received.
func TestWriterWaitsForSlowNetwork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		var got []string
		var receiving atomic.Bool
		w := NewWriter(func(f *media.Frame) error {
			got = append(got, fmt.Sprintf("%d: %s", time.Since(start).Milliseconds(), format(f)))
			return nil
		}, receiving.Load)
		for i, fs := range messages(parts, []string{"0 I0", "0 I75", "0 I150", "0 I225"}) {
			if err := w.Write(fs); err != nil {
				t.Fatal(err)
			}
			receiving.Store(i < 3)
			time.Sleep(150 * time.Millisecond)
		}
		if err := w.Close(); err != nil {
			t.Error(err)
		}
		want := formatAll([]string{"0 I0 I75 I150 I225"})
		want[0] = "470: " + want[0]
		if !slices.Equal(got, want) {
			t.Errorf("got:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	})
}

// TestWriterLateTimerWaitsAgain has the timer fire late, as after the process was stopped: the held
// picture waits once more, for parts that have not been read yet.
func TestWriterLateTimerWaitsAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		var at time.Duration
		w := NewWriter(func(*media.Frame) error { at = time.Since(start); return nil }, notReceiving)
		w.Write(messages(parts, []string{"0 I0"})[0])
		w.mu.Lock()
		w.due = w.due.Add(-10 * time.Millisecond)
		w.mu.Unlock()
		time.Sleep(time.Second)
		if err := w.Close(); err != nil || at != 40*time.Millisecond {
			t.Errorf("after %v: %v", at, err)
		}
	})
}

// TestWriterReturnsTimerErrors checks that an error and a panic in the timer's goroutine reach the
// next caller.
func TestWriterReturnsTimerErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bad := errors.New("bad")
		w := NewWriter(func(*media.Frame) error { return bad }, notReceiving)
		w.Write(messages(parts, []string{"0 I0"})[0])
		time.Sleep(time.Second)
		if err := w.Write(nil); !errors.Is(err, bad) {
			t.Errorf("%v, want %v", err, bad)
		}
		w = NewWriter(func(*media.Frame) error { panic("a fault") }, notReceiving)
		w.Write(messages(parts, []string{"0 I0"})[0])
		time.Sleep(time.Second)
		defer func() {
			if v := recover(); v != "a fault" {
				t.Errorf("%v, want a panic", v)
			}
		}()
		w.Close()
	})
}

// FuzzJoin checks that joining loses and invents nothing: the NAL units come out in the order in
// which they went in.
func FuzzJoin(f *testing.F) {
	for _, tt := range joinTests {
		for _, m := range tt.in {
			if _, words, ok := strings.Cut(m, " "); ok {
				f.Add(payload(words), payload("P0 P150"), uint8(1), false)
			}
		}
	}
	f.Fuzz(func(t *testing.T, a, b []byte, times uint8, hevc bool) {
		track := parts
		if hevc {
			track = &media.Track{Kind: media.Video, Codec: media.HEVC}
		}
		var j Joiner
		var in, out []byte
		take := func(f *media.Frame) {
			if f != nil {
				out = append(out, f.Payload...)
			}
		}
		for i := range int(times%8) + 1 {
			p := a
			if i%2 == 1 {
				p = b
			}
			if len(p) > maxPrefix/8 {
				return
			}
			in = append(in, p...)
			f := &media.Frame{Track: track, DTS: time.Duration(i/2) * time.Millisecond, Payload: slices.Clone(p)}
			for _, f := range j.Add([]*media.Frame{f}) {
				take(f)
			}
		}
		take(j.Flush())
		for _, tr := range j.tracks {
			take(tr.prefix)
		}
		if string(in) != string(out) {
			t.Errorf("in %x, out %x", in, out)
		}
	})
}
