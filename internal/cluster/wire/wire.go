// Package wire is what the owner of a stream sends to a server that replicates it: records of tracks,
// frames and what happens between them. A record is its length, its type and its fields. A reader skips
// records of unknown types, and fields after those that it knows, so that a newer server may add both.
//
// The package knows no connection and no hub.
package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"livego/internal/media"
	"livego/internal/ops/varint"
)

// Version is the version of the protocol. Servers of another version refuse each other.
const Version = 1

// recordType is the type of a record.
type recordType byte

// Types of records. Their numbers do not change.
const (
	typeHello   recordType = 1
	typeProgram recordType = 2
	typeFrame   recordType = 3
	typePause   recordType = 4
	typeResume  recordType = 5
	typeEnd     recordType = 6
	typeSeal    recordType = 7
	typePing    recordType = 8
	typeClose   recordType = 9
)

// Limits of records, which hold before memory is allocated.
const (
	maxHello      = 16 << 20      // bytes of a Hello
	maxFrame      = 1<<30 + 1<<10 // bytes of a frame: more than the largest max_message
	maxOther      = 1 << 20       // bytes of any other record
	maxPath       = 16            // servers on the way of a stream
	maxText       = 256           // bytes of a name or a reason
	maxTracks     = 1 << 10       // tracks of a program, or of a Hello
	maxConfig     = 1 << 20       // bytes of a codec configuration
	maxSealParts  = 1 << 14
	maxStreamTime = 1 << 60 * time.Nanosecond // 36 years: sums do not overflow
)

// A Record is one of the types below, or a *media.Frame.
type Record any

// A Hello is the first record, but for pings. It describes the session, and replaces all that a replica has of it.
type Hello struct {
	Version uint64
	Epoch   uint64
	Term    uint64
	Claim   uint64   // the claim by which the owner has its term
	Path    []string // IDs of the servers from the owner on: a loop guard
	Since   time.Time
	// From is the Seq of the first frame of the session that follows. StateFrames frames with a lower
	// one come before it, to which Cutter refers.
	From        uint64
	StateFrames uint64
	ReadyAt     uint64 // the Seq before which viewers do not start
	// BytesVersion is the version of the code that shapes segments. Cutter is a record of the package
	// segment, and Tracks are those to which it refers; nil if the owner makes no segments.
	BytesVersion uint64
	CutterNext   uint64 // Seq of the first frame that Cutter does not cover
	Cutter       []byte
	Tracks       []NumberedTrack
}

// A NumberedTrack is a track with the number by which records refer to it.
type NumberedTrack struct {
	ID    uint64
	Track *media.Track
}

// A Pause means that the encoder is away before the frame Seq.
type Pause struct{ Seq uint64 }

// A Resume means that another publisher has attached before the frame Seq.
type Resume struct{ Seq uint64 }

// An End means that the session has ended, and Seq frames were all.
type End struct{ Seq uint64 }

// A Seal is that of a segment that the owner has made: see the package segment.
type Seal struct {
	Name        string
	Sequence    uint64
	First, Last uint64
	Duration    time.Duration
	Parts       []time.Duration
	Digest      uint64
}

// A Ping shows that the owner is alive. It may come before the Hello: the stream starts soon.
type Ping struct{}

// A Close is the last record, and says why the owner closes the connection.
type Close struct{ Reason string }

// Flags of a frame.
const (
	flagLeading = 1 << 2 // above RandomAccess
	flagKey     = 1 << 3
)

// ErrVersion means that the other server has another version of the protocol.
var ErrVersion = errors.New("wire: another version of the protocol")

// appendRecord appends a record whose fields body appends.
func appendRecord(b []byte, t recordType, body func([]byte) []byte) []byte {
	// The length is written in the room of the longest one that an int of a record needs.
	start := len(b)
	b = append(b, 0, 0, 0, 0, byte(t))
	b = body(b)
	putLength(b[start:], len(b)-start-lengthSize)
	return b
}

// lengthSize is the size of the length before each record.
const lengthSize = 4

func putLength(b []byte, n int) {
	b[0], b[1], b[2], b[3] = byte(n>>24), byte(n>>16), byte(n>>8), byte(n)
}

// An Encoder encodes the records of one stream. The bytes of a frame's payload are not copied. A frame
// refers to tracks of the newest program record, so a reader may start at any program record.
type Encoder struct {
	ids     map[*media.Track]uint64
	lastID  uint64
	program *media.Program
	meta    *media.Meta
	known   []*media.Track // of the newest program record
	fork    bool           // of Fork: a Hello may refer to numbers
}

// TrackID returns the number of t, which stays while t is in use.
func (e *Encoder) TrackID(t *media.Track) uint64 {
	id := e.ids[t]
	if id == 0 {
		if e.ids == nil {
			e.ids = make(map[*media.Track]uint64)
		}
		e.lastID++
		id = e.lastID
		e.ids[t] = id
	}
	return id
}

// Fork returns an Encoder for another sequence of frames of the same stream, with the same numbers. Its
// first frame has a program record before it. e must not be used at the same time.
func (e *Encoder) Fork() *Encoder { return &Encoder{ids: e.ids, lastID: e.lastID, fork: true} }

// Join adds the numbers that f, which Fork returned, has assigned.
func (e *Encoder) Join(f *Encoder) { e.ids, e.lastID = f.ids, f.lastID }

// AppendProgram appends the newest program record again, if there is one.
func (e *Encoder) AppendProgram(b []byte) []byte {
	if e.program == nil {
		return b
	}
	return e.appendProgram(b)
}

// AppendFrame appends f to parts: its header, with a program record before it if the track set has
// changed, and its payload. b is where headers are encoded; it is returned with them, and must not be
// modified up to its length while the parts are in use.
func (e *Encoder) AppendFrame(parts [][]byte, b []byte, f *media.Frame) ([][]byte, []byte) {
	start := len(b)
	if f.Program != e.program || f.Meta != e.meta || !contains(e.known, f.Track) {
		e.program, e.meta = f.Program, f.Meta
		if e.known = f.Program.Tracks; !contains(e.known, f.Track) {
			e.known = append(e.known[:len(e.known):len(e.known)], f.Track)
		}
		e.forget()
		b = e.appendProgram(b)
	}
	at := len(b)
	b = append(b, 0, 0, 0, 0, byte(typeFrame))
	b = varint.AppendUint(b, e.TrackID(f.Track))
	b = varint.AppendUint(b, f.Seq)
	b = varint.AppendInt(b, f.DTS)
	b = varint.AppendInt(b, f.PTS-f.DTS)
	b = varint.AppendInt(b, f.Duration)
	b = varint.AppendInt(b, f.Ticks)
	b = varint.AppendInt(b, f.EncoderDTS)
	b = varint.AppendTime(b, f.FirstArrival())
	flags := byte(f.RAP)
	if f.Leading {
		flags |= flagLeading
	}
	if f.KeyFlag {
		flags |= flagKey
	}
	b = append(b, flags)
	b = varint.AppendCount(b, len(f.Payload))
	putLength(b[at:], len(b)-at-lengthSize+len(f.Payload))
	return append(parts, b[start:len(b):len(b)], f.Payload), b
}

// maxKnownTracks is how many tracks of a stream have numbers, and are known by them, at least. An encoder may
// send new ones without end.
const maxKnownTracks = 4 * maxTracks

// forget drops the numbers of former tracks if there are too many. Such a track gets another number when it
// is needed again.
func (e *Encoder) forget() {
	if len(e.ids) <= maxKnownTracks || e.fork {
		return
	}
	ids := make(map[*media.Track]uint64)
	for _, t := range e.known {
		if id := e.ids[t]; id != 0 {
			ids[t] = id
		}
	}
	e.ids = ids
}

// contains is slices.Contains without its cost for a generic call in the path of each frame.
func contains(tracks []*media.Track, t *media.Track) bool {
	for _, o := range tracks {
		if o == t {
			return true
		}
	}
	return false
}

func (e *Encoder) appendProgram(b []byte) []byte {
	return appendRecord(b, typeProgram, func(b []byte) []byte {
		p := e.program
		b = varint.AppendUint(b, p.Discontinuity)
		b = varint.AppendUint(b, p.Awaited)
		b = varint.AppendCount(b, len(e.known))
		for i, t := range e.known {
			b = varint.AppendUint(b, e.TrackID(t))
			b = appendTrack(b, t)
			b = varint.AppendBool(b, i < len(p.Tracks))
		}
		for k := media.Video; k <= media.Data; k++ {
			id, ok := p.DefaultID(k)
			b = append(varint.AppendBool(b, ok), id)
		}
		return appendMeta(b, e.meta)
	})
}

func appendTrack(b []byte, t *media.Track) []byte {
	b = append(b, t.ID, byte(t.Kind), byte(t.Codec))
	b = varint.AppendBytes(b, t.Config)
	b = varint.AppendBytes(b, t.ColorInfo)
	b = varint.AppendBytes(b, t.Label)
	b = varint.AppendUint(b, t.Timescale)
	for _, n := range []int{t.Width, t.Height, t.SampleRate, t.Channels, t.FrameSamples, t.BitDepth} {
		b = varint.AppendInt(b, n)
	}
	b = varint.AppendFloat(b, t.FrameRate)
	b = varint.AppendBytes(b, t.Profile)
	return varint.AppendBytes(b, t.RFC6381)
}

func appendMeta(b []byte, m *media.Meta) []byte {
	if b = varint.AppendBool(b, m != nil); m == nil {
		return b
	}
	b = varint.AppendBytes(b, m.Encoder)
	for _, n := range []int{m.Width, m.Height, m.SampleRate, m.Channels} {
		b = varint.AppendInt(b, n)
	}
	for _, v := range []float64{m.FrameRate, m.VideoRate, m.AudioRate} {
		b = varint.AppendFloat(b, v)
	}
	return varint.AppendBool(varint.AppendBool(b, m.HasVideo), m.HasAudio)
}

// Append appends a record that is not a frame.
func (e *Encoder) Append(b []byte, r Record) []byte {
	seq := func(t recordType, n uint64) []byte {
		return appendRecord(b, t, func(b []byte) []byte { return varint.AppendUint(b, n) })
	}
	switch r := r.(type) {
	case *Hello:
		return appendRecord(b, typeHello, r.append)
	case Pause:
		return seq(typePause, r.Seq)
	case Resume:
		return seq(typeResume, r.Seq)
	case End:
		return seq(typeEnd, r.Seq)
	case *Seal:
		return appendRecord(b, typeSeal, r.append)
	case Ping:
		return appendRecord(b, typePing, func(b []byte) []byte { return b })
	case Close:
		return appendRecord(b, typeClose, func(b []byte) []byte { return varint.AppendBytes(b, limitText(r.Reason)) })
	}
	panic(fmt.Sprintf("wire: %T is no record", r))
}

// limitText returns s without what exceeds maxText.
func limitText(s string) string { return s[:min(len(s), maxText)] }

func (h *Hello) append(b []byte) []byte {
	for _, n := range []uint64{h.Version, h.Epoch, h.Term, h.Claim, h.From, h.StateFrames, h.ReadyAt, h.BytesVersion,
		h.CutterNext} {
		b = varint.AppendUint(b, n)
	}
	b = varint.AppendTime(b, h.Since)
	b = varint.AppendCount(b, len(h.Path))
	for _, id := range h.Path {
		b = varint.AppendBytes(b, id)
	}
	b = varint.AppendCount(b, len(h.Tracks))
	for _, t := range h.Tracks {
		b = appendTrack(varint.AppendUint(b, t.ID), t.Track)
	}
	return varint.AppendBytes(b, h.Cutter)
}

func (s *Seal) append(b []byte) []byte {
	b = varint.AppendBytes(b, s.Name)
	b = varint.AppendUint(b, s.Sequence)
	b = varint.AppendUint(b, s.First)
	b = varint.AppendUint(b, s.Last)
	b = varint.AppendInt(b, s.Duration)
	b = varint.AppendCount(b, len(s.Parts))
	for _, d := range s.Parts {
		b = varint.AppendInt(b, d)
	}
	return binary.BigEndian.AppendUint64(b, s.Digest)
}
