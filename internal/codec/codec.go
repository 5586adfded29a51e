// Package codec is the one interface to the codec packages below it. It reads what a track's
// configuration and frames say, whatever the codec, so that no container needs a switch over
// codecs. It knows no container.
package codec

import (
	"time"

	"livego/internal/codec/aac"
	"livego/internal/codec/ac3"
	"livego/internal/codec/av1"
	"livego/internal/codec/flac"
	"livego/internal/codec/h264"
	"livego/internal/codec/h265"
	"livego/internal/codec/mp3"
	"livego/internal/codec/nal"
	"livego/internal/codec/opus"
	"livego/internal/codec/vp9"
	"livego/internal/media"
)

// NeedsConfig reports whether a decoder needs a configuration before the first frame of c.
func NeedsConfig(c media.Codec) bool { return ConfigName(c) != "" }

// ConfigName returns the name that the codec's specification gives the configuration of c, "" for
// a codec that needs none.
func ConfigName(c media.Codec) string {
	switch c {
	case media.H264:
		return "AVCDecoderConfigurationRecord"
	case media.HEVC:
		return "HEVCDecoderConfigurationRecord"
	case media.AV1:
		return "AV1CodecConfigurationRecord"
	case media.AAC:
		return "AudioSpecificConfig"
	case media.Opus:
		return "OpusHead"
	case media.FLAC:
		return "STREAMINFO"
	}
	return ""
}

// SelfDescribing reports whether the frames of c carry the track's parameters. The caller must
// then pass each frame to TrackFromFrame.
func SelfDescribing(c media.Codec) bool {
	switch c {
	case media.VP9, media.MP3, media.AC3, media.EAC3:
		return true
	}
	return false
}

// RandomAccess reports whether a decoder can start at payload, a frame of t. It reads the frame
// itself for the codecs that livego parses. For the others it trusts keyFlag, the flag of the
// container. Every audio frame is a random access point. lengthSize is the result of Describe for
// t. A malformed frame is an error.
//
// leading reports that a decoder that starts at the random access point before payload cannot
// decode it.
func RandomAccess(t *media.Track, lengthSize int, keyFlag bool, payload []byte) (rap media.RandomAccess, leading bool,
	err error) {
	switch t.Codec {
	case media.H264:
		rap, err = h264.RandomAccess(payload, lengthSize)
	case media.HEVC:
		rap, leading, err = h265.RandomAccess(payload, lengthSize)
	case media.AV1:
		rap, err = av1.RandomAccess(payload)
	case media.VP9:
		rap, err = vp9.RandomAccess(payload)
	default:
		if keyFlag || t.Kind == media.Audio {
			rap = media.Keyframe
		}
	}
	return rap, leading, err
}

// Clean returns payload, a frame of t, in the form that every player reads. It changes the frame
// in place.
//
// H.264 and HEVC lose empty and malformed NAL units and the bytes after the last unit. damaged
// counts the malformed units that a picture may need. Four-byte start codes, which some encoders
// send in place of length fields, become length fields. AAC loses its ADTS header. Length fields
// that do not add up are an error. lengthSize is the result of Describe for t.
func Clean(t *media.Track, lengthSize int, payload []byte) (clean []byte, damaged int, err error) {
	var isUnit, matters func([]byte) bool
	switch t.Codec {
	case media.H264:
		isUnit, matters = h264.IsValidUnit, h264.AffectsPicture
	case media.HEVC:
		isUnit, matters = h265.IsValidUnit, h265.AffectsPicture
	case media.AAC:
		for h, ok := aac.ParseSingleADTS(payload); ok; h, ok = aac.ParseSingleADTS(payload) {
			payload = payload[h.HeaderLength:]
		}
		return payload, 0, nil
	default:
		return payload, 0, nil
	}
	if lengthSize == 4 && nal.IsAnnexB(payload) {
		payload = nal.FromAnnexB(payload)
	}
	clean, err = nal.Clean(payload, lengthSize, func(unit []byte) bool {
		keep := isUnit(unit)
		if !keep && matters(unit) {
			damaged++
		}
		return keep
	})
	return clean, damaged, err
}

// Cut returns the first frame of payload and the rest, where payload holds several frames: AAC
// with ADTS headers. duration is that of the first frame. rest is nil if payload is one frame.
func Cut(c media.Codec, payload []byte) (frame, rest []byte, duration time.Duration) {
	if c != media.AAC {
		return payload, nil, 0
	}
	h, frame, rest, ok := aac.CutADTS(payload)
	if !ok {
		return payload, nil, 0
	}
	return frame, rest, 1024 * time.Second / time.Duration(h.SampleRate)
}

// NormalizeConfig returns b, a configuration of c, in the form of media.Track.Config. It converts
// H.264 and HEVC parameter sets with start codes. It returns any other configuration unchanged.
func NormalizeConfig(c media.Codec, b []byte) []byte {
	var build func([]byte) ([]byte, error)
	switch {
	case !nal.HasStartCode(b):
		return b
	case c == media.H264:
		build = h264.ConfigFromAnnexB
	case c == media.HEVC:
		build = h265.ConfigFromAnnexB
	default:
		return b
	}
	if made, err := build(b); err == nil {
		return made
	}
	return b
}

// ErrNothingToDecode is returned by RandomAccess for a frame that is well-formed but has nothing
// to decode.
var ErrNothingToDecode = nal.ErrNoUnit

// Silence returns a silent frame for the audio track t, nil if there is none for its codec and
// format. The result is shared: do not modify.
func Silence(t *media.Track) []byte {
	if t.Codec != media.AAC {
		return nil
	}
	c, err := aac.ParseConfig(t.Config)
	if err != nil {
		return nil
	}
	return c.Silence()
}

// Samples returns the number of samples per channel in payload, a frame of the audio track t, at
// t.SampleRate; for Opus at 48 kHz. It returns 0 if the frame does not say.
func Samples(t *media.Track, payload []byte) int {
	n := 0
	switch t.Codec {
	case media.Opus:
		n, _ = opus.Samples(payload)
	case media.FLAC:
		n, _ = flac.Samples(payload)
	case media.MP3:
		if h, err := mp3.ParseHeader(payload); err == nil {
			n = h.Samples * mp3.CountFrames(payload)
		}
	case media.AC3, media.EAC3:
		if s, err := ac3.ParseAccessUnit(payload); err == nil {
			n = s.Samples
		}
	default:
		n = t.FrameSamples
	}
	return n
}

// Duration returns the duration of payload, a frame of the audio track t, 0 if it does not say.
func Duration(t *media.Track, payload []byte) time.Duration {
	if n := Samples(t, payload); n > 0 && t.SampleRate > 0 {
		return time.Duration(n) * time.Second / time.Duration(t.SampleRate)
	}
	return 0
}
