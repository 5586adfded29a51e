package flv

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"testing"
	"time"

	"livego/internal/container/amf0"
	"livego/internal/media"
)

// A memFile is a file in memory, with limit bytes of space unless limit is 0.
type memFile struct {
	data  []byte
	limit int
}

var errDiskFull = errors.New("no space left")

func (m *memFile) ReadAt(b []byte, off int64) (int, error) {
	return bytes.NewReader(m.data).ReadAt(b, off)
}

func (m *memFile) WriteAt(b []byte, off int64) (int, error) {
	end, err := int(off)+len(b), error(nil)
	if m.limit > 0 && end > m.limit {
		end, err = m.limit, errDiskFull
	}
	if end > len(m.data) {
		m.data = append(m.data, make([]byte, end-len(m.data))...)
	}
	return copy(m.data[off:end], b), err
}

func (m *memFile) Truncate(size int64) error {
	m.data = m.data[:size]
	return nil
}

var (
	h264Track = &media.Track{Kind: media.Video, Codec: media.H264, Width: 176, Height: 144,
		Config: []byte("\x01\x42\xC0\x0D\xFF\xE1\x00\x0A\x67\x42\xC0\x0D\xDA\x05\x07\xEC\x04\x40" +
			"\x01\x00\x04\x68\xCE\x0F\xC8")}
	aacTrack = &media.Track{Kind: media.Audio, Codec: media.AAC, SampleRate: 44100, Channels: 2,
		Config: []byte{0x12, 0x10}}
)

// clip returns video, one frame in 40 ms with every gop-th a keyframe, and audio beside it, from
// start on.
func clip(start, lasts time.Duration, gop int) (frames []*media.Frame) {
	for i := range int(lasts / (40 * time.Millisecond)) {
		at := start + time.Duration(i)*40*time.Millisecond
		v := &media.Frame{Track: h264Track, DTS: at, PTS: at + 40*time.Millisecond, Duration: 40 * time.Millisecond,
			Payload: []byte{0, 0, 0, 2, 0x41, byte(i)}}
		if i%gop == 0 {
			v.RAP, v.Payload = media.Keyframe, []byte{0, 0, 0, 2, 0x65, byte(i)}
		}
		a := &media.Frame{Track: aacTrack, DTS: at + time.Millisecond, PTS: at + time.Millisecond,
			Duration: 40 * time.Millisecond, Payload: []byte{1, byte(i)}, RAP: media.Keyframe}
		frames = append(frames, v, a)
	}
	return frames
}

var testMark = Mark{File: "live/movie_1.flv", Started: time.UnixMilli(1_900_000_000_123).UTC(), Gaps: 2,
	Error: "write: no space left on device"}

// writeFile writes frames, n with each Flush, and finishes the file if ended is true.
func writeFile(t testing.TB, to io.WriterAt, frames []*media.Frame, n int, ended bool) *FileWriter {
	t.Helper()
	w := &FileWriter{Mark: testMark}
	for chunk := range slices.Chunk(frames, n) {
		for _, f := range chunk {
			if !w.CanAppend(f) || !w.Append(f) {
				t.Fatalf("%v at %v cannot be appended", f.Track.Codec, f.DTS)
			}
		}
		if err := w.Flush(to); err != nil {
			t.Fatal(err)
		}
	}
	if ended {
		if err := w.Finish(to); err != nil {
			t.Fatal(err)
		}
	}
	return w
}

// A fileMetadata is the onMetaData of a file.
type fileMetadata struct {
	duration, filesize float64
	properties         map[string]any
	positions, times   []any
}

func readMetadata(t testing.TB, file []byte) fileMetadata {
	t.Helper()
	tag, err := NewReader(bytes.NewReader(file), maxFileTag).Next()
	if err != nil || tag.Type != TypeScriptData || tag.Timestamp != 0 {
		t.Fatalf("%+v, %v", tag.Type, err)
	}
	values, err := amf0.Decode(tag.Body)
	if err != nil || len(values) != 3 {
		t.Fatalf("%d values, %v", len(values), err)
	}
	meta := fileMetadata{properties: map[string]any{}}
	props := values[1].(amf0.ECMAArray)
	for _, p := range props {
		meta.properties[p.Key] = p.Value
	}
	meta.duration, meta.filesize = props.Get("duration").(float64), props.Get("filesize").(float64)
	keys := props.Get("keyframes").(amf0.Object)
	meta.positions, meta.times = keys.Get("filepositions").([]any), keys.Get("times").([]any)
	return meta
}

// checkIndex checks that the index has want entries after the first, and that each is the position
// of a keyframe at its time.
func checkIndex(t testing.TB, file []byte, meta fileMetadata, want int) {
	t.Helper()
	if len(meta.positions) != want+1 || len(meta.times) != want+1 {
		t.Errorf("%d positions and %d times, want %d", len(meta.positions), len(meta.times), want+1)
		return
	}
	for i := 1; i <= want; i++ {
		tag := file[int(meta.positions[i].(float64)):]
		if at := float64(timestampOf(tag)) / 1000; tag[0] != TypeVideo || tag[11] != 0x17 || tag[12] != legacyFrame ||
			at != meta.times[i].(float64) {
			t.Errorf("index entry %d, for %v s, is at % x", i, meta.times[i], tag[:13])
		}
	}
}

// TestFileWriter writes a file that starts late in its stream and reads it back.
func TestFileWriter(t *testing.T) {
	frames := clip(77*time.Second, 10*time.Second, 50)
	frames[0].Meta = &media.Meta{Encoder: "x", VideoRate: 100}
	file := new(memFile)
	w := writeFile(t, file, frames, 7, true)
	if w.Size() != int64(len(file.data)) || w.Duration() != 10001*time.Millisecond || w.Buffered() != 0 {
		t.Errorf("%d bytes of %d, %v", w.Size(), len(file.data), w.Duration())
	}
	meta := readMetadata(t, file.data)
	if meta.filesize != float64(len(file.data)) || meta.duration != 10.001 || meta.properties["width"] != 176.0 ||
		meta.properties["audiosamplerate"] != 44100.0 || meta.properties["hasKeyframes"] != true {
		t.Errorf("%+v", meta.properties)
	}
	checkIndex(t, file.data, meta, 5)
	f, err := OpenFile(file, int64(len(file.data)))
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range frames {
		got, err := f.Next()
		if err != nil {
			t.Fatal(err)
		}
		if got.DTS != want.DTS-77*time.Second || got.PTS-got.DTS != want.PTS-want.DTS ||
			!bytes.Equal(got.Payload, want.Payload) || got.RAP != want.RAP {
			t.Fatalf("frame %d: %v %v % x, want %v % x", i, got.DTS, got.RAP, got.Payload, want.DTS, want.Payload)
		}
	}
	if _, err := f.Next(); !errors.Is(err, io.EOF) || f.Skipped != 0 {
		t.Errorf("%v, %d tags skipped: %v", err, f.Skipped, f.FirstError)
	}
}

// TestFileWriterCanAppend checks which frames can continue a file.
func TestFileWriterCanAppend(t *testing.T) {
	again, other, wide, louder := *h264Track, *h264Track, *h264Track, *aacTrack
	again.ColorInfo = []byte("new color info")
	other.Config = []byte("\x01other")
	wide.Codec, wide.Config = media.VP8, nil
	louder.Channels = 6
	script := &media.Track{Kind: media.Data, Codec: media.ScriptData}
	at := func(t *media.Track, d time.Duration) *media.Frame { return &media.Frame{Track: t, DTS: d} }
	for _, c := range []struct {
		name   string
		frames []*media.Frame // in the file
		f      *media.Frame
		want   bool
	}{
		{"first frame", nil, at(h264Track, 0), true},
		{"same track", clip(0, time.Second, 25), at(h264Track, time.Second), true},
		{"same configuration after a reconnect", clip(0, time.Second, 25), at(&again, time.Second), true},
		{"another configuration", clip(0, time.Second, 25), at(&other, time.Second), false},
		{"another codec", clip(0, time.Second, 25), at(&wide, time.Second), false},
		{"other channel count", clip(0, time.Second, 25), at(&louder, time.Second), false},
		{"after weeks", clip(0, time.Second, 25), at(h264Track, maxFileDuration+time.Second), false},
		{"script data", clip(0, time.Second, 25), at(script, time.Hour), true},
		{"audio that starts late", clip(0, time.Second, 25)[:1], at(aacTrack, maxTrackDelay-1), true},
		{"audio that starts too late", clip(0, time.Second, 25)[:1], at(aacTrack, maxTrackDelay), false},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := new(FileWriter)
			for _, f := range c.frames {
				w.Append(f)
			}
			if got := w.CanAppend(c.f); got != c.want {
				t.Errorf("%v, want %v", got, c.want)
			}
		})
	}
	w := new(FileWriter)
	for _, f := range []*media.Frame{{Track: h264Track},
		{Track: h264Track, RAP: media.Keyframe, Payload: make([]byte, maxFileTag)}} {
		if w.Append(f) || w.Buffered() != 0 {
			t.Errorf("a frame of %d bytes, %v, was appended", len(f.Payload), f.RAP)
		}
	}
}

// TestFileWriterIndexStaysBounded has more keyframes than the index has entries: the index keeps
// its size and covers the whole file.
func TestFileWriterIndexStaysBounded(t *testing.T) {
	const keys = 20000
	w, file := new(FileWriter), new(memFile)
	for i := range keys {
		w.Append(&media.Frame{Track: h264Track, DTS: time.Duration(i)*2*time.Second + time.Duration(i%7)*time.Millisecond,
			RAP: media.Keyframe, Payload: []byte{0, 0, 0, 1, 0x65}})
	}
	if err := w.Flush(file); err != nil {
		t.Fatal(err)
	}
	meta := readMetadata(t, file.data)
	n := len(meta.times) - 1
	checkIndex(t, file.data, meta, n)
	if n > maxIndexEntries || n < maxIndexEntries/3 {
		t.Errorf("%d index entries", n)
	}
	const coarsest = 3 * 2 * keys / (maxIndexEntries / 2) // s
	for i := 1; i <= n; i++ {
		if spacing := meta.times[i].(float64) - meta.times[i-1].(float64); spacing > coarsest || spacing < 0 || i > 1 &&
			spacing == 0 {
			t.Errorf("index entry %d is %v s after the one before", i, spacing)
		}
	}
	if left := 2*keys - meta.times[n].(float64); left > coarsest+2 {
		t.Errorf("the last %v s are not in the index", left)
	}
	// Add all other properties that a file can have.
	w.meta = &media.Meta{Encoder: string(bytes.Repeat([]byte("e"), 128)), Width: 1, Height: 1, FrameRate: 1, VideoRate: 1,
		AudioRate: 1, SampleRate: 1, Channels: 2, HasVideo: true, HasAudio: true}
	for len(w.index.entries) < maxIndexEntries {
		w.index.entries = append(w.index.entries, indexEntry{w.end, 1})
	}
	if err := w.UpdateHeader(file); err != nil {
		t.Fatal(err)
	}
	if meta := readMetadata(t, file.data); meta.properties["encoder"] == nil || len(meta.times) != maxIndexEntries+1 {
		t.Errorf("%d index entries, %v", len(meta.times), meta.properties["encoder"])
	}
}

// TestFileWriterIndexesAudio has no video: players seek by audio tags.
func TestFileWriterIndexesAudio(t *testing.T) {
	file := new(memFile)
	frames := slices.DeleteFunc(clip(0, 10*time.Second, 25), func(f *media.Frame) bool { return f.Track == h264Track })
	writeFile(t, file, frames, 10, true)
	meta := readMetadata(t, file.data)
	if len(meta.times) != 11 || file.data[4] != 4 {
		t.Errorf("index %v, flags %d", meta.times, file.data[4])
	}
}

// TestFileWriterDiskFull fails in the middle of a write: what was written before can still be
// finished.
func TestFileWriterDiskFull(t *testing.T) {
	file, w := &memFile{limit: headSize + 2000}, new(FileWriter)
	var err error
	for _, f := range clip(0, 10*time.Second, 25) {
		w.Append(f)
		if w.Buffered() > 300 {
			if err = w.Flush(file); err != nil {
				break
			}
		}
	}
	if !errors.Is(err, errDiskFull) || len(file.data) != file.limit {
		t.Fatalf("%v, %d bytes", err, len(file.data))
	}
	if err := errors.Join(file.Truncate(w.Size()), w.Finish(file)); err != nil {
		t.Fatal(err)
	}
	m, err := Repair(file, w.Size(), "repaired")
	if err != nil || m.Changed {
		t.Errorf("%+v, %v", m, err)
	}
	if meta := readMetadata(t, file.data); meta.duration != w.Duration().Seconds() || meta.duration < 0.5 {
		t.Errorf("%v s", meta.duration)
	}
}

// An unfinishedFile is a file of a killed FileWriter, and the expected result of Repair.
type unfinishedFile struct {
	name      string
	file      []byte
	keyframes int
	err       error
	size      int // 0: no tags
}

func unfinishedFiles(t testing.TB) []unfinishedFile {
	whole, open, updated, first := new(memFile), new(memFile), new(memFile), new(memFile)
	frames := clip(0, 10*time.Second, 50)
	writeFile(t, whole, frames, 7, true)
	if err := writeFile(t, updated, frames, 7, false).UpdateHeader(updated); err != nil {
		t.Fatal(err)
	}
	writeFile(t, first, frames, len(frames), false)
	writeFile(t, open, frames, 7, false)
	n := len(open.data)
	damaged := slices.Clone(open.data)
	copy(damaged[5000:20000], make([]byte, 15000)) // inside the head
	small := func(n int) []byte { return open.data[:n] }
	return []unfinishedFile{
		{"finished", whole.data, 5, nil, -1},
		{"header not updated", open.data, 5, nil, n},
		{"header updated, not finished", updated.data, 5, nil, n},
		{"one write, not finished", first.data, 5, nil, n},
		{"truncated last tag", small(n - 1), 5, nil, n - (tagHeaderSize + 2 + 2 + 4)},
		{"zeros after the last tag", slices.Concat(open.data, make([]byte, 4096)), 5, nil, n},
		{"garbage after the last tag", slices.Concat(open.data, bytes.Repeat([]byte{9}, 4096)), 5, nil, n},
		{"partly zeroed head", damaged, 5, nil, n},
		{"only the head", small(headSize), 0, nil, 0},
		{"half of the head", small(headSize / 2), 0, nil, 0},
		{"empty", nil, 0, ErrNotRecording, 0},
		{"file of another writer", append(FileHeader(true, true),
			AppendTag(nil, TypeScriptData, 0, amf0.Append(nil, onMetaData))...), 0,
			ErrNotRecording, 0},
	}
}

// TestRepair completes unfinished files.
func TestRepair(t *testing.T) {
	for _, c := range unfinishedFiles(t) {
		t.Run(c.name, func(t *testing.T) {
			file := &memFile{data: slices.Clone(c.file)}
			info, infoErr := ReadFileInfo(file, int64(len(c.file)))
			if !errors.Is(infoErr, c.err) || info.Complete != (c.size < 0) {
				t.Errorf("before the repair: %+v, %v", info, infoErr)
			}
			m, err := Repair(file, int64(len(c.file)), "repaired")
			if !errors.Is(err, c.err) || m.Changed != (c.err == nil && c.size >= 0) {
				t.Fatalf("%+v, %v", m, err)
			}
			if c.size <= 0 {
				if !bytes.Equal(file.data, c.file) {
					t.Error("the file changed")
				}
				return
			}
			meta := readMetadata(t, file.data)
			if len(file.data) != c.size || m.Size != int64(c.size) || meta.filesize != float64(c.size) ||
				m.Duration.Seconds() != meta.duration || meta.duration < 9.9 {
				t.Errorf("%d bytes, want %d: %+v, %v s", len(file.data), c.size, m, meta.duration)
			}
			if c.name != "partly zeroed head" && meta.properties["width"] != 176.0 {
				t.Errorf("properties are lost: %v", meta.properties)
			}
			checkIndex(t, file.data, meta, c.keyframes)
			want := FileInfo{Complete: true, Duration: m.Duration, Mark: testMark}
			want.Mark.Reason = "repaired"
			if info, err := ReadFileInfo(file, m.Size); err != nil || info != want {
				t.Errorf("%+v, %v, want %+v", info, err, want)
			}
			if m, err := Repair(file, int64(len(file.data)), "repaired"); m.Changed || err != nil {
				t.Errorf("second repair: %+v, %v", m, err)
			}
		})
	}
}

// FuzzRepair repairs files with arbitrary tags and a partly overwritten head: the result is valid,
// or the file is unchanged.
func FuzzRepair(f *testing.F) {
	head := new(memFile)
	writeFile(f, head, clip(0, 200*time.Millisecond, 2), 100, false)
	front, tags := head.data[:headSize], head.data[headSize:]
	for n := range 20 {
		f.Add(tags[:len(tags)-n], uint16(0), []byte{})
	}
	for _, at := range []int{0, 13, 24, countOffset, fileSizeOffset, 200} {
		f.Add(tags, uint16(at), []byte{0xFF})
	}
	f.Fuzz(func(t *testing.T, tags []byte, at uint16, patch []byte) {
		b := slices.Concat(front, tags)
		copy(b[min(int(at), headSize):headSize], patch)
		file := &memFile{data: slices.Clone(b)}
		m, err := Repair(file, int64(len(b)), "repaired")
		if err != nil && !errors.Is(err, ErrNotRecording) {
			t.Fatal(err)
		}
		if !m.Changed || m.Size == 0 {
			if !bytes.Equal(file.data, b) {
				t.Fatal("the file changed")
			}
			return
		}
		if m, err := Repair(file, int64(len(file.data)), "repaired"); m.Changed || err != nil {
			t.Fatalf("second repair: %+v, %v", m, err)
		}
		r := NewReader(bytes.NewReader(file.data), maxFileTag)
		for {
			if _, err := r.Next(); errors.Is(err, io.EOF) {
				return
			} else if err != nil {
				t.Fatal(err)
			}
		}
	})
}
