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
	// metaDataSize is the size in bytes of the onMetaData tag's body that a file starts with. The
	// tag is rewritten in place while the file grows, so unused space is padded.
	metaDataSize = 32 << 10
	headSize     = fileHeaderSize + 4 + tagHeaderSize + metaDataSize + 4
	// maxIndexEntries bounds the keyframe index: each entry takes two numbers of nine bytes. It
	// leaves two KiB for the other properties and stays below amf0.MaxItems values.
	maxIndexEntries = 1700
	// maxFileDuration is the longest duration of a file: some players read timestamps as signed
	// milliseconds, which overflow after 24.8 days.
	maxFileDuration = 24 * 24 * time.Hour
	// maxTrackDelay is the time after which a track that is missing in the file is not added:
	// readers no longer look for new tracks there.
	maxTrackDelay = 10 * time.Second
	// audioSpacing is the distance of index entries in files without video.
	audioSpacing = time.Second
)

// A FileWriter encodes frames as a seekable FLV file: it starts at time 0, and its onMetaData has
// the duration and an index of the keyframes. The frames are of one track of each kind. Not for
// concurrent use.
//
// The file is valid at any time, but Flush does not update onMetaData, and the file size in it
// stays 0 until Finish. Repair updates both after a crash. The zero value is an empty file.
type FileWriter struct {
	Mark Mark // written with the file header: by the first Flush, by UpdateHeader and by Finish

	tracks [media.Data + 1]*media.Track // by kind
	meta   *media.Meta
	start  time.Duration
	buf    []byte // encoded, but not written
	end    time.Duration
	index  index

	size     int64 // bytes written
	duration time.Duration
}

// A Mark is what a recorder notes in onMetaData about the file, to recognize it later.
type Mark struct {
	File    string    // the path of the file; "" if there is no Mark
	Started time.Time // with a precision of milliseconds
	Gaps    int       // how often media is missing
	Reason  string    // why the file is complete; "" before
	Error   string    // the error that is the reason, "" if there is none
}

// maxMarkText limits the file and the error of a Mark, in bytes, so that it fits into onMetaData.
const maxMarkText = 512

func (m Mark) properties() amf0.Object {
	return amf0.Object{
		{Key: "file", Value: m.File[:min(len(m.File), maxMarkText)]},
		{Key: "started", Value: float64(m.Started.UnixMilli())}, {Key: "gaps", Value: float64(m.Gaps)},
		{Key: "reason", Value: m.Reason}, {Key: "error", Value: m.Error[:min(len(m.Error), maxMarkText)]},
	}
}

// markOf returns the Mark with these properties.
func markOf(properties amf0.Object) (m Mark) {
	m.File, _ = properties.Get("file").(string)
	m.Reason, _ = properties.Get("reason").(string)
	m.Error, _ = properties.Get("error").(string)
	gaps, _ := properties.Get("gaps").(float64)
	started, _ := properties.Get("started").(float64)
	m.Gaps, m.Started = int(gaps), time.UnixMilli(int64(started)).UTC()
	return m
}

// CanAppend reports whether f can continue the file. A file has one configuration for each track.
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
	return have.SameConfig(f.Track)
}

func (w *FileWriter) empty() bool { return w.size == 0 && len(w.buf) == 0 }

// Append encodes f into the buffer, after the sequence header if f is the first of its track. It
// reports false for a frame that the file cannot hold: video before the first random access point,
// and frames that are too large for a tag.
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
	tagStart := len(w.buf)
	w.buf = Dialect{}.appendBodyHeader(append(w.buf, make([]byte, tagHeaderSize)...), f)
	w.buf = append(w.buf, f.Payload...)
	n := len(w.buf) - tagStart
	appendTagHeader(w.buf[tagStart:tagStart], typ, ms, n-tagHeaderSize)
	w.buf = binary.BigEndian.AppendUint32(w.buf, uint32(n))
	w.end = max(w.end, at+f.Duration)
	return true
}

// Buffered returns how many bytes are encoded but not written.
func (w *FileWriter) Buffered() int { return len(w.buf) }

// Size returns how many bytes have been written. Bytes beyond it in the file belong to a write that
// failed.
func (w *FileWriter) Size() int64 { return w.size }

// Duration returns the duration of the written part of the file.
func (w *FileWriter) Duration() time.Duration { return w.duration }

// Flush writes the buffer, with the file header and onMetaData before the first frame. A failed
// Flush can be repeated.
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
	const kept = 2 << 20 // capacity to keep for the next write
	if w.buf = w.buf[:0]; cap(w.buf) > kept {
		w.buf = nil
	}
	return nil
}

// UpdateHeader rewrites the file header and onMetaData for everything written so far.
func (w *FileWriter) UpdateHeader(to io.WriterAt) error {
	_, err := to.WriteAt(w.header(w.size, w.duration, false), 0)
	return err
}

// Finish is UpdateHeader for a complete file: it also sets the file size, by which Repair
// recognizes complete files.
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
		mark: w.Mark,
	}
	return h.bytes()
}

// An indexEntry is the time and position of a tag at which playback can start.
type indexEntry struct {
	at  time.Duration
	pos int64
}

// An index lists the seek points of a file, at most maxIndexEntries: in a long file they are
// further apart.
type index struct {
	entries  []indexEntry
	spacing  time.Duration // smallest distance of two entries
	hasVideo bool
}

// add adds the tag of a frame, if playback can start there.
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
		x.entries, x.spacing = x.entries[:n/2], mean*3/2 // half as much again, since keyframe intervals vary
	}
	x.entries = append(x.entries, p)
}

// A fileHead is the content of a file's header and onMetaData.
type fileHead struct {
	video, audio bool
	properties   pairs // of the tracks
	size         int64
	ended        bool // else the file size is 0
	duration     time.Duration
	mark         Mark
	index        index
}

// creatorKey identifies files of FileWriter; sizeKey tells whether they are complete.
const (
	creatorKey = "metadatacreator"
	creator    = "livego"
	sizeKey    = "filesize"
	markKey    = "recording"
)

// bytes returns the headSize bytes that a file starts with. The first index entry is the position
// of the sequence headers: players in browsers skip it.
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
	if h.mark.File != "" {
		e = append(e, amf0.Pair{Key: markKey, Value: h.mark.properties()})
	}
	e = append(e, h.properties...)
	e = append(e, amf0.Pair{Key: "hasKeyframes", Value: len(positions) > 1},
		amf0.Pair{Key: "keyframes", Value: amf0.Object{{Key: "filepositions", Value: positions},
			{Key: "times", Value: times}}})
	body := amf0.Append(make([]byte, 0, metaDataSize), onMetaData, amf0.ECMAArray(e))
	if len(body) > metaDataSize-5 { // properties of a file that was not by FileWriter
		h.properties = nil
		return h.bytes()
	}
	const longString = 0x0C // AMF0 section 2.14: a string that fills the rest
	body = binary.BigEndian.AppendUint32(append(body, longString), uint32(metaDataSize-len(body)-5))
	return AppendTag(FileHeader(h.video, h.audio), TypeScriptData, 0, body[:metaDataSize])
}

// ErrNotRecording is returned for a file that FileWriter has not written.
var ErrNotRecording = errors.New("flv: not a recording by livego")

// A FileInfo is what the head of a file by FileWriter says.
type FileInfo struct {
	Complete bool          // false: it is being written, or was left behind by a crash
	Duration time.Duration // as of the last update of onMetaData
	Mark     Mark          // without a File if there is none, or if a crash left half a head
}

// infoSize is how much of a file has its FileInfo, in bytes: it is before the index.
const infoSize = 4 << 10

// ReadFileInfo reads the start of a file of size bytes. It returns ErrNotRecording if the file is not
// by FileWriter.
func ReadFileInfo(f io.ReaderAt, size int64) (FileInfo, error) {
	front := make([]byte, min(size, infoSize))
	if _, err := f.ReadAt(front, 0); err != nil && !errors.Is(err, io.EOF) {
		return FileInfo{}, err
	}
	declared, ok := readSignature(front[:min(len(front), signatureSize)])
	if !ok {
		return FileInfo{}, ErrNotRecording
	}
	i := FileInfo{Complete: declared == size}
	if len(front) > markOffset {
		seconds := math.Float64frombits(binary.BigEndian.Uint64(front[durationOffset:]))
		i.Duration = time.Duration(seconds * float64(time.Second))
	}
	if key := "\x00\x09" + markKey; bytes.HasPrefix(front[min(len(front), markOffset):], []byte(key)) {
		value, _ := amf0.NewDecoder(front[markOffset+len(key):]).Next()
		if properties, ok := value.(amf0.Object); ok {
			i.Mark = markOf(properties)
		}
	}
	return i, nil
}

// A RepairResult says what Repair did.
type RepairResult struct {
	Changed  bool  // false: the file was complete, and the other fields are not set
	Size     int64 // 0 if the file has no tags; it is left as it is
	Duration time.Duration
}

// Repair completes a file of size bytes that a killed FileWriter left behind: it cuts off what
// follows the last whole tag, and updates onMetaData, with this reason in its Mark. Complete files
// do not change. It reads the tag headers of the file once, and no bodies.
func Repair(f interface {
	io.ReaderAt
	io.WriterAt
	Truncate(size int64) error
}, size int64, reason string) (RepairResult, error) {
	front := make([]byte, min(size, headSize))
	signature := front[:min(len(front), signatureSize)]
	if _, err := f.ReadAt(signature, 0); err != nil && !errors.Is(err, io.EOF) {
		return RepairResult{}, err
	}
	if declared, ok := readSignature(signature); !ok {
		return RepairResult{}, ErrNotRecording
	} else if declared == size {
		return RepairResult{}, nil
	}
	if _, err := f.ReadAt(front, 0); err != nil && !errors.Is(err, io.EOF) {
		return RepairResult{}, err
	}
	h := fileHead{size: headSize, ended: true}
	h.readProperties(front)
	h.mark.Reason = reason
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

// The signature is the start of a file up to the file size. Offsets in the file: of the number of
// properties, which varies, of the file size, and of the duration and the Mark after it.
const (
	countOffset    = fileHeaderSize + 4 + tagHeaderSize + 3 + len(onMetaData) + 1
	fileSizeOffset = countOffset + 4 + 2 + len(creatorKey) + 3 + len(creator) + 2 + len(sizeKey) + 1
	signatureSize  = fileSizeOffset + 8
	durationOffset = signatureSize + 2 + len("duration") + 1
	markOffset     = durationOffset + 8 + 2*(2+len("hasVideo")+2) // of its key
)

// readSignature returns the file size that the first signatureSize bytes of a file declare; ok is
// false if the file is not by FileWriter.
func readSignature(b []byte) (size int64, ok bool) {
	if len(b) < signatureSize {
		return 0, false
	}
	want := (&fileHead{}).bytes()
	want[4] = b[4] // flags of the track kinds
	ok = bytes.Equal(b[:countOffset], want[:countOffset]) &&
		bytes.Equal(b[countOffset+4:fileSizeOffset], want[countOffset+4:fileSizeOffset])
	return int64(math.Float64frombits(binary.BigEndian.Uint64(b[fileSizeOffset:]))), ok
}

// readProperties reads the Mark and those properties that the tags cannot tell from the head; none if
// a crash left half a head.
func (h *fileHead) readProperties(front []byte) {
	if len(front) < headSize {
		return
	}
	values, err := amf0.Decode(front[fileHeaderSize+4+tagHeaderSize : headSize-4])
	if err != nil || len(values) < 2 {
		return
	}
	declared, _ := values[1].(amf0.ECMAArray)
	for _, p := range declared {
		switch p.Key {
		case markKey:
			properties, _ := p.Value.(amf0.Object)
			h.mark = markOf(properties)
		case creatorKey, sizeKey, "duration", "hasVideo", "hasAudio", "hasKeyframes", "keyframes":
		default:
			h.properties = append(h.properties, p)
		}
	}
}

// scanTags reads from tag to tag, up to the last whole one.
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
