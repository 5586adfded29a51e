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
	// headRoom is the size of the onMetaData tag's body that a file begins with: it is written anew while the file grows, and what it
	// does not need is filled up.
	headRoom = 32 << 10
	headSize = fileHeaderSize + 4 + tagHeaderSize + headRoom + 4
	// maxPlaces is how many places the index has: two numbers of nine bytes each, with two KiB left for the rest, and with no more
	// values in all than amf0.MaxItems.
	maxPlaces = 1700
	// maxLasts is how long a file gets: time stamps are signed to some players, which is 24.8 days in milliseconds.
	maxLasts = 24 * 24 * time.Hour
	// lateTrack is from when on a track that a file does not have is not looked for in it any more.
	lateTrack = 10 * time.Second
	// soundApart is how far apart places are where there are no pictures.
	soundApart = time.Second
)

// A FileWriter lays frames out as an FLV file that players can seek in: it begins at time 0, and says at its front how long it is and
// where its key frames are. The frames are of one track of each kind. Not for concurrent use.
//
// What is written is whole at any time, but for that front, which Flush does not bring up to date, and which has no size before End; Mend
// does it for a file whose writer was killed. The zero value is a file in which nothing is.
type FileWriter struct {
	tracks [media.Data + 1]*media.Track // by kind
	meta   *media.Meta
	start  time.Duration
	piece  []byte // laid out, but not written
	end    time.Duration
	index  index

	size  int64 // of what has been written
	lasts time.Duration
}

// Takes reports whether f can go on in the file: a file has one configuration of each track.
func (w *FileWriter) Takes(f *media.Frame) bool {
	have, at := w.tracks[f.Track.Kind], f.DTS-w.start
	switch {
	case w.empty():
		return true
	case at > maxLasts:
		return false
	case have == nil:
		return f.Track.Kind == media.Data || at < lateTrack
	}
	return sameCoding(have, f.Track)
}

func (w *FileWriter) empty() bool { return w.size == 0 && len(w.piece) == 0 }

// sameCoding reports whether a decoder of a goes on with b.
func sameCoding(a, b *media.Track) bool {
	return a == b || a.Codec == b.Codec && a.Label == b.Label && bytes.Equal(a.Config, b.Config) &&
		a.Width == b.Width && a.Height == b.Height && a.SampleRate == b.SampleRate && a.Channels == b.Channels
}

// Append lays f out, with the header of its track before the first of a kind. It reports false for what has no place in a file: pictures
// before the first that a decoder can start at, and what is too large for a tag.
func (w *FileWriter) Append(f *media.Frame) bool {
	t := f.Track
	first := w.tracks[t.Kind] == nil
	if first && t.Kind == media.Video && f.RAP == media.NoAccess || len(f.Payload) > maxFileTag-maxBodyHeader-1 {
		return false
	}
	if w.empty() {
		w.start, w.piece = f.DTS, append(w.piece, make([]byte, headSize)...)
	}
	w.tracks[t.Kind], w.meta = t, f.Meta
	at := max(f.DTS-w.start, 0)
	ms, typ := uint32(at/time.Millisecond), MessageType(t.Kind)
	if h := (Dialect{}).SequenceHeader(t); first && h != nil {
		w.piece = AppendTag(w.piece, typ, ms, h)
	}
	w.index.see(typ, frameType(f) == frameKey, place{at.Truncate(time.Millisecond), w.size + int64(len(w.piece))})
	begin := len(w.piece)
	w.piece = Dialect{}.appendBodyHeader(append(w.piece, make([]byte, tagHeaderSize)...), f)
	w.piece = append(w.piece, f.Payload...)
	n := len(w.piece) - begin
	appendTagHeader(w.piece[begin:begin], typ, ms, n-tagHeaderSize)
	w.piece = binary.BigEndian.AppendUint32(w.piece, uint32(n))
	w.end = max(w.end, at+f.Duration)
	return true
}

// Buffered returns how many bytes are laid out and not written.
func (w *FileWriter) Buffered() int { return len(w.piece) }

// Size returns how many bytes have been written: what may be behind them is part of a piece that failed.
func (w *FileWriter) Size() int64 { return w.size }

// Duration returns how long what has been written lasts.
func (w *FileWriter) Duration() time.Duration { return w.lasts }

// Flush writes what is laid out, with the front before the first of it. What fails may be tried again.
func (w *FileWriter) Flush(to io.WriterAt) error {
	if len(w.piece) == 0 {
		return nil
	}
	if w.size == 0 {
		copy(w.piece, w.head(int64(len(w.piece)), w.end, false))
	}
	if _, err := to.WriteAt(w.piece, w.size); err != nil {
		return err
	}
	w.size, w.lasts = w.size+int64(len(w.piece)), w.end
	const kept = 2 << 20 // of memory, for the next piece
	if w.piece = w.piece[:0]; cap(w.piece) > kept {
		w.piece = nil
	}
	return nil
}

// Update writes the front anew, with all that has been written in it.
func (w *FileWriter) Update(to io.WriterAt) error {
	_, err := to.WriteAt(w.head(w.size, w.lasts, false), 0)
	return err
}

// End is Update for a file to which nothing more is written: the front has its size, by which Mend knows it.
func (w *FileWriter) End(to io.WriterAt) error {
	_, err := to.WriteAt(w.head(w.size, w.lasts, true), 0)
	return err
}

func (w *FileWriter) head(size int64, lasts time.Duration, ended bool) []byte {
	var tracks []*media.Track
	for _, t := range w.tracks {
		if t != nil {
			tracks = append(tracks, t)
		}
	}
	h := fileHead{
		video: w.tracks[media.Video] != nil, audio: w.tracks[media.Audio] != nil,
		facts: Dialect{}.facts(w.meta, tracks...), size: size, ended: ended, lasts: lasts, index: w.index,
	}
	return h.bytes()
}

// A place is where a tag begins that players may start at.
type place struct {
	at  time.Duration
	pos int64
}

// An index has the places of a file, not more than maxPlaces: in a long file they are further apart.
type index struct {
	places   []place
	apart    time.Duration // the least distance
	pictures bool
}

// see takes a tag that holds a frame.
func (x *index) see(typ uint8, key bool, p place) {
	apart := x.apart
	switch {
	case typ == TypeVideo:
		x.pictures = true
		if !key {
			return
		}
	case typ == TypeAudio && !x.pictures:
		apart = max(apart, soundApart)
	default:
		return
	}
	n := len(x.places)
	if n > 0 && p.at-x.places[n-1].at < apart {
		return
	}
	if n == maxPlaces {
		mean := (x.places[n-1].at - x.places[0].at) / maxPlaces
		for i := range n / 2 {
			x.places[i] = x.places[2*i]
		}
		x.places, x.apart = x.places[:n/2], mean*3/2 // more than the old distance by what key frames are uneven by
	}
	x.places = append(x.places, p)
}

// fileHead is what the front of a file says.
type fileHead struct {
	video, audio bool
	facts        pairs // of the tracks
	size         int64
	ended        bool // else the size is not told
	lasts        time.Duration
	index        index
}

// The first of the properties tells files by FileWriter from others, the second whether they have an end.
const (
	creatorKey = "metadatacreator"
	creator    = "livego"
	sizeKey    = "filesize"
)

// bytes returns headSize bytes. The first place of the index is where the configuration begins: players in browsers pass it over.
func (h *fileHead) bytes() []byte {
	positions, times := []any{float64(headSize)}, []any{0.0}
	for _, p := range h.index.places {
		if p.pos < h.size {
			positions, times = append(positions, float64(p.pos)), append(times, p.at.Seconds())
		}
	}
	size := 0.0
	if h.ended {
		size = float64(h.size)
	}
	e := pairs{
		{Key: creatorKey, Value: creator}, {Key: sizeKey, Value: size}, {Key: "duration", Value: h.lasts.Seconds()},
		{Key: "hasVideo", Value: h.video}, {Key: "hasAudio", Value: h.audio},
	}
	e = append(e, h.facts...)
	e = append(e, amf0.Pair{Key: "hasKeyframes", Value: len(positions) > 1},
		amf0.Pair{Key: "keyframes", Value: amf0.Object{{Key: "filepositions", Value: positions}, {Key: "times", Value: times}}})
	body := amf0.Append(make([]byte, 0, headRoom), onMetaData, amf0.ECMAArray(e))
	if len(body) > headRoom-5 { // facts that were read from what is no file of ours
		h.facts = nil
		return h.bytes()
	}
	const longString = 0x0C // AMF0 section 2.14: a value that takes up the rest, whatever its length
	body = binary.BigEndian.AppendUint32(append(body, longString), uint32(headRoom-len(body)-5))
	return AppendTag(FileHeader(h.video, h.audio), TypeScript, 0, body[:headRoom])
}

// ErrForeign is returned for a file that no FileWriter has written.
var ErrForeign = errors.New("flv: not a recording of livego")

// Mended tells what Mend has made of a file.
type Mended struct {
	Changed  bool  // else it had an end, and the rest is not told
	Size     int64 // 0 where nothing is in it, and it is left as it is
	Duration time.Duration
}

// Mend brings a file of size bytes by a FileWriter, which was killed, to an end: what follows the last whole tag is cut off, and the
// front says what there is. A file that has an end is left as it is. It is read once, but for what is in the tags.
func Mend(f interface {
	io.ReaderAt
	io.WriterAt
	Truncate(size int64) error
}, size int64) (Mended, error) {
	front := make([]byte, min(size, headSize))
	mark := front[:min(len(front), markSize)]
	if _, err := f.ReadAt(mark, 0); err != nil && !errors.Is(err, io.EOF) {
		return Mended{}, err
	}
	if said, ok := readMark(mark); !ok {
		return Mended{}, ErrForeign
	} else if said == size {
		return Mended{}, nil
	}
	if _, err := f.ReadAt(front, 0); err != nil && !errors.Is(err, io.EOF) {
		return Mended{}, err
	}
	h := fileHead{size: headSize, ended: true}
	h.readFacts(front)
	if err := h.walk(f, size); err != nil {
		return Mended{}, err
	}
	if h.size <= headSize {
		return Mended{Changed: true}, nil
	}
	if err := f.Truncate(h.size); err != nil {
		return Mended{}, err
	}
	_, err := f.WriteAt(h.bytes(), 0)
	return Mended{true, h.size, h.lasts}, err
}

// What a file begins with, up to the number of properties, from there to the size that it says, and behind that.
const (
	markCount = fileHeaderSize + 4 + tagHeaderSize + 3 + len(onMetaData) + 1
	markFile  = markCount + 4 + 2 + len(creatorKey) + 3 + len(creator) + 2 + len(sizeKey) + 1
	markSize  = markFile + 8
)

// readMark reads the first markSize bytes of a file. It returns the size that they say; false where they are not by FileWriter.
func readMark(b []byte) (size int64, ok bool) {
	if len(b) < markSize {
		return 0, false
	}
	want := (&fileHead{}).bytes()
	want[4] = b[4] // which kinds there are
	ok = bytes.Equal(b[:markCount], want[:markCount]) && bytes.Equal(b[markCount+4:markFile], want[markCount+4:markFile])
	return int64(math.Float64frombits(binary.BigEndian.Uint64(b[markFile:]))), ok
}

// readFacts takes from front what cannot be found out anew; nothing where a crash left half of it.
func (h *fileHead) readFacts(front []byte) {
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
			h.facts = append(h.facts, p)
		}
	}
}

// walk goes from tag to tag, up to the last that is whole.
func (h *fileHead) walk(r io.ReaderAt, size int64) error {
	var b [tagHeaderSize + 6]byte
	for {
		n, err := r.ReadAt(b[:], h.size)
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		typ, length := b[0], int64(uint24(b[1:]))
		next := h.size + tagHeaderSize + length + 4
		if n < tagHeaderSize || typ != TypeAudio && typ != TypeVideo && typ != TypeScript || uint24(b[8:]) != 0 || next > size {
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
		h.lasts = max(h.lasts, time.Duration(t.Timestamp)*time.Millisecond)
		if !isConfig(t) {
			h.index.see(typ, startsAt(t.Body), place{time.Duration(t.Timestamp) * time.Millisecond, h.size})
		}
		h.size = next
	}
}
