// Package media holds the types of the data plane: elementary streams (Track), access units (Frame),
// the track set of a stream (Program) and the metadata that an encoder sends (Meta). It knows codecs
// by name only: internal/codec reads their bytes, and internal/container their packaging.
package media

import (
	"bytes"
	"time"
)

// Kind is the kind of media of a track.
type Kind uint8

// Track kinds.
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

// Codec is the codec of a track.
type Codec uint8

// Codecs. The frames of a Passthrough track are FLV tag bodies of a codec that livego does not know;
// RTMP and FLV viewers get them unchanged.
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
	// ID distinguishes tracks of one kind, as the encoder numbers them; a single track has 0.
	ID    uint8
	Kind  Kind
	Codec Codec

	// Config is the codec's configuration record: avcC, hvcC, av1C, vpcC (with or without version
	// and flags), AudioSpecificConfig, OpusHead, the FLAC STREAMINFO block after "fLaC" and its
	// header, or the payload of dac3 or dec3. VP9, AC-3 and E-AC-3 may come without one: theirs is
	// built from frames. It is nil for codecs that have none (MP3, VP8). For Passthrough it is the
	// FLV tag body that must precede the frames, or nil. Shared: do not modify.
	Config []byte

	// ColorInfo describes the colors of video: the checked body of Enhanced RTMP's Metadata packet;
	// nil if the encoder sent none. Shared: do not modify.
	ColorInfo []byte

	// Label is the codec's name for people, and its FLV name for Passthrough: "sorenson", "speex".
	Label string

	// Timescale is the number of ticks per second of Frame.Ticks: 90000 for video and data, the
	// sample rate for audio.
	Timescale uint32

	// These come from the configuration or the first frame; zero if unknown.
	Width, Height int
	FrameRate     float64
	SampleRate    int // of the coded frames: for HE-AAC the core rate, to which FrameSamples refers
	Channels      int
	FrameSamples  int    // samples per channel in a coded audio frame
	BitDepth      int    // of luma samples, or of lossless audio
	Profile       string // "High", "Main 10", "LC"
	RFC6381       string // for playlists: "avc1.64001f", "mp4a.40.2"; "" if unknown
}

// SameConfig reports whether a decoder that is set up for t decodes other too.
func (t *Track) SameConfig(other *Track) bool {
	return t == other || t.Codec == other.Codec && t.Label == other.Label && bytes.Equal(t.Config, other.Config) &&
		t.Width == other.Width && t.Height == other.Height &&
		t.SampleRate == other.SampleRate && t.Channels == other.Channels
}

// RandomAccess reports whether a decoder may start at a frame.
type RandomAccess uint8

// Random access points, weakest first.
const (
	NoRandomAccess RandomAccess = iota
	RecoveryPoint               // recovery point with count 0: decodable from here on
	Keyframe                    // IDR, IRAP, keyframe: no later frame refers to an earlier one
)

// A Frame is one access unit of video, one coded frame of audio, or one script data value. It and
// all it points to are immutable once published, and all subscribers share it by reference; the
// garbage collector frees it.
type Frame struct {
	Track *Track
	Meta  *Meta // in effect at this frame; nil if the encoder sent none
	// Program is the track set at this frame, Track included. A track that comes after viewers could
	// start is in later Programs only. Publisher.Write sets it.
	Program *Program

	// DTS and PTS are the encoder's time, unwrapped to 64 bits, until Publisher.Write, and stream
	// time after it.
	DTS, PTS time.Duration
	// Duration of this frame as far as known: exact for audio, the last interval for video.
	Duration time.Duration

	// EncoderDTS is DTS by the encoder's clock. Publisher.Write sets it.
	EncoderDTS time.Duration

	// Ticks is DTS in Track.Timescale, sample-exact for audio, for containers whose clock is finer
	// than a millisecond. Publisher.Write sets it.
	Ticks int64

	RAP RandomAccess
	// Leading marks a picture that is not decodable by a viewer that starts at the random access
	// point before it (RASL, ITU-T H.265 clause 3.131).
	Leading bool
	// KeyFlag is the keyframe flag of the encoder's container, used if a stream has no random
	// access point.
	KeyFlag bool
	// ReplicaLag of a frame that another server replicated to this one is Arrived less the arrival
	// there, in milliseconds: the transport, and the difference of the clocks.
	ReplicaLag int32

	// Seq is the position in the stream, without gaps. Publisher.Write sets it.
	Seq uint64
	// Arrived is when the last byte was read by this server.
	Arrived time.Time

	// Payload is AVCC NAL units (H.264, HEVC), OBUs (AV1), a raw AAC frame, ... For Passthrough,
	// the whole FLV tag body.
	Payload []byte
}

// FirstArrival returns when the frame arrived from its encoder, by the clock of the server that it
// arrived at. It is the same on every server that has the frame.
func (f *Frame) FirstArrival() time.Time {
	return f.Arrived.Add(-time.Duration(f.ReplicaLag) * time.Millisecond)
}

// SetArrival sets the arrival at this server to now, and the first arrival to first. now may become
// up to a millisecond later.
func (f *Frame) SetArrival(first, now time.Time) {
	lag := now.Sub(first.Round(0)) // by the wall clock: first has no monotonic reading
	whole := lag.Truncate(time.Millisecond)
	if whole < lag {
		whole += time.Millisecond
	}
	whole = max(-maxReplicaLag, min(whole, maxReplicaLag))
	f.ReplicaLag = int32(whole / time.Millisecond)
	f.Arrived = now.Add(whole - lag)
}

// maxReplicaLag bounds Frame.ReplicaLag. If the clocks of two servers differ more, Arrived is moved.
const maxReplicaLag = (1<<31 - 1) * time.Millisecond

// IsDefault reports whether f is of a default track: by newest, the newest Program of the stream, if
// it belongs to the same discontinuity as f, otherwise by f's own. So a viewer that starts with f
// does not see the default change.
func (f *Frame) IsDefault(newest *Program) bool {
	p := f.Program
	if p.Discontinuity == newest.Discontinuity {
		p = newest
	}
	return p.IsDefault(f.Track)
}

// Meta holds the known fields of an encoder's onMetaData, limited to sane values. It informs
// players and statistics and never sizes a buffer. It is immutable. Zero fields are unknown.
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

// Kinds returns the kinds of tracks that m announces. A nil Meta announces none.
func (m *Meta) Kinds() (s Kinds) {
	if m != nil && m.HasVideo {
		s |= KindsOf(Video)
	}
	if m != nil && m.HasAudio {
		s |= KindsOf(Audio)
	}
	return s
}
