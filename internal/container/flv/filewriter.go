package flv

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math"
	"time"

	"livego/internal/container/amf0"
	"livego/internal/media"
)

const (
	// metaDataSize is the size of the onMetaData tag's body that a file begins with: it is written
	// anew while the file grows, and what it does not need is filled up.
	metaDataSize = 32 << 10
	headSize     = fileHeaderSize + 4 + tagHeaderSize + metaDataSize + 4
	// maxIndexEntries is how many places the index has: two numbers of nine bytes each, with two KiB
	// left for the rest, and with no more values in all than amf0.MaxItems.
	maxIndexEntries = 1700
	// maxFileDuration is how long a file gets: time stamps are signed to some players, which is 24.8 days in milliseconds.
	maxFileDuration = 24 * 24 * time.Hour
	// maxTrackDelay is from when on a track that a file does not have is not looked for in it any more.
	maxTrackDelay = 10 * time.Second
	// audioSpacing is how far apart places are where there are no pictures.
	audioSpacing = time.Second
)

// A FileWriter lays frames out as an FLV file that players can seek in: it begins at time 0, and
// says at its front how long it is and where its key frames are. The frames are of one track of
// each kind. Not for concurrent use.
//
// What is written is whole at any time, but for that front, which Flush does not bring up to date,
// and which has no size before End; Mend does it for a file whose writer was killed. The zero value
// is a file in which nothing is.
type FileWriter struct {
	tracks [media.Data + 1]*media.Track // by kind
	meta   *media.Meta
	start  time.Duration
	buf    []byte // laid out, but not written
	end    time.Duration
	index  index

	size     int64 // of what has been written
	duration time.Duration
}

// CanAppend reports whether f can go on in the file: a file has one configuration of each track.
func (w *FileWriter) CanAppend(f *media.Frame) bool {
	have, at := w.tracks[f.Track.Kind], f.DTS-w.start
	switch {
	case w.empty():
		return true
	case at > maxFileDuration:
		return false
	case have == nil:
		return f.Track.Kind == media.Data || at < maxTrackDelay
	}
	return sameConfig(have, f.Track)
}

func (w *FileWriter) empty() bool { return w.size == 0 && len(w.buf) == 0 }

// sameConfig reports whether a decoder of a goes on with b.
func sameConfig(a, b *media.Track) bool {
	return a == b || a.Codec == b.Codec && a.Label == b.Label && bytes.Equal(a.Config, b.Config) &&
		a.Width == b.Width && a.Height == b.Height && a.SampleRate == b.SampleRate && a.Channels == b.Channels
}

// Append lays f out, with the header of its track before the first of a kind. It reports false for
// what has no place in a file: pictures before the first that a decoder can start at, and what is
// too large for a tag.
func (w *FileWriter) Append(f *media.Frame) bool {
	t := f.Track
	first := w.tracks[t.Kind] == nil
	if first && t.Kind == media.Video && f.RAP == media.NoRandomAccess || len(f.Payload) > maxFileTag-maxBodyHeader-1 {
		return false
	}
	if w.empty() {
		w.start, w.buf = f.DTS, append(w.buf, make([]byte, headSize)...)
	}
	w.tracks[t.Kind], w.meta = t, f.Meta
	at := max(f.DTS-w.start, 0)
	ms, typ := uint32(at/time.Millisecond), MessageType(t.Kind)
	if h := (Dialect{}).SequenceHeader(t); first && h != nil {
		w.buf = AppendTag(w.buf, typ, ms, h)
	}
	w.index.add(typ, frameType(f) == frameKey, indexEntry{at.Truncate(time.Millisecond), w.size + int64(len(w.buf))})
	begin := len(w.buf)
	w.buf = Dialect{}.appendBodyHeader(append(w.buf, make([]byte, tagHeaderSize)...), f)
	w.buf = append(w.buf, f.Payload...)
	n := len(w.buf) - begin
	appendTagHeader(w.buf[begin:begin], typ, ms, n-tagHeaderSize)
	w.buf = binary.BigEndian.AppendUint32(w.buf, uint32(n))
	w.end = max(w.end, at+f.Duration)
	return true
}

// Buffered returns how many bytes are laid out and not written.
func (w *FileWriter) Buffered() int { return len(w.buf) }

// Size returns how many bytes have been written: what may be behind them is part of a piece that failed.
func (w *FileWriter) Size() int64 { return w.size }

// Duration returns how long what has been written lasts.
func (w *FileWriter) Duration() time.Duration { return w.duration }

// Flush writes what is laid out, with the front before the first of it. What fails may be tried again.
func (w *FileWriter) Flush(to io.WriterAt) error {
	if len(w.buf) == 0 {
		return nil
	}
	if w.size == 0 {
		copy(w.buf, w.header(int64(len(w.buf)), w.end, false))
	}
	if _, err := to.WriteAt(w.buf, w.size); err != nil {
		return err
	}
	w.size, w.duration = w.size+int64(len(w.buf)), w.end
	const kept = 2 << 20 // of memory, for the next piece
	if w.buf = w.buf[:0]; cap(w.buf) > kept {
		w.buf = nil
	}
	return nil
}

// UpdateHeader writes the front anew, with all that has been written in it.
func (w *FileWriter) UpdateHeader(to io.WriterAt) error {
	_, err := to.WriteAt(w.header(w.size, w.duration, false), 0)
	return err
}

// Finish is Update for a file to which nothing more is written: the front has its size, by which Mend knows it.
func (w *FileWriter) Finish(to io.WriterAt) error {
	_, err := to.WriteAt(w.header(w.size, w.duration, true), 0)
	return err
}

func (w *FileWriter) header(size int64, lasts time.Duration, ended bool) []byte {
	var tracks []*media.Track
	for _, t := range w.tracks {
		if t != nil {
			tracks = append(tracks, t)
		}
	}
	h := fileHead{
		video: w.tracks[media.Video] != nil, audio: w.tracks[media.Audio] != nil,
		properties: Dialect{}.metaProperties(w.meta, tracks...), size: size, ended: ended, duration: lasts, index: w.index,
	}
	return h.bytes()
}

// A indexEntry is where a tag begins that players may start at.
type indexEntry struct {
	at  time.Duration
	pos int64
}

// An index has the places of a file, not more than maxIndexEntries: in a long file they are further apart.
type index struct {
	entries  []indexEntry
	spacing  time.Duration // the least distance
	hasVideo bool
}

// add takes a tag that holds a frame.
func (x *index) add(typ uint8, key bool, p indexEntry) {
	apart := x.spacing
	switch {
	case typ == TypeVideo:
		x.hasVideo = true
		if !key {
			return
		}
	case typ == TypeAudio && !x.hasVideo:
		apart = max(apart, audioSpacing)
	default:
		return
	}
	n := len(x.entries)
	if n > 0 && p.at-x.entries[n-1].at < apart {
		return
	}
	if n == maxIndexEntries {
		mean := (x.entries[n-1].at - x.entries[0].at) / maxIndexEntries
		for i := range n / 2 {
			x.entries[i] = x.entries[2*i]
		}
		x.entries, x.spacing = x.entries[:n/2], mean*3/2 // more than the old distance by what key frames are uneven by
	}
	x.entries = append(x.entries, p)
}

// fileHead is what the front of a file says.
type fileHead struct {
	video, audio bool
	properties   pairs // of the tracks
	size         int64
	ended        bool // else the size is not told
	duration     time.Duration
	index        index
}

// The first of the properties tells files by FileWriter from others, the second whether they have an end.
const (
	creatorKey = "metadatacreator"
	creator    = "livego"
	sizeKey    = "filesize"
)

// bytes returns headSize bytes. The first place of the index is where the configuration begins:
// players in browsers pass it over.
func (h *fileHead) bytes() []byte {
	positions, times := []any{float64(headSize)}, []any{0.0}
	for _, p := range h.index.entries {
		if p.pos < h.size {
			positions, times = append(positions, float64(p.pos)), append(times, p.at.Seconds())
		}
	}
	size := 0.0
	if h.ended {
		size = float64(h.size)
	}
	e := pairs{
		{Key: creatorKey, Value: creator}, {Key: sizeKey, Value: size}, {Key: "duration", Value: h.duration.Seconds()},
		{Key: "hasVideo", Value: h.video}, {Key: "hasAudio", Value: h.audio},
	}
	e = append(e, h.properties...)
	e = append(e, amf0.Pair{Key: "hasKeyframes", Value: len(positions) > 1},
		amf0.Pair{Key: "keyframes", Value: amf0.Object{{Key: "filepositions", Value: positions},
			{Key: "times", Value: times}}})
	body := amf0.Append(make([]byte, 0, metaDataSize), onMetaData, amf0.ECMAArray(e))
	if len(body) > metaDataSize-5 { // facts that were read from what is no file of ours
		h.properties = nil
		return h.bytes()
	}
	const longString = 0x0C // AMF0 section 2.14: a value that takes up the rest, whatever its length
	body = binary.BigEndian.AppendUint32(append(body, longString), uint32(metaDataSize-len(body)-5))
	return AppendTag(FileHeader(h.video, h.audio), TypeScriptData, 0, body[:metaDataSize])
}

// ErrNotRecording is returned for a file that no FileWriter has written.
var ErrNotRecording = errors.New("flv: not a recording of livego")

// RepairResult tells what Mend has made of a file.
type RepairResult struct {
	Changed  bool  // else it had an end, and the rest is not told
	Size     int64 // 0 where nothing is in it, and it is left as it is
	Duration time.Duration
}

// Repair brings a file of size bytes by a FileWriter, which was killed, to an end: what follows the
// last whole tag is cut off, and the front says what there is. A file that has an end is left as it
// is. It is read once, but for what is in the tags.
func Repair(f interface {
	io.ReaderAt
	io.WriterAt
	Truncate(size int64) error
}, size int64) (RepairResult, error) {
	front := make([]byte, min(size, headSize))
	mark := front[:min(len(front), signatureSize)]
	if _, err := f.ReadAt(mark, 0); err != nil && !errors.Is(err, io.EOF) {
		return RepairResult{}, err
	}
	if said, ok := readSignature(mark); !ok {
		return RepairResult{}, ErrNotRecording
	} else if said == size {
		return RepairResult{}, nil
	}
	if _, err := f.ReadAt(front, 0); err != nil && !errors.Is(err, io.EOF) {
		return RepairResult{}, err
	}
	h := fileHead{size: headSize, ended: true}
	h.readProperties(front)
	if err := h.scanTags(f, size); err != nil {
		return RepairResult{}, err
	}
	if h.size <= headSize {
		return RepairResult{Changed: true}, nil
	}
	if err := f.Truncate(h.size); err != nil {
		return RepairResult{}, err
	}
	_, err := f.WriteAt(h.bytes(), 0)
	return RepairResult{true, h.size, h.duration}, err
}

// What a file begins with, up to the number of properties, from there to the size that it says, and behind that.
const (
	countOffset    = fileHeaderSize + 4 + tagHeaderSize + 3 + len(onMetaData) + 1
	fileSizeOffset = countOffset + 4 + 2 + len(creatorKey) + 3 + len(creator) + 2 + len(sizeKey) + 1
	signatureSize  = fileSizeOffset + 8
)

// readSignature reads the first signatureSize bytes of a file. It returns the size that they say;
// false where they are not by FileWriter.
func readSignature(b []byte) (size int64, ok bool) {
	if len(b) < signatureSize {
		return 0, false
	}
	want := (&fileHead{}).bytes()
	want[4] = b[4] // which kinds there are
	ok = bytes.Equal(b[:countOffset], want[:countOffset]) &&
		bytes.Equal(b[countOffset+4:fileSizeOffset], want[countOffset+4:fileSizeOffset])
	return int64(math.Float64frombits(binary.BigEndian.Uint64(b[fileSizeOffset:]))), ok
}

// readProperties takes from front what cannot be found out anew; nothing where a crash left half of it.
func (h *fileHead) readProperties(front []byte) {
	if len(front) < headSize {
		return
	}
	values, err := amf0.Decode(front[fileHeaderSize+4+tagHeaderSize : headSize-4])
	if err != nil || len(values) < 2 {
		return
	}
	said, _ := values[1].(amf0.ECMAArray)
	for _, p := range said {
		switch p.Key {
		case creatorKey, sizeKey, "duration", "hasVideo", "hasAudio", "hasKeyframes", "keyframes":
		default:
			h.properties = append(h.properties, p)
		}
	}
}

// scanTags goes from tag to tag, up to the last that is whole.
func (h *fileHead) scanTags(r io.ReaderAt, size int64) error {
	var b [tagHeaderSize + 6]byte
	for {
		n, err := r.ReadAt(b[:], h.size)
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		typ, length := b[0], int64(uint24(b[1:]))
		next := h.size + tagHeaderSize + length + 4
		if n < tagHeaderSize || typ != TypeAudio && typ != TypeVideo && typ != TypeScriptData || uint24(b[8:]) != 0 ||
			next > size {
			return nil
		}
		var tail [4]byte
		if _, err := r.ReadAt(tail[:], next-4); err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		if int64(binary.BigEndian.Uint32(tail[:])) != tagHeaderSize+length {
			return nil
		}
		t := Tag{Type: typ, Timestamp: timestampOf(b[:]), Body: b[tagHeaderSize:min(int64(n), tagHeaderSize+length)]}
		h.video, h.audio = h.video || typ == TypeVideo, h.audio || typ == TypeAudio
		h.duration = max(h.duration, time.Duration(t.Timestamp)*time.Millisecond)
		if !isConfig(t) {
			h.index.add(typ, isKeyframeBody(t.Body), indexEntry{time.Duration(t.Timestamp) * time.Millisecond, h.size})
		}
		h.size = next
	}
}
