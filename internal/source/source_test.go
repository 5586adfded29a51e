package source

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"livego/internal/container/flv"
	"livego/internal/container/ts"
	"livego/internal/media"
)

const (
	avcC = "\x01\x42\xC0\x0D\xFF\xE1\x00\x15\x67\x42\xC0\x0D\xDA\x05\x07" +
		"\xEC\x04\x40\x00\x00\xFA\x40\x00\x3A\x98\x03\xC5\x0A\xA8\x01\x00\x04\x68\xCE\x0F\xC8"
	idr  = "\x00\x00\x00\x02\x65\x88"
	adts = "\xFF\xF1\x50\x80\x01\x5F\xFCraw"
)

// flvFile returns a file with three pictures followed by three audio frames.
func flvFile() string {
	b := flv.FileHeader(true, true)
	b = flv.AppendTag(b, flv.TypeVideo, 0, []byte("\x17\x00\x00\x00\x00"+avcC))
	b = flv.AppendTag(b, flv.TypeAudio, 0, []byte("\xAF\x00\x12\x10"))
	for i := range uint32(3) {
		b = flv.AppendTag(b, flv.TypeVideo, 40*i, []byte("\x17\x01\x00\x00\x00"+idr))
	}
	for i := range uint32(3) {
		b = flv.AppendTag(b, flv.TypeAudio, 20+40*i, []byte("\xAF\x01raw"))
	}
	return string(b)
}

func tsFile() string {
	track := &media.Track{Kind: media.Video, Codec: media.H264, Config: []byte(avcC), Timescale: 90000}
	b, _ := ts.AppendSegment(nil, track, nil, []*media.Frame{
		{Track: track, RAP: media.Keyframe, Payload: []byte(idr)},
		{Track: track, DTS: 40e6, PTS: 40e6, RAP: media.Keyframe, Payload: []byte(idr)},
	})
	return string(b)
}

// openCases is the table of files by content: the container and the frames, or a part of the
// error.
var openCases = []struct {
	name, file, want string
}{
	{"FLV, sorted by time", flvFile(), "flv: v0 a20 v40 a60 v80 a100"},
	{"FLV truncated", flvFile()[:len(flvFile())-10],
		"flv: v0 a20 v40 a60 v80 x: the file is truncated or damaged at 0.1 s"},
	{"TS", tsFile(), "mpegts: v12000 v12040"},
	{"ADTS", strings.Repeat(adts, 4), "adts: a0 a23 a46 a69"},
	{"MP4 without an index", "\x00\x00\x00\x10ftypisom\x00\x00\x00\x00", "x: mp4: there is no index (moov)"},
	{"Matroska truncated", "\x1A\x45\xDF\xA3\x80", "x: the file is truncated: its header is incomplete"},
	{"Ogg", "OggS" + strings.Repeat("\x00", 100), "x: unsupported container: Ogg"},
	{"AVI", "RIFF\x00\x00\x00\x00AVI LIST", "x: unsupported container: AVI"},
	{"WAV", "RIFF\x00\x00\x00\x00WAVEfmt ", "x: unsupported container: WAV"},
	{"a list of bare names", "\xEF\xBB\xBF# films\r\ndemo.mp4\r\n",
		"x: a list of files needs the word file before each name: line 2, write file 'demo.mp4'"},
	{"a list of names in double quotes", "\"C:\\films\\demo.mp4\"\r\n",
		`x: a list of files needs the word file before each name: line 1, write file 'C:\films\demo.mp4'`},
	{"a list of files in UTF-16", "\xFF\xFE" + utf16LE("file 'demo.mp4'\r\n"), "x: the file is UTF-16: save it as UTF-8"},
	{"a list of bare names in UTF-16", utf16LE("demo.mp4\n"), "x: the file is UTF-16: save it as UTF-8"},
	{"prose in UTF-16", "\xFF\xFE" + utf16LE("This is a text, and no list.\n"),
		"x: unsupported container: livego reads"},
	{"a list of files", "file demo.mp4\n", "x: a list of files: livego push plays it"},
	{"prose", "This is a text, and no list.\n", "x: unsupported container: livego reads"},
	{"text", "hello", "x: unsupported container: livego reads"},
	{"empty", "", "x: the file is empty"},
}

// utf16LE returns ASCII as UTF-16LE.
func utf16LE(s string) string { return strings.Join(strings.Split(s, ""), "\x00") + "\x00" }

func TestOpen(t *testing.T) {
	for _, tt := range openCases {
		path := filepath.Join(t.TempDir(), "x")
		if err := os.WriteFile(path, []byte(tt.file), 0o600); err != nil {
			t.Fatal(err)
		}
		got := strings.ReplaceAll(describeFrames(Open(path)), path, "x")
		if got != tt.want && (!strings.HasPrefix(tt.want, "x: ") || !strings.HasPrefix(got, tt.want)) {
			t.Errorf("%s: %s\nwant %s", tt.name, got, tt.want)
		}
	}
	for path, want := range map[string]string{t.TempDir(): "is a directory", os.DevNull: "is not a file",
		"/nowhere": "no such file"} {
		if _, err := Open(path); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", path, err, want)
		}
	}
}

// describeFrames returns the frames of a source as text, and closes it.
func describeFrames(s *Source, err error) string {
	if err != nil {
		return err.Error()
	}
	defer s.Close()
	words := s.Container + ":"
	for {
		f, err := s.Next()
		if err == io.EOF {
			return words
		}
		if err != nil {
			return words + " " + err.Error()
		}
		words += fmt.Sprintf(" %.1s%d", f.Track.Kind, f.DTS.Milliseconds())
	}
}

// TestGrowingFile reads a file while another process appends to it.
func TestGrowingFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x")
	if err := os.WriteFile(path, []byte(flvFile()), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err == nil {
		_, err = f.WriteString("more")
		f.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	for n := 0; ; n++ {
		if _, err = s.Next(); err != nil {
			break
		}
	}
	if cut, ok := errors.AsType[*TruncatedError](err); !ok || !cut.Growing ||
		!strings.Contains(err.Error(), "still being written") {
		t.Errorf("%v", err)
	}
}

// TestReorderBuffer pushes frames that are out of order.
func TestReorderBuffer(t *testing.T) {
	frame := func(k media.Kind, at int) *media.Frame {
		return &media.Frame{Track: &media.Track{Kind: k}, DTS: time.Duration(at) * time.Millisecond}
	}
	for _, tt := range []struct {
		name   string
		frames []*media.Frame
		want   string
	}{
		{"interleaved coarsely", []*media.Frame{frame(1, 0), frame(1, 40), frame(2, 5), frame(2, 25), frame(1, 80),
			frame(2, 45)}, "0 5 25 40 45 80"},
		{"one kind", []*media.Frame{frame(1, 0), frame(1, 40), frame(1, 3000)}, "0 40 3000"},
		{"a jump back keeps earlier frames first",
			[]*media.Frame{frame(1, 90000), frame(2, 90010), frame(1, 90040), frame(1, 0), frame(2, 10)},
			"90000 90010 90040 0 10"},
		{"does not wait for audio that is far behind",
			[]*media.Frame{frame(1, 0), frame(2, 0), frame(1, 1000), frame(1, 2500), frame(2, 100)}, "0 0 100 1000 2500"},
	} {
		var o reorderBuffer
		var got []string
		take := func() { got = append(got, fmt.Sprint(o.pop().DTS.Milliseconds())) }
		for _, f := range tt.frames {
			o.push(f)
			for o.ready() {
				take()
			}
		}
		for len(o.waiting) > 0 {
			take()
		}
		if s := strings.Join(got, " "); s != tt.want && tt.name != "does not wait for audio that is far behind" {
			t.Errorf("%s: %s, want %s", tt.name, s, tt.want)
		}
	}
}

// playlists is the table of HLS playlists. It seeds the fuzz target.
var playlists = []struct {
	name, text, want string
}{
	{"media", "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\na.ts\n#EXTINF:2,\n/b.ts\n", "http://h/x/a.ts http://h/b.ts"},
	{"fragments", "#EXTM3U\n#EXT-X-MAP:URI=\"init.mp4\"\n#EXTINF:2,\n1.m4s\n",
		"init http://h/x/init.mp4 http://h/x/1.m4s"},
	{"variants", "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\nlow.m3u8\nhigh.m3u8\n", "variant http://h/x/low.m3u8"},
	{"encrypted", "#EXTM3U\n#EXT-X-KEY:METHOD=AES-128,URI=\"k\"\na.ts\n", "HLS segments are encrypted"},
	{"byte ranges", "#EXTM3U\n#EXT-X-BYTERANGE:10@0\na.ts\n", "parts http://h/x/a.ts"},
	{"invalid URL", "#EXTM3U\n:%zz\n", "HLS playlist with an invalid URL"},
	{"empty", "#EXTM3U\n", ""},
}

func TestParsePlaylist(t *testing.T) {
	at := &url.URL{Scheme: "http", Host: "h", Path: "/x/y.m3u8"}
	for _, tt := range playlists {
		p, err := parsePlaylist(at, []byte(tt.text))
		var words []string
		if err != nil {
			words = append(words, err.Error())
		} else {
			if p.variant != nil {
				words = append(words, "variant "+p.variant.String())
			}
			if p.byteRange {
				words = append(words, "parts")
			}
			if p.init != nil {
				words = append(words, "init "+p.init.String())
			}
			for _, s := range p.segments {
				words = append(words, s.String())
			}
		}
		if got := strings.Join(words, " "); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
		}
	}
}

func FuzzParsePlaylist(f *testing.F) {
	for _, tt := range playlists {
		f.Add(tt.text)
	}
	at := &url.URL{Scheme: "http", Host: "h", Path: "/x/y.m3u8"}
	f.Fuzz(func(t *testing.T, text string) {
		if p, err := parsePlaylist(at, []byte(text)); err == nil && len(p.segments) > strings.Count(text, "\n")+1 {
			t.Errorf("%d segments", len(p.segments))
		}
	})
}

// A failingReader returns err at its end.
type failingReader struct {
	io.Reader
	err error
}

func (r *failingReader) Read(b []byte) (int, error) {
	n, err := r.Reader.Read(b)
	if err == io.EOF {
		err = r.err
	}
	return n, err
}

// TestPipeReadAt reads a pipe as mkv.Reader does: ahead, and small pieces again. At the end every
// call returns the error that ended it.
func TestPipeReadAt(t *testing.T) {
	data := make([]byte, 10*pipeBuffer)
	for i := range data {
		data[i] = byte(i * 7)
	}
	broke := errors.New("read failed")
	for _, end := range []error{io.EOF, broke} {
		p := newPipe(&failingReader{iotest.OneByteReader(bytes.NewReader(data)), end})
		for i, off := 0, 0; off < len(data)+100; i++ {
			b := make([]byte, 1+i*3700%(2*pipeBuffer))
			whole := data[min(off, len(data)):min(off+len(b), len(data))]
			n, err := p.ReadAt(b, int64(off))
			if !bytes.Equal(b[:n], whole) || (n < len(b)) != (err != nil) || err != nil && err != end {
				t.Fatalf("%d bytes of %d at %d: %v, want %v at the end", n, len(b), off, err, end)
			}
			switch {
			case len(b) > pipeBuffer:
				off += len(b)
			case i%3 != 0:
				off += len(b) + 50
			}
		}
	}
	p := newPipe(bytes.NewReader(data))
	if _, err := p.ReadAt(make([]byte, 2*pipeBuffer), 0); err != nil {
		t.Fatal(err)
	}
	if n, err := p.ReadAt(make([]byte, 1), 1); n > 0 || err == nil {
		t.Error("no error for seeking back")
	}
}

// mkvFile has two pictures, the first of them in a block group.
const mkvFile = "\x1A\x45\xDF\xA3\x80" + "\x18\x53\x80\x67\xFF" +
	"\x16\x54\xAE\x6B\xC0" + "\xAE\xBE" + "\xD7\x81\x01" + "\x83\x81\x01" + "\x86\x8FV_MPEG4/ISO/AVC" + "\x63\xA2\xA4" +
	avcC +
	"\x1F\x43\xB6\x75\xA3" + "\xE7\x81\x00" + "\xA0\x92" + "\xA1\x8A\x81\x00\x00\x00" + idr + "\x75\xA2\x83\x0F\x42\x40" +
	"\xA3\x8A\x81\x00\x28\x80" + idr

// TestPipe reads a stream that ends, and streams whose pipe fails.
func TestPipe(t *testing.T) {
	broke := errors.New("read failed")
	for _, tt := range []struct {
		name, data string
		end        error
		want       string
	}{
		{"whole", mkvFile, io.EOF, "v0 v40"},
		{"truncated", mkvFile[:len(mkvFile)-3], io.EOF, "v0"},
		{"failed between frames", mkvFile, broke, "v0 v40 x: read failed"},
		{"failed within a picture", mkvFile[:len(mkvFile)-3], broke, "v0 x: read failed"},
		{"failed within the header", mkvFile[:30], broke, "x: read failed"},
		{"failed at the start", "", broke, "x: read failed"},
		{"empty", "", io.EOF, "x: the file is truncated: its header is incomplete"},
	} {
		var words []string
		s, err := Pipe("x", io.NopCloser(&failingReader{strings.NewReader(tt.data), tt.end}))
		for err == nil {
			var f *media.Frame
			if f, err = s.Next(); err == nil {
				words = append(words, fmt.Sprintf("%.1s%d", f.Track.Kind, f.DTS.Milliseconds()))
			}
		}
		if err != io.EOF {
			words = append(words, err.Error())
		}
		if got := strings.Join(words, " "); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
		}
	}
}

func TestParseDuration(t *testing.T) {
	for s, want := range map[string]time.Duration{
		"3": 3 * time.Second, "1.5": 1500 * time.Millisecond, "1:02:03.5": 3723500 * time.Millisecond,
		"90s": 90 * time.Second, "2:00": 2 * time.Minute, "0": 0,
	} {
		if got, err := ParseDuration(s); err != nil || got != want {
			t.Errorf("%s: %v, %v, want %v", s, got, err, want)
		}
	}
	for _, s := range []string{"", "x", "-1", "-1s", "1:2:3:4", "NaN", "Inf", "1e300", "1:-2"} {
		if got, err := ParseDuration(s); err == nil {
			t.Errorf("%q: %v", s, got)
		}
	}
}

// TestLiveStreamsAreListed reads a live stream, whose container declares no tracks.
func TestLiveStreamsAreListed(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, flvFile())
	}))
	defer srv.Close()
	s, err := Dial(t.Context(), srv.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for n := 0; ; n++ {
		if _, err := s.Next(); err == io.EOF && n == 6 {
			break
		} else if err != nil {
			t.Fatalf("after %d frames: %v", n, err)
		}
	}
	if list := s.Streams(); len(list) != 2 || list[0].Track.Codec != media.H264 || list[1].Track.Codec != media.AAC {
		t.Errorf("streams %+v", list)
	}
}
