package wire

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"reflect"
	"slices"
	"time"

	"livego/internal/media"
	"livego/internal/ops/varint"
)

// Tracks are the tracks of one replicated session, over all connections to its owner. A track that has
// not changed since the connection before stays the same object.
type Tracks struct {
	byID   map[uint64]*media.Track
	former []*media.Track // of the connection before, without those that this one has
}

// track returns the track with the number id, which is equal to t.
func (s *Tracks) track(id uint64, t *media.Track) *media.Track {
	if known := s.byID[id]; known != nil {
		return known
	}
	if i := slices.IndexFunc(s.former, func(o *media.Track) bool { return reflect.DeepEqual(o, t) }); i >= 0 {
		t = s.former[i]
		s.former = slices.Delete(s.former, i, i+1)
	}
	s.byID[id] = t
	return t
}

// forget drops all tracks but those with numbers in ids if there are too many.
func (s *Tracks) forget(ids []uint64) {
	if len(s.byID) > maxKnownTracks {
		maps.DeleteFunc(s.byID, func(id uint64, _ *media.Track) bool { return !slices.Contains(ids, id) })
	}
}

// Track returns the track with a number, nil if there is none.
func (s *Tracks) Track(id uint64) *media.Track { return s.byID[id] }

// reconnect makes numbers of the connection so far invalid.
func (s *Tracks) reconnect() {
	s.former = s.former[:0]
	for _, t := range s.byID {
		s.former = append(s.former, t)
	}
	s.byID = make(map[uint64]*media.Track)
}

// A Reader reads the records of one connection.
type Reader struct {
	r       io.Reader
	tracks  *Tracks
	program *media.Program
	meta    *media.Meta
	head    [lengthSize]byte
	hello   bool // has been read
	now     func() time.Time
}

// NewReader returns a Reader of a connection's records. Their tracks become those of tracks.
func NewReader(r io.Reader, tracks *Tracks) *Reader {
	tracks.reconnect()
	return &Reader{r: r, tracks: tracks, now: time.Now}
}

// Next returns the next record of a known type. It returns io.EOF if there is none.
func (r *Reader) Next() (Record, error) {
	for {
		t, body, err := r.read()
		if err != nil {
			return nil, err
		}
		if r.hello == (t == typeHello) && t != typeClose && t != typePing {
			return nil, errors.New("wire: a hello is not the first record")
		}
		record, err := r.decode(t, body)
		if err != nil {
			return nil, fmt.Errorf("wire: invalid record of type %d: %w", t, err)
		}
		if record != nil {
			return record, nil
		}
	}
}

// read reads the next record.
func (r *Reader) read() (recordType, []byte, error) {
	if _, err := io.ReadFull(r.r, r.head[:]); err != nil {
		return 0, nil, err
	}
	n := int(r.head[0])<<24 | int(r.head[1])<<16 | int(r.head[2])<<8 | int(r.head[3])
	if n < 1 || n > maxFrame {
		return 0, nil, fmt.Errorf("wire: record of %d bytes", n)
	}
	var t [1]byte
	if _, err := io.ReadFull(r.r, t[:]); err != nil {
		return 0, nil, unexpected(err)
	}
	limit := maxOther
	switch recordType(t[0]) {
	case typeHello:
		limit = maxHello
	case typeFrame:
		limit = maxFrame
	}
	if n > limit {
		return 0, nil, fmt.Errorf("wire: record of type %d with %d bytes", t[0], n)
	}
	body, err := readAll(r.r, n-1)
	return recordType(t[0]), body, unexpected(err)
}

// unexpected returns io.ErrUnexpectedEOF for io.EOF.
func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// firstRead is how many bytes of memory a record gets before it has sent any.
const firstRead = 64 << 10

// readAll reads n bytes. Memory grows as they arrive.
func readAll(r io.Reader, n int) ([]byte, error) {
	b := make([]byte, min(n, firstRead))
	for from := 0; ; {
		if _, err := io.ReadFull(r, b[from:]); err != nil || len(b) == n {
			return b, err
		}
		from = len(b)
		b = append(make([]byte, 0, min(n, 2*len(b))), b...)
		b = b[:cap(b)]
	}
}

// decode returns a record; nil if its type is unknown. It takes ownership of b.
func (r *Reader) decode(t recordType, b []byte) (Record, error) {
	v := varint.NewReader(b)
	var record Record
	switch t {
	case typeHello:
		r.hello, record = true, r.readHello(v)
	case typeProgram:
		if err := r.readProgram(v); err != nil {
			return nil, err
		}
		return nil, nil
	case typeFrame:
		return r.readFrame(v)
	case typePause:
		record = Pause{v.Uint()}
	case typeResume:
		record = Resume{v.Uint()}
	case typeEnd:
		record = End{v.Uint()}
	case typeSeal:
		record = readSeal(v)
	case typePing:
		record = Ping{}
	case typeClose:
		record = Close{v.String(maxText, "length of a reason")}
	}
	if err := v.Err(); err != nil {
		return nil, err
	}
	return record, nil
}

func (r *Reader) readHello(v *varint.Reader) *Hello {
	h := new(Hello)
	for _, n := range []*uint64{&h.Version, &h.Epoch, &h.Term, &h.Claim, &h.From, &h.StateFrames, &h.ReadyAt,
		&h.BytesVersion, &h.CutterNext} {
		*n = v.UintMax(1<<62, "number")
	}
	if h.Version != Version {
		v.Fail(ErrVersion)
	}
	h.Since = v.Time()
	for n := v.Count(maxPath, "length of the path"); n > 0 && v.Err() == nil; n-- {
		h.Path = append(h.Path, v.String(maxText, "length of a name"))
	}
	for n := v.Count(maxTracks, "number of tracks"); n > 0 && v.Err() == nil; n-- {
		id := v.Uint()
		if t := readTrack(v); v.Err() == nil {
			h.Tracks = append(h.Tracks, NumberedTrack{id, r.tracks.track(id, t)})
		}
	}
	h.Cutter = v.Bytes(maxHello, "length of the state")
	return h
}

// readProgram makes the program of a record the one of the frames that follow.
func (r *Reader) readProgram(v *varint.Reader) error {
	p := new(media.Program).WithDiscontinuity(uint32(v.UintMax(1<<32-1, "discontinuity")))
	p = p.WithAwaited(media.Kinds(v.UintMax(1<<8-1, "awaited kinds")))
	var ids []uint64
	for n := v.Count(maxTracks, "number of tracks"); n > 0 && v.Err() == nil; n-- {
		id := v.Uint()
		ids = append(ids, id)
		t := readTrack(v)
		if in := v.Bool(); v.Err() == nil {
			if t = r.tracks.track(id, t); in {
				p = p.With(t)
			}
		}
	}
	for k := media.Video; k <= media.Data; k++ {
		if set, id := v.Bool(), v.Byte(); set {
			p = p.WithDefault(&media.Track{Kind: k, ID: id})
		}
	}
	meta := readMeta(v)
	if err := v.Err(); err != nil {
		return err
	}
	r.tracks.forget(ids)
	if !sameProgram(p, r.program) {
		r.program = p
	}
	if !reflect.DeepEqual(meta, r.meta) {
		r.meta = meta
	}
	return nil
}

// sameProgram reports whether two programs are equal and have the same tracks, not only equal ones.
func sameProgram(p, q *media.Program) bool {
	if q == nil || p.Discontinuity != q.Discontinuity || p.Awaited != q.Awaited || !slices.Equal(p.Tracks, q.Tracks) {
		return false
	}
	for k := media.Video; k <= media.Data; k++ {
		a, hasA := p.DefaultID(k)
		b, hasB := q.DefaultID(k)
		if hasA != hasB || hasA && a != b {
			return false
		}
	}
	return true
}

func readTrack(v *varint.Reader) *media.Track {
	t := &media.Track{ID: v.Byte(), Kind: media.Kind(v.Byte()), Codec: media.Codec(v.Byte())}
	t.Config = optional(v.Bytes(maxConfig, "length of a configuration"))
	t.ColorInfo = optional(v.Bytes(maxConfig, "length of the color information"))
	t.Label = v.String(maxText, "length of a label")
	t.Timescale = uint32(v.UintMax(1<<32-1, "timescale"))
	for _, n := range []*int{&t.Width, &t.Height, &t.SampleRate, &t.Channels, &t.FrameSamples, &t.BitDepth} {
		*n = readNumber(v)
	}
	t.FrameRate = v.Float()
	t.Profile, t.RFC6381 = v.String(maxText, "length of a profile"), v.String(maxText, "length of a codec's name")
	if t.Kind < media.Video || t.Kind > media.Data || t.Timescale == 0 {
		v.Fail(errors.New("invalid track"))
	}
	return t
}

// readNumber reads a number of a track or of metadata: it fits into 31 bits.
func readNumber(v *varint.Reader) int {
	n := v.Int()
	if n < 0 || n > 1<<31-1 {
		v.Fail(fmt.Errorf("number %d is out of range", n))
		return 0
	}
	return int(n)
}

// optional returns a copy of b, nil if it is empty.
func optional(b []byte) []byte {
	if len(b) == 0 {
		return nil
	}
	return bytes.Clone(b)
}

func readMeta(v *varint.Reader) *media.Meta {
	if !v.Bool() {
		return nil
	}
	m := &media.Meta{Encoder: v.String(maxText, "length of the encoder's name")}
	for _, n := range []*int{&m.Width, &m.Height, &m.SampleRate, &m.Channels} {
		*n = readNumber(v)
	}
	m.FrameRate, m.VideoRate, m.AudioRate = v.Float(), v.Float(), v.Float()
	m.HasVideo, m.HasAudio = v.Bool(), v.Bool()
	return m
}

func (r *Reader) readFrame(v *varint.Reader) (*media.Frame, error) {
	id := v.Uint()
	f := &media.Frame{Track: r.tracks.Track(id), Program: r.program, Meta: r.meta}
	f.Seq = v.UintMax(1<<62, "number of a frame")
	f.DTS = v.Duration(maxStreamTime, "time")
	f.PTS = f.DTS + v.Duration(maxStreamTime, "composition time")
	f.Duration = v.Duration(maxStreamTime, "duration")
	f.Ticks = v.Int()
	f.EncoderDTS = v.Duration(maxStreamTime, "time of the encoder")
	first := v.Time()
	flags := v.Byte()
	f.RAP, f.Leading, f.KeyFlag = media.RandomAccess(flags&3), flags&flagLeading != 0, flags&flagKey != 0
	f.Payload = v.Bytes(maxFrame, "length of a frame")
	switch {
	case v.Err() != nil:
		return nil, v.Err()
	case f.Track == nil || f.Program == nil:
		return nil, fmt.Errorf("frame %d of the unknown track %d", f.Seq, id)
	case f.RAP > media.Keyframe, f.Duration < 0, f.DTS < 0:
		return nil, fmt.Errorf("frame %d is out of range", f.Seq)
	}
	f.SetArrival(first, r.now())
	return f, nil
}

func readSeal(v *varint.Reader) *Seal {
	s := &Seal{Name: v.String(maxText, "length of a name"), Sequence: v.Uint(), First: v.Uint(), Last: v.Uint()}
	s.Duration = v.Duration(maxStreamTime, "duration")
	for n := v.Count(maxSealParts, "number of parts"); n > 0 && v.Err() == nil; n-- {
		s.Parts = append(s.Parts, v.Duration(maxStreamTime, "duration"))
	}
	for range 8 {
		s.Digest = s.Digest<<8 | uint64(v.Byte())
	}
	return s
}
