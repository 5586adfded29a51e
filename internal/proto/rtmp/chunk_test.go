package rtmp

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"
)

// chunkRow is the input of a chunkReader that has the limits of a publisher, or the limits before
// publish or play (early), and the expected result: messages as "type/time/stream/payload", and the
// end: eof, cut, or the reason of a ProtocolError.
type chunkRow struct {
	name  string
	early bool
	in    string
	want  []string
	end   string
	count []string
}

// first returns a chunk with a type 0 header on csid for the timestamp t, which must not be an
// extended one.
func first(csid byte, t int, length int, typ byte, streamID byte, body string) string {
	return string([]byte{csid, byte(t >> 16), byte(t >> 8), byte(t), byte(length >> 16), byte(length >> 8), byte(length),
		typ, streamID, 0, 0, 0}) + body
}

func setSize(n uint32) string {
	return first(2, 0, 4, typeSetChunkSize, 0, string(binary.BigEndian.AppendUint32(nil, n)))
}

func chunkRows() []chunkRow {
	rep := strings.Repeat
	a200 := rep("a", 200)
	audio := "8/0/1/" + a200
	manyIDs, manyBig := "", ""
	for i := range 65 {
		manyIDs += first(0, 0, 0, TypeAudio, 1, "")[:1] + string([]byte{byte(i)}) + first(0, 0, 0, TypeAudio, 1, "")[1:]
		manyBig += "\x00" + string([]byte{byte(i)}) + first(0, 0, 8<<20, TypeVideo, 1, rep("x", 128))[1:]
	}
	onLow := func(csid string, h string) string { return csid + h[1:] }
	oneByOne := first(4, 0, 200, TypeAudio, 1, "a")
	oneByOne += rep("\xc4a", 199)
	return []chunkRow{
		{name: "empty", end: "eof"},
		{name: "one chunk", in: first(4, 5, 3, TypeAudio, 1, "abc"), want: []string{"8/5/1/abc"}, end: "eof"},
		{name: "two chunks", in: first(4, 0, 200, TypeAudio, 1, a200[:128]+"\xc4"+a200[128:]), want: []string{audio},
			end: "eof"},
		{name: "no body", in: first(4, 9, 0, TypeAudio, 1, ""), want: []string{"8/9/1/"}, end: "eof"},
		{name: "chunk size: empty", in: first(2, 0, 0, typeSetChunkSize, 0, ""), end: "control"},
		{name: "chunk size: 3 bytes", in: first(2, 0, 3, typeSetChunkSize, 0, "abc"), end: "control"},
		{name: "chunk size: trailing byte",
			in:   first(2, 0, 5, typeSetChunkSize, 0, "\x00\x00\x00\xc8x") + first(4, 0, 200, TypeAudio, 1, a200),
			want: []string{audio}, end: "eof", count: []string{"trailing"}},
		{name: "chunk size 0", in: setSize(0), end: "control"},
		{name: "chunk size 1", in: setSize(1) + oneByOne, want: []string{audio}, end: "eof"},
		{name: "chunk size 127", in: setSize(127) + first(4, 0, 200, TypeAudio, 1, a200[:127]+"\xc4"+a200[127:]),
			want: []string{audio}, end: "eof"},
		{name: "chunk size 16777215", in: setSize(16777215) + first(4, 0, 200, TypeAudio, 1, a200), want: []string{audio},
			end: "eof"},
		{name: "chunk size 2^31-1", in: setSize(0x7fffffff) + first(4, 0, 200, TypeAudio, 1, a200), want: []string{audio},
			end: "eof"},
		{name: "chunk size 2^31", in: setSize(0x80000000), end: "control"},
		{name: "chunk size 2^32-1", in: setSize(0xffffffff), end: "control"},
		{name: "chunk size within a message",
			in:   first(4, 0, 200, TypeAudio, 1, a200[:128]) + setSize(40) + "\xc4" + a200[:40] + "\xc4" + a200[:32],
			want: []string{audio}, end: "eof"},
		{name: "message of 16 MiB", in: first(4, 0, 0xffffff, TypeVideo, 1, ""), end: "limit"},
		{name: "message of 16 MiB before publish", early: true, in: first(4, 0, 0xffffff, TypeVideo, 1, ""), end: "limit"},
		{name: "many unfinished messages", in: manyBig, end: "limit"},
		{name: "many unfinished messages before publish", early: true,
			in:  strings.ReplaceAll(manyBig, "\x80\x00\x00\x09", "\x00\xff\xff\x09"),
			end: "limit"},
		{name: "message of 600 KB before publish", early: true, in: first(4, 0, 600000, TypeVideo, 1, ""), end: "limit"},
		{name: "message of 600 KB", in: setSize(1<<20) + first(4, 0, 600000, TypeVideo, 1, rep("v", 600000)),
			want: []string{"9/0/1/" + rep("v", 600000)}, end: "eof"},
		{name: "long command", in: first(3, 0, 600000, typeCommand, 0, ""), end: "limit"},
		{name: "type 3 first", in: "\xc4abc", end: "chunk"},
		{name: "type 2 first", in: "\x84\x00\x00\x00", end: "chunk"},
		{name: "type 1 first", in: "\x42\x00\x00\x00\x00\x00\x06\x04\x00\x07\x00\x00\x00\x00",
			want: []string{"4/0/0/\x00\x07\x00\x00\x00\x00"}, end: "eof"},
		{name: "type 0 within a message", in: first(4, 0, 200, TypeAudio, 1, a200[:128]) + first(4, 0, 200, TypeAudio, 1, ""),
			end: "chunk"},
		{name: "type 1 within a message", in: first(4, 0, 200, TypeAudio, 1, a200[:128]) + "\x44\x00\x00\x00\x00\x00\x01\x08",
			end: "chunk"},
		{name: "type 2", in: first(4, 10, 1, TypeAudio, 1, "a") + "\x84\x00\x00\x07b\xc4c",
			want: []string{"8/10/1/a", "8/17/1/b", "8/24/1/c"}, end: "eof"},
		{name: "type 3 after type 0", in: first(4, 10, 1, TypeAudio, 1, "a") + "\xc4b",
			want: []string{"8/10/1/a", "8/20/1/b"}, end: "eof"},
		{name: "both forms of chunk stream 64",
			in:   onLow("\x00\x00", first(0, 0, 200, TypeAudio, 1, a200[:128])) + "\xc1\x00\x00" + a200[128:],
			want: []string{audio}, end: "eof"},
		{name: "chunk stream 65599", in: onLow("\x01\xff\xff", first(0, 0, 1, TypeAudio, 1, "a")), want: []string{"8/0/1/a"},
			end: "eof"},
		{name: "two byte basic header cut", in: "\x00", end: "cut"},
		{name: "three byte basic header cut", in: "\x01\x00", end: "cut"},
		{name: "65 chunk streams", in: manyIDs, want: slices.Repeat([]string{"8/0/1/"}, 64), end: "limit"},
		{name: "media on chunk stream 2", in: first(2, 0, 1, TypeAudio, 1, "a"), want: []string{"8/0/1/a"}, end: "eof",
			count: []string{"channel"}},
		{name: "control on chunk stream 4", in: first(4, 0, 4, typeAck, 1, "\x00\x00\x00\x01"),
			want: []string{"3/0/1/\x00\x00\x00\x01"}, end: "eof", count: []string{"channel"}},
		{name: "interleaved messages",
			in: first(4, 0, 200, TypeAudio, 1, a200[:128]) + first(6, 0, 200, TypeVideo, 1, a200[:128]) +
				first(5, 0, 129, TypeData, 1, a200[:128]) + "\xc6" + a200[128:] + "\xc5a\xc4" + a200[128:],
			want: []string{"9/0/1/" + a200, "18/0/1/" + a200[:129], audio}, end: "eof"},
		{name: "extended timestamp, types 0 to 3",
			in: first(4, extendedTimestamp, 200, TypeAudio, 1, "\x01\x02\x03\x04"+a200[:128]) +
				"\xc4\x01\x02\x03\x04" + a200[128:] +
				"\x44\xff\xff\xff\x00\x00\x01\x08\x01\x00\x00\x00b" + "\x84\xff\xff\xff\x00\x00\x00\x05c" + "\xc4\x00\x00\x00\x05d",
			want: []string{"8/16909060/1/" + a200, "8/33686276/1/b", "8/33686281/1/c", "8/33686286/1/d"}, end: "eof"},
		{name: "extended timestamp omitted",
			in: first(4, extendedTimestamp, 300, TypeAudio, 1, "\x01\x02\x03\x04"+a200[:128]) + "\xc4" +
				a200[:128] + "\xc4" + a200[:44],
			want: []string{"8/16909060/1/" + rep("a", 300)}, end: "eof"},
		{name: "extended timestamp omitted at the end",
			in:   first(4, extendedTimestamp, 130, TypeAudio, 1, "\x01\x02\x03\x04"+a200[:128]) + "\xc4aa",
			want: []string{"8/16909060/1/" + a200[:130]}, end: "eof"},
		{name: "extended timestamp known to be omitted",
			in: first(4, extendedTimestamp, 300, TypeAudio, 1, "\x01\x02\x03\x04"+a200[:128]) +
				"\xc4" + a200[:128] + "\xc4\x01\x02\x03\x04" + a200[:40] + first(6, 0, 1, TypeVideo, 1, "v"),
			want: []string{"8/16909060/1/" + rep("a", 256) + "\x01\x02\x03\x04" + rep("a", 40), "9/0/1/v"}, end: "eof"},
		{name: "timestamp wraps", in: first(4, 10, 1, TypeAudio, 1, "a") +
			"\x44\xff\xff\xff\x00\x00\x01\x08\xff\xff\xff\xffb",
			want: []string{"8/10/1/a", "8/9/1/b"}, end: "eof"},
		{name: "abort", in: first(4, 0, 200, TypeAudio, 1, a200[:128]) + first(2, 0, 4, typeAbort, 0, "\x00\x00\x00\x04") +
			first(4, 0, 1, TypeAudio, 1, "b"), want: []string{"8/0/1/b"}, end: "eof"},
		{name: "abort of nothing", in: first(2, 0, 4, typeAbort, 0, "\x00\x00\x00\x09"), end: "eof"},
		{name: "short abort", in: first(2, 0, 3, typeAbort, 0, "\x00\x00\x00"), end: "control"},
	}
}

// publisherReader returns a chunkReader with the limits of a publisher.
func publisherReader(r io.Reader, count func(string)) *chunkReader {
	cr := newChunkReader(bufio.NewReaderSize(r, readBuffer), count)
	cr.maxMedia, cr.maxReassembly = 8<<20, maxReassembly
	return cr
}

func read(t testing.TB, row chunkRow, r io.Reader) (got []string, end string, counts []string) {
	count := func(reason string) { counts = append(counts, reason) }
	cr := newChunkReader(bufio.NewReaderSize(r, readBuffer), count)
	if !row.early {
		cr = publisherReader(r, count)
	}
	for {
		m, err := cr.next()
		if cr.reassembly < 0 || cr.reassembly > cr.maxReassembly+cr.maxMedia {
			t.Fatalf("%d bytes of unfinished messages", cr.reassembly)
		}
		var pe *ProtocolError
		switch {
		case err == io.EOF:
			return got, "eof", counts
		case err == io.ErrUnexpectedEOF:
			return got, "cut", counts
		case errors.As(err, &pe):
			return got, pe.Reason, counts
		case err != nil:
			t.Fatal(err)
		}
		got = append(got, fmt.Sprintf("%d/%d/%d/%s", m.Type, m.Timestamp, m.StreamID, m.Payload))
	}
}

func TestChunkReader(t *testing.T) {
	for _, row := range chunkRows() {
		t.Run(row.name, func(t *testing.T) {
			got, end, counts := read(t, row, strings.NewReader(row.in))
			if !slices.Equal(got, row.want) {
				t.Errorf("messages %.200q, want %.200q", got, row.want)
			}
			if end != row.end {
				t.Errorf("end %s, want %s", end, row.end)
			}
			if !slices.Equal(counts, row.count) {
				t.Errorf("counted %q, want %q", counts, row.count)
			}
		})
	}
}

// TestChunkReaderByByte reads the same table from a reader that returns single bytes.
func TestChunkReaderByByte(t *testing.T) {
	for _, row := range chunkRows() {
		if len(row.in) > 1<<16 {
			continue
		}
		got, end, _ := read(t, row, oneByteReader{strings.NewReader(row.in)})
		if !slices.Equal(got, row.want) || end != row.end {
			t.Errorf("%s: %.200q, end %s", row.name, got, end)
		}
	}
}

type oneByteReader struct{ io.Reader }

func (r oneByteReader) Read(p []byte) (int, error) { return r.Reader.Read(p[:min(1, len(p))]) }

// TestChunkHeaderReservesNoMemory: a header alone allocates nothing; the body grows as bytes
// arrive.
func TestChunkHeaderReservesNoMemory(t *testing.T) {
	cr := publisherReader(strings.NewReader(first(4, 0, 8<<20, TypeVideo, 1, "x")), func(string) {})
	if _, err := cr.next(); err != io.ErrUnexpectedEOF {
		t.Error(err)
	}
	if cr.reassembly > initialBodySize {
		t.Errorf("%d bytes allocated for a body of 1", cr.reassembly)
	}
}

// TestSmallChunks: 1 MiB in chunks of one byte may use at most 50 times the CPU time of one chunk.
// It compares the best of several runs, because the machine may be busy.
func TestSmallChunks(t *testing.T) {
	const n = 1 << 20
	one := setSize(n) + first(4, 0, n, TypeVideo, 1, strings.Repeat("v", n))
	many := setSize(1) + first(4, 0, n, TypeVideo, 1, "v") + strings.Repeat("\xc4v", n-1)
	best := func(in string) time.Duration {
		least := time.Hour
		for range 7 {
			start := time.Now()
			if _, err := publisherReader(strings.NewReader(in), func(string) {}).next(); err != nil {
				t.Fatal(err)
			}
			least = min(least, time.Since(start))
		}
		return least
	}
	// The network costs the same for each byte. A reader in memory has no such cost, so add 200 us
	// for each MiB.
	const network = 200 * time.Microsecond
	whole, bytewise := best(one)+network, best(many)+2*network
	if bytewise > 50*whole {
		t.Errorf("one chunk %v, single bytes %v", whole, bytewise)
	}
}

func TestAppendMessage(t *testing.T) {
	body := bytes.Repeat([]byte("0123456789"), 20000)
	for _, n := range []int{0, 1, 16, 17, OutChunkSize - 1, OutChunkSize, OutChunkSize + 1, 2 * OutChunkSize, len(body)} {
		for _, time := range []uint32{0, extendedTimestamp - 1, extendedTimestamp, 1<<32 - 1} {
			for _, cutAt := range []int{0, 5, n / 2, n} {
				cutAt = min(cutAt, n)
				h := Header{TypeVideo, time, 1}
				wire := bytes.Join(AppendMessage(nil, h, body[:cutAt], body[cutAt:n]), nil)
				cr := publisherReader(bytes.NewReader(wire), func(string) {})
				cr.size = OutChunkSize
				m, err := cr.next()
				if err != nil || m.Type != h.Type || m.Timestamp != time || m.StreamID != 1 || !bytes.Equal(m.Payload, body[:n]) {
					t.Fatalf("%d bytes cut at %d, time %d: %v", n, cutAt, time, err)
				}
				if _, err := cr.next(); err != io.EOF {
					t.Fatal(err)
				}
			}
		}
	}
}

func TestAppendMessageAllocs(t *testing.T) {
	head, payload := []byte("12345"), make([]byte, 3*OutChunkSize)
	if n := testing.AllocsPerRun(100, func() { AppendMessage(nil, Header{TypeVideo, 0, 1}, head, payload) }); n > 2 {
		t.Errorf("%v allocations, want 2: the headers and the slices", n)
	}
}

func TestReadAllocs(t *testing.T) {
	wire := bytes.Join(AppendMessage(nil, Header{TypeVideo, 40, 1}, make([]byte, 10000)), nil)
	in := bytes.NewReader(nil)
	cr := publisherReader(in, func(string) {})
	cr.size = OutChunkSize
	if n := testing.AllocsPerRun(100, func() {
		in.Reset(wire)
		if _, err := cr.next(); err != nil {
			t.Fatal(err)
		}
	}); n > 2 {
		t.Errorf("%v allocations, want at most 2", n)
	}
}

func FuzzChunkReader(f *testing.F) {
	for _, row := range chunkRows() {
		if len(row.in) < 1<<16 {
			f.Add([]byte(row.in), row.early)
		}
	}
	f.Fuzz(func(t *testing.T, in []byte, early bool) {
		row := chunkRow{early: early}
		got, end, _ := read(t, row, bytes.NewReader(in))
		again, endAgain, _ := read(t, row, oneByteReader{bytes.NewReader(in)})
		if !slices.Equal(got, again) || end != endAgain {
			t.Errorf("whole: %.200q %s, by byte: %.200q %s", got, end, again, endAgain)
		}
	})
}

func BenchmarkReadMessage(b *testing.B) {
	for _, size := range []int{128, 4096, OutChunkSize} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			wire := bytes.Join(appendChunks(nil, size, Header{TypeVideo, 40, 1}, make([]byte, 20000)), nil)
			in := bytes.NewReader(nil)
			cr := publisherReader(in, func(string) {})
			cr.size = size
			b.SetBytes(20000)
			b.ReportAllocs()
			for b.Loop() {
				in.Reset(wire)
				if _, err := cr.next(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkAppendMessage(b *testing.B) {
	head, payload := []byte("12345"), make([]byte, 20000)
	b.ReportAllocs()
	for b.Loop() {
		AppendMessage(nil, Header{TypeVideo, 0, 1}, head, payload)
	}
}
