// Package media holds the words of the data plane: elementary streams (Track), access units (Frame)
// and what an encoder says of itself (Meta). It knows codecs by name only: their bytes are read by
// internal/codec, their packaging by internal/container.
package media

import (
	"sync/atomic"
	"time"
)

// Kind tells what a track carries.
type Kind uint8

// Kinds of track.
const (
	Video Kind = iota + 1
	Audio
	Data // AMF0 script data: cue points, captions; never onMetaData, which becomes a Meta
)

func (k Kind) String() string {
	switch k {
	case Video:
		return "video"
	case Audio:
		return "audio"
	case Data:
		return "data"
	}
	return "unknown"
}

// Codec names the coding of a track.
type Codec uint8

// Codecs. Passthrough is one that livego has no word for: its frames hold FLV tag bodies that go to
// RTMP and FLV viewers untouched.
const (
	Passthrough Codec = iota
	H264
	HEVC
	AV1
	VP8
	VP9
	AAC
	MP3
	Opus
	FLAC
	AC3
	EAC3
	ScriptData // AMF0 values, for Data tracks
)

func (c Codec) String() string {
	switch c {
	case H264:
		return "h264"
	case HEVC:
		return "hevc"
	case AV1:
		return "av1"
	case VP8:
		return "vp8"
	case VP9:
		return "vp9"
	case AAC:
		return "aac"
	case MP3:
		return "mp3"
	case Opus:
		return "opus"
	case FLAC:
		return "flac"
	case AC3:
		return "ac3"
	case EAC3:
		return "eac3"
	case ScriptData:
		return "script"
	}
	return "opaque"
}

// A Track describes one elementary stream. It is immutable: new codec parameters make a new Track,
// and later frames point to it. A subscriber that sees the pointer change sends the new header
// first.
type Track struct {
	ID    uint8 // distinguishes tracks of one kind, as the encoder numbers them; where there is one, it is 0
	Kind  Kind
	Codec Codec

	// Config is the codec's configuration record: avcC, hvcC, av1C, vpcC (with or without version and
	// flags), AudioSpecificConfig, OpusHead, FLAC STREAMINFO block behind "fLaC" and its header,
	// payload of dac3 or dec3. VP9, AC-3 and E-AC-3 may come without one: theirs is made from frames.
	// Nil for codecs that have none (MP3, VP8). For Opaque, the FLV tag body that must precede the
	// frames, or nil. Shared: do not modify.
	Config []byte

	// ColorInfo says how the colours of video are meant: the body of Enhanced RTMP's Metadata packet,
	// checked; nil when the encoder sent none. Shared: do not modify.
	ColorInfo []byte

	// Label names the coding for people and for the FLV wire where Codec is Opaque: "sorenson", "speex".
	Label string

	// Enhanced tells that the encoder used the FourCC form of Enhanced RTMP.
	Enhanced bool

	Timescale uint32 // ticks a second of Frame.Ticks: 90000 for video and data, the sampling rate for audio

	// What the configuration or the first frame tells; zero when unknown.
	Width, Height int
	FrameRate     float64
	SampleRate    int // of the coded frames: for HE-AAC the core rate, to which FrameSamples belongs
	Channels      int
	FrameSamples  int    // samples a coded audio frame, per channel
	BitDepth      int    // of luma samples, or of lossless sound
	Profile       string // "High", "Main 10", "LC"
	RFC6381       string // codecs parameter for playlists: "avc1.64001f", "mp4a.40.2"; "" when unknown
}

// RandomAccess tells whether a decoder may start at a frame.
type RandomAccess uint8

// Random access points, weakest first.
const (
	NoRandomAccess RandomAccess = iota
	// a recovery point with count 0: decodable from here, though earlier frames may be referred to
	// later
	RecoveryPoint
	Keyframe // IDR, IRAP, key frame: nothing after it refers to anything before
)

// A Frame is one access unit of video, one coded frame of audio or one script datum. It and all it
// points to are immutable once published and shared by reference by every subscriber; the garbage
// collector is the reference count.
type Frame struct {
	Track *Track
	Meta  *Meta // in force at this frame; nil when the encoder sent none

	// DTS and PTS are the encoder's time (unwrapped to 64 bits) until Publisher.Write, stream time after.
	DTS, PTS time.Duration
	Duration time.Duration // of this frame as far as known: exact for audio, the last distance for video

	// Ticks is DTS in Track.Timescale, sample-exact for audio, for containers whose clock is finer than the millisecond.
	// Set by Publisher.Write.
	Ticks int64

	Secondary bool // of a track that is not the first of its kind, for viewers who ask for all; set by Publisher.Write

	RAP RandomAccess
	// of video: not decodable by who starts with the random access point before it (RASL, ITU-T H.265
	// clause 3.131)
	Leading bool
	KeyFlag bool // what the encoder's packaging claimed; used where a stream shows no random access point

	Discontinuity uint32    // rises at each join of the timeline; set by Publisher.Write
	Seq           uint64    // position in the stream, without holes; set by Publisher.Write
	Arrived       time.Time // when the last byte was read

	// Payload is AVCC NAL units (H.264, HEVC), OBUs (AV1), a raw AAC frame, ... For Opaque, the whole FLV tag body.
	Payload []byte

	wires [forms]atomic.Pointer[Wire]
}

// Form is a layout of frames for a wire.
type Form uint8

// Forms that frames are laid out in.
const (
	FormRTMP Form = iota // RTMP chunks with a type 0 header, message stream 1
	FormFLV              // FLV tag with its PreviousTagSize
	forms
)

// A Wire is one frame laid out for a wire, in slices to be written one after the other. Shared: do not modify.
type Wire struct {
	Parts [][]byte
	Size  int // sum of the lengths of Parts
}

// Wire returns f laid out in form, encoding it on first need. All callers get the same bytes: two
// that race may both encode, one result is kept. encode must depend on nothing but f.
func (f *Frame) Wire(form Form, encode func(*Frame) [][]byte) *Wire {
	if w := f.wires[form].Load(); w != nil {
		return w
	}
	w := &Wire{Parts: encode(f)}
	for _, p := range w.Parts {
		w.Size += len(p)
	}
	if !f.wires[form].CompareAndSwap(nil, w) {
		return f.wires[form].Load()
	}
	return w
}

// Meta is what an encoder says of its stream in onMetaData, reduced to known fields with sane
// values: it informs players and statistics and never sizes a buffer. Immutable. Zero fields are
// unknown.
type Meta struct {
	Encoder            string // printable, at most 128 bytes
	Width, Height      int
	FrameRate          float64
	VideoRate          float64 // kbit/s
	AudioRate          float64 // kbit/s
	SampleRate         int
	Channels           int
	HasVideo, HasAudio bool // which tracks it announces
}
